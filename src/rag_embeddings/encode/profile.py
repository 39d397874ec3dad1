"""What a model is, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from rag_embeddings.text import canonical_json, content_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_embeddings.encode.base import Role

Similarity = Literal["cosine", "dot", "euclidean"]
DecidedBy = Literal["caller", "model", "catalog", "none"]

# No part of the space: they decide what is split or who to ask, not what a vector is.
_ASIDE = ("max_tokens", "document_tokens", "query_model")
# Absent from the identity while they say nothing, so that models without them keep the space they had.
_OPTIONAL = ("query_suffix", "query_adapter", "document_adapter", "layers")
_SOURCES = {
    "caller": "you",
    "model": "the model's own files",
    "catalog": "the catalog",
    "none": "nobody: the default",
}


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
        query_suffix: Put behind every query, to the byte.
        query_adapter: The task that the model itself is told for queries, where it runs an adapter for it.
        document_adapter: The same for documents.
        layers: Layers of the transformer that run, from the lowest, where they are not all.
        query_model: The model that encodes the queries, where it is another one. No part of ``space``, since
            ``weights`` cover both.
        sources: Who decided on a value, by its name: ``"caller"``, ``"model"`` (its own files), ``"catalog"`` or
            ``"none"`` (nobody: a default). It changes nothing and is not kept by `to_dict`.
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
    query_suffix: str = ""
    query_adapter: str = ""
    document_adapter: str = ""
    layers: int | None = None
    query_model: str = ""
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

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
        dropped = [*_ASIDE, *(name for name in _OPTIONAL if not values[name])]
        if self.weights:
            dropped += ["model", "revision"]
        return {name: value for name, value in values.items() if name not in dropped}

    def differences(self, other: Profile) -> str:
        """Say in which fields of `identity` a profile that is used here differs from this one, which was stored."""
        stored, given = self.identity(), other.identity()
        fields = sorted(name for name in stored | given if stored.get(name) != given.get(name))
        told = "; ".join(f"{name}: {stored.get(name)!r} there, {given.get(name)!r} here" for name in fields)
        return told or "an older kind of profile"

    def to_dict(self) -> dict[str, Any]:
        """Return all fields but ``sources`` as JSON-safe values."""
        return {name: value for name, value in asdict(self).items() if name != "sources"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Profile:
        """Rebuild a profile from `to_dict`, ignoring fields a newer version may have added."""
        known = {item.name for item in fields(cls)} - {"sources"}
        return cls(**{name: value for name, value in values.items() if name in known})

    def explain(self) -> str:
        """Say in plain text what the encoder does to a text, value by value, and who decided on it.

        Returns:
            One line per value: its name, the value, and in brackets where it comes from, where that is known: you, the
            model's own files, the catalog of this package, or nobody.
        """
        lines = [f"{self.model}: {self.dimensions} dimensions, compared by {self.similarity}"]
        for name, value in self._told().items():
            source = self.sources.get(name)
            lines.append(f"  {name:<16} {value}" + (f"  ({_SOURCES.get(source, source)})" if source else ""))
        return "\n".join(lines)

    def _told(self) -> dict[str, str]:
        """Return what `explain` tells, as text; leaves out what says nothing."""
        told = {
            "query_model": self.query_model,
            "query_prompt": repr(self.query_prompt),
            "query_suffix": repr(self.query_suffix) if self.query_suffix else "",
            "query_adapter": self.query_adapter,
            "document_prompt": repr(self.document_prompt),
            "document_adapter": self.document_adapter,
            "pooling": self.pooling,
            "normalize": "to length 1" if self.normalize else "no",
            "similarity": self.similarity,
            "dimensions": str(self.dimensions),
            "layers": "all" if self.layers is None else f"the lowest {self.layers}",
            "max_tokens": "no limit known" if self.max_tokens is None else str(self.max_tokens),
            "space": self.space,
        }
        return {name: value for name, value in told.items() if value}
