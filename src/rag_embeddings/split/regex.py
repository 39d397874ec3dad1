"""Chunks that follow what plain text looks like: headings, lists, quotations, tables, code, sentences."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from rag_embeddings.errors import BudgetError
from rag_embeddings.split.base import DEFAULT_MAX_TOKENS, DEFAULT_TOKENIZER
from rag_embeddings.split.graphemes import at_boundaries
from rag_embeddings.split.packing import SentencePacker
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.split.sentences import sentence_marks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from rag_embeddings.split.atoms import Atoms, Measure

_SEEN = 256
"""Characters at the beginning of a line that rules see: so much tells what it is, and bounds what a rule can cost."""

TEXT, HEADING, UNDERLINE, RULE, LIST = "text", "heading", "underline", "rule", "list"
QUOTE, TABLE, CODE = "quote", "table", "code"

# What a line begins with, the first that matches. No quantifier stands inside another, so matching is linear.
_LINES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (HEADING, r"[ ]{0,3}\#{1,6}(?:\s|$)"),
        (HEADING, r"\s{0,3}(?:chapter|part|section|article|appendix|§)\s{1,3}[\divxlc]{1,8}\b[^.!?]{0,80}$"),
        (HEADING, r"\s{0,3}\d{1,3}\.\d[\d.]{0,12}\s{1,3}[^\W\d_][^.!?;]{0,80}$"),
        (HEADING, r"\s{0,8}(?:<h[1-6]\b|\\(?:part|chapter|section|subsection|subsubsection)\b)"),
        (RULE, r"[ ]{0,3}(?:-{3,}|\*{3,}|_{3,}|={3,})\s{0,3}$"),
        (RULE, r"\s{0,8}<hr\b"),
        (LIST, r"\s{0,12}(?:[-*+•‣◦–—]|\d{1,4}[.)]|\(?[a-z]\)|<li\b)(?:\s|>)"),  # noqa: RUF001
        (QUOTE, r"[ ]{0,3}>"),
        (TABLE, r"\s{0,8}(?:\||<tr\b|\+-{2,}[-+]*\s{0,3}$)"),
        (TABLE, r"[^\t\n]{1,80}\t[^\t\n]{1,80}\t"),
        (CODE, r"(?:[ ]{4}|\t)\s{0,40}[^\s]"),
    )
)
_FENCE = re.compile(r"[ ]{0,3}(`{3,}|~{3,})")

# What it costs to cut in front of a line of a kind that follows one of another kind, and one of the same kind.
_OPENS: Mapping[str, float] = MappingProxyType(
    {HEADING: 0.0, RULE: 0.0, TEXT: 0.1, LIST: 0.2, QUOTE: 0.15, TABLE: 0.2, CODE: 0.25}
)
_GOES_ON: Mapping[str, float] = MappingProxyType({RULE: 0.5, LIST: 0.3, QUOTE: 0.6, TABLE: 1.5, CODE: 1.5})
_BLANK = -0.2  # less with a blank line between them
_BELOW_HEADING = 1.5
_LEAD_IN = 0.8  # between "as follows:" and what follows
_ABOVE_UNDERLINE = 6.0


class _Line(NamedTuple):
    """A line that is not blank.

    Attributes:
        start: Where its content begins.
        end: Behind its content.
        kind: What it is.
        cost: What it costs to cut in front; None for what the sentences say.
    """

    start: int
    end: int
    kind: str
    cost: float | None


class RegexSplitter(SentencePacker):
    """Splits by what lines look like: headings, rules, lists, quotations, tables, fenced and indented code, sentences.

    For text without known layout: Markdown, reStructuredText, LaTeX and HTML sources, e-mails, logs. A heading stays
    with what is below it, rows of a table, lines of code and items of a list are kept together where they fit, and
    sentences inside code and tables are none. Rules see the first 256 characters of a line and nest no quantifiers:
    time is linear whatever the text. Where a reader found the layout, `LayoutSplitter` knows more.

    Args:
        max_tokens: Most tokens of a chunk.
        overlap: Most tokens that a chunk repeats of the one before, in whole atoms.
        tokenizer: What counts the tokens; see `rag_embeddings.split.tokens.token_counter`. Give the encoder that will
            embed the chunks.
        language: ISO 639-1 code, for sentence boundaries.
        target: Tokens that a chunk should have; ``max_tokens`` by default.
        rules: Your own, from a regular expression to what it costs to cut in front of a line that begins with it: 0 is
            free, 0.25 what a chunk of half the target costs. They come before the built-in ones, in this order.

    Raises:
        BudgetError: If max_tokens < 1, overlap < 0, overlap >= max_tokens, target is not within 1..max_tokens, a rule
            is no regular expression or its cost is negative.

    ```python
    splitter = RegexSplitter(200, rules={r"(?:Question|Answer):": 0.0})
    ```
    """

    kind: ClassVar[str] = "regex"
    costs: ClassVar[Mapping[int, float]] = MappingProxyType({**RecursiveSplitter.costs, 0: 0.1, 1: 0.2})

    def __init__(
        self,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        overlap: int = 0,
        *,
        tokenizer: Any = DEFAULT_TOKENIZER,
        language: str = "en",
        target: int | None = None,
        rules: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(max_tokens, overlap, tokenizer, language, target)
        self.rules = dict(rules or {})
        self._own = [(_compiled(pattern), cost) for pattern, cost in self.rules.items()]
        if not all(0 <= cost < np.inf for cost in self.rules.values()):
            raise BudgetError(f"the cost of a rule must be at least 0, got {self.rules}")

    def atoms(self, measure: Measure) -> Atoms:
        """Take a document apart into lines where lines count, and sentences elsewhere."""
        sentences, levels = sentence_marks(measure.text, measure.graphemes, self.language)
        costs = {mark: self.costs[level] for mark, level in zip(sentences.tolist(), levels.tolist(), strict=False)}
        lines = list(self._lines(measure.text))
        costs.update((line.start, line.cost) for line in lines if line.cost is not None)
        places = np.array(sorted(costs), dtype=np.int64)
        places = np.setdiff1d(places, _inside(lines, places))
        found = np.unique(np.concatenate([[0], places, [len(measure.text)]])).astype(np.int64)
        marks = at_boundaries(found, measure.graphemes)
        kept = found[np.searchsorted(found, marks[:-1])].tolist()  # of two in one grapheme, the first
        tokens = np.diff(measure.counter.cumulative(measure.text, marks))
        prices = np.array([costs.get(place, 0.0) for place in kept], dtype=np.float64)
        return measure.refined(marks, tokens, prices, self.max_tokens)

    def settings(self) -> dict[str, Any]:
        """Return everything that changes the result; see `rag_embeddings.split.base.Splitter`."""
        return {**super().settings(), "rules": self.rules}

    def _lines(self, text: str) -> Iterator[_Line]:
        """Yield the lines that are not blank."""
        position = 0
        fence = above = ""
        lead_in = blank = False
        for line in text.splitlines(keepends=True):
            start, position = position, position + len(line)
            content = line.strip()
            if not content:
                blank = True
                continue
            head = line[:_SEEN].rstrip()
            mark = _FENCE.match(head)
            if fence:
                kind = CODE
                if mark and mark.group(1).startswith(fence) and not content.strip(fence[0]):
                    fence = ""
            elif mark:
                kind, fence = CODE, mark.group(1)
                above = "" if above == CODE else above  # not a part of the code above
            else:
                kind = _kind(head, above, blank=blank)
            own = None if kind == CODE else self._own_cost(head)
            cost = _cost(kind, above, blank=blank, lead_in=lead_in) if own is None else own
            first = start + len(line) - len(line.lstrip())
            yield _Line(first, first + len(content), kind, cost)
            above, lead_in, blank = HEADING if kind == UNDERLINE else kind, content.endswith(":"), False

    def _own_cost(self, head: str) -> float | None:
        return next((cost for pattern, cost in self._own if pattern.match(head)), None)


def _kind(head: str, above: str, *, blank: bool) -> str:
    kind = next((kind for kind, pattern in _LINES if pattern.match(head)), TEXT)
    if kind == RULE and above == TEXT and not blank and head.lstrip()[0] in "=-":
        return UNDERLINE
    if kind == CODE and above in {LIST, QUOTE}:
        return above  # indented, it goes on with what is above
    if kind == CODE and above == TEXT and not blank:
        return TEXT
    if kind == TEXT and above in {LIST, QUOTE} and not blank:
        return above  # a wrapped line
    return kind


def _cost(kind: str, above: str, *, blank: bool, lead_in: bool) -> float | None:
    if kind == UNDERLINE:
        return _ABOVE_UNDERLINE
    if above == HEADING:
        return _BELOW_HEADING
    if kind == TEXT:
        return _OPENS[TEXT] if blank and above != TEXT else None
    if kind == above:
        return _GOES_ON[kind] + (_BLANK if blank else 0)
    return _LEAD_IN if lead_in else _OPENS[kind]


def _inside(lines: Iterable[_Line], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places inside a line of code, a row or a heading, where no sentence begins."""
    whole = [line for line in lines if line.kind in {CODE, TABLE} or (line.kind == HEADING and _short(line))]
    if not whole or not len(places):
        return np.zeros(0, dtype=np.int64)
    starts, ends = np.array([(line.start, line.end) for line in whole], dtype=np.int64).T
    line = np.searchsorted(starts, places, side="left") - 1  # the last that begins before the place
    found: NDArray[np.int64] = places[(line >= 0) & (places < ends[line])]
    return found


def _short(line: _Line) -> bool:
    return line.end - line.start <= _SEEN


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise BudgetError(f"the rule {pattern!r} is no regular expression: {error}") from error
