"""What all embeddings of this package have in common: an encoder of the core behind LlamaIndex's methods."""

import asyncio
from abc import abstractmethod
from collections.abc import Hashable
from threading import RLock

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr, field_validator

from rag_embeddings.encode.base import Encoder, Role
from rag_embeddings.llama_index.component import PortableComponent

_building = RLock()  # re-entered where an embedding is made of others


class EncodedEmbedding(PortableComponent, BaseEmbedding):
    """An embedding over an encoder of the core. A pickle, a copy and ``to_dict()`` carry every setting and no weights.

    ``embeddings_cache`` is refused: LlamaIndex keys it by the bare text, so that a query would be answered with the
    vector of the document of the same text, or with that of another model. The embeddings of this package have
    ``cache_path`` instead.
    """

    embed_batch_size: int = Field(
        default=1024,
        gt=0,
        le=2048,
        description="Texts handed to the encoder in one call; the encoder makes batches by tokens itself.",
    )

    _loaded: tuple[Hashable, Encoder] | None = PrivateAttr(default=None)

    @field_validator("embeddings_cache")
    @classmethod
    def _refuse_cache(cls, cache: object) -> None:
        if cache is not None:
            raise ValueError(
                f"embeddings_cache={type(cache).__name__}(...) cannot be used: LlamaIndex keys it by the bare text, "
                "so a query and a document of the same text would share one vector. Use cache_path"
            )

    @property
    def encoder(self) -> Encoder:
        """The encoder behind this object; made at the first use, and again after a setting was assigned."""
        key = self._settings()
        with _building:
            if self._loaded is None or self._loaded[0] != key:
                self._loaded = (key, self._made())
            return self._loaded[1]

    @abstractmethod
    def _settings(self) -> Hashable:
        """Return everything that the encoder is made from."""

    @abstractmethod
    def _made(self) -> Encoder:
        """Make the encoder. Loads nothing."""

    def _encode(self, texts: list[str], role: Role) -> list[Embedding]:
        vectors: list[Embedding] = self.encoder.encode(texts, role).tolist() if texts else []
        return vectors

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._encode([query], Role.QUERY)[0]

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._encode([text], Role.DOCUMENT)[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return self._encode(texts, Role.DOCUMENT)

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)
