"""What the styles and lists of a DOCX say about a paragraph."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

_MAX_CHAIN = 20  # styles based on one another
_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
_NESTED = re.compile(r"list (?:bullet|number) ([2-5])", re.IGNORECASE)  # lists of their own, set further in
_KINDS = (
    (re.compile(r"quote", re.IGNORECASE), "quote"),
    (re.compile(r"caption", re.IGNORECASE), "caption"),
    (re.compile(r"code|preformatted|macro|listing|verbatim", re.IGNORECASE), "code"),
)
MAX_LEVEL = 6
_BODY = 9  # the outline level that Word gives to text
_ROMAN = ((10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))
_PLACE = re.compile(r"%([1-9])")

Number = tuple[str, int]
"""A list's id and the level in it, from 0."""


def tag(element: Any) -> str:
    """Return an element's name without its namespace; nothing for what is no element."""
    name = element.tag
    return name.rpartition("}")[2] if isinstance(name, str) else ""


def child(element: Any, *path: str) -> Any:
    """Return the first descendant at a path of names, or None."""
    for name in path:
        element = next((inner for inner in element if tag(inner) == name), None)
        if element is None:
            return None
    return element


def attribute(element: Any, name: str) -> str:
    """Return an attribute whatever its namespace; empty if there is none."""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def _value(properties: Any, *path: str) -> str:
    found = child(properties, *path) if properties is not None else None
    return attribute(found, "val") if found is not None else ""


def number(value: str, default: int = 0) -> int:
    """Read a number of at most nine digits."""
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 9 else default  # noqa: PLR2004


class Styles:
    """Tells kind, level and list of a paragraph.

    Args:
        root: The tree of the part with the styles, or None.
    """

    def __init__(self, root: Any) -> None:
        styles = [style for style in root if tag(style) == "style"] if root is not None else []
        self._styles = {attribute(style, "styleId"): style for style in styles}
        self._default = ""
        for style in styles:
            if attribute(style, "default") == "1" and attribute(style, "type") == "paragraph":
                self._default = attribute(style, "styleId")

    def of(self, paragraph: Any) -> tuple[str, int, Number | None]:
        """Return the kind of a paragraph, or ``"title"`` (of the document), its level, and the list it counts in."""
        own = child(paragraph, "pPr")
        chain = self._chain(_value(own, "pStyle") or self._default)
        layers = [own, *(child(style, "pPr") for style in chain)]
        names = [_value(style, "name") for style in chain]
        place = self._number(layers)
        if names and names[0].lower() == "title":
            return "title", 1, place
        level = self._heading(layers, names)
        if level:
            return "heading", level, place
        for pattern, kind in _KINDS:
            if any(map(pattern.search, names)):
                return kind, 0, place
        if place is None:
            return "paragraph", 0, None
        nested = next((int(match[1]) for name in names if (match := _NESTED.fullmatch(name))), 1)
        return "list_item", max(place[1] + 1, nested), place

    def _chain(self, key: str) -> list[Any]:
        """Return a style and those it is based on."""
        found: list[Any] = []
        while key in self._styles and len(found) < _MAX_CHAIN:
            found.append(self._styles[key])
            key = _value(found[-1], "basedOn")
        return found

    @staticmethod
    def _heading(layers: list[Any], names: list[str]) -> int:
        outline = next((value for layer in layers if (value := _value(layer, "outlineLvl"))), "")
        if number(outline, _BODY) < _BODY:
            return min(number(outline) + 1, MAX_LEVEL)
        if outline:
            return 0
        for name in names:
            if match := _HEADING.fullmatch(name):
                return min(max(int(match[1]), 1), MAX_LEVEL)
        return 0

    @staticmethod
    def _number(layers: list[Any]) -> Number | None:
        list_id = next((value for layer in layers if (value := _value(layer, "numPr", "numId"))), "")
        if list_id in {"", "0"}:
            return None
        level = next((value for layer in layers if (value := _value(layer, "numPr", "ilvl"))), "0")
        return list_id, min(number(level), 8)


class Numbering:
    """Counts the items of lists.

    Args:
        root: The tree of the part with the lists, or None.
    """

    def __init__(self, root: Any) -> None:
        children = list(root) if root is not None else []
        abstract = {attribute(item, "abstractNumId"): item for item in children if tag(item) == "abstractNum"}
        self._levels: dict[str, dict[int, Any]] = {}
        for item in children:
            if tag(item) == "num":
                levels = abstract.get(_value(item, "abstractNumId"), ())
                self._levels[attribute(item, "numId")] = {
                    number(attribute(level, "ilvl")): level for level in levels if tag(level) == "lvl"
                }
        self._counts: dict[str, dict[int, int]] = defaultdict(dict)

    def mark(self, list_id: str, level: int) -> str:
        """Count an item and return the mark in front of it, with a space; bullets are dashes."""
        counts, levels = self._counts[list_id], self._levels.get(list_id, {})
        start = _value(levels[level], "start") if level in levels else ""
        counts[level] = counts[level] + 1 if level in counts else number(start, 1)
        for deeper in [other for other in counts if other > level]:
            del counts[deeper]
        form = _value(levels[level], "numFmt") if level in levels else "bullet"
        if form in {"bullet", "none", ""}:
            return "" if form == "none" else "- "

        def spelled(match: re.Match[str]) -> str:
            place = int(match[1]) - 1
            kind = _value(levels[place], "numFmt") if place in levels else "decimal"
            return _spelled(counts.get(place, 1), kind)

        pattern = _value(levels[level], "lvlText")[:40]
        return f"{_PLACE.sub(spelled, pattern)} "


def _spelled(number: int, form: str) -> str:
    """Spell a number as Word does."""
    if form in {"lowerLetter", "upperLetter"} and number > 0:
        text = chr(ord("a") + (number - 1) % 26) * min((number - 1) // 26 + 1, 10)
    elif form in {"lowerRoman", "upperRoman"} and 0 < number < 40:  # noqa: PLR2004 - further numerals need more letters
        text, rest = "", number
        for value, numeral in _ROMAN:
            text += numeral * (rest // value)
            rest %= value
    else:
        text = str(number)
    return text.upper() if form.startswith("upper") else text
