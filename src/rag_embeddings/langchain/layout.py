"""Splitting by layout, as a LangChain text splitter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from rag_embeddings.langchain.splitters import SpanTextSplitter
from rag_embeddings.read.layout import LayoutReader
from rag_embeddings.split.base import DEFAULT_MAX_TOKENS
from rag_embeddings.split.layout import LayoutSplitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from langchain_core.embeddings import Embeddings

    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.split.base import Splitter
    from rag_embeddings.split.boundaries import Boundary
    from rag_embeddings.text import Document, Note


class LayoutTextSplitter(SpanTextSplitter):
    """Splits at sections, paragraphs, lists, tables and code, and tells each chunk the headings above it.

    ``page_content`` is the slice. What a model should know beside it, the heading path, notes in force, the header of a
    table that was cut, stands in ``metadata["context"]``: embed both, as our indexes and `add_documents` do, or have it
    in front of the content with ``context_in_content=True``. ``metadata`` also has ``headings`` (the path, as one
    string), ``kinds`` and, where there are pages, ``page`` and ``last_page``.

    Args:
        chunk_size: Most tokens in a chunk, its context included.
        chunk_overlap: Most tokens that a chunk repeats of the one before, in whole sentences.
        embeddings: As in `RecursiveTextSplitter`.
        tokenizer: As in `RecursiveTextSplitter`.
        language: ISO 639-1 code of the language, for sentence boundaries.
        target: Tokens that a chunk should have; ``chunk_size`` by default.
        layout: What documents are: ``"markdown"``, ``"html"``, ``"auto"`` (what their metadata says, by the suffix of
            ``source`` and the like, or a media type; else plain text) or None (plain text). Markdown stays as it is; of
            HTML the text is what a browser shows, and offsets count in that.
        boundaries: Places that must be cut: ``"page"``, ``"section"``, ``"block"``, or a metadata key with places;
            see `rag_embeddings.Boundary`.
        notes: Finds declarations that govern more text than their own, such as `rag_embeddings.ScopeNotes()`.
        context_tokens: Most tokens of a context; half of ``chunk_size`` by default.
        context_in_content: Put the context in front of the text in ``page_content``, for vector stores and chains that
            look at nothing else. The content then ends with the slice that ``start_index`` and ``end_index`` name.

    Raises:
        ValueError: As in `RecursiveTextSplitter`, and for a layout that does not exist.

    ```python
    splitter = LayoutTextSplitter(chunk_size=256, embeddings=embeddings, layout="markdown")
    for chunk in splitter.split_documents(documents):
        print(chunk.metadata.get("headings"), chunk.page_content)
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
        layout: Literal["auto", "markdown", "html"] | None = "auto",
        boundaries: Iterable[Boundary | str] | str = (),
        notes: Callable[[Document], Sequence[Note]] | None = None,
        context_tokens: int | None = None,
        context_in_content: bool = False,
    ) -> None:
        self._context_in_content = context_in_content
        self._options: dict[str, Any] = {
            "reader": None if layout is None else LayoutReader(layout),
            "target": target,
            "boundaries": boundaries,
            "notes": notes,
            "context_tokens": context_tokens,
        }
        super().__init__(chunk_size, chunk_overlap, embeddings=embeddings, tokenizer=tokenizer, language=language)

    def _make_core(self, language: str) -> Splitter:
        return LayoutSplitter(
            self._chunk_size, self._chunk_overlap, tokenizer=self._counter, language=language, **self._options
        )
