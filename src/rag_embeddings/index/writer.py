"""One group of documents through the steps that `rag_embeddings.index.indexer` lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_embeddings.encode.base import Role, validated
from rag_embeddings.encode.late import Units
from rag_embeddings.index.pipeline import stamped
from rag_embeddings.store import postings
from rag_embeddings.store.base import Record
from rag_embeddings.store.keywords import counted
from rag_embeddings.store.records import filterable
from rag_embeddings.testing.faults import failpoint
from rag_embeddings.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.late import LatePass
    from rag_embeddings.index.pipeline import Pipeline
    from rag_embeddings.store.base import VectorReader
    from rag_embeddings.store.directory import IndexDirectory
    from rag_embeddings.store.version import Version


@dataclass(frozen=True, slots=True)
class _Source:
    """What all units of one document share."""

    version: Version
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
        pipeline: Its encoder is used, and its late pass.
        slice_size: Texts encoded and written at a time.

    Attributes:
        units: Sentences and chunks collected and not yet written.
        encoded: Texts sent to the encoder so far; with a late pass, whole documents.
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
        self._stamp = pipeline.vector_stamp
        self._late: dict[str, Vectors] = {}  # by unit, of the group being written
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
            siblings: dict[str, set[tuple[str, str, str]]] = {}
            for number in numbers:
                siblings.update(self._ledger.siblings(number))
            self._store(view.sentences, _sentence_units(versions), siblings)
            failpoint("index.after_sentences")
            self._store(view.chunks, _chunk_units(versions), siblings)
            self._late = {}
            failpoint("index.after_chunks")
            chunks = {number: version.chunks for number, version in zip(numbers, versions, strict=True)}
            keywords = counted(self._ledger, chunks)
            with self._ledger.writing():
                self._ledger.commit(numbers)
                postings.add(self._ledger, keywords)
                self._ledger.remember("settings", self._pipeline.settings())
            failpoint("index.after_commit")
        self.chunks += sum(len(version.chunks) for version in versions)
        self.sentences += sum(len(sentences) for version in versions for sentences in version.sentences)
        self.clean_up()
        return len(versions)

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

    def _store(
        self, store: VectorReader, units: list[_Unit], siblings: Mapping[str, set[tuple[str, str, str]]]
    ) -> None:
        """Write units into a store, encoding those that are not there yet as they should be."""
        stored = store.contains([unit.id for unit in units])
        missing, outdated = [], []
        for unit in units:
            others = siblings.get(unit.id, set())
            if unit.id not in stored or any(
                context != unit.context or stamped(name) != self._stamp for context, _, name in others
            ):
                missing.append(unit)
            elif any(metadata != unit.source.spelling for _, metadata, _ in others):
                outdated.append(unit)
        if self._pipeline.late is not None:
            self._encode_late(missing, self._pipeline.late)
        for part in _slices(missing, self._slice):
            vectors = [self._late[unit.id] for unit in part] if self._pipeline.late else self._encoded(part)
            failpoint("index.after_encode")
            store.upsert([unit.record(vector) for unit, vector in zip(part, vectors, strict=True)])
            failpoint("index.after_slice")
        for part in _slices(outdated, self._slice):
            vectors_of = store.vectors([unit.id for unit in part])
            store.upsert([unit.record(vectors_of[unit.id]) for unit in part])
            failpoint("index.after_refresh")

    def _encoded(self, units: Sequence[_Unit]) -> Vectors:
        texts = [unit.embedding_text for unit in units]
        self.encoded += len(texts)
        vectors = self._pipeline.encoder.encode(texts, Role.DOCUMENT)
        return validated(vectors, texts, self._profile.dimensions)

    def _encode_late(self, units: Sequence[_Unit], late: LatePass) -> None:
        """Encode the documents of some units whole, and keep the vectors of all their units."""
        wanted = {id(unit.source): unit.source.version for unit in units if unit.id not in self._late}
        versions = list(wanted.values())
        spans = [[[sentence.span for sentence in part] for part in version.sentences] for version in versions]
        group = [Units(version.document, version.chunks, part) for version, part in zip(versions, spans, strict=True)]
        self.encoded += len(group)
        for version, found in zip(versions, late.encode(group), strict=True):
            sentences = (sentence for part in version.sentences for sentence in part)
            self._late.update(zip((sentence.id for sentence in sentences), found.sentence_vectors, strict=True))
            self._late.update(zip((chunk.id for chunk in version.chunks), found.vectors, strict=True))


def _source(version: Version) -> _Source:
    document = version.document
    metadata = filterable({**document.metadata, "source_id": document.id})
    return _Source(version, metadata, canonical_json(document.metadata))


def _chunk_units(versions: Sequence[Version]) -> list[_Unit]:
    units: dict[str, _Unit] = {}
    for version in versions:
        source = _source(version)
        for chunk in version.chunks:
            units.setdefault(chunk.id, _Unit(chunk.id, chunk.context, chunk.text, source))
    return list(units.values())


def _sentence_units(versions: Sequence[Version]) -> list[_Unit]:
    """A sentence that stands in several chunks is one unit, under the context of the first."""
    units: dict[str, _Unit] = {}
    for version in versions:
        source = _source(version)
        for chunk, sentences in zip(version.chunks, version.sentences, strict=True):
            for sentence in sentences:
                text = sentence.span.of(version.document.text)
                units.setdefault(sentence.id, _Unit(sentence.id, chunk.context, text, source))
    return list(units.values())


def _slices(units: list[_Unit], size: int) -> Iterator[list[_Unit]]:
    for start in range(0, len(units), size):
        yield units[start : start + size]
