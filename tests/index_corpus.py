"""A small corpus, a plain splitter, what an index over them must hold, and child processes to be killed."""

import multiprocessing
import os
import threading
from collections import Counter
from pathlib import Path

from rag_embeddings.encode.base import Role
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.store import postings
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.store.kept import is_small
from rag_embeddings.store.keywords import keyword_words
from rag_embeddings.store.version import Place
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Chunk, Document, Span

SLICE = 8


class Windows:
    """Windows of characters that overlap, cut anywhere."""

    language = "en"

    def __init__(self, size=160, step=120, context=""):
        self.size, self.step, self.context = size, step, context

    def split(self, document):
        text = document.text
        starts = range(0, max(1, len(text) - (self.size - self.step)), self.step)
        spans = [Span(start, min(start + self.size, len(text))) for start in starts]
        return [Chunk(document, (span,), context=self.context) for span in spans if span.of(text).strip()]

    def settings(self):
        return {"splitter": "windows", "size": self.size, "step": self.step, "context": self.context}


def pipeline(encoder=None, **options):
    return Pipeline(encoder or DeterministicEncoder(dimensions=96), Windows(**options))


def document(number, version=0, sentences=6):
    lines = [
        f"Document {number} in version {version} says in line {line} that thing{number}x{line} costs v{version}n{line}."
        for line in range(sentences)
    ]
    return Document(" ".join(lines), id=f"doc-{number}", metadata={"number": number, "version": version})


def corpus(version=0, count=12):
    return [document(number, version) for number in range(count)]


def expected_units(documents, made_by):
    """Ids of sentences and chunks of documents."""
    versions = [made_by.version(item, "name") for item in documents]
    sentences = {unit.id for version in versions for group in version.sentences for unit in group}
    return sentences, {chunk.id for version in versions for chunk in version.chunks}


def check_index(directory, documents, made_by):
    """Assert that an index holds these documents, nothing else, and that every vector finds itself.

    Where Chroma searches, one in a hundred may be missed: its graph is built by threads, a little different each time.
    """
    indexer = Indexer(directory, made_by)
    assert sorted(indexer.document_ids()) == sorted(item.id for item in documents)
    for found, item in zip(indexer.get([item.id for item in documents]), documents, strict=True):
        assert (found.id, found.text, found.metadata) == (item.id, item.text, item.metadata)
    sentences, chunks = expected_units(documents, made_by)
    assert directory.ledger.unit_ids() == (sentences, chunks)
    with directory.reading() as view:
        for store, ids in ((view.sentences, sentences), (view.chunks, chunks)):
            assert set(store.ids()) == ids
            index = getattr(store, "index", store)  # Chroma beside it
            assert sorted(index.ids()) == sorted(ids)
            assert len(index) == len(ids)
            records = store.get(sorted(ids))
            expected = made_by.encoder.encode([record.text for record in records], Role.DOCUMENT)
            for record, found, vector in zip(records, index.get(sorted(ids)), expected, strict=True):
                assert abs(record.vector - vector).max() < 1e-5
                assert abs(found.vector - vector).max() < 1e-5
            missed = [record.id for record in records if store.search(record.vector, 1)[0].score < 0.9999]
            is_exact = index is store or is_small(store.kept)
            assert len(missed) <= (0 if is_exact else len(records) // 100)
    assert directory.ledger.dead() == []
    check_keywords(directory)


def live_places(ledger):
    """Where every live chunk stands."""
    return [
        Place(version, ordinal) for version in ledger.live_versions() for ordinal in range(len(ledger.chunks(version)))
    ]


def live_words(directory):
    """The words of each live chunk, by place, from the texts."""
    ledger = directory.ledger
    words = keyword_words(ledger)
    return {place: words.of(ledger.chunk(place).embedding_text) for place in live_places(ledger)}


def check_keywords(directory):
    """Assert that the postings are those of the live chunks and nothing else."""
    words_of = live_words(directory)
    expected = {
        (word, place.version, place.ordinal, count, len(words))
        for place, words in words_of.items()
        for word, count in Counter(words).items()
    }
    with directory.ledger.reading():
        found = postings.contents(directory.ledger)
        assert len(found) == len(set(found))
        assert set(found) == expected
        assert postings.totals(directory.ledger) == (len(words_of), sum(map(len, words_of.values())))


class Recording(DeterministicEncoder):
    """Writes each text it encodes to a file, so that a killed process leaves word of it."""

    def __init__(self, path):
        super().__init__(dimensions=96)
        self.path = path

    def encode(self, texts, role):
        vectors = super().encode(texts, role)
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.writelines(text.replace("\n", " ") + "\n" for text in texts)
            file.flush()
            os.fsync(file.fileno())
        return vectors


# A server that has imported chromadb (a second) and opened nothing forks all children: they start at once and inherit
# neither threads nor files.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    ["chromadb", "rag_embeddings.store.chroma", "rag_embeddings.retrieve.sentence_parent"]
)


def start(function, *arguments):
    """Run a function in a child process."""
    process = _processes.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def pipe():
    return _processes.Pipe()


def in_child(function, *arguments):
    """Run a function in a child process to its end; return the exit code, 0 or what killed it."""
    process = start(function, *arguments)
    process.join(timeout=300)
    return process.exitcode


def read_while_written(path, search_over, *, rounds, readers):
    """Search in threads while a writer replaces every document again and again.

    Returns:
        What was found and is neither a document's old version nor its new one, whole; and the number of searches.
    """
    count, wrong, polls, done = 6, [], [], threading.Event()
    whole = {
        frozenset(chunk.id for chunk in pipeline().version(item, "name").chunks)
        for version in range(rounds)
        for item in corpus(version, count)
    }
    with IndexDirectory.open(path, create=True) as directory:
        Indexer(directory, pipeline()).upsert(corpus(0, count))

        def read():
            search = search_over(directory)
            while not done.is_set():
                found = {}
                for match in search.search("thing1x1 costs", 1000):
                    found.setdefault(match.chunk.document.id, set()).add(match.chunk.id)
                if len(found) != count or not all(frozenset(chunks) in whole for chunks in found.values()):
                    wrong.append(found)
                polls.append(1)

        threads = [threading.Thread(target=read) for _ in range(readers)]
        for thread in threads:
            thread.start()
        for version in range(1, rounds):
            Indexer(directory, pipeline(), slice_size=8).upsert(corpus(version, count))
        done.set()
        for thread in threads:
            thread.join()
    return wrong, len(polls)
