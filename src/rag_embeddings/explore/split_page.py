"""One page that shows how a text was split: chunks in colour, their sizes, and the curve behind the cuts."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files
from itertools import pairwise
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.text import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from rag_embeddings.split.explain import Explanation
    from rag_embeddings.text import Chunk

_COLOURS = 6
_HEIGHT, _STEP = 100.0, 10.0  # of the drawing, in its own units
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def split_page(explanation: Explanation, title: str) -> str:
    """Draw an explanation as one HTML page that needs no network.

    The text with its chunks in colour, each with its number and tokens; a list of chunks with heading paths and ranges;
    and, where the splitter looked at a series, the similarity of neighbours with its bands and cuts. Pointing at a
    chunk, an entry or a place on the curve lights up the others. What comes from the document is escaped, and the page
    forbids every script but its own.

    Args:
        explanation: What `rag_embeddings.split.explain.explain` returned.
        title: Heading of the page, such as the name of the file.

    Returns:
        The page. Control characters are shown as U+FFFD.
    """
    folder = files("rag_embeddings.explore")
    script = folder.joinpath("split_page.js").read_text(encoding="utf-8")
    policy = b64encode(sha256(script.encode()).digest()).decode()
    tokens = explanation.tokens
    count = len(explanation.chunks)
    sizes = f", {tokens.mean():.0f} tokens on average, {tokens.max()} at most" if count else ""
    return Template(folder.joinpath("split_page.html").read_text(encoding="utf-8")).substitute(
        policy=f"sha256-{policy}",
        title=_shown(title),
        summary=f"{count} chunks{sizes}; {len(explanation.document.text)} characters",
        curve=_curve(explanation),
        text="".join(_text(explanation)),
        chunks="\n".join(_entry(index, chunk, int(tokens[index])) for index, chunk in enumerate(explanation.chunks)),
        script=script,
    )


def _shown(text: str) -> str:
    return escape(_CONTROL.sub("\ufffd", without_surrogates(text).replace("\r\n", "\n")))


def _text(explanation: Explanation) -> Iterator[str]:
    """Yield the whole text: stretches in the colour of the first chunk that holds them, and marks for boundaries."""
    text = explanation.document.text
    opens: dict[int, list[int]] = {}
    closes: dict[int, list[int]] = {}
    for index, chunk in enumerate(explanation.chunks):
        for span in chunk.spans:
            opens.setdefault(span.start, []).append(index)
            closes.setdefault(span.end, []).append(index)
    boundaries = {int(at): number for number, at in enumerate(explanation.at)}
    labelled: set[int] = set()
    inside: list[int] = []
    places = sorted({0, len(text), *opens, *closes, *boundaries})
    for start, end in pairwise(places):
        for index in closes.get(start, ()):
            inside.remove(index)
        inside.extend(opens.get(start, ()))
        if start in boundaries:
            yield f'<i data-b="{boundaries[start]}"></i>'
        for index in opens.get(start, ()):
            if index not in labelled:
                labelled.add(index)
                yield f'<b data-c="{index}" data-label="{index + 1} · {int(explanation.tokens[index])}"></b>'
        piece = _shown(text[start:end])
        if inside:
            numbers = " ".join(map(str, inside))
            yield f'<span class="c{inside[0] % _COLOURS}" data-c="{numbers}">{piece}</span>'
        else:
            yield piece


def _entry(index: int, chunk: Chunk, tokens: int) -> str:
    ranges = ", ".join(f"{span.start}-{span.end}" for span in chunk.spans)
    path = f"<small>{_shown(' › '.join(chunk.headings))}</small>" if chunk.headings else ""  # noqa: RUF001
    return (
        f'<li data-c="{index}" class="c{index % _COLOURS}" tabindex="0"><strong>{index + 1}</strong> · {tokens} tokens'
        f"{path}<small>characters {ranges}</small></li>"
    )


def _curve(explanation: Explanation) -> str:
    """Draw similarity and bands, with a place to point at for every boundary."""
    series = explanation.similarity
    bands = {"middle": explanation.middle, "lower": explanation.lower, "upper": explanation.upper}
    finite = np.concatenate([values[np.isfinite(values)] for values in (series, *bands.values())])
    if len(finite) == 0:
        return "<p>This splitter looks at no series of similarities.</p>"
    low, high = float(finite.min()), float(finite.max())
    scale = _HEIGHT / (high - low or 1)
    heights = {name: (high - values) * scale for name, values in {**bands, "similarity": series}.items()}
    width = _STEP * len(series)
    starts = np.array([chunk.start for chunk in explanation.chunks])
    owners = np.maximum(np.searchsorted(starts, explanation.at, side="right") - 1, 0)
    places = "".join(
        f'<rect class="place" data-b="{number}" data-c="{owner}" '
        f'x="{_STEP * number:.0f}" y="-4" width="{_STEP:.0f}" height="{_HEIGHT + 8:.0f}">'
        f"<title>{float(series[number]):.3f}</title></rect>"
        for number, owner in enumerate(owners.tolist())
    )
    cuts = "".join(
        f'<line class="cut" x1="{_middle(number)}" x2="{_middle(number)}" y1="-4" y2="{_HEIGHT + 4:.0f}"/>'
        for number in np.flatnonzero(explanation.cuts).tolist()
    )
    lines = "".join(_line(name, values) for name, values in heights.items())
    named = [name for name, values in bands.items() if np.isfinite(values).any()]
    key = "".join(f"<span>{name}</span>" for name in ["similarity of neighbours", *named, f"{low:.2f} to {high:.2f}"])
    return (
        f'<svg viewBox="0 -6 {width:.0f} {_HEIGHT + 12:.0f}" preserveAspectRatio="none" role="img" '
        f'aria-label="similarity of neighbouring sentences">{cuts}{lines}{places}</svg><p class="key">{key}</p>'
    )


def _line(name: str, heights: NDArray[np.float64]) -> str:
    """Draw a series as one path, with a gap where it has no value."""
    parts = []
    drawing = False
    for number, height in enumerate(heights.tolist()):
        if np.isfinite(height):
            parts.append(f"{'L' if drawing else 'M'}{_middle(number)} {height:.1f}")
        drawing = bool(np.isfinite(height))
    return f'<path class="{name}" d="{" ".join(parts)}"/>' if parts else ""


def _middle(number: int) -> str:
    return f"{_STEP * number + _STEP / 2:.0f}"
