"""One group of documents through the steps that `rag_embeddings.index.indexer` lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_embeddings.encode.base import Role, validated
from rag_embeddings.store.base import Record
from rag_embeddings.store.records import filterable
from rag_embeddings.testing.faults import failpoint
from rag_embeddings.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.index.pipeline import Pipeline
    from rag_embeddings.store.base import Store
    from rag_embeddings.store.directory import IndexDirectory
    from rag_embeddings.store.ledger import Version
    from rag_embeddings.text import Document


@dataclass(frozen=True, slots=True)
class _Source:
    """What all units of one document share."""

    metadata: Mapping[str, Any]  # what can be filtered by
    spelling: str  # the document's metadata, as the ledger spells it


@dataclass(frozen=True, slots=True)
class _Unit:
    """A sentence or a chunk on its way into a store."""

    id: str
    context: str
    text: str  # without the context: what document filters see
    source: _Source

    @property
    def embedding_text(self) -> str:
        return f"{self.context}\n\n{self.text}" if self.context else self.text

    def record(self, vector: Vectors) -> Record:
        return Record(self.id, vector, self.text, self.source.metadata)


class Writer:
    """Collects versions, writes them as a group, cleans up. Used by one call of the indexer.

    Args:
        directory: The index.
        pipeline: Its encoder is used.
        slice_size: Texts encoded and written at a time.

    Attributes:
        units: Sentences and chunks collected and not yet written.
        encoded: Texts sent to the encoder so far.
        chunks: Chunks written so far.
        sentences: Sentences written so far.
    """

    def __init__(self, directory: IndexDirectory, pipeline: Pipeline, slice_size: int) -> None:
        self._directory = directory
        self._ledger = directory.ledger
        self._pipeline = pipeline
        self._profile = pipeline.encoder.profile
        self._slice = slice_size
        self._versions: list[Version] = []
        self.units = self.encoded = self.chunks = self.sentences = 0

    def begin(self) -> None:
        """Become the writer, if this process is not it yet, and finish what an interrupted one left behind."""
        with self._directory.writing(self._profile):
            pass
        self.clean_up()

    def add(self, version: Version) -> None:
        """Put a version into the group."""
        self._versions.append(version)
        self.units += len(version.chunks) + sum(map(len, version.sentences))

    def flush(self) -> int:
        """Write the group.

        Returns:
            The number of documents that were in it.
        """
        versions, self._versions, self.units = self._versions, [], 0
        if not versions:
            return 0
        with self._directory.writing(self._profile) as view:
            numbers = self._ledger.begin(versions)
            failpoint("index.after_pending")
            siblings: dict[str, set[tuple[str, str]]] = {}
            for number in numbers:
                siblings.update(self._ledger.siblings(number))
            self._store(view.sentences, _sentence_units(versions), siblings)
            failpoint("index.after_sentences")
            self._store(view.chunks, _chunk_units(versions), siblings)
            failpoint("index.after_chunks")
            with self._ledger.writing():
                self._ledger.commit(numbers)
                self._ledger.remember("settings", self._pipeline.settings())
            failpoint("index.after_commit")
        self.chunks += sum(len(version.chunks) for version in versions)
        self.sentences += sum(len(sentences) for version in versions for sentences in version.sentences)
        self.clean_up()
        return len(versions)

    def abandon(self, ids: Sequence[str]) -> None:
        """Give up the pending versions of some documents."""
        with self._directory.writing(self._profile):
            self._ledger.kill_pending(ids)
        self.clean_up()

    def clean_up(self) -> None:
        """Delete the vectors that only dead versions have, and forget these versions."""
        if not self._ledger.dead():
            return
        with self._directory.writing(self._profile) as view:
            dead = self._ledger.dead()
            for number in dead:
                sentences, chunks = self._ledger.orphans(number)
                view.sentences.delete(sentences)
                failpoint("index.after_sentences_deleted")
                view.chunks.delete(chunks)
                failpoint("index.after_chunks_deleted")
            self._ledger.forget(dead)
            failpoint("index.after_forget")

    def _store(self, store: Store, units: list[_Unit], siblings: Mapping[str, set[tuple[str, str]]]) -> None:
        """Write units into a store, encoding those that are not there yet as they should be."""
        stored = store.contains([unit.id for unit in units])
        missing, outdated = [], []
        for unit in units:
            others = siblings.get(unit.id, set())
            if unit.id not in stored or any(context != unit.context for context, _ in others):
                missing.append(unit)
            elif any(metadata != unit.source.spelling for _, metadata in others):
                outdated.append(unit)
        for part in _slices(missing, self._slice):
            texts = [unit.embedding_text for unit in part]
            self.encoded += len(texts)
            vectors = self._pipeline.encoder.encode(texts, Role.DOCUMENT)
            checked = validated(vectors, texts, self._profile.dimensions)
            failpoint("index.after_encode")
            store.upsert([unit.record(vector) for unit, vector in zip(part, checked, strict=True)])
            failpoint("index.after_slice")
        for part in _slices(outdated, self._slice):
            vectors_of = {record.id: record.vector for record in store.get([unit.id for unit in part])}
            store.upsert([unit.record(vectors_of[unit.id]) for unit in part])
            failpoint("index.after_refresh")


def _source(document: Document) -> _Source:
    metadata = filterable({**document.metadata, "source_id": document.id})
    return _Source(metadata, canonical_json(document.metadata))


def _chunk_units(versions: Sequence[Version]) -> list[_Unit]:
    units: dict[str, _Unit] = {}
    for version in versions:
        source = _source(version.document)
        for chunk in version.chunks:
            units.setdefault(chunk.id, _Unit(chunk.id, chunk.context, chunk.text, source))
    return list(units.values())


def _sentence_units(versions: Sequence[Version]) -> list[_Unit]:
    """A sentence that stands in several chunks is one unit, under the context of the first."""
    units: dict[str, _Unit] = {}
    for version in versions:
        source = _source(version.document)
        for chunk, sentences in zip(version.chunks, version.sentences, strict=True):
            for sentence in sentences:
                text = sentence.span.of(version.document.text)
                units.setdefault(sentence.id, _Unit(sentence.id, chunk.context, text, source))
    return list(units.values())


def _slices(units: list[_Unit], size: int) -> Iterator[list[_Unit]]:
    for start in range(0, len(units), size):
        yield units[start : start + size]
