"""What the ways to retrieve bring into a prompt of 1,000 tokens.

The data is the public set of "Evaluating Chunking Strategies for Retrieval" (Smith and Troynikov, Chroma, 2024), or any
folder that holds text files and a ``questions.csv`` as ``rag-embeddings evaluate`` takes it::

    python benchmarks/retrieval_modes.py --data FOLDER [--questions FILE] [--max-tokens 100 200]

Each row fills the same budget from the same index (all-MiniLM-L6-v2, recursive chunks): recall is the share of the
reference characters in what came back, IoU counts what was superfluous too. The interval is of the difference of recall
to the first row, paired by question.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_embeddings import (
    IndexDirectory,
    Indexer,
    Merge,
    Pipeline,
    RecursiveSplitter,
    Retrieval,
    TransformerEncoder,
    Window,
    find_files,
    read_file,
)
from rag_embeddings.evaluate import compare, evaluate, load_questions

if TYPE_CHECKING:
    from collections.abc import Callable

    from rag_embeddings import Match

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "chunk_eval"
BUDGET = 1_000
ALL = 1_000  # passages: whatever fits into the budget
WAYS: dict[str, dict[str, Any]] = {
    "best sentence": {},
    "mean of chunk and sentence": {"score": "mean"},
    "hybrid, mean": {"search_type": "hybrid", "score": "mean"},
    "hybrid": {"search_type": "hybrid", "score": "best"},
    "mmr, balance 0.5": {"search_type": "mmr"},
    "mmr, balance 0.8": {"search_type": "mmr", "balance": 0.8},
    "window of 1 sentence": {"window": 1},
    "window of 3 sentences": {"window": 3},
    "matched sentence and 2 around": {"window": Window(2, around="match")},
    "matched sentence and 4 around": {"window": Window(4, around="match")},
    "neighbours merged": {"merge": Merge(1.0)},
    "hybrid, neighbours merged": {"search_type": "hybrid", "score": "best", "merge": Merge(1.0)},
    "hybrid, window of 1 sentence": {"search_type": "hybrid", "score": "best", "window": 1},
}


def asking(directory: IndexDirectory, encoder: TransformerEncoder, way: dict[str, Any]) -> Callable[..., list[Match]]:
    """Return what asks in one way, the number of passages being what the budget holds."""
    search = Retrieval(directory, encoder, token_budget=BUDGET, tokenizer="cl100k_base", **way)
    return lambda question, _: search.search(question)


def main() -> None:
    """Print one table per chunk size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--questions", default="questions.csv", help="file in that folder (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, nargs="+", default=[100, 200])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="rows; the first is compared with")
    options = parser.parse_args()
    encoder = TransformerEncoder()
    documents = [read_file(path) for path in find_files([options.data]) if path.suffix == ".md"]
    questions = load_questions(options.data / options.questions, documents)
    for size in options.max_tokens:
        with IndexDirectory.open(None) as directory:
            Indexer(directory, Pipeline(encoder, RecursiveSplitter(size, tokenizer="cl100k_base"))).upsert(documents)
            print(f"\n{len(questions)} questions, chunks of at most {size} tokens, a budget of {BUDGET}")
            print(f"{'':34}{'recall':>8}{'IoU':>8}   difference of recall")
            first = None
            for name in options.ways:
                result = evaluate(
                    asking(directory, encoder, WAYS[name]), questions, documents, ks=(ALL,), budgets=(BUDGET,)
                )
                first = first or result
                difference = compare(result, first).differences[f"recall@{ALL}"].scaled(100)
                interval = f"{difference.mean:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]"
                recall, iou = (result.values[f"{metric}@{ALL}"].mean() for metric in ("recall", "iou"))
                print(f"{name:34}{100 * recall:8.1f}{100 * iou:8.1f}   {interval}")


if __name__ == "__main__":
    main()
