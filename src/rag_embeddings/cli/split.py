"""`rag-embeddings split`: how a file would be cut, on a terminal, as JSON, or as a page to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rag_embeddings.cli.models import models
from rag_embeddings.encode.resolve import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from rag_embeddings.cli.models import Models
    from rag_embeddings.split.base import Splitter
    from rag_embeddings.split.explain import Explanation

_NAMES = ["recursive", "sliding", "layout", "regex", "semantic", "bollinger", "topics", "llm"]
_SHOWN = 72  # characters of a chunk on the terminal


@click.command(short_help="Show how a file is split into chunks.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--splitter", type=click.Choice(_NAMES), default="recursive", show_default=True, help="How it is cut.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Most tokens of a chunk. [default: the splitter's]")
@click.option("--model", metavar="NAME", default=DEFAULT_MODEL, show_default=True, help="Counts tokens, and encodes.")
@click.option("--llm", metavar="PROVIDER:MODEL", help="Marks the boundaries, for --splitter llm.")
@click.option("--language", default="en", show_default=True, help="ISO 639-1 code, for sentence boundaries.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page to look at to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def split(
    context: click.Context,
    *,
    file: Path,
    splitter: str,
    max_tokens: int | None,
    model: str,
    llm: str | None,
    language: str,
    html: Path | None,
    as_json: bool,
) -> None:
    """Show how FILE (text, Markdown, HTML, PDF or DOCX) is split into chunks. Nothing is indexed.

    --splitter layout goes by headings, lists, tables, code and pages. --html writes one page that needs no network:
    the text with its chunks in colour and, for semantic and bollinger, the similarity of neighbouring sentences with
    its bands and cuts.

    JSON: splitter (its settings), chunks (id, tokens, spans as [start, end], headings, context, text, metadata),
    boundaries (at, similarity, middle, lower, upper, cut; values are null where there are none). All indices are
    half-open, in characters of the text.
    """
    from rag_embeddings.read.files import read_file
    from rag_embeddings.split.explain import explain

    if (splitter == "llm") != (llm is not None):
        raise click.UsageError("--splitter llm and --llm PROVIDER:MODEL belong together")
    document = read_file(file)
    options = {"language": language} | ({} if max_tokens is None else {"max_tokens": max_tokens})
    chosen = _splitter(models(context), splitter, model, llm, options)
    explanation = explain(chosen, document)
    if html is not None:
        from rag_embeddings.explore.split_page import split_page

        html.write_text(split_page(explanation, f"{file.name}, {splitter}"), encoding="utf-8")
    if as_json:
        print(json.dumps({"splitter": chosen.settings(), **_spelled(explanation)}, indent=2))
    elif html is not None:
        print(f"{len(explanation.chunks)} chunks; the page is {html}")
    else:
        _print(explanation)


def _splitter(given: Models, name: str, model: str, llm: str | None, options: dict[str, Any]) -> Splitter:
    from rag_embeddings.split.bollinger import BollingerSplitter
    from rag_embeddings.split.layout import LayoutSplitter
    from rag_embeddings.split.llm import LLMSplitter
    from rag_embeddings.split.recursive import RecursiveSplitter
    from rag_embeddings.split.regex import RegexSplitter
    from rag_embeddings.split.semantic import SemanticSplitter
    from rag_embeddings.split.sliding import SlidingWindowSplitter
    from rag_embeddings.split.topics import TopicSplitter

    encoder = given.by_name(model)
    if name == "llm":
        chat = given.chat(llm or "")
        return LLMSplitter(lambda prompt: str(chat.invoke(prompt).text), tokenizer=encoder, name=llm, **options)
    if name == "semantic":
        return SemanticSplitter(encoder, **options)
    if name == "bollinger":
        return BollingerSplitter(encoder, **options)
    if name == "topics":
        return TopicSplitter(encoder, **options)
    kinds: dict[str, Callable[..., Splitter]] = {
        "recursive": RecursiveSplitter,
        "sliding": SlidingWindowSplitter,
        "layout": LayoutSplitter,
        "regex": RegexSplitter,
    }
    return kinds[name](tokenizer=encoder, **options)


def _spelled(explanation: Explanation) -> dict[str, Any]:
    series = zip(
        explanation.at.tolist(),
        *([_number(value) for value in values.tolist()] for values in _series(explanation)),
        explanation.cuts.tolist(),
        strict=True,
    )
    names = ("at", "similarity", "middle", "lower", "upper", "cut")
    return {
        "chunks": [
            {
                "id": chunk.id,
                "tokens": tokens,
                "spans": [[span.start, span.end] for span in chunk.spans],
                "headings": list(chunk.headings),
                "context": chunk.context,
                "text": chunk.text,
                "metadata": dict(chunk.metadata),
            }
            for chunk, tokens in zip(explanation.chunks, explanation.tokens.tolist(), strict=True)
        ],
        "boundaries": [dict(zip(names, row, strict=True)) for row in series],
    }


def _series(explanation: Explanation) -> list[Any]:
    return [explanation.similarity, explanation.middle, explanation.lower, explanation.upper]


def _number(value: float) -> float | None:
    return value if abs(value) < float("inf") else None  # neither NaN nor infinity is JSON


def _print(explanation: Explanation) -> None:
    from rag_embeddings.cli.show import safe

    for number, (chunk, tokens) in enumerate(zip(explanation.chunks, explanation.tokens.tolist(), strict=True), 1):
        text = " ".join(chunk.text[: 4 * _SHOWN].split())
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        print(f"[{number}] {tokens:>4} tokens  {chunk.start}-{chunk.end}  {safe(shown)}")
    print(f"{len(explanation.chunks)} chunks")
