r"""Where one user-perceived character ends and the next begins (extended grapheme clusters, Unicode UAX #29).

Every splitter of this package asks here before it cuts. Two things make it linear and fast:

- `regex`'s ``\X`` looks back over a run of regional indicators (flags) at every step and is quadratic there, so pairs
  of them are matched before ``\X`` is asked;
- most text needs no rule at all: between two characters of `PLAIN` there is always a boundary, and only what lies
  between them is handed to the pattern.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import regex

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLUSTER = regex.compile(r"[\U0001F1E6-\U0001F1FF]{2}[\p{GCB=Extend}\p{GCB=SpacingMark}\u200D]*|\X")

# Characters that never join each other, but for CR LF: Latin, Greek, Cyrillic, punctuation, kana, Chinese.
# No marks, no emoji.
PLAIN = (
    "\x00-\xa8\xaa-\xad\xaf-\u02ff\u0370-\u0482\u048a-\u052f\u2010-\u2027\u2030-\u203b"
    "\u20a0-\u20c0\u3001-\u3029\u3041-\u3096\u309b-\u3296\u3400-\u4dbf\u4e00-\u9fff\uff01-\uff9d"
)
_OTHERS = re.compile(f"[^{PLAIN}]+")


def boundaries(text: str) -> NDArray[np.bool_]:
    r"""Mark the positions between grapheme clusters.

    Args:
        text: Any text; lone surrogates stand alone.

    Returns:
        Booleans of shape (len(text) + 1,); entry ``p`` says whether ``text`` may be cut before character ``p``. The
        first and the last are always True. Takes linear time.
    """
    marks = np.ones(len(text) + 1, dtype=np.bool_)
    for others in () if text.isascii() else _OTHERS.finditer(text):
        start, end = max(others.start() - 1, 0), min(others.end() + 1, len(text))
        marks[start + 1 : end] = False
        # A plain character at either end decides nothing beyond itself: the next stretch starts from it afresh.
        for cluster in CLUSTER.finditer(text, start, end):
            marks[cluster.end()] = True
    at = text.find("\r\n")
    while at >= 0:
        marks[at + 1] = False
        at = text.find("\r\n", at + 2)
    return marks


def at_boundaries(positions: NDArray[np.int64], marks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Move each position that lies inside a grapheme in front of it.

    Args:
        positions: Ascending character positions.
        marks: What `boundaries` returned for the text.

    Returns:
        Ascending positions without duplicates.
    """
    inside = np.flatnonzero(~marks[positions])
    if len(inside) == 0:
        return np.unique(positions)
    moved = positions.copy()
    flags = marks.tobytes()
    front = len(marks)
    for index in inside[::-1].tolist():
        position = int(positions[index])
        if position < front:  # several positions may lie inside one huge grapheme: look for its start once
            front = flags.rindex(b"\x01", 0, position)
        moved[index] = front
    return np.unique(moved)
