"""Whether twice the text takes twice the time, on patterns made to break splitters.

    python benchmarks/doubling.py
    python benchmarks/doubling.py --megabytes 0.5 --splitter layout --splitter regex

Printed for each splitter and pattern: seconds of processor time for the whole text, the best of two runs, and how many
times those of its first half. Sizes are in UTF-8. Vectors come from a stand-in that costs next to nothing, so that the
splitter's own work is seen; layout is that of Markdown, the reader's time not counted. Figures above 2.3 are marked.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings import (
    BollingerSplitter,
    Document,
    LayoutSplitter,
    LLMSplitter,
    RecursiveSplitter,
    RegexSplitter,
    ScopeNotes,
    SemanticSplitter,
    SlidingWindowSplitter,
    TopicSplitter,
)
from rag_embeddings.read.markdown import read_markdown

if TYPE_CHECKING:
    from collections.abc import Sequence

PATTERNS = {
    "one word": "a",
    "one grapheme": "e\u0301\u0302",
    "flags": "🇩🇪",
    "no spaces": "河水上涨",
    "short sentences": "A b. ",
    "sentences": "The mill stands by the river, and its wheel never rests. ",
    "line ends": "\n",
    "short lines": "a\n",
    "headings": "# a\n\nb\n\n",
    "list": "- a\n",
    "quotes": "> a\n>\n",
    "table": "| a | b |\n|---|---|\n",
    "brackets": "[(",
    "declarations": 'In this section, "Mill" means amounts in millions. ',
}
LIMIT = 2.3


class Cheap:
    """An encoder whose vectors are the first letters of a text."""

    profile = None
    tokenizer = None

    def encode(self, texts: Sequence[str], role: Any) -> np.ndarray:  # noqa: ARG002 - the protocol's
        """Return float32 of shape (texts, 16)."""
        rows = [np.frombuffer((text.encode()[:16] * 16)[:16], dtype=np.uint8) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(-1, 16) - 90.5


def splitters() -> dict[str, Any]:
    """Return every splitter by name; tokens are counted with cl100k_base."""
    encoder: Any = Cheap()
    count = {"tokenizer": "cl100k_base"}
    return {
        "recursive": RecursiveSplitter(),
        "sliding": SlidingWindowSplitter(),
        "layout": LayoutSplitter(notes=ScopeNotes()),
        "regex": RegexSplitter(),
        "semantic": SemanticSplitter(encoder, **count),
        "threshold": SemanticSplitter(encoder, breakpoint_threshold_type="percentile", **count),
        "bollinger": BollingerSplitter(encoder, **count),
        "topics": TopicSplitter(encoder, **count),
        "llm": LLMSplitter(lambda _: "[3]", name="stand-in"),
    }


def seconds(splitter: Any, document: Document) -> float:
    """Return the processor time of splitting."""
    times = []
    for _ in range(2):
        began = time.process_time()
        splitter.split(document)
        times.append(time.process_time() - began)
    return min(times)


def main() -> None:
    """Print a line for each splitter and pattern."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=2.0)
    parser.add_argument("--splitter", action="append", choices=list(splitters()))
    arguments = parser.parse_args()
    worst = 0.0
    for name, splitter in splitters().items():
        if arguments.splitter and name not in arguments.splitter:
            continue
        splitter.split(Document("Whatever has to be loaded, is. It is loaded now."))
        for label, pattern in PATTERNS.items():
            count = int(arguments.megabytes * 1e6 / len(pattern.encode()))
            texts = (pattern * (count // 2), pattern * count)
            documents = [read_markdown(text) if name == "layout" else Document(text) for text in texts]
            half, whole = (seconds(splitter, document) for document in documents)
            ratio = whole / half
            worst = max(worst, ratio)
            print(f"{name:<10} {label:<16} {whole:7.2f} s {ratio:5.2f}{'  <--' if ratio > LIMIT else ''}", flush=True)
    print(f"worst: {worst:.2f}")


if __name__ == "__main__":
    main()
