"""Similar chunks of other documents are fetched along with what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_embeddings.retrieve.base import Match
from rag_embeddings.retrieve.budget import Sizes, checked_budget
from rag_embeddings.store.links import links_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_embeddings.split.tokens import TokenCounter
    from rag_embeddings.store.ledger import Ledger
    from rag_embeddings.store.version import Place


def linked(
    passages: Sequence[Match], found: Sequence[tuple[Match, Place]], tokens: int, ledger: Ledger, counter: TokenCounter
) -> list[Match]:
    """Follow the links of chunks that were found.

    Args:
        passages: What is returned anyway.
        found: The chunks that these passages were made of, in rank order, and where they stand.
        tokens: Budget of the linked passages, contexts included. One that does not fit is passed over.
        ledger: Holds links and chunks.
        counter: Counts the tokens.

    Returns:
        Linked chunks in the order of the chunks that led there, the most similar first; none that shares text with a
        passage of its document, or says what a passage says, be it in a copy. Their score is the similarity to the
        chunk that led there, whose id is in ``linked_from``; no sentence of theirs has matched.

    Raises:
        ValueError: If the budget is below 1.
        StoreError: If the chunks of this index are not linked.
    """
    checked_budget(tokens)
    sizes = Sizes(counter)
    taken: list[Match] = []
    known = {place for _, place in found}
    for match, place in found:
        for link in links_of(ledger, place):
            if link.place in known:
                continue
            known.add(link.place)
            there = Match(ledger.chunk(link.place), link.similarity, (), linked_from=match.chunk.id)
            size = sizes.of([there])
            if size <= tokens and not any(_holds(one, there) for one in (*passages, *taken)):
                taken.append(there)
                tokens -= size
    return taken


def _holds(passage: Match, other: Match) -> bool:
    mine, its = passage.chunk, other.chunk
    if mine.document.id == its.document.id and any(
        one.start < two.end and two.start < one.end for one in mine.spans for two in its.spans
    ):
        return True
    return its.text in mine.text
