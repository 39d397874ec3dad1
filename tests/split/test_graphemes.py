"""Grapheme boundaries agree with the `regex` module's own, everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile_texts import ALPHABETS, texts
from rag_embeddings.split.graphemes import PLAIN, at_boundaries, boundaries

CHARACTERS = sorted(
    set("".join("".join(pieces) for pieces in ALPHABETS.values()))
    | set("\u0600\u1100\u1160\u11a8\uac00\uac01\u0915\u0937\u094d\u0e33\U0001f468\U0001f1e6\u0903\r\n")
)


def expected(text: str) -> list[int]:
    return [0, *(match.end() for match in regex.finditer(r"\X", text))]


@settings(max_examples=800, deadline=None)
@given(st.one_of(st.text(st.sampled_from(CHARACTERS), max_size=14), texts))
def test_boundaries_are_those_of_extended_grapheme_clusters(text):
    marks = boundaries(text)
    assert marks.shape == (len(text) + 1,)
    assert np.flatnonzero(marks).tolist() == expected(text)


def test_no_plain_character_joins_another():
    plain = regex.compile(f"[{PLAIN}]")
    joining = regex.compile(
        r"[\p{GCB=Extend}\p{GCB=ZWJ}\p{GCB=SpacingMark}\p{GCB=Prepend}\p{GCB=Regional_Indicator}"
        r"\p{GCB=L}\p{GCB=V}\p{GCB=T}\p{GCB=LV}\p{GCB=LVT}\p{Extended_Pictographic}]"
    )
    assert [hex(code) for code in range(0x110000) if plain.match(chr(code)) and joining.match(chr(code))] == []
    every = "".join(chr(code) for code in range(0x110000) if plain.match(chr(code)))
    assert len(regex.findall(r"\X", every)) == len(every)


@pytest.mark.parametrize(
    ("text", "inside"),
    [("a\r\nb", [2]), ("🇩🇪🇫🇷", [1, 3]), (" \u0308", [1]), ("👍🏽!", [1]), ("\n\u0301", []), ("\r\r\n\n", [2])],
)
def test_known_clusters(text, inside):
    assert np.flatnonzero(~boundaries(text)).tolist() == inside


def test_positions_inside_graphemes_move_in_front_of_them():
    marks = boundaries("a🇩🇪b\r\nc")
    moved = at_boundaries(np.array([0, 2, 3, 5, 7], dtype=np.int64), marks)
    assert moved.tolist() == [0, 1, 3, 4, 7]


def test_one_huge_grapheme_is_searched_once():
    text = "a" + "\u200d" * 200_000 + "b"
    positions = np.arange(len(text) + 1, dtype=np.int64)
    assert at_boundaries(positions, boundaries(text)).tolist() == [0, len(text) - 1, len(text)]
