"""`rag-embeddings ask`: the passages that answer a question, or an answer that cites them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rag_embeddings.cli.models import models
from rag_embeddings.cli.searching import SCORES, conditions_of, searcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.retrieve.parents import Score
    from rag_embeddings.store.where import Where


@click.command()
@click.argument("question")
@click.option("--db", required=True, type=click.Path(path_type=Path), help="Directory of the index.")
@click.option("-k", default=5, show_default=True, type=click.IntRange(min=1), help="Number of passages.")
@click.option(
    "--score",
    type=click.Choice(SCORES),
    help="Rank by the best sentence, the mean of passage and best sentence, or the sum of the best three. "
    "[default: best, with --hybrid mean]",
)
@click.option("--hybrid", is_flag=True, help="Rank by keywords as well.")
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="KEY=VALUE",
    callback=conditions_of,
    help="Only passages whose metadata is or holds this value, such as source=notes/terms.md; may be repeated, all "
    "have to hold. Metadata is in --json.",
)
@click.option("--pattern", metavar="REGEX", help="Only passages in whose text this matches (RE2 syntax).")
@click.option("--llm", metavar="PROVIDER:MODEL", help="Answer with a language model, such as openai:gpt-4o-mini.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def ask(
    context: click.Context,
    *,
    question: str,
    db: Path,
    k: int,
    score: Score | None,
    hybrid: bool,
    conditions: Where | None,
    pattern: str | None,
    llm: str | None,
    as_json: bool,
) -> None:
    """Show the passages of an index that best match QUESTION.

    Passages are numbered; with each stand its score, file, line and range of characters, and the sentence that matched
    best is highlighted. No answer is made up from them, unless --llm names a language model: it is loaded through
    LangChain and told to answer from these passages alone and to cite them by number.

    JSON: question, passages (rank, score, source_id, start_index, end_index, line, text, context, matches (a list of
    [start, end] in the document, best first), chunk_id, metadata), llm (null without), answer (null without --llm),
    cited (ranks of the passages that the answer cites). All indices are half-open, in characters of the document.
    """
    if not question.strip():
        raise click.UsageError("the question is empty")
    from rag_embeddings.store.directory import IndexDirectory

    chat = None if llm is None else models(context).chat(llm)  # first, because it fails faster than a search
    matches: Sequence[Match] = []
    with IndexDirectory.open(db) as directory:
        if search := searcher(models(context), directory, score=score, hybrid=hybrid):
            matches = search.search(question, k, where=conditions, pattern=pattern)
    text = None
    if chat is not None and matches:
        from rag_embeddings.cli.answer import answer

        text = answer(chat, question, matches)
    if as_json:
        _print_json(question, matches, llm, text)
    elif not matches:
        filtered = [name for name, value in (("--where", conditions), ("--pattern", pattern)) if value is not None]
        print(
            f"No passage passes. None meets {' and '.join(filtered)}." if filtered else "The index holds no passages."
        )
    elif text is not None:
        _print_answer(text, matches)
    else:
        from rag_embeddings.cli.show import print_passages

        print_passages(matches)
        print("These are the best matching passages, not a generated answer; --llm PROVIDER:MODEL writes one.")


def _print_json(question: str, matches: Sequence[Match], llm: str | None, text: str | None) -> None:
    from rag_embeddings.cli.answer import cited
    from rag_embeddings.cli.show import as_json

    found = {
        "question": question,
        "passages": [as_json(rank, match) for rank, match in enumerate(matches, 1)],
        "llm": llm,
        "answer": text,
        "cited": [number for number in cited(text or "") if 1 <= number <= len(matches)],
    }
    print(json.dumps(found, indent=2))


def _print_answer(text: str, matches: Sequence[Match]) -> None:
    from rag_embeddings.cli.answer import cited
    from rag_embeddings.cli.show import place, safe

    print(safe(text))
    print("\nSources:")
    numbers = cited(text)
    for rank, match in enumerate(matches, 1):
        print(f"  [{rank}] {place(match)}{'' if rank in numbers else '  (not cited)'}")
    if unknown := [number for number in numbers if not 1 <= number <= len(matches)]:
        print(f"warning: the answer cites passages that it was not given: {unknown}", file=sys.stderr)
