"""`rag-embeddings evaluate`: how good the retrieved passages are, on a user's own questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rag_embeddings.cli.models import models
from rag_embeddings.cli.searching import SCORES, searcher
from rag_embeddings.errors import QuestionError

if TYPE_CHECKING:
    from rag_embeddings.evaluate import Evaluation
    from rag_embeddings.retrieve.parents import Score
    from rag_embeddings.store.directory import IndexDirectory
    from rag_embeddings.text import Chunk

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--questions", required=True, type=_FILE, help="CSV or JSONL with questions and reference excerpts.")
@click.option("--db", required=True, type=click.Path(path_type=Path), help="Directory of the index.")
@click.option(
    "--score",
    type=click.Choice(SCORES),
    help="Rank by the best sentence, the mean of passage and best sentence, or the sum of the best three. "
    "[default: best, with --hybrid mean]",
)
@click.option("--hybrid", is_flag=True, help="Rank by keywords as well.")
@click.option(
    "--tokenizer", default="cl100k_base", show_default=True, help="tiktoken encoding that counts the budgets."
)
@click.option("--save", type=_FILE, help="Write the result to this file, to compare with later.")
@click.option("--against", type=_FILE, help="Compare with a result that --save wrote.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def evaluate(
    context: click.Context,
    *,
    questions: Path,
    db: Path,
    score: Score | None,
    hybrid: bool,
    tokenizer: str,
    save: Path | None,
    against: Path | None,
    as_json: bool,
) -> None:
    """Measure retrieval from an index on your own questions.

    The file has a field "question" and a field "references": a (JSON) list of excerpts that answer it, each a string or
    an object with "content", or "start_index" and "end_index" (half-open, in characters), or all three; and, if you
    like, "document" (or "corpus_id"): the id, file name or file stem of the document they stand in. JSONL files end in
    .jsonl; all others are read as CSV with a header.

    Shown with 95 % bootstrap intervals: recall (R), precision (P) and intersection over union (IoU) of characters, for
    the first k passages and for budgets of retrieved tokens; references found, relevant passages and nDCG of the first
    k passages; MRR; P_Omega (the best precision these chunks allow); mean passage sizes. --against adds paired
    differences.

    JSON, and --save: format, means (metric: mean, low, high, as fractions), mean_tokens_retrieved, mean_tokens_live,
    passages_live, documents, ks, budgets, counter, questions (question, references, values); JSON with --against also
    has differences (metric: mean, low, high).
    """
    from rag_embeddings.evaluate import compare, load_questions
    from rag_embeddings.evaluate import evaluate as run
    from rag_embeddings.split.tokens import token_counter
    from rag_embeddings.store.directory import IndexDirectory

    other = None if against is None else _load(against)
    with IndexDirectory.open(db) as directory:
        ledger = directory.ledger
        documents = ledger.live_documents(ledger.document_ids())
        search = searcher(models(context), directory, score=score, hybrid=hybrid)
        if search is None or not documents:
            raise QuestionError(f"the index in {str(db)!r} holds no documents; index some first")
        asked = load_questions(questions, documents)
        counter = token_counter(tokenizer)
        result = run(search.search, asked, documents, chunks=_live_chunks(directory), counter=counter)
    comparison = None if other is None else compare(result, other)
    if save is not None:
        save.write_text(json.dumps(result.to_dict(), indent=1) + "\n", encoding="utf-8")
    if as_json:
        extra = {} if comparison is None else {"differences": comparison.to_dict()}
        print(json.dumps({**result.to_dict(), **extra}, indent=1))
        return
    print(result.table())
    if comparison is not None:
        print(f"\nThis minus {against}: {comparison.table()}")


def _live_chunks(directory: IndexDirectory) -> list[Chunk]:
    ledger = directory.ledger
    _, ids = ledger.unit_ids()
    # By document, so that each is read once.
    places = sorted(ledger.live_chunks(sorted(ids)).values(), key=lambda place: (place.version, place.ordinal))
    return [ledger.chunk(place) for place in places]


def _load(path: Path) -> Evaluation:
    from rag_embeddings.evaluate import Evaluation

    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise QuestionError(f"{path} is not JSON: {error}") from error
    try:
        return Evaluation.from_dict(saved)
    except QuestionError as error:
        raise QuestionError(f"{path}: {error}") from error
