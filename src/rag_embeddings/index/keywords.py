"""Whether an index has keywords, and in which language, where the caller does not say: as it has been so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_embeddings.store.keywords import is_on, keyword_language, turn_off, turn_on
from rag_embeddings.store.words import Words, is_installed, language_of

if TYPE_CHECKING:
    from rag_embeddings.index.pipeline import Pipeline
    from rag_embeddings.store.directory import IndexDirectory


def settle_keywords(directory: IndexDirectory, pipeline: Pipeline, *, keywords: str | bool | None) -> None:
    """Give an index the keywords it is to have, or take them away. Nothing is encoded.

    Args:
        directory: The index. Written to, and so locked, only where something changes.
        pipeline: Its profile, and the language of its sentences.
        keywords: As for `rag_embeddings.index.indexer.Indexer`.

    Raises:
        ValueError: If there is no stemmer for the language.
        MissingExtraError: If what the language needs is not installed.
    """
    so_far = keyword_language(directory.ledger)
    usual = language_of(pipeline.language)
    wanted = keywords
    if keywords is True:
        wanted = so_far if isinstance(so_far, str) else usual
    elif keywords is None:
        wanted = usual if so_far is None and is_installed(usual) else so_far
    if wanted is None or wanted is so_far is False:
        return
    profile = pipeline.encoder.profile
    if wanted is False:
        with directory.writing(profile):
            turn_off(directory.ledger)
        return
    words = Words(str(wanted))
    if not is_on(directory.ledger, words):
        with directory.writing(profile):
            turn_on(directory.ledger, words)
