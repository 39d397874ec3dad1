"""What a model is, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from rag_embeddings.text import canonical_json, content_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_embeddings.encode.base import Role

Similarity = Literal["cosine", "dot", "euclidean"]


@dataclass(frozen=True)
class Profile:
    """Everything that changes a vector, and nothing else.

    Attributes:
        model: Name of the model, for people. Where ``weights`` is known, it does not identify the space.
        dimensions: Width of a vector.
        query_prompt: Put in front of every query, to the byte.
        document_prompt: Put in front of every document, to the byte.
        pooling: ``"mean"``, ``"cls"``, ``"max"``, ``"lasttoken"``, ``"weightedmean"``, ...; ``"unknown"`` for an API.
        normalize: Whether vectors have length 1.
        similarity: The comparison the model was trained for.
        weights: Digest of the weights: the same model from a folder, the hub or the bundled package is one space.
        revision: Revision on the hub, where the weights are not at hand.
        max_tokens: Longest input in tokens, prompt and special tokens included; None if unlimited or unknown.
            It decides what is split, never what a vector is, and is no part of ``space``.
        document_tokens: Longest document in tokens that is encoded in one piece: ``max_tokens`` less the document
            prompt and special tokens. No part of ``space`` either.
    """

    model: str
    dimensions: int
    query_prompt: str = ""
    document_prompt: str = ""
    pooling: str = "unknown"
    normalize: bool = True
    similarity: Similarity = "cosine"
    weights: str = ""
    revision: str = ""
    max_tokens: int | None = None
    document_tokens: int | None = None

    def prompt(self, role: Role) -> str:
        """Return the prompt for a role."""
        return self.query_prompt if role == "query" else self.document_prompt

    @property
    def space(self) -> str:
        """Stamp of the embedding space. A store refuses vectors with another stamp."""
        return content_id("space", canonical_json(self.identity()))

    def identity(self) -> dict[str, Any]:
        """Return the fields that make up ``space``."""
        values = self.to_dict()
        del values["max_tokens"], values["document_tokens"]
        if self.weights:
            del values["model"], values["revision"]
        return values

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-safe values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Profile:
        """Rebuild a profile from `to_dict`, ignoring fields a newer version may have added."""
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})
