"""What PDFium knows of a PDF: words with place, size and weight, ruling lines, and the outline."""

from __future__ import annotations

import ctypes
import math
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from rag_embeddings.errors import DocumentError, require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PDFIUM = Lock()  # PDFium may be used by one thread at a time

_BOLD = re.compile(r"bold|black|heavy|demi|cmbx|cmb\d|cmssbx", re.IGNORECASE)
_MONO = re.compile(r"mono|courier|cmtt|cmsltt|typewriter|consol|ectt|[a-z]tt\d", re.IGNORECASE)
_BOLD_WEIGHT = 600
_FIXED_PITCH = 1  # a flag of the font descriptor
_WORD = re.compile(r"[^\s\x02\ufffe]+[\x02\ufffe]?")  # PDFium marks the hyphen at the end of a line by U+0002 or U+FFFE
_LIGATURES = str.maketrans(
    {
        "ﬀ": "ff",
        "ﬁ": "fi",
        "ﬂ": "fl",
        "ﬃ": "ffi",
        "ﬄ": "ffl",
        "ﬅ": "st",
        "ﬆ": "st",
        "\x02": "-",
        "\ufffe": "-",
        "\xad": "-",
    }
)
_MAX_RULES = 5_000  # ruling lines of a page; more are a drawing
_THIN = 2.0  # points


@dataclass(slots=True)
class Word:
    """A word and its place, in points from the top left corner of the page, turned so that most text is level."""

    text: str
    x0: float
    x1: float
    y: float  # of the baseline
    size: float
    bold: bool
    mono: bool
    angle: int = 0


@dataclass(slots=True)
class Rule:
    """A ruling line: level if it is wide, upright if it is high."""

    x0: float
    x1: float
    y0: float
    y1: float

    @property
    def level(self) -> bool:
        """Whether the line runs from left to right."""
        return self.x1 - self.x0 >= self.y1 - self.y0


@dataclass(slots=True)
class Page:
    """A page as it was read."""

    number: int
    height: float
    words: list[Word]
    rules: list[Rule] = field(default_factory=list)
    turned: list[Word] = field(default_factory=list)  # words that run another way than most


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the outline; ``level`` is 1 at the top."""

    title: str
    level: int
    page: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be read of one file."""

    max_bytes: int
    max_pages: int
    max_characters: int
    max_seconds: float


def read_pages(source: bytes | Path, password: str | None, limits: Limits) -> tuple[list[Page], list[Entry]]:
    """Read the pages and the outline of a PDF.

    Raises:
        DocumentError: If the file is larger than a limit, encrypted, or broken.
    """
    pdfium = require("pypdfium2", "read")
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > limits.max_bytes:
        raise DocumentError(f"this PDF has {size} bytes, more than max_bytes={limits.max_bytes}")
    deadline = time.monotonic() + limits.max_seconds
    with _PDFIUM:
        try:
            document = pdfium.PdfDocument(source, password=password)
        except pdfium.PdfiumError as error:
            if "password" in str(error).lower():
                raise DocumentError("this PDF is encrypted; give its password") from error
            raise DocumentError(f"this PDF is broken: {error}") from error
        try:
            if len(document) > limits.max_pages:
                raise DocumentError(f"this PDF has {len(document)} pages, more than max_pages={limits.max_pages}")
            return list(_pages(document, pdfium, limits, deadline)), list(_outline(document, limits))
        finally:
            document.close()


def _pages(document: Any, pdfium: Any, limits: Limits, deadline: float) -> Iterator[Page]:
    total = 0
    for index in range(len(document)):
        if time.monotonic() > deadline:
            raise DocumentError(
                f"reading took longer than max_seconds={limits.max_seconds}, after {index} of {len(document)} pages"
            )
        try:
            page = document[index]
            text = page.get_textpage()
        except pdfium.PdfiumError as error:
            raise DocumentError(f"page {index + 1} of this PDF is broken: {error}") from error
        count = text.count_chars()
        total += count
        if total > limits.max_characters:
            raise DocumentError(f"this PDF has more than max_characters={limits.max_characters} characters")
        words = list(_words(text.raw, count, pdfium.raw))
        rules = list(_rules(page, pdfium.raw)) if words else []
        yield _levelled(index + 1, page.get_bbox(), words, rules)
        text.close()
        page.close()


def _outline(document: Any, limits: Limits) -> Iterator[Entry]:
    for count, mark in enumerate(document.get_toc(max_depth=15)):
        if count > 10 * limits.max_pages:
            return
        target = mark.get_dest()
        page = target.get_index() if target else None
        if page is not None:
            yield Entry(mark.get_title(), mark.level + 1, page + 1)


def _characters(text: Any, count: int, raw: Any) -> str:
    """Return one character for each of PDFium's."""
    buffer = ctypes.create_string_buffer(2 * (count + 1))
    raw.FPDFText_GetText(text, 0, count, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)))
    found = buffer.raw[: 2 * count].decode("utf-16-le", "replace")
    if len(found) == count and "\0" not in found:
        return found
    codes = (raw.FPDFText_GetUnicode(text, index) for index in range(count))
    return "".join(chr(code) if 0 < code <= sys.maxunicode else "\ufffd" for code in codes)


