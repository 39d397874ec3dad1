"""Options that `ask` and `evaluate` share, and the search they make."""

from __future__ import annotations

from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rag_embeddings.cli.models import Models
    from rag_embeddings.retrieve.hybrid import HybridSearch
    from rag_embeddings.retrieve.parents import Score
    from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
    from rag_embeddings.store.directory import IndexDirectory
    from rag_embeddings.store.where import Where

SCORES = ["best", "mean", "sum"]
_NAMED = {"true": True, "false": False}
_FILES = {"source", "source_id"}  # what `index` fills with the absolute path of a file


def searcher(
    models: Models, directory: IndexDirectory, *, score: Score | None, hybrid: bool
) -> SentenceParentSearch | HybridSearch | None:
    """Return a search of an index with the model it was written with; None while nothing was written."""
    from rag_embeddings.retrieve.hybrid import HybridSearch
    from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch

    profile = directory.profile
    if profile is None:
        return None
    encoder = models.of_profile(profile)
    if hybrid:
        return HybridSearch(directory, encoder, score=score or "mean")
    return SentenceParentSearch(directory, encoder, score=score or "best")


def conditions_of(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> Where | None:
    """Turn KEY=VALUE into a condition: on a text, a number or a truth value that is spelled so, or a list with it."""
    conditions = []
    for value in values:
        key, sign, wanted = value.partition("=")
        if not sign or not key:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE", param=option)
        conditions.append(_condition(key, wanted))
    return reduce(lambda one, other: one & other, conditions) if conditions else None


def _condition(key: str, wanted: str) -> Where:
    from rag_embeddings.store.where import Where

    spelled: list[str | float | bool] = [wanted]
    if key in _FILES:  # as the file is named from here, which is how `ask` shows it
        spelled.append(Path(wanted).resolve().as_posix())
    if wanted.lower() in _NAMED:
        spelled.append(_NAMED[wanted.lower()])
    else:
        with suppress(ValueError):
            spelled.append(float(wanted))
    held = (Where.has(key, value) for value in spelled)
    return reduce(lambda one, other: one | other, held, Where.among(key, spelled))
