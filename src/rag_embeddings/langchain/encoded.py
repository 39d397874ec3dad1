"""What all embeddings of this package have in common: an encoder of the core behind LangChain's methods."""

import asyncio
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_text_splitters import TextSplitter
from pydantic import BaseModel, ConfigDict

from rag_embeddings.encode.base import Encoder, Role
from rag_embeddings.langchain.convert import from_chunk, to_core
from rag_embeddings.langchain.door import VectorDoor, ready_vectors
from rag_embeddings.langchain.splitters import core_splitter
from rag_embeddings.split.base import Splitter

_BATCH = 1024  # chunks encoded at a time


class EncodedEmbeddings(VectorDoor, BaseModel, Embeddings):
    """Embeddings over an encoder of the core. Immutable; text and role reach the encoder as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), populate_by_name=True)

    @cached_property  # not a private attribute: those count in comparisons
    @abstractmethod
    def encoder(self) -> Encoder:
        """The core's encoder, which splitters and indexes of this package use directly. Cheap until it encodes."""

    def model_post_init(self, context: Any, /) -> None:
        """Make the encoder now, so that threads and copies never make two and a wrong setting is refused at once."""
        super().model_post_init(context)
        _ = self.encoder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents.

        Args:
            texts: Any number of texts.

        Returns:
            One vector per text, in order. No texts give no vectors.
        """
        if not texts:
            return []
        if (ready := ready_vectors(self, texts)) is not None:
            return ready
        vectors: list[list[float]] = self.encoder.encode(texts, Role.DOCUMENT).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Embed a query.

        Args:
            text: The query, without a prompt.

        Returns:
            Its vector.
        """
        vector: list[float] = self.encoder.encode([text], Role.QUERY)[0].tolist()
        return vector

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents without blocking the event loop; see `embed_documents`."""
        if (ready := ready_vectors(self, texts)) is not None:
            return ready
        return await asyncio.to_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a query without blocking the event loop; see `embed_query`."""
        return await asyncio.to_thread(self.embed_query, text)

    def _embedded(
        self, documents: Iterable[Document], splitter: TextSplitter | Splitter
    ) -> Iterator[tuple[Document, list[float]]]:
        """Yield chunks with the vectors of their context and text; the store sees the text alone."""
        core = core_splitter(splitter)
        chunks = (chunk for document in documents for chunk in core.split(to_core(document)))
        while part := list(islice(chunks, _BATCH)):
            vectors = self.encoder.encode([chunk.embedding_text for chunk in part], Role.DOCUMENT)
            yield from zip(map(from_chunk, part), vectors.tolist(), strict=True)

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        return {**state, "__dict__": {name: value for name, value in state["__dict__"].items() if name != "_writing"}}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002
        """Copy, with other settings if ``update`` names some. A plain copy, deep or not, shares the loaded model."""
        if update:
            # Not `model_dump`, which would take embeddings inside apart.
            settings = {name: getattr(self, name) for name in type(self).model_fields}
            return type(self)(**{**settings, **update})
        return super().model_copy(deep=False)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()
