"""PDF to a document with layout, without models: by the size, weight and place of the words, and the outline."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rag_embeddings.read.base import TextBuilder
from rag_embeddings.read.pdf_furniture import furniture
from rag_embeddings.read.pdf_headings import Headings, style
from rag_embeddings.read.pdf_layout import regions
from rag_embeddings.read.pdf_lines import LEADERS
from rag_embeddings.read.pdf_tables import Grid
from rag_embeddings.read.pdf_words import Limits, read_pages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rag_embeddings.read.pdf_lines import Line
    from rag_embeddings.text import Document

_MARKER = re.compile(r"(?:[•◦▪‣●○■□➢\u2217*·\u2013\u2014-]|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)]|\[\d{1,3}\])\s")
_CAPTION = re.compile(
    r"(?:figure|fig\.|table|listing|abbildung|tabelle)\s+\w{1,6}(?:\.\w{1,4})*\s?[.:\u2013-]", re.IGNORECASE
)
_WORD = re.compile(r"\w*")
_TOUCHING = 0.3  # of a character's width: no space
_IN_LINK = re.compile(r"://\S*[/?&=]$")
_TAIL = 200  # characters at the end of the text so far that say how the next line goes on
_BROKEN = re.compile(r"(\w+)[-\u2010\u00ad]$")


def read_pdf(
    source: bytes | str | Path,
    *,
    id: str = "",  # noqa: A002 - the document's field
    metadata: Mapping[str, Any] | None = None,
    password: str | None = None,
    max_bytes: int = 200_000_000,
    max_pages: int = 10_000,
    max_characters: int = 50_000_000,
    max_seconds: float = 600.0,
) -> Document:
    """Find text and layout of a PDF that has text; images are not read.

    Args:
        source: The bytes of a file, or its path.
        id: The document's id; derived from text and metadata if empty.
        metadata: The document's metadata.
        password: Opens an encrypted file.
        max_bytes: Largest file that is opened.
        max_pages: Most pages of a file.
        max_characters: Most characters on all pages.
        max_seconds: Longest time; looked at before each page.

    Returns:
        A document whose text is in reading order: columns one after the other, tables with a line for each row, lines
        of a paragraph joined and words that were broken at their ends put together. Blocks have pages, counted from 1.
        Headings come from the outline, and from size and weight. Running headers, footers and page numbers are
        ``furniture``, in front of and behind the text of their page. A paragraph ends with its page.

    Raises:
        DocumentError: If the file is broken, encrypted or larger than a limit.
        MissingExtraError: If pypdfium2 is not installed.
    """
    limits = Limits(max_bytes, max_pages, max_characters, max_seconds)
    pages, outline = read_pages(Path(source) if isinstance(source, str) else source, password, limits)
    edges = furniture(pages)
    laid_out = {page.number: regions(page.words, page.rules) for page in pages}
    text_lines = {
        number: [group for group in groups if not isinstance(group, Grid)] for number, groups in laid_out.items()
    }
    headings = Headings(text_lines, outline)
    words = _vocabulary(line for groups in text_lines.values() for group in groups for line in group)
    builder = TextBuilder()
    for page in pages:
        top, bottom = edges[page.number]
        for line in top:
            builder.add("furniture", line.text, page=page.number)
        for group in laid_out[page.number]:
            if isinstance(group, Grid):
                builder.add_table(group.rows, headers=group.headers, pages=[page.number] * len(group.rows))
            else:
                for kind, level, lines in _blocks(group, headings):
                    text = _code(lines) if kind == "code" else _joined(lines, words)
                    builder.add(kind, text, level=level, page=page.number)
        builder.add("paragraph", " ".join(word.text for word in page.turned), page=page.number)
        for line in bottom:
            builder.add("furniture", line.text, page=page.number)
    return builder.document(id, metadata)


def _blocks(lines: Sequence[Line], headings: Headings) -> Iterator[tuple[str, int, Sequence[Line]]]:
    """Group the lines of a column to blocks: kind, level and lines of each."""
    margins = _margins(lines)
    index = 0
    while index < len(lines):
        heading = headings.at(lines, index)
        if heading:
            level, count = heading
            yield "heading", level, lines[index : index + count]
            index += count
            continue
        kind = _kind(lines[index])
        end = index + 1
        while end < len(lines) and not headings.at(lines, end) and _follows(lines, index, end, kind, margins):
            end += 1
        yield kind, int(kind == "list_item"), lines[index:end]
        index = end


def _kind(line: Line) -> str:
    if line.mono:
        return "code"
    text = line.text
    if _MARKER.match(text) or LEADERS.search(text):
        return "list_item"
    return "caption" if _CAPTION.match(text) else "paragraph"


def _margins(lines: Sequence[Line]) -> tuple[float, float]:
    """Return where most lines begin, and where the longest end."""
    starts = Counter(round(line.x0) for line in lines)
    return float(starts.most_common(1)[0][0]), max(line.x1 for line in lines)


def _follows(lines: Sequence[Line], first: int, at: int, kind: str, margins: tuple[float, float]) -> bool:
    """Tell whether ``lines[at]`` goes on with the block from ``first`` on: by its distance and where it begins."""
    line, above, size = lines[at], lines[at - 1], lines[at - 1].size
    pitch, step = line.y - above.y, line.x0 - above.x0
    left, right = margins
    if kind == "code":
        return line.mono and 0 < pitch < 2.5 * size  # a listing may have an empty line
    if (
        _kind(line) in {"list_item", "caption", "code"}
        or LEADERS.search(above.text)
        or style(line)[0] != style(above)[0]
        or not 0 < pitch < 1.75 * size
        or (at - first > 1 and pitch > 1.25 * (above.y - lines[at - 2].y))
    ):
        return False
    if kind == "list_item":  # what goes on stands further right than the mark
        return line.x0 > lines[first].x0 + 0.5 * size or step > -0.5 * size > line.x0 - left
    if at - first == 1:  # a first line may stand in, or out
        return step < 0.8 * size or above.x1 > right - 4 * size
    return abs(step) < 0.8 * size


def _vocabulary(lines: Iterable[Line]) -> set[str]:
    return {
        word.text.strip(".,;:!?()[]\"'\u201c\u201d\u2018\u2019").casefold() for line in lines for word in line.words
    }


def _joined(lines: Sequence[Line], vocabulary: set[str]) -> str:
    """Join lines with spaces, and put words together that were broken between lines."""
    text = ""
    for line in lines:
        next_ = line.text
        end = text[-_TAIL:]
        broken = _BROKEN.search(end)
        if not broken:
            text += next_ if not text or _IN_LINK.search(end) else f" {next_}"
            continue
        head, tail = broken[1], _WORD.findall(next_)[0]
        whole, compound = f"{head}{tail}".casefold(), f"{head}-{tail}".casefold()
        keeps = not tail[:1].islower() or (compound in vocabulary and whole not in vocabulary)
        text = (text if keeps else text[:-1]) + next_
    return text


def _code(lines: Sequence[Line]) -> str:
    """Keep lines, indentation and the spaces between words, counted in widths of a character."""
    left = min(line.x0 for line in lines)
    widths = [(word.x1 - word.x0) / len(word.text) for line in lines for word in line.words]
    wide = max(median(widths), 0.3 * lines[0].size)
    parts: list[str] = []
    above = None
    for line in lines:
        if above is not None and line.y - above.y > 1.8 * line.size:
            parts.append("")
        text = " " * round((line.x0 - left) / wide) + line.words[0].text
        for before, word in pairwise(line.words):
            gap = (word.x0 - before.x1) / wide
            text += " " * (max(1, int(gap + 0.35)) if gap > _TOUCHING else 0) + word.text
        parts.append(text)
        above = line
    return "\n".join(parts)
