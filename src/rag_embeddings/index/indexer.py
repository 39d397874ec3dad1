"""The bulk path: documents in, incrementally and crash-safe.

The order of steps, for a group of documents at a time:

1. the ledger writes the new versions down as pending, spans and all;
2. sentences and chunks that the stores do not have yet are encoded, and written slice by slice;
3. one transaction of the ledger makes the new versions live and the old ones dead: the moment they exist;
4. vectors that only dead versions have are deleted;
5. the ledger forgets the dead versions.

A crash anywhere leaves the old or the new version, whole. The next call goes on where the last one was cut off: ids
already stored for a pending version are not encoded again, and dead versions are cleaned up first. A pending version
that is never offered again is cleaned up when its document is upserted in another version, deleted or pruned; until
then its vectors take room and are found by nobody, but for one kind: units that it shares with the live version and
would have in another context, of which it may have overwritten some.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from rag_embeddings.errors import DocumentError
from rag_embeddings.index.keywords import settle_keywords
from rag_embeddings.index.links import settle_links
from rag_embeddings.index.writer import Writer
from rag_embeddings.testing.faults import failpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from rag_embeddings.index.pipeline import Pipeline
    from rag_embeddings.store.directory import IndexDirectory
    from rag_embeddings.store.links import LinkRule
    from rag_embeddings.text import Document

_CHECK_DOCUMENTS = 256  # documents looked up in the ledger at a time
_CHECK_CHARACTERS = 4_000_000
_GROUP_UNITS = 2_048  # sentences and chunks committed at a time


@dataclass(frozen=True)
class Summary:
    """What `Indexer.upsert` did.

    Attributes:
        added: Ids of documents that were not there before.
        unchanged: Ids of documents that were there as they are.
        replaced: Ids of documents whose text, metadata, layout or pipeline is another one now.
        removed: Ids of documents that were removed; `Indexer.upsert` removes none.
        encoded: Number of texts sent to the encoder.
        chunks: Number of chunks of the added and replaced documents.
        sentences: Number of sentences of these, one per chunk it stands in.
    """

    added: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    encoded: int = 0
    chunks: int = 0
    sentences: int = 0


class Indexer:
    """Writes documents into an index. Thread-safe: calls take turns.

    Args:
        directory: The index; stays open.
        pipeline: What turns documents into vectors.
        slice_size: How many texts are encoded and written at a time, and so how much a crash can lose.
        keywords: Whether `rag_embeddings.retrieve.hybrid.HybridSearch` finds words in this index: an ISO 639-1 code
            that decides on stemmer and stop words, ``""`` for words as they stand, True for the language that sentences
            are cut by, False for none. Where the index has others so far, the next `upsert` makes them from the texts
            it holds, without encoding any. None: as the index has been so far; for a new one as True, if the extra
            ``keywords`` is installed.
        links: Whether similar chunks of different documents are linked, for
            `rag_embeddings.retrieve.search.Retrieval`: True for the rule the index has, or `LinkRule` with its
            defaults; a rule of the caller's own; False for none. The next `upsert` makes them, also for documents that
            did not change, without encoding any. None: as the index has been so far; a new one has none.
    """

    def __init__(
        self,
        directory: IndexDirectory,
        pipeline: Pipeline,
        *,
        slice_size: int = 256,
        keywords: str | bool | None = None,
        links: LinkRule | bool | None = None,
    ) -> None:
        if slice_size < 1:
            raise ValueError(f"slice_size must be at least 1, got {slice_size}")
        self.directory = directory
        self.pipeline = pipeline
        self.slice_size = slice_size
        self.keywords = keywords
        self.links = links

    def upsert(
        self, documents: Iterable[Document], *, progress: Callable[[int, int | None], None] | None = None
    ) -> Summary:
        """Add documents, replace those that changed, leave the rest alone.

        Documents are drawn from the iterable as needed; the corpus is never held in memory. Where an id occurs twice,
        it is as if the documents were upserted one after the other: the last one stays. Documents that are unchanged
        cost neither an encoder call nor a write, nor the writer's lock.

        Args:
            documents: Any number of documents, in any order.
            progress: Called with the number of documents done and the number of all, None if it is not known.

        Returns:
            What was done.

        Raises:
            StoreLockedError: If another process is writing to this index.
            SpaceMismatchError: If the index holds vectors of another space.
            VectorError: If the encoder returned something that must not be stored. Documents committed before stay;
                the rest keeps its old version, and the next call goes on from there.
            MissingExtraError: If the index has keywords and what they need is not installed.
        """
        total = len(documents) if isinstance(documents, Sized) else None
        tally = _Tally(progress, total)
        writer = Writer(self.directory, self.pipeline, self.slice_size)
        fingerprint = self.pipeline.fingerprint
        writer.clean_up()
        if self.keywords is not None:
            settle_keywords(self.directory, self.pipeline, keywords=self.keywords)
        for batch in _batches(documents):
            self._upsert_batch(batch, fingerprint, writer, tally)
        settle_links(self.directory, self.pipeline.encoder.profile, links=self.links)
        return tally.summary(writer)

    def _upsert_batch(self, batch: list[Document], fingerprint: str, writer: Writer, tally: _Tally) -> None:
        latest = {document.id: document for document in batch}
        names = {identity: self._name(document, fingerprint) for identity, document in latest.items()}
        states = self.directory.ledger.states(list(latest))
        if any(states.get(identity, (None, False))[0] != name for identity, name in names.items()):
            writer.begin()
            settle_keywords(self.directory, self.pipeline, keywords=self.keywords)
            states = self.directory.ledger.states(list(latest))  # the last word is what stands there under our lock
        same = [identity for identity, name in names.items() if states.get(identity, (None, False))[0] == name]
        # Where another version was begun, and this one is wanted again, that may have overwritten some of its vectors.
        finished = {identity for identity in same if not states[identity][1]}
        tally.count_unchanged(same, len(batch) - len(latest) + len(finished))
        for identity, document in latest.items():
            if identity in finished:
                continue
            writer.add(self.pipeline.version(document, names[identity]))
            if identity not in same:
                tally.count_changed(identity, is_new=states.get(identity, (None, False))[0] is None)
            if writer.units >= _GROUP_UNITS:
                tally.done(writer.flush())
        tally.done(writer.flush())

    def _name(self, document: Document, fingerprint: str) -> str:
        try:
            return self.pipeline.version_name(document, fingerprint)
        except (TypeError, ValueError) as error:
            raise DocumentError(f"the metadata of document {document.id!r} cannot be stored: {error}") from error

    def delete(self, ids: Iterable[str]) -> list[str]:
        """Remove documents.

        Args:
            ids: Ids of documents; unknown ones are ignored.

        Returns:
            Those of ``ids`` that could be found before and cannot be found any more.
        """
        wanted = list(dict.fromkeys(ids))
        if not self.directory.ledger.states(wanted):
            return []
        writer = Writer(self.directory, self.pipeline, self.slice_size)
        writer.begin()
        killed = self.directory.ledger.kill(wanted)
        failpoint("index.after_kill")
        writer.clean_up()
        return killed

    def prune(self, keep: Collection[str]) -> list[str]:
        """Remove every document that is not to be kept, unfinished ones too.

        Args:
            keep: Ids of the documents that stay.

        Returns:
            Ids of the documents that were removed.
        """
        kept = set(keep)
        known = self.directory.ledger.document_ids(pending=True)
        return self.delete([identity for identity in known if identity not in kept])

    def get(self, ids: Iterable[str]) -> list[Document]:
        """Return documents as they were upserted, in the order of ``ids``; unknown ones are skipped.

        Metadata comes back as JSON spells it: tuples as lists, dates and paths as texts.
        """
        return self.directory.ledger.live_documents(list(ids))

    def document_ids(self) -> list[str]:
        """Return the ids of all documents, those written longest ago first."""
        return self.directory.ledger.document_ids()


class _Tally:
    def __init__(self, progress: Callable[[int, int | None], None] | None, total: int | None) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._added: dict[str, None] = {}
        self._unchanged: dict[str, None] = {}
        self._replaced: dict[str, None] = {}

    def count_unchanged(self, ids: list[str], offered: int) -> None:
        self._unchanged.update(dict.fromkeys(ids))
        self.done(offered)

    def count_changed(self, identity: str, *, is_new: bool) -> None:
        (self._added if is_new else self._replaced)[identity] = None

    def done(self, documents: int) -> None:
        self._done += documents
        if documents and self._progress is not None:
            self._progress(self._done, self._total)

    def summary(self, writer: Writer) -> Summary:
        # An id that came twice is reported once: what became of it seen from before the call.
        replaced = [identity for identity in self._replaced if identity not in self._added]
        changed = {*self._added, *replaced}
        return Summary(
            added=tuple(self._added),
            unchanged=tuple(identity for identity in self._unchanged if identity not in changed),
            replaced=tuple(replaced),
            encoded=writer.encoded,
            chunks=writer.chunks,
            sentences=writer.sentences,
        )


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Group documents until there are many, or much text."""
    iterator = iter(documents)
    while first := list(islice(iterator, 1)):
        batch, characters = first, len(first[0].text)
        while characters < _CHECK_CHARACTERS and len(batch) < _CHECK_DOCUMENTS:
            following = next(iterator, None)
            if following is None:
                break
            batch.append(following)
            characters += len(following.text)
        yield batch
