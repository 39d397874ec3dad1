"""Which splitter an index uses where the caller names none: the one it was last written with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from rag_embeddings.errors import DocumentError
from rag_embeddings.read.layout import Layout, LayoutReader
from rag_embeddings.read.scope import ScopeNotes
from rag_embeddings.split.base import DEFAULT_MAX_TOKENS, DEFAULT_TOKENIZER
from rag_embeddings.split.boundaries import Boundary
from rag_embeddings.split.layout import LayoutSplitter
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.split.sliding import SlidingWindowSplitter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.split.base import Splitter

_KINDS: dict[str, type[RecursiveSplitter | SlidingWindowSplitter | LayoutSplitter]] = {
    RecursiveSplitter.kind: RecursiveSplitter,
    SlidingWindowSplitter.kind: SlidingWindowSplitter,
    LayoutSplitter.kind: LayoutSplitter,
}
# Functions that a layout splitter may have been given, by what it calls them. Others' names do not bring them back.
_NOTES = {ScopeNotes().name: ScopeNotes()}
_READERS = {reader.name: reader for reader in map(LayoutReader, get_args(Layout))}


def index_splitter(
    encoder: Encoder,
    settings: Mapping[str, Any],
    *,
    kind: str | None = None,
    max_tokens: int | None = None,
    overlap: int | None = None,
) -> Splitter:
    """Make the splitter of an index, so that every door cuts its documents alike.

    Args:
        encoder: The encoder of the index. Its tokenizer counts; tiktoken's ``"cl100k_base"`` does if it has none.
        settings: `IndexDirectory.settings`: empty for a new index, which gets a recursive splitter whose chunks the
            encoder takes in one piece.
        kind: ``"recursive"``, ``"sliding_window"`` or ``"layout"``, in place of what the index was written with.
        max_tokens: Most tokens of a chunk, in place of what the index was written with.
        overlap: Most tokens that a chunk repeats of the one before, in place of what the index was written with.

    Returns:
        The splitter.

    Raises:
        DocumentError: If the index was written with a splitter or tokenizer that these settings cannot bring back.
        BudgetError: If ``max_tokens`` and ``overlap`` do not go together.
    """
    asked: dict[str, Any] = {"max_tokens": max_tokens, "overlap": overlap}
    given = {name: value for name, value in asked.items() if value is not None}
    tokenizer = DEFAULT_TOKENIZER if encoder.tokenizer is None else encoder
    stored = settings.get("splitter")
    if stored is None:
        fitting = encoder.profile.document_tokens
        budget = DEFAULT_MAX_TOKENS if fitting is None else min(DEFAULT_MAX_TOKENS, max(fitting, 1))
        return _KINDS[kind or RecursiveSplitter.kind](**({"max_tokens": budget} | given), tokenizer=tokenizer)
    written = stored.get("splitter")
    notes, reader = stored.get("notes"), stored.get("reader")
    if written not in _KINDS or (notes and notes not in _NOTES) or (reader and reader not in _READERS):
        raise DocumentError(f"this index was last written with the splitter {written!r}, which has to be given again")
    names = {"max_tokens", "language"}
    if kind in {None, written}:  # what is meant for one kind of splitter may be wrong for another
        names |= {"overlap", "boundaries", "notes", "reader"}
        if max_tokens is None and written != SlidingWindowSplitter.kind:  # these belong to their budget
            names |= {"target", "context_tokens"}
    kept = {name: value for name, value in stored.items() if name in names}
    if "boundaries" in kept:
        kept["boundaries"] = [Boundary(*fields) for fields in kept["boundaries"]]
    if "notes" in kept:
        kept["notes"] = _NOTES[kept["notes"]]
    if "reader" in kept:
        kept["reader"] = _READERS[kept["reader"]]
    splitter = _KINDS[kind or written](**(kept | given), tokenizer=tokenizer)
    if splitter.counter.name != stored["tokenizer"]:
        raise DocumentError(
            f"this index was last written with a splitter that counts with {stored['tokenizer']!r}, and its encoder "
            f"counts with {splitter.counter.name!r}: give the splitter again"
        )
    return splitter
