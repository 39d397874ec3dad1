"""What lines look like: kinds, costs, linear time."""

from __future__ import annotations

import pickle
import re

import pytest

from rag_embeddings.errors import BudgetError
from rag_embeddings.split import regex
from rag_embeddings.split.regex import RegexSplitter
from rag_embeddings.text import Document

SENTENCE = "The miller opened both gates. "
PARAGRAPH = (SENTENCE * 3).strip()


def count_words(text: str) -> int:
    return len(text.split())


def split(text: str, maximum: int, **options) -> list[str]:
    return [chunk.text for chunk in RegexSplitter(maximum, tokenizer=count_words, **options).split(Document(text))]


def kinds(text: str) -> list[str]:
    return [line.kind for line in RegexSplitter(9, tokenizer=len)._lines(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# One\ntext\n###### Six", ["heading", "text", "heading"]),
        ("Title\n=====\ntext", ["text", "underline", "text"]),
        ("text\n\n---\n\ntext", ["text", "rule", "text"]),
        ("1.2 Scope\n3.14 is pi, they say.", ["heading", "text"]),
        ("Chapter IV The flood\nPart of it was lost.", ["heading", "text"]),
        ("- a\n- b\n  wrapped\n1. c\n(a) d", ["list"] * 5),
        ("> said\n> more", ["quote"] * 2),
        ("| a | b |\n|---|---|\n| 1 | 2 |", ["table"] * 3),
        ("a\tb\tc\td", ["table"]),
        ("```py\n# no heading\n```\n# heading", ["code", "code", "code", "heading"]),
        ("~~~\n```\n~~~\ntext", ["code", "code", "code", "text"]),
        ("text\n\n    x = 1", ["text", "code"]),
        ("text\n    goes on", ["text", "text"]),
        (r"\section{One}" + "\ntext", ["heading", "text"]),
        ("<h2>One</h2>\n<hr>\n<li>item", ["heading", "rule", "list"]),
        ("", []),
        ("\n \n\t\n", []),
    ],
)
def test_lines_are_recognised(text, expected):
    assert kinds(text) == expected


def test_headings_begin_chunks_and_stay_with_their_text():
    text = "\n\n".join(f"## Part {part}\n\n{PARAGRAPH}" for part in range(4))
    assert all(chunk.startswith("## Part") and chunk.endswith(".") for chunk in split(text, 20))
    underlined = "\n\n".join(f"Part {part}\n------\n\n{PARAGRAPH}" for part in range(4))
    assert all(chunk.startswith("Part") and chunk.endswith(".") for chunk in split(underlined, 21))


def test_tables_and_code_stay_whole_where_they_fit():
    table = "| mill | gates |\n|------|-------|\n" + "| one | two |\n" * 5
    code = "```\n" + "open(gate). Then close(gate).\n" * 5 + "```"
    for block in (table.strip(), code):
        text = f"{PARAGRAPH}\n\n{block}\n\n{PARAGRAPH}"
        assert any(block in chunk for chunk in split(text, 45))


def test_no_sentence_ends_inside_code():
    code = "```\n" + "a = b. C = d. E = f.\n" * 20 + "```"
    assert all(chunk.endswith(("f.", "```")) for chunk in split(code, 40))


def test_a_list_stays_with_what_leads_in():
    text = f"{PARAGRAPH} {PARAGRAPH}\n\nBring these:\n- a rope and a lamp\n- bread and water\n\n{PARAGRAPH}"
    assert any("these:\n- a rope" in chunk for chunk in split(text, 36))


def test_own_rules_come_first():
    text = "\n".join(f"Q: why {n}?\nA: because {n}." for n in range(6))
    found = split(text, 7, rules={"Q:": 0.0, "A:": 5.0})
    assert found == [f"Q: why {n}?\nA: because {n}." for n in range(6)]
    splitter = RegexSplitter(7, tokenizer=count_words, rules={"Q:": 0.0})
    assert splitter.settings()["rules"] == {"Q:": 0.0}
    assert pickle.loads(pickle.dumps(splitter)).settings() == splitter.settings()  # noqa: S301


@pytest.mark.parametrize("rules", [{"(": 0.0}, {"a": -1.0}, {"a": float("nan")}])
def test_impossible_rules_are_refused_at_once(rules):
    with pytest.raises(BudgetError):
        RegexSplitter(rules=rules)


def nested(parsed, depth=0):
    """The deepest stack of quantifiers in a parsed expression."""
    deepest = depth
    for operation, argument in parsed:
        inner = depth + (str(operation) in {"MAX_REPEAT", "MIN_REPEAT"})
        for part in argument if isinstance(argument, tuple | list) else [argument]:
            for item in part if isinstance(part, list) else [part]:
                if hasattr(item, "data"):
                    deepest = max(deepest, nested(item, inner))
        deepest = max(deepest, inner)
    return deepest


def test_no_quantifier_stands_in_another():
    assert nested(re._parser.parse("(a+)+")) == 2
    for pattern in (*(pattern for _, pattern in regex._LINES), regex._FENCE):
        assert nested(re._parser.parse(pattern.pattern)) <= 1, pattern.pattern


@pytest.mark.parametrize(
    "pattern",
    ["#", "# x\n", "|", "| a |\n", "```\n", "- x\n", "> ", "1.1", "1.1 A\n", "=\n", "\t", "a\tb\t", "a. ", "\n"],
)
def test_cost_grows_linearly(pattern):
    asked = []
    for length in (10_000, 20_000, 40_000):
        characters = 0

        def count(text):
            nonlocal characters
            characters += len(text)
            return -(-len(text) // 4)

        RegexSplitter(64, tokenizer=count).split(Document((pattern * length)[:length]))
        asked.append(characters)
    assert asked[2] <= 2.1 * asked[1] + 100
