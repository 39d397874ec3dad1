"""Text that breaks splitters, as hypothesis strategies."""

from __future__ import annotations

from hypothesis import strategies as st

ALPHABETS = {
    "prose": [
        "The river rose. ",
        "Dr. Smith paid $3.50, he said; ",
        "Is it? ",
        "Yes!\n",
        "\n\n",
        "word ",
        "# Title\n",
        "- item\n",
    ],
    "emoji": ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "❤️", "©", "\ufe0f", "a", " "],
    "flags": ["🇩🇪", "🇫", "🇫🇷", "🇩🇪🇫🇷🇯🇵", "\u0903", "\u200d", "x", " "],
    "marks": ["e\u0301", "\u0301", " \u0308", "o\u0302\u0323", "\u200d", "\u200b", "\n\u0301", "ﷺ", " "],
    "cjk": [
        "河水在春天慢慢上涨。",
        "磨坊主打开了，两扇闸门；",
        "の",
        "か\u3099",
        "한국어",
        "\u1100\u1161\u11a8",
        "\u1112\u1161",
        "？",
    ],
    "indic": [
        "\u0915\u094d\u0937",
        "क्षत्रिय ",
        "नमस्ते।",
        "\u0e01\u0e33",
        "\u0c15\u0c4d\u0c37",
        "\u0600\u0661",
        "مرحبا. ",
    ],
    "lines": [
        "\r\n",
        "\n",
        "\r",
        "\u2028",
        "\x0b",
        "\x0c",
        "\x85",
        "\t",
        "   ",
        "a",
        "A line of some forty characters or more\r\n",
    ],
    "controls": [
        "\x00",
        "\ufeff",
        "\u202e",
        "\u2066",
        "\x1c",
        "\ud800",
        "\udfff",
        "\ud83d",
        "\u00ad",
        "\ufffd",
        "q",
        ". ",
    ],
    "solid": [
        "a" * 150,
        "あ" * 60,
        "x.y",
        "http://example.org/a/b?c=d&e=f",
        "[SEP]",
        "<|endoftext|>",
        "</s>",
        "(" * 40,
        "0" * 20,
    ],
}

_pieces = st.sampled_from(sorted(ALPHABETS)).flatmap(
    lambda name: st.lists(st.sampled_from(ALPHABETS[name]), max_size=25)
)

texts = st.one_of(
    st.lists(_pieces, min_size=1, max_size=4).map(lambda parts: "".join("".join(part) for part in parts)),
    st.lists(st.sampled_from([piece for pieces in ALPHABETS.values() for piece in pieces]), max_size=60).map("".join),
    st.text(st.characters(), max_size=80),
    st.tuples(
        st.sampled_from(["a", "a.", " ", "\n", "河", "。", "\u200d", "🇩🇪", "\u0301", "(", "a. ", "\r\n"]),
        st.integers(0, 300),
    ).map(lambda pair: pair[0] * pair[1]),
)
