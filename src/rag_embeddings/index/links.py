"""Whether the chunks of an index are linked, and how, where the caller does not say: as it has been so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_embeddings.errors import StoreLockedError
from rag_embeddings.store.links import LinkRule, add_links, link_rule, set_link_rule, without_links
from rag_embeddings.testing.faults import failpoint

if TYPE_CHECKING:
    from rag_embeddings.encode.profile import Profile
    from rag_embeddings.store.directory import IndexDirectory


def settle_links(directory: IndexDirectory, profile: Profile, *, links: LinkRule | bool | None) -> int:
    """Give an index the links it is to have, or take them away. Nothing is encoded.

    Args:
        directory: The index. Written to, and so locked, only where something changes.
        profile: Its profile.
        links: As for `rag_embeddings.index.indexer.Indexer`.

    Returns:
        The number of chunks for which similar ones were looked up.

    Raises:
        ValueError: If the default rule is asked for and vectors are not compared by cosine, which it is for.
    """
    ledger = directory.ledger
    so_far = link_rule(ledger)
    wanted = so_far if links is None else links
    if wanted is True:
        if so_far is None and profile.similarity != "cosine":
            raise ValueError(
                f"links=True takes a threshold for cosines, and {profile.model} compares by {profile.similarity!r}: "
                "give LinkRule(threshold=...)"
            )
        wanted = so_far or LinkRule()
    rule = wanted if isinstance(wanted, LinkRule) else None
    if rule == so_far and not without_links(ledger):
        return 0
    try:
        with directory.writing(profile) as view:
            set_link_rule(ledger, rule)
            failpoint("index.after_link_rule")
            return add_links(view, ledger)
    except StoreLockedError:
        if rule != so_far:
            raise
        return 0  # nothing was written here, and the process that is writing links its documents itself
