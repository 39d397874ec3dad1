"""Any LangChain or LlamaIndex embedding as an Encoder. Known by what it can do: neither framework is imported."""

from __future__ import annotations

import threading
from inspect import getattr_static
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.encode.base import Role, validated
from rag_embeddings.encode.profile import Profile
from rag_embeddings.text import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rag_embeddings.encode.base import Encoder, Vectors

_PROBE = "dimensions"
_ABSENT = object()


def wrap(embeddings: Any) -> Encoder:
    """Make an Encoder of whatever a user of either framework has.

    Args:
        embeddings: An Encoder, given back as it is; an object whose ``encoder`` is one, such as this package's own
            framework classes, which gives that; a LangChain ``Embeddings``; a LlamaIndex ``BaseEmbedding``.

    Returns:
        The Encoder.

    Raises:
        TypeError: If it is none of these.
    """
    if _is_encoder(embeddings):
        encoder: Encoder = embeddings
        return encoder
    # An attribute may be a property that loads a model; look before touching it.
    if not isinstance(embeddings, type) and _has(embeddings, "encoder") and _is_encoder(embeddings.encoder):
        return embeddings.encoder  # type: ignore[no-any-return]  # just looked
    if _can(embeddings, "embed_documents", "embed_query"):
        return WrappedEncoder(embeddings, embeddings.embed_documents, embeddings.embed_query)
    if _can(embeddings, "get_text_embedding_batch", "get_query_embedding"):
        return WrappedEncoder(embeddings, embeddings.get_text_embedding_batch, embeddings.get_query_embedding)
    raise TypeError(
        "needed is a rag_embeddings Encoder, an object whose .encoder is one, a LangChain Embeddings (embed_documents, "
        "embed_query) or a LlamaIndex BaseEmbedding (get_text_embedding_batch, get_query_embedding); "
        f"got {embeddings!r:.80} of type {type(embeddings).__name__}"
    )


class WrappedEncoder:
    """Encoder over two functions of somebody else's embedding.

    Prompts, batches and retries are that embedding's own affair. How many dimensions it has is learnt from the first
    vectors, or from one short text when it is asked for earlier.

    Args:
        embeddings: The object; its ``model`` or ``model_name`` names the model, else its class.
        documents: Texts to vectors.
        query: One text to one vector.
    """

    def __init__(
        self,
        embeddings: Any,
        documents: Callable[[list[str]], Sequence[Sequence[float]]],
        query: Callable[[str], Sequence[float]],
    ) -> None:
        self.embeddings = embeddings
        self._documents = documents
        self._query = query
        self._lock = threading.Lock()
        self._profile: Profile | None = None

    @property
    def profile(self) -> Profile:
        """What is known of the model. May encode one short text."""
        if self._profile is None:
            with self._lock:
                if self._profile is None:
                    self._profile = self._described(validated(self._documents([_PROBE]), [_PROBE], None))
        return self._profile

    @property
    def tokenizer(self) -> None:
        """None: what counts tokens as the model does is not known."""

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        """Encode texts; see `rag_embeddings.encode.base.Encoder`.

        Raises:
            VectorError: If the embedding returned another number of vectors, or vectors that must not be stored.
        """
        if isinstance(texts, str):
            raise TypeError("texts is a sequence of strings; put a single text in a list")
        if len(texts) == 0:
            return np.zeros((0, self.profile.dimensions), dtype=np.float32)
        clean = [without_surrogates(text) for text in texts]
        found = [self._query(text) for text in clean] if Role(role) is Role.QUERY else self._documents(clean)
        known = self._profile
        vectors = validated(found, clean, known.dimensions if known else None)
        if known is None:
            with self._lock:
                self._profile = self._profile or self._described(vectors)
            return validated(vectors, clean, self._profile.dimensions)
        return vectors

    def __getstate__(self) -> dict[str, Any]:
        return {"embeddings": self.embeddings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        fresh = wrap(state["embeddings"])
        self.__dict__.update(fresh.__dict__)

    def __repr__(self) -> str:
        return f"WrappedEncoder({type(self.embeddings).__name__})"

    def _described(self, vectors: Vectors) -> Profile:
        names = (getattr(self.embeddings, name, None) for name in ("model", "model_name"))
        name = next((name for name in names if isinstance(name, str) and name), type(self.embeddings).__name__)
        return Profile(model=name, dimensions=vectors.shape[1], normalize=False)


def _is_encoder(candidate: Any) -> bool:
    """Whether it has the members of an Encoder, without reading them: reading a profile may load a model."""
    return not isinstance(candidate, type) and all(_has(candidate, name) for name in ("profile", "tokenizer", "encode"))


def _has(candidate: Any, name: str) -> bool:
    return getattr_static(candidate, name, _ABSENT) is not _ABSENT or name in _extra(candidate)


def _extra(candidate: Any) -> dict[str, Any]:
    """Private attributes of a pydantic model, which live beside its fields."""
    return getattr(candidate, "__pydantic_private__", None) or {}


def _can(candidate: Any, *names: str) -> bool:
    return not isinstance(candidate, type) and all(callable(getattr(candidate, name, None)) for name in names)
