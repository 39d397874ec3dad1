"""The core's splitters as LangChain text splitters whose chunks know where they stand."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from langchain_text_splitters import TextSplitter

from rag_embeddings.encode.wrap import wrap
from rag_embeddings.errors import require
from rag_embeddings.langchain.convert import from_chunk, to_core
from rag_embeddings.split.base import DEFAULT_MAX_TOKENS, DEFAULT_TOKENIZER, Splitter
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.split.sliding import SlidingWindowSplitter
from rag_embeddings.split.tokens import token_counter
from rag_embeddings.text import Document

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from collections.abc import Set as AbstractSet
    from typing import Self

    from langchain_core.documents import Document as LangChainDocument
    from langchain_core.embeddings import Embeddings

    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.split.tokens import TokenCounter


class SpanTextSplitter(TextSplitter):
    """What our text splitters share: chunks are slices, and carry their place and their source."""

    _context_in_content = False

    def __init__(
        self,
        chunk_size: int,
        chunk_overlap: int,
        *,
        embeddings: Embeddings | Encoder | None = None,
        tokenizer: Any = None,
        language: str = "en",
    ) -> None:
        self._counter = _counter(embeddings, tokenizer)
        super().__init__(chunk_size, chunk_overlap, length_function=self._tokens, add_start_index=True)
        self.core = self._make_core(language)

    @abstractmethod
    def _make_core(self, language: str) -> Splitter: ...

    def _tokens(self, text: str) -> int:
        return self._counter.count([text])[0]

    def split_text(self, text: str) -> list[str]:
        """Split a text.

        Args:
            text: Any text.

        Returns:
            The chunks, each a slice of ``text``. Where they stand is in what `create_documents` returns.
        """
        return [made.page_content for made in self._made(Document(text))]

    def create_documents(
        self, texts: list[str], metadatas: list[dict[Any, Any]] | None = None
    ) -> list[LangChainDocument]:
        """Split texts into documents; see `split_documents`.

        Args:
            texts: Any number of texts.
            metadatas: One dictionary per text, or none at all.

        Returns:
            The chunks of all texts, in order.

        Raises:
            ValueError: If there are not as many metadatas as texts.
        """
        if metadatas is not None and len(metadatas) != len(texts):
            raise ValueError(f"{len(texts)} texts need as many metadatas, got {len(metadatas)}")
        return [
            made
            for text, metadata in zip(texts, metadatas or [{}] * len(texts), strict=True)
            for made in self._made(Document(text, metadata=metadata))
        ]

    def split_documents(self, documents: Iterable[LangChainDocument]) -> list[LangChainDocument]:
        """Split documents.

        Args:
            documents: Left untouched. An empty document gives no chunk.

        Returns:
            The chunks, in order. ``page_content`` is the slice; ``id`` the same on every run. Metadata: a deep copy of
            the document's, and

            - ``start_index``, ``end_index``: the slice's place in the source's text, in characters, end exclusive;
            - ``source_id``: the document's id, or one derived from its text and metadata if it has none.

            Chunks that are split again keep citing the first text: their ``source_id`` stays, and offsets count from
            its beginning.

        Raises:
            DocumentError: If a document without an id has metadata that is not JSON.
        """
        return [made for document in documents for made in self._made(to_core(document))]

    def _made(self, document: Document) -> list[LangChainDocument]:
        chunks = self.core.split(document)
        return [from_chunk(chunk, context_in_content=self._context_in_content) for chunk in chunks]

    async def atransform_documents(
        self,
        documents: Sequence[LangChainDocument],
        **kwargs: Any,  # noqa: ARG002  # LangChain's signature
    ) -> Sequence[LangChainDocument]:
        """Split documents without blocking the event loop; see `split_documents`."""
        return await asyncio.to_thread(self.split_documents, documents)

    @classmethod
    def from_huggingface_tokenizer(cls, tokenizer: Any, **kwargs: Any) -> Self:
        """Count with a Hugging Face tokenizer.

        Args:
            tokenizer: A fast tokenizer of transformers, or a ``tokenizers.Tokenizer``.
            **kwargs: As for the constructor.

        Returns:
            A splitter.
        """
        return cls(tokenizer=tokenizer, **kwargs)

    @classmethod
    def from_tiktoken_encoder(
        cls,
        encoding_name: str = "gpt2",
        model_name: str | None = None,
        allowed_special: Literal["all"] | AbstractSet[str] | None = None,
        disallowed_special: Literal["all"] | Collection[str] = "all",  # noqa: ARG003  # LangChain's signature
        **kwargs: Any,
    ) -> Self:
        """Count with tiktoken. Text that spells a special token is counted as the plain text it is, and never raises.

        Args:
            encoding_name: Name of the encoding.
            model_name: Name of an OpenAI model, to use its encoding instead.
            allowed_special: Must be None or empty: no text stands for a special token here.
            disallowed_special: Accepted, and without effect, for the same reason.
            **kwargs: As for the constructor.

        Returns:
            A splitter.

        Raises:
            MissingExtraError: If tiktoken is not installed.
            ValueError: If ``allowed_special`` names a token.
        """
        if allowed_special:
            raise ValueError(
                f"special tokens are counted as plain text; allowed_special={allowed_special!r} cannot work"
            )
        if model_name is not None:
            encoding_name = require("tiktoken", "tiktoken").encoding_name_for_model(model_name)
        return cls(tokenizer=encoding_name, **kwargs)


class RecursiveTextSplitter(SpanTextSplitter):
    """Splits at the strongest boundaries that fit: paragraphs, then lines, sentences, clauses, words.

    Args:
        chunk_size: Most tokens in a chunk.
        chunk_overlap: Most tokens that a chunk repeats of the one before, in whole sentences.
        embeddings: Count tokens as this model does: `InstructionEmbeddings`, or anything whose encoder has a tokenizer.
        tokenizer: Count tokens with a tiktoken encoding (by name), a Hugging Face tokenizer, or a function from text to
            its number of tokens. With neither this nor ``embeddings``: tiktoken's ``"cl100k_base"``.
        language: ISO 639-1 code of the language, for sentence boundaries.
        target: Tokens that a chunk should have; ``chunk_size`` by default.

    Raises:
        ValueError: If both ``embeddings`` and ``tokenizer`` are given, if the embeddings have no tokenizer, or if no
            chunk could satisfy size, overlap and target.

    ```python
    splitter = RecursiveTextSplitter(chunk_size=200, embeddings=embeddings)
    for chunk in splitter.split_documents(documents):
        print(chunk.metadata["source_id"], chunk.metadata["start_index"], chunk.metadata["end_index"])
    ```
    """

    def __init__(
        self,
        chunk_size: int = DEFAULT_MAX_TOKENS,
        chunk_overlap: int = 0,
        *,
        embeddings: Embeddings | Encoder | None = None,
        tokenizer: Any = None,
        language: str = "en",
        target: int | None = None,
    ) -> None:
        self._target = target
        super().__init__(chunk_size, chunk_overlap, embeddings=embeddings, tokenizer=tokenizer, language=language)

    def _make_core(self, language: str) -> Splitter:
        return RecursiveSplitter(
            self._chunk_size, self._chunk_overlap, tokenizer=self._counter, language=language, target=self._target
        )


class SlidingWindowTextSplitter(SpanTextSplitter):
    """Windows of whole sentences that overlap, so that text near a boundary stands in two chunks.

    Args:
        chunk_size: Most tokens in a chunk.
        chunk_overlap: Most tokens that a chunk repeats of the one before, in whole sentences; by default half of
            ``chunk_size``.
        embeddings: As in `RecursiveTextSplitter`.
        tokenizer: As in `RecursiveTextSplitter`.
        language: ISO 639-1 code of the language, for sentence boundaries.

    Raises:
        ValueError: As in `RecursiveTextSplitter`.
    """

    def __init__(
        self,
        chunk_size: int = DEFAULT_MAX_TOKENS,
        chunk_overlap: int | None = None,
        *,
        embeddings: Embeddings | Encoder | None = None,
        tokenizer: Any = None,
        language: str = "en",
    ) -> None:
        overlap = chunk_size // 2 if chunk_overlap is None else chunk_overlap
        super().__init__(chunk_size, overlap, embeddings=embeddings, tokenizer=tokenizer, language=language)

    def _make_core(self, language: str) -> Splitter:
        return SlidingWindowSplitter(self._chunk_size, self._chunk_overlap, tokenizer=self._counter, language=language)


def _counter(embeddings: Embeddings | Encoder | None, tokenizer: Any) -> TokenCounter:
    """Return what tokens are counted with."""
    if embeddings is not None and tokenizer is not None:
        raise ValueError("both embeddings= and tokenizer= are given; tokens are counted by one of them")
    if embeddings is not None:
        return token_counter(wrap(embeddings))
    return token_counter(DEFAULT_TOKENIZER if tokenizer is None else tokenizer)


def core_splitter(splitter: TextSplitter | Splitter) -> Splitter:
    """Return the core splitter behind one of our text splitters, or a core splitter as it is.

    Raises:
        ValueError: For a LangChain splitter that is not ours: most cannot say where their chunks stand.
    """
    if isinstance(splitter, SpanTextSplitter):
        return splitter.core
    if isinstance(splitter, Splitter):
        return splitter
    raise ValueError(
        f"{type(splitter).__name__} cannot say where its chunks stand; "
        "use a text splitter of rag_embeddings.langchain or a splitter of rag_embeddings"
    )


def exact_splitter(splitter: TextSplitter | Splitter | None) -> TextSplitter | Splitter | None:
    """Return a splitter as it is; a validator of fields.

    Raises:
        ValueError: As `core_splitter`.
    """
    if splitter is not None:
        core_splitter(splitter)
    return splitter