def _words(text: Any, count: int, raw: Any) -> Iterator[Word]:
    """Give the words of a page as the file orders them, in PDF coordinates: upward from the bottom."""
    styles: dict[int, tuple[float, bool, bool, int]] = {}
    box = [ctypes.c_double() for _ in range(4)]
    left, right, bottom, top = (ctypes.byref(value) for value in box)
    x, y = ctypes.c_double(), ctypes.c_double()
    to_x, to_y = ctypes.byref(x), ctypes.byref(y)
    for match in _WORD.finditer(_characters(text, count, raw)):
        first, last = match.start(), match.end() - 1
        handle = raw.FPDFText_GetTextObject(text, first)
        key = ctypes.addressof(handle.contents) if handle else 0
        if key not in styles:
            styles[key] = _style(text, first, raw)
        size, bold, mono, angle = styles[key]
        raw.FPDFText_GetCharBox(text, first, left, right, bottom, top)
        x0, x1, y0, y1 = (value.value for value in box)
        if last != first:
            raw.FPDFText_GetCharBox(text, last, left, right, bottom, top)
            x0, x1 = min(x0, box[0].value), max(x1, box[1].value)
            y0, y1 = min(y0, box[2].value), max(y1, box[3].value)
        raw.FPDFText_GetCharOrigin(text, first, to_x, to_y)
        word = Word(match[0].translate(_LIGATURES), x0, x1, y.value, size, bold, mono, angle)
        if angle:  # along the line of writing
            ends = [_turn(*corner, angle)[0] for corner in ((x0, y0), (x0, y1), (x1, y0), (x1, y1))]
            word.x0, word.x1, word.y = min(ends), max(ends), _turn(x.value, y.value, angle)[1]
        yield word


def _style(text: Any, index: int, raw: Any) -> tuple[float, bool, bool, int]:
    """Return size in points, whether the font is bold, whether it has fixed pitch, and the direction in degrees."""
    matrix = raw.FS_MATRIX()
    raw.FPDFText_GetMatrix(text, index, matrix)
    scale = math.hypot(matrix.c, matrix.d) or 1.0
    name, flags = ctypes.create_string_buffer(128), ctypes.c_int()
    raw.FPDFText_GetFontInfo(text, index, name, 128, flags)
    font = name.value.decode("utf-8", "replace")
    bold = raw.FPDFText_GetFontWeight(text, index) >= _BOLD_WEIGHT or bool(_BOLD.search(font))
    mono = bool(flags.value & _FIXED_PITCH) or bool(_MONO.search(font))
    angle = round(math.degrees(math.atan2(matrix.b, matrix.a)) / 90) * 90 % 360
    return raw.FPDFText_GetFontSize(text, index) * scale, bold, mono, angle


def _rules(page: Any, raw: Any) -> Iterator[Rule]:
    """Give the ruling lines of a page, in PDF coordinates."""
    found = 0
    for item in page.get_objects(filter=(raw.FPDF_PAGEOBJ_PATH,), max_depth=3):
        x0, y0, x1, y1 = item.get_bounds()
        wide, high = x1 - x0, y1 - y0
        if min(wide, high) <= _THIN < max(wide, high) / 3:
            yield Rule(x0, x1, y0, y1)
            found += 1
        elif wide > 10 * _THIN and high > 5 * _THIN:  # a box: its four edges
            yield from (Rule(x0, x1, y0, y0), Rule(x0, x1, y1, y1), Rule(x0, x0, y0, y1), Rule(x1, x1, y0, y1))
            found += 4
        if found > _MAX_RULES:
            return


def _turn(x: float, y: float, angle: int) -> tuple[float, float]:
    """Turn a point so that writing in a direction becomes level."""
    return {0: (x, y), 90: (y, -x), 180: (-x, -y), 270: (-y, x)}[angle]


def _levelled(number: int, box: tuple[float, float, float, float], words: list[Word], rules: list[Rule]) -> Page:
    """Turn a page so that most of its words are level, and count downwards from its top."""
    angles = Counter[int]()
    for word in words:
        angles[word.angle] += len(word.text)
    angle = angles.most_common(1)[0][0] if angles else 0
    left, bottom, right, top = box
    corners = [_turn(x, y, angle) for x in (left, right) for y in (bottom, top)]
    low, high = min(y for _, y in corners), max(y for _, y in corners)
    level, turned = [], []
    for word in words:
        if word.angle == angle:
            word.y = high - word.y
            level.append(word)
        else:
            turned.append(word)
    for rule in rules:
        (x0, y0), (x1, y1) = _turn(rule.x0, rule.y0, angle), _turn(rule.x1, rule.y1, angle)
        rule.x0, rule.x1 = min(x0, x1), max(x0, x1)
        rule.y0, rule.y1 = high - max(y0, y1), high - min(y0, y1)
    return Page(number, high - low, level, rules, turned)
