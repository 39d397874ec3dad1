"""What every room passes to the next: Span, Block, Document, Chunk.

Text is never rewritten. A chunk is one or more spans of its document, and ``text[start:end]`` *is* the chunk.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rag_embeddings.errors import DocumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SURROGATE = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")

# Hashes, behind the markers of list items that a heading may stand in.
_HASHES = re.compile(r"(?:(?:[-*+]|\d{1,9}[.)]) )*#{1,6}(?: |$)")
_UNDERLINE = re.compile("=+|-+")

KINDS = (
    "heading",
    "paragraph",
    "list_item",
    "quote",
    "code",
    "table",
    "table_header",
    "table_row",
    "caption",
    "furniture",
)
"""The kinds of `Block` that readers give.

Blocks stand in the order of the text and do not overlap, with one exception: a ``table`` is followed by the
``table_header`` (the rows that say what the columns are; not every table has them) and ``table_row`` blocks inside it.
``furniture`` is what belongs to the page and not to what is said: running headers and footers, page numbers, comments,
rules between sections. Every character that is not white space is in some block.
"""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range of characters (Python code points) of a document's text.

    Attributes:
        start: Index of the first character.
        end: Index after the last character.

    Raises:
        DocumentError: If ``start`` is negative or lies behind ``end``.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise DocumentError(f"a span needs 0 <= start <= end, got start={self.start}, end={self.end}")

    def __len__(self) -> int:
        return self.end - self.start

    def of(self, text: str) -> str:
        """Return the slice of ``text`` that this span covers."""
        return text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Block:
    """A span with a layout kind.

    Attributes:
        span: Where the block stands in the text.
        kind: One of `KINDS`, or a kind of the caller's own.
        level: Depth of a heading or of a list item (1 is the highest or outermost); 0 for anything else.
        page: Page number, from 1, where the source has pages.
    """

    span: Span
    kind: str
    level: int = 0
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """A declaration that governs more text than its own, such as "all numbers in this document are in millions".

    Attributes:
        span: Where the document says so.
        scopes: What it governs: ordered, disjoint spans.
        term: What a text must mention to be concerned (a defined term); empty where all text in scope is.
    """

    span: Span
    scopes: tuple[Span, ...]
    term: str = ""

    def mentions(self, text: str) -> list[int]:
        """Return where a text uses the term: as a word, in its own case or begun with a capital, plural or not."""
        if not self.term:
            return []
        first, rest = self.term[0], re.escape(self.term[1:])
        letter = f"[{first}{first.upper()}]" if first.islower() and len(first.upper()) == 1 else re.escape(first)
        return [found.start() for found in re.finditer(rf"(?<!\w){letter}{rest}(?:s|es)?(?!\w)", text)]


@dataclass(frozen=True)
class Document:
    """A text with an identity.

    Attributes:
        text: The text. It may hold any code points, lone surrogates included.
        id: Identity across versions of the text. Left empty, it is derived from text and metadata.
        metadata: Scalars, lists and dictionaries that travel with every chunk. Copied deeply, not shared.
        blocks: Layout, where a reader found some.

    Raises:
        DocumentError: If the metadata cannot be copied, or the id has to be derived and the metadata has a value
            without a stable spelling.
    """

    text: str
    id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()

    def __post_init__(self) -> None:
        try:
            metadata = deepcopy(dict(self.metadata))
        except (TypeError, RecursionError) as error:  # an open file, a lock; thousands of lists inside each other
            raise DocumentError(f"the metadata of document {self.id!r} cannot be copied: {error}") from error
        object.__setattr__(self, "metadata", metadata)
        if not self.id:
            derived = content_id("document", self.digest, canonical_json(self.metadata))
            object.__setattr__(self, "id", derived)

    def __hash__(self) -> int:
        return hash((self.id, self.digest))

    @cached_property
    def digest(self) -> str:
        """BLAKE2b-128 of the text in UTF-8 (lone surrogates passed through), in hexadecimal."""
        return blake2b(self.text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Chunk:
    """One or more spans of one document, and what a model should know beside them.

    Attributes:
        document: The document the spans point into.
        spans: Ordered, disjoint spans. Most splitters give exactly one.
        headings: The path of headings above the chunk, outermost first.
        context: Text that is embedded and shown in front of the chunk, but is not part of it.
        metadata: What the splitter found out about this chunk (page, block kinds, ...).

    Raises:
        DocumentError: If there is no span, if spans overlap or are out of order, or if the last one ends behind the
            document's text.
    """

    document: Document
    spans: tuple[Span, ...]
    headings: tuple[str, ...] = ()
    context: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.spans:
            raise DocumentError(f"a chunk of document {self.document.id!r} needs at least one span")
        if any(before.end > after.start for before, after in pairwise(self.spans)):
            raise DocumentError(
                f"the spans of a chunk of document {self.document.id!r} must be ordered and disjoint, got {self.spans}"
            )
        if self.spans[-1].end > len(self.document.text):
            raise DocumentError(
                f"span {self.spans[-1]} ends behind document {self.document.id!r}, "
                f"which has {len(self.document.text)} characters"
            )

    def __hash__(self) -> int:
        return hash((self.document, self.spans))

    @property
    def start(self) -> int:
        """Index of the first character."""
        return self.spans[0].start

    @property
    def end(self) -> int:
        """Index after the last character."""
        return self.spans[-1].end

    @property
    def text(self) -> str:
        """The slice of the document; the slices of a chunk of several spans stand on lines of their own."""
        return "\n".join(span.of(self.document.text) for span in self.spans)

    @property
    def embedding_text(self) -> str:
        """What a model sees: the context, then the text."""
        return f"{self.context}\n\n{self.text}" if self.context else self.text

    @cached_property
    def id(self) -> str:
        """A UUID derived from document id, text digest and spans: equal input gives equal ids anywhere."""
        return span_id(self.document, "chunk", self.spans)


def span_id(document: Document, kind: str, spans: Iterable[Span]) -> str:
    """Derive the id of a unit of a document.

    Args:
        document: The document the spans point into.
        kind: ``"chunk"`` or ``"sentence"``; a chunk and its only sentence differ by it.
        spans: The unit's spans.

    Returns:
        A UUID in its usual spelling, which every vector store accepts.
    """
    ends = ",".join(f"{span.start}-{span.end}" for span in spans)
    return content_id(document.id, document.digest, kind, ends)


def content_id(*fields: str) -> str:
    """Hash fields, each preceded by its length so that no two lists collide, into a UUID."""
    digest = blake2b(digest_size=16)
    for item in fields:
        data = item.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return str(UUID(bytes=digest.digest()))


def canonical_json(value: object) -> str:
    """Spell a value so that equal values have equal spellings.

    Args:
        value: Anything JSON holds, and dates, paths, UUIDs and decimals.

    Returns:
        JSON with sorted keys and no white space.

    Raises:
        DocumentError: If a value has no stable spelling.
    """

    def spell(item: object) -> str:
        if isinstance(item, date | PurePath | UUID | Decimal):
            return str(item)
        raise DocumentError(f"metadata value {item!r} of type {type(item).__name__} is not JSON; give a string")

    try:
        spelled = json.dumps(value, sort_keys=True, separators=(",", ":"), default=spell)
        plain = json.dumps(value, ensure_ascii=False, default=spell) if "\\ud" in spelled else ""
    except DocumentError:
        raise
    except TypeError as error:  # keys of several types cannot be sorted, tuples cannot be keys
        raise DocumentError(f"metadata has keys that are not JSON: {error}; use strings") from error
    except (ValueError, RecursionError) as error:  # a list that holds itself, or thousands inside each other
        raise DocumentError(f"metadata cannot be spelled as JSON: {error}") from error
    if _PAIR.search(plain):  # JSON spells two lone surrogates side by side like the one character they would make
        raise DocumentError("metadata has the two halves of a surrogate pair as characters of their own")
    return spelled


def heading_text(document: Document, block: Block) -> str:
    """Return a heading as it is read: on one line, without the marks that make it a heading in Markdown.

    Args:
        document: The document that the block stands in.
        block: A block of the kind ``"heading"``.

    Returns:
        The words of the heading. Emphasis and other marks inside the line stay as they are.
    """
    lines = block.span.of(document.text).split("\n")
    if len(lines) > 1 and _UNDERLINE.fullmatch(lines[-1].strip()):
        lines.pop()
    text = " ".join(" ".join(lines).split())
    opening = _HASHES.match(text)
    if opening is None:
        return text
    text = text[opening.end() :]
    bare = text.rstrip("#")
    return bare.rstrip() if bare.endswith(" ") or not bare else text


def without_surrogates(text: str) -> str:
    """Replace lone surrogates by U+FFFD, one for one, so that offsets stay and UTF-8 exists."""
    return _SURROGATE.sub("\ufffd", text)
