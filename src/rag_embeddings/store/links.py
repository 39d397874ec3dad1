"""Links between similar chunks of different documents, in the ledger's database.

A link joins two places (version and ordinal of a chunk), and is written in both directions. Numbers of versions are
never given again, and triggers of the database delete the links of a version in the transaction that makes it dead: no
link leads nowhere, whoever replaces or deletes a document and wherever that is cut off.

Which live versions still want links is written down as well, so that an interrupted run is taken up by the next.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rag_embeddings.errors import StoreError
from rag_embeddings.store.version import Place
from rag_embeddings.testing.faults import failpoint

if TYPE_CHECKING:
    from rag_embeddings.store.base import Store
    from rag_embeddings.store.ledger import Ledger
    from rag_embeddings.store.shared import View

_KEY = "links"
_FIRST_FETCH = 32
_DROP = (
    "DELETE FROM links WHERE version = OLD.number OR other = OLD.number; DELETE FROM linked WHERE version = OLD.number;"
)
_TABLES = (
    """CREATE TABLE IF NOT EXISTS links (
        version INTEGER NOT NULL, ordinal INTEGER NOT NULL, other INTEGER NOT NULL, other_ordinal INTEGER NOT NULL,
        similarity REAL NOT NULL, PRIMARY KEY (version, ordinal, other, other_ordinal)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS links_by_other ON links (other)",
    "CREATE TABLE IF NOT EXISTS linked (version INTEGER PRIMARY KEY)",
    f"""CREATE TRIGGER IF NOT EXISTS unlink_dead AFTER UPDATE OF state ON versions
        WHEN NEW.state = 'dead' BEGIN {_DROP} END""",
    f"CREATE TRIGGER IF NOT EXISTS unlink_deleted AFTER DELETE ON versions BEGIN {_DROP} END",
)
_WAITING = (
    "SELECT number FROM versions WHERE state = 'live' AND number NOT IN (SELECT version FROM linked) ORDER BY number"
)


@dataclass(frozen=True)
class LinkRule:
    """Which chunks are linked.

    Attributes:
        threshold: Least similarity of two chunks, as the model compares vectors. It depends on the model; for cosines
            of all-MiniLM-L6-v2, chunks of 0.6 speak of the same thing and those of 0.9 say nearly the same.
        most: How many links a chunk gets when it is indexed, the most similar first. Chunks indexed later may add
            links to it; a thousand copies of one text do not make a million links.

    Raises:
        ValueError: If ``most`` is below 1.
    """

    threshold: float = 0.6
    most: int = 8

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"a chunk needs at least 1 link, got most={self.most}")


@dataclass(frozen=True, slots=True)
class Link:
    """One way of a link.

    Attributes:
        place: Where it leads.
        similarity: How similar the chunk there is.
    """

    place: Place
    similarity: float


def link_rule(ledger: Ledger) -> LinkRule | None:
    """Return which chunks of an index are linked; None if none are."""
    found = ledger.meta(_KEY)
    return None if found is None else LinkRule(**found)


def set_link_rule(ledger: Ledger, rule: LinkRule | None) -> None:
    """Remember a rule. Links made by another one are deleted, to be made again by `add_links`; None keeps none."""
    with ledger.writing():
        if rule == link_rule(ledger):
            return
        for statement in _TABLES:
            ledger.execute(statement)
        ledger.execute("DELETE FROM links")
        ledger.execute("DELETE FROM linked")
        ledger.remember(_KEY, None if rule is None else asdict(rule))


def without_links(ledger: Ledger) -> list[int]:
    """Return the numbers of the live versions whose chunks are not linked yet, oldest first."""
    with ledger.reading():
        return [] if link_rule(ledger) is None else [int(row[0]) for row in ledger.execute(_WAITING)]


def add_links(view: View, ledger: Ledger) -> int:
    """Link the chunks of the versions that are not linked yet with those of all live documents.

    Only these chunks are looked up: one search each in the store of chunks.

    Args:
        view: Stores of a writer.
        ledger: Where links are written, one transaction for each version.

    Returns:
        The number of chunks that were looked up.
    """
    rule = link_rule(ledger)
    looked_up = 0
    for version in without_links(ledger):
        if rule is None:
            break
        with ledger.reading():
            rows = list(ledger.execute("SELECT ordinal, id FROM chunks WHERE version = ?", (version,)))
        links = []
        for ordinal, identity in rows:
            links += [(ordinal, link) for link in _similar(view.chunks, ledger, identity, version, rule)]
        looked_up += len(rows)
        _write(ledger, version, links)
        failpoint("index.after_links")
    return looked_up


def links_of(ledger: Ledger, place: Place) -> list[Link]:
    """Return the links of a chunk, the most similar first.

    Raises:
        StoreError: If the chunks of this index are not linked.
    """
    sql = (
        "SELECT other, other_ordinal, similarity FROM links WHERE version = ? AND ordinal = ?"
        " ORDER BY similarity DESC, other, other_ordinal"
    )
    with ledger.reading():
        if link_rule(ledger) is None:
            raise StoreError(
                "the chunks of this index are not linked; link them with Indexer(..., links=True).upsert([]), which "
                "encodes nothing"
            )
        rows = ledger.execute(sql, (place.version, place.ordinal))
        return [Link(Place(version, ordinal), similarity) for version, ordinal, similarity in rows]


def _similar(chunks: Store, ledger: Ledger, identity: str, version: int, rule: LinkRule) -> list[Link]:
    records = chunks.get([identity])
    if not records:  # deleted meanwhile, and its links with it
        return []
    fetch = max(_FIRST_FETCH, 2 * rule.most)
    while True:
        hits = chunks.search(records[0].vector, fetch)
        near = [hit for hit in hits if hit.score >= rule.threshold]
        places = ledger.live_chunks([hit.id for hit in near])
        found = [Link(places[hit.id], hit.score) for hit in near if hit.id in places]
        found = [link for link in found if link.place.version != version][: rule.most]
        if len(found) == rule.most or len(near) < fetch:
            return found
        fetch *= 2


def _write(ledger: Ledger, version: int, links: list[tuple[int, Link]]) -> None:
    """Write both ways of each link, unless one of its ends has died meanwhile."""
    live = "EXISTS (SELECT 1 FROM versions WHERE number = ? AND state = 'live')"
    with ledger.writing():
        if not ledger.execute(f"SELECT {live}", (version,)).fetchone()[0]:
            return
        for ordinal, link in links:
            here, there = (version, ordinal), (link.place.version, link.place.ordinal)
            for values in ((*here, *there), (*there, *here)):
                ledger.execute(
                    f"INSERT OR REPLACE INTO links SELECT ?, ?, ?, ?, ? WHERE {live}",
                    (*values, link.similarity, link.place.version),
                )
        ledger.execute("INSERT OR REPLACE INTO linked VALUES (?)", (version,))
