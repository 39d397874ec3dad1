"""Several processes and one index: one writer, readers that see every document old or new, whole."""

import os
import random
import resource
import shutil
import signal
import time

import pytest

from index_corpus import Recording, check_index, corpus, document, expected_units, in_child, pipe, pipeline, start
from rag_embeddings.errors import StoreError, StoreLockedError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
from rag_embeddings.store import kept
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.store.gate import Gate
from rag_embeddings.testing.encoder import DeterministicEncoder

ENCODER = DeterministicEncoder(dimensions=96)


def indexer(directory, slice_size=8):
    return Indexer(directory, pipeline(), slice_size=slice_size)


def receive(connection):
    """A child that died says nothing, and must not keep the test waiting."""
    assert connection.poll(timeout=60), "the child process said nothing for a minute"
    return connection.recv()


def assert_finds_all(directory, documents):
    search = SentenceParentSearch(directory, ENCODER)
    for item in documents:
        sentence = item.text.split(". ")[0] + "."
        match = search.search(sentence, 1)[0]
        assert match.chunk.document.id == item.id
        assert match.chunk.document.text == item.text
        assert match.score > 0.999


# --- a full disk ---------------------------------------------------------------------------------------------------


def fill_and_go_on(path, limit):
    """Index until files may not grow, then go on through the same open index; the exit code says how it went."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    documents = [document(number, sentences=40) for number in range(60)]
    with IndexDirectory.open(path, create=True) as directory:
        indexer(directory).upsert(documents[:2])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
        with pytest.raises(StoreError):
            indexer(directory, 256).upsert(documents)
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        assert_finds_all(directory, documents[:2])
        indexer(directory, 256).upsert(documents)
        assert_finds_all(directory, documents)
        check_index(directory, documents, pipeline())


@pytest.mark.parametrize("limit", [600_000, 900_000, 1_400_000])
def test_a_full_disk_is_an_error_and_the_same_index_goes_on_afterwards(tmp_path, limit):
    assert in_child(fill_and_go_on, tmp_path / "index", limit) == 0


# --- one writer ----------------------------------------------------------------------------------------------------


def write_and_wait(path, connection):
    with IndexDirectory.open(path, create=True) as directory:
        indexer(directory).upsert(corpus(0, 4))
        connection.send("written")
        while connection.recv() == "more":
            indexer(directory).upsert(corpus(1, 4))
            connection.send("written")


def test_a_second_writer_is_refused_at_once_and_the_first_is_unharmed(tmp_path):
    ours, theirs = pipe()
    writer = start(write_and_wait, tmp_path / "index", theirs)
    assert receive(ours) == "written"
    with IndexDirectory.open(tmp_path / "index") as directory:
        before = time.monotonic()
        with pytest.raises(StoreLockedError, match=rf"process {writer.pid} is writing .*index"):
            indexer(directory).upsert(corpus(0, 5))
        assert time.monotonic() - before < 1  # a promise of the interface, not a measurement
        with pytest.raises(StoreLockedError):
            indexer(directory).delete(["doc-0"])
        assert_finds_all(directory, corpus(0, 4))
    ours.send("more")
    assert receive(ours) == "written"
    ours.send("close")
    writer.join()
    assert writer.exitcode == 0
    with IndexDirectory.open(tmp_path / "index") as directory:
        check_index(directory, corpus(1, 4), pipeline())


def test_a_killed_writer_frees_the_lock(tmp_path):
    ours, theirs = pipe()
    writer = start(write_and_wait, tmp_path / "index", theirs)
    assert receive(ours) == "written"
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    with IndexDirectory.open(tmp_path / "index") as directory:
        indexer(directory).upsert(corpus(1, 4))
        check_index(directory, corpus(1, 4), pipeline())


# --- long-lived readers ----------------------------------------------------------------------------------------------


def write(path, version, count):
    with IndexDirectory.open(path, create=True) as directory:
        indexer(directory).upsert(corpus(version, count))


def delete(path, ids):
    with IndexDirectory.open(path) as directory:
        indexer(directory).delete(ids)


@pytest.fixture(params=["exact", "chroma"])
def asked(request, monkeypatch):
    """Who answers: the records, as for any small index, or Chroma, as for a large one."""
    if request.param == "chroma":
        monkeypatch.setattr(kept, "EXACT_BYTES", 0)


@pytest.mark.usefixtures("asked")
def test_a_long_lived_reader_finds_what_others_write(tmp_path):
    path = tmp_path / "index"
    assert in_child(write, path, 0, 3) == 0
    with IndexDirectory.open(path) as reader:
        assert_finds_all(reader, corpus(0, 3))
        assert in_child(write, path, 0, 9) == 0
        assert_finds_all(reader, corpus(0, 9))
        assert in_child(write, path, 1, 9) == 0
        assert_finds_all(reader, corpus(1, 9))
        assert in_child(delete, path, ["doc-8"]) == 0
        assert_finds_all(reader, corpus(1, 8))
        found = SentenceParentSearch(reader, ENCODER).search(document(8, 1).text, 50)
        assert "doc-8" not in {match.chunk.document.id for match in found}


@pytest.mark.usefixtures("asked")
def test_a_reader_opened_before_anything_was_written_finds_it(tmp_path):
    with IndexDirectory.open(tmp_path / "index", create=True) as reader:
        assert SentenceParentSearch(reader, ENCODER).search("anything", 3) == []
        assert in_child(write, tmp_path / "index", 0, 2) == 0
        assert_finds_all(reader, corpus(0, 2))


@pytest.mark.usefixtures("asked")
def test_a_reader_that_becomes_the_writer_finds_every_record(tmp_path):
    path = tmp_path / "index"
    assert in_child(write, path, 0, 3) == 0
    with IndexDirectory.open(path) as directory:
        assert_finds_all(directory, corpus(0, 3))
        assert in_child(write, path, 0, 7) == 0
        indexer(directory).upsert(corpus(0, 9))
        assert_finds_all(directory, corpus(0, 9))
        check_index(directory, corpus(0, 9), pipeline())
    with IndexDirectory.open(path) as directory:
        check_index(directory, corpus(0, 9), pipeline())


def forked_writer(path, connection):
    """A fork of the writer is told that it cannot use the index, and does not take the lock along when it ends."""
    directory = IndexDirectory.open(path, create=True)
    indexer(directory).upsert(corpus(0, 2))
    child = os.fork()
    if child == 0:
        refusals = 0
        for attempt in (
            lambda: assert_finds_all(directory, corpus(0, 2)),
            lambda: indexer(directory).upsert(corpus(0, 3)),
            lambda: directory.profile,
            lambda: IndexDirectory.open(path),
            lambda: indexer(IndexDirectory.open(path.parent / "other", create=True)).upsert(corpus(0, 3)),
        ):
            try:
                attempt()
            except StoreError as error:
                refusals += "forked" in str(error)
        directory.close()
        os._exit(refusals)
    connection.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    connection.recv()
    indexer(directory).upsert(corpus(0, 4))
    assert_finds_all(directory, corpus(0, 4))
    directory.close()


def test_a_fork_of_the_writer_is_told_to_open_its_own_and_does_not_take_the_lock_along(tmp_path):
    path = tmp_path / "index"
    ours, theirs = pipe()
    process = start(forked_writer, path, theirs)
    assert receive(ours) == 5
    with IndexDirectory.open(path) as other, pytest.raises(StoreLockedError):
        indexer(other).upsert(corpus(0, 3))
    ours.send("go on")
    process.join()
    assert process.exitcode == 0
    with IndexDirectory.open(path) as other:
        check_index(other, corpus(0, 4), pipeline())


# --- Chroma's files damaged ------------------------------------------------------------------------------------------


def many(path, log):
    """Enough for Chroma to write its vector index, which it does every thousand records."""
    with IndexDirectory.open(path, create=True) as directory:
        Indexer(directory, pipeline(Recording(log)), slice_size=256).upsert(corpus(0, 130))


@pytest.fixture(scope="module")
def large_index(tmp_path_factory):
    root = tmp_path_factory.mktemp("large")
    assert in_child(many, root / "index", root / "log") == 0
    assert list((root / "index" / "chroma").glob("*/data_level0.bin"))
    return root / "index"


def damage(path, kind):
    chroma = path / "chroma"
    if kind == "gone":
        shutil.rmtree(chroma)
        return
    gate = Gate(chroma, path / "chroma.lock", suspect=lambda: None)
    gate._marker.write_text(gate._fingerprint(), encoding="ascii")  # as a killed process would leave it
    for file in chroma.glob(f"*/{kind}"):
        os.truncate(file, file.stat().st_size // 2)


def read_damaged(path):
    kept.EXACT_BYTES = 0  # so that Chroma would be asked
    with IndexDirectory.open(path) as directory:
        assert_finds_all(directory, corpus(0, 130)[::10])


def mend(path, log):
    kept.EXACT_BYTES = 0
    made_by = pipeline(Recording(log))
    with IndexDirectory.open(path) as directory, IndexDirectory.open(path) as reader:
        assert_finds_all(reader, corpus(0, 130)[::10])
        Indexer(directory, made_by).upsert([*corpus(0, 130), document(130)])
        assert_finds_all(reader, corpus(0, 131)[::10])
    with IndexDirectory.open(path) as directory:
        check_index(directory, corpus(0, 131), made_by)


@pytest.mark.parametrize("kind", ["index_metadata.pickle", "data_level0.bin", "header.bin", "length.bin", "gone"])
def test_damaged_files_of_chroma_are_read_past_and_built_again_without_encoding(kind, large_index, tmp_path):
    path, log = tmp_path / "index", tmp_path / "log"
    shutil.copytree(large_index, path)
    damage(path, kind)
    assert in_child(read_damaged, path) == 0
    log.touch()
    assert in_child(mend, path, log) == 0
    new = log.read_text(encoding="utf-8").splitlines()
    sentences, chunks = expected_units([document(130)], pipeline())
    # check_index encodes everything once, to compare: what is left over was encoded by the indexer.
    all_sentences, all_chunks = expected_units(corpus(0, 131), pipeline())
    assert len(new) - len(all_sentences) - len(all_chunks) - 14 - 14 <= len(sentences) + len(chunks)


# --- kills at random moments, with a reader all the while ------------------------------------------------------------


def rewrite(path, version, count, log):
    with IndexDirectory.open(path, create=True) as directory:
        Indexer(directory, pipeline(Recording(log)), slice_size=16).upsert(corpus(version, count))


def poll(path, count, versions, connection):
    """Read without end: each document must be there in one version, with all chunks of that version."""
    polls = 0
    whole = {
        frozenset(chunk.id for chunk in pipeline().version(item, "name").chunks)
        for version in versions
        for item in corpus(version, count)
    }
    with IndexDirectory.open(path) as directory:
        search = SentenceParentSearch(directory, ENCODER)
        while not connection.poll():
            found = {}
            for match in search.search(f"thing{polls % count}x0", 10_000):
                found.setdefault(match.chunk.document.id, set()).add(match.chunk.id)
            if len(found) != count or not all(frozenset(chunks) in whole for chunks in found.values()):
                connection.send(("wrong", polls, {name: len(chunks) for name, chunks in found.items()}))
                return
            polls += 1
    connection.recv()
    connection.send(("right", polls))


@pytest.mark.slow
def test_kills_at_fifty_random_moments_with_a_reader_all_the_while(tmp_path):
    path, log, count, kills = tmp_path / "index", tmp_path / "log", 60, 50
    assert in_child(write, path, 0, count) == 0
    ours, theirs = pipe()
    reader = start(poll, path, count, range(kills + 2), theirs)
    moments, cut_off = random.Random(7), 0
    for kill in range(1, kills + 1):
        log.unlink(missing_ok=True)
        writer = start(rewrite, path, kill, count, log)
        writer.join(timeout=moments.uniform(0.1, 2.5))
        if writer.is_alive():
            cut_off += 1
            os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert in_child(rewrite, path, kill, count, log) == 0
        encoded = log.read_text(encoding="utf-8").splitlines()
        versions = [pipeline().version(item, "name") for item in corpus(kill, count)]
        sentences, chunks = expected_units(corpus(kill, count), pipeline())
        assert len(encoded) <= len(sentences) + len(chunks) + 16, f"kill {kill}: {len(encoded)} of {len(versions)}"
        assert in_child(check, path, kill, count) == 0
        assert not ours.poll(), ours.recv()
    ours.send("enough")
    verdict, polls = receive(ours)
    assert verdict == "right"
    assert cut_off > kills / 2
    assert polls > kills
    reader.join()


def files_of(path):
    return {file: file.stat().st_mtime_ns for file in path.glob("chroma/*/*.*")}


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03])
def test_killed_while_chroma_writes_its_files(delay, tmp_path):
    """The moment that random kills seldom hit, and that Chroma does not survive."""
    path, log, count = tmp_path / "index", tmp_path / "log", 260
    writer = start(rewrite, path, 0, count, log)
    changes, before = 0, {}
    while changes < 3 and writer.is_alive():
        try:
            now = files_of(path)
        except FileNotFoundError:  # renamed between the look at the folder and the look at the file
            continue
        changes += before.keys() == now.keys() and before != now
        before = now
    time.sleep(delay)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert in_child(rewrite, path, 0, count, log) == 0
    encoded = log.read_text(encoding="utf-8").splitlines()
    sentences, chunks = expected_units(corpus(0, count), pipeline())
    assert len(encoded) <= len(sentences) + len(chunks) + 16
    assert in_child(check, path, 0, count) == 0


def check(path, version, count):
    with IndexDirectory.open(path) as directory:
        check_index(directory, corpus(version, count), pipeline())
