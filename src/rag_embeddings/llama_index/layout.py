"""Splitting by layout, as a LlamaIndex node parser."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

from llama_index.core.bridge.pydantic import Field, field_serializer, field_validator

from rag_embeddings.llama_index.naming import callable_name, cannot_rebuild
from rag_embeddings.llama_index.node_parsers import SpanNodeParser
from rag_embeddings.read.layout import LayoutReader
from rag_embeddings.read.scope import ScopeNotes
from rag_embeddings.split.base import Splitter
from rag_embeddings.split.boundaries import Boundary
from rag_embeddings.split.layout import LayoutSplitter


class LayoutNodeParser(SpanNodeParser):
    """Splits at sections, paragraphs, lists, tables and code, and tells each node the headings above it.

    What a model should know beside the text, the heading path, notes in force, the header of a table that was cut,
    stands in ``metadata["context"]``, which embedding and language models see. For programs there are ``headings`` (the
    path, as one string), ``kinds`` and, where there are pages, ``page`` (which language models see, too) and
    ``last_page``. See `SpanNodeParser` for what nodes carry beside that.

    Examples:
        ```python
        from rag_embeddings.llama_index import LayoutNodeParser

        parser = LayoutNodeParser(chunk_size=256, embed_model=embed_model, layout="markdown")
        nodes = parser.get_nodes_from_documents(documents)
        ```
    """

    layout: Literal["auto", "markdown", "html"] | None = Field(
        default="auto",
        description="What documents are: markdown, html, auto (what their metadata says, by the suffix of file_name, "
        "source and the like, or a media type; else plain text) or None (plain text). Markdown stays as it is; of HTML "
        "the text is what a browser shows, and offsets count in that.",
    )
    target: int | None = Field(default=None, gt=0, description="Tokens of a good chunk. None: chunk_size.")
    boundaries: list[Boundary | str] | str = Field(
        default_factory=list,
        description="Places that must be cut: page, section, block, or a metadata key that holds places.",
    )
    notes: Any = Field(
        default=None,
        description="Finds declarations that govern more text than their own, such as rag_embeddings.ScopeNotes().",
    )
    context_tokens: int | None = Field(
        default=None, ge=0, description="Most tokens of a context; half of chunk_size by default."
    )

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this class."""
        return "LayoutNodeParser"

    def _make(self, source: Any) -> Splitter:
        return LayoutSplitter(
            self.chunk_size,
            self.chunk_overlap or 0,
            tokenizer=source,
            language=self.language,
            target=self.target,
            boundaries=self.boundaries,
            notes=self.notes,
            context_tokens=self.context_tokens,
            reader=None if self.layout is None else LayoutReader(self.layout),
        )

    @field_validator("notes", mode="before")
    @classmethod
    def _restored_notes(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if value.get("class_name") != ScopeNotes.__name__:
            raise cannot_rebuild(f"source of notes {value.get('notes_name')!r}", "its name", "notes")
        return ScopeNotes(**{name: item for name, item in value.items() if name != "class_name"})

    @field_serializer("notes")
    def _spelled_notes(self, value: Callable[..., Any] | None) -> Any:
        if value is None:
            return None
        if isinstance(value, ScopeNotes):
            return {"class_name": ScopeNotes.__name__, **asdict(value)}
        return {"notes_name": callable_name(value)}
