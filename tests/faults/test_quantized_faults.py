"""The quantized store killed at every step, read by others meanwhile, damaged, out of disk: old or new, never half."""

import os
import resource
import shutil
import signal

import numpy as np
import pytest

from index_corpus import in_child, pipe, start
from rag_embeddings.codec.binary import BinaryCodec
from rag_embeddings.codec.int8 import Int8Codec
from rag_embeddings.errors import IndexNotFoundError, SpaceMismatchError, StoreError, StoreLockedError
from rag_embeddings.store.base import Record
from rag_embeddings.store.quantized import QuantizedStore
from rag_embeddings.testing import faults

WIDTH = 16


def records(count=30, version=0, first=0):
    random = np.random.default_rng((version, first))
    return [
        Record(f"id-{n}", row, f"text {n} of version {version}", {"version": version})
        for n, row in enumerate(random.normal(size=(count, WIDTH)).astype(np.float32), start=first)
    ]


STEPS = [
    lambda store: store.upsert(records(30, 0)),
    lambda store: store.upsert(records(10, 1)),
    lambda store: store.delete([f"id-{n}" for n in range(5, 15)]),
    lambda store: store.upsert(records(20, 2, first=40)),
    lambda store: store.build(anew=True),
    lambda store: store.purge(),
]
LAST = {
    record.id: record
    for record in [*records(30, 0), *records(10, 1), *records(20, 2, first=40)]
    if record.id not in {f"id-{n}" for n in range(5, 15)}
}


def opened(path):
    return QuantizedStore(path, codec=Int8Codec(), build_after=8)


def check(store, expected):
    assert sorted(store.ids()) == sorted(expected)
    found = {record.id: record for record in store.get(sorted(expected))}
    for identity, record in expected.items():
        assert np.array_equal(found[identity].vector, record.vector)
        assert (found[identity].text, found[identity].metadata) == (record.text, record.metadata)
        for exact in (False, True):
            hit = store.search(record.vector, 1, exact=exact)[0]
            assert (hit.id, hit.score) == (identity, pytest.approx(1, abs=1e-5))


def story(path, hit=0):
    """Everything a writer does; killed at the hit-th failpoint. Returns the names of those it passed."""
    names = []

    def visit(name):
        names.append(name)
        if len(names) == hit:
            os.kill(os.getpid(), signal.SIGKILL)

    with faults.watched(visit):
        store = opened(path)
        for step in STEPS:
            step(store)
        store.close()
    return names


def files(path):
    return {file.name for file in path.iterdir()} - {"records.sqlite3-wal", "records.sqlite3-shm", "lock"}


def test_killed_at_every_step_and_run_again(tmp_path):
    names = story(tmp_path / "whole")
    assert set(names) == {
        "quantized.after_vectors",
        "quantized.after_commit",
        "quantized.after_erase",
        "quantized.after_index_saved",
        "quantized.after_index_named",
    }
    for hit in range(1, len(names) + 1):
        path = tmp_path / str(hit)
        assert in_child(story, path, hit) == -signal.SIGKILL
        store = opened(path)
        there = store.get(sorted(store.ids()))
        assert all(record.metadata["version"] in {0, 1, 2} for record in there)  # and their checksums hold
        for record in there:
            assert store.search(record.vector, 1)[0].id == record.id
        for step in STEPS:
            step(store)
        check(store, LAST)
        store.close()
        assert len(files(path)) == 4, files(path)


def test_an_error_at_every_step_leaves_old_or_new(tmp_path):
    names, expected, store = story(tmp_path / "whole"), [], opened(tmp_path / "steps")
    for step in STEPS:
        step(store)
        expected.append(set(store.ids()))
    store.close()
    for hit in range(1, len(names) + 1):
        store = opened(tmp_path / str(hit))
        with faults.armed("*", KeyboardInterrupt(), hit=hit):
            for place, step in enumerate(STEPS):
                before = set(store.ids())
                try:
                    step(store)
                except KeyboardInterrupt:
                    assert set(store.ids()) in (before, expected[place])
                    step(store)
        check(store, LAST)
        store.close()


def test_deleted_vectors_and_texts_are_in_no_file_after_a_purge(tmp_path):
    store = opened(tmp_path)
    secret = Record("secret", np.full(WIDTH, 1.2345, dtype=np.float32), "a text to be forgotten", {"k": "also this"})
    store.upsert([*records(), secret])
    store.delete(["secret"])
    row = secret.vector.tobytes()
    assert row not in (tmp_path / "vectors.f32").read_bytes()
    store.purge()
    store.close()
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        for trace in (row, b"to be forgotten", b"also this"):
            assert trace not in content, (file.name, trace)


# --- other processes -----------------------------------------------------------------------------------------------


def write_and_wait(path, connection):
    store = opened(path)
    store.upsert(records())
    connection.send("written")
    connection.recv()
    store.close()


def test_one_writer_any_number_of_readers(tmp_path):
    ours, theirs = pipe()
    writer = start(write_and_wait, tmp_path, theirs)
    assert ours.poll(timeout=60)
    ours.recv()
    store = opened(tmp_path)
    check(store, {record.id: record for record in records()})
    for attempt in (lambda: store.upsert(records(1)), lambda: store.delete(["id-1"]), store.build, store.purge):
        with pytest.raises(StoreLockedError, match=rf"process {writer.pid} is writing"):
            attempt()
    ours.send("close")
    writer.join(timeout=60)
    store.upsert(records(5, 1))
    check(store, {record.id: record for record in [*records(), *records(5, 1)]})
    store.close()


def rewrite(path, versions):
    store = opened(path)
    for version in range(1, versions):
        store.upsert(records(30, version))
        store.delete(["id-0"])
        store.upsert(records(1, version))
    store.close()


def test_a_reader_sees_each_record_whole_while_another_process_rewrites_all(tmp_path):
    store = opened(tmp_path)
    store.upsert(records())
    store.close()
    writer = start(rewrite, tmp_path, 40)
    reader, polls = opened(tmp_path), 0
    versions = [{record.id: record for record in records(30, version)} for version in range(40)]
    last = records(1, 39)[0]
    while writer.is_alive() or polls == 0:
        for record in reader.get([f"id-{n}" for n in range(1, 30)]):
            assert np.array_equal(record.vector, versions[record.metadata["version"]][record.id].vector)
        hits = reader.search(np.ones(WIDTH, dtype=np.float32), 40)
        assert len({hit.id for hit in hits}) == len(hits)
        assert {f"id-{n}" for n in range(1, 30)} <= {hit.id for hit in hits} <= {f"id-{n}" for n in range(30)}
        polls += 1
    writer.join(timeout=60)
    assert writer.exitcode == 0
    assert reader.search(last.vector, 1)[0].id == "id-0"
    reader.close()


# --- damage --------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    store = opened(tmp_path / "store")
    store.upsert(records())
    store.close()
    return tmp_path / "store"


def flip(file, place=100):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [flip, lambda file: os.truncate(file, 50), lambda file: file.unlink()])
@pytest.mark.parametrize("kind", ["index-*", "codec-*"])
def test_a_damaged_index_is_noticed_and_made_again(kind, damage, path):
    damage(next(path.glob(kind)))
    store = opened(path)
    with pytest.raises(StoreError, match=r"damaged.*build\(anew=True\)"):
        store.search(records()[3].vector, 1)
    assert store.search(records()[3].vector, 1, exact=True)[0].id == "id-3"
    with pytest.raises(StoreError, match="damaged"):
        store.upsert(records(20, 0, first=30))  # which would extend the index
    store.build(anew=True)
    check(store, {record.id: record for record in [*records(), *records(20, 0, first=30)]})
    store.close()


def test_a_damaged_vector_is_noticed_and_written_again(path):
    flip(path / "vectors.f32", 4 * WIDTH * 3 + 7)
    store = opened(path)
    with pytest.raises(StoreError, match="damaged: id-3 is not as it was written"):
        store.get(["id-3"])
    with pytest.raises(StoreError, match="damaged"):
        store.search(records()[3].vector, 1)
    store.upsert([records()[3]])
    check(store, {record.id: record for record in records()})
    store.close()


def test_vectors_that_are_gone_are_noticed(path):
    os.truncate(path / "vectors.f32", 4 * WIDTH * 10)
    store = opened(path)
    with pytest.raises(StoreError, match="ends after 10 vectors"):
        store.get(["id-20"])
    store.close()
    (path / "vectors.f32").unlink()
    store = opened(path)
    with pytest.raises(StoreError, match="cannot be read"):
        store.search(records()[0].vector, 1, exact=True)
    store.close()


def test_what_does_not_belong_together_is_refused(path, tmp_path):
    with pytest.raises(StoreError, match="made with the codec 'int8'"):
        QuantizedStore(path, codec=BinaryCodec())
    with pytest.raises(StoreError, match="made with the codec 'int8'"):
        QuantizedStore(path, codec=Int8Codec(dimensions=8))
    with pytest.raises(StoreError, match="compares vectors by cosine"):
        QuantizedStore(path, similarity="dot")
    with pytest.raises(ValueError, match="the codec compares by cosine"):
        QuantizedStore(path, codec=Int8Codec(), similarity="dot")
    with pytest.raises(SpaceMismatchError, match="no stamp"):
        QuantizedStore(path, space="one")
    with pytest.raises(IndexNotFoundError):
        QuantizedStore(tmp_path / "absent", create=False)
    assert not (tmp_path / "absent").exists()
    other = Int8Codec().fit(np.stack([record.vector for record in records(30, 5)]))
    store = QuantizedStore(path, codec=other)
    with pytest.raises(StoreError, match="fitted on other vectors"):
        store.search(records()[0].vector, 1)
    store.close()
    stamped = QuantizedStore(tmp_path / "stamped", space="one")
    stamped.close()
    with pytest.raises(SpaceMismatchError, match="another space"):
        QuantizedStore(tmp_path / "stamped", space="two")


def test_a_foreign_file_is_refused(tmp_path):
    (tmp_path / "records.sqlite3").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="cannot be used"):
        QuantizedStore(tmp_path)


# --- no room on the disk ---------------------------------------------------------------------------------------------


def fill(path, connection):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = opened(path)
    store.upsert(records())
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    written = {record.id for record in records()}
    error = None
    for first in range(30, 100_000, 500):
        try:
            store.upsert(records(500, 0, first))
        except StoreError as found:
            error = found
            break
        written |= {f"id-{n}" for n in range(first, first + 500)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    same = set(store.ids()) == written or set(store.ids()) == written | {f"id-{n}" for n in range(first, first + 500)}
    store.upsert(records(500, 0, first))
    complete = len(store) == len(written) + 500
    store.close()
    connection.send((str(error), same, complete))


def test_a_full_disk_is_a_declared_error_and_the_same_call_completes_later(tmp_path):
    ours, theirs = pipe()
    process = start(fill, tmp_path / "store", theirs)
    assert ours.poll(timeout=120)
    error, same, complete = ours.recv()
    process.join(timeout=60)
    assert "cannot be" in error
    assert same
    assert complete


def test_a_copy_of_the_directory_is_a_store(path, tmp_path):
    shutil.copytree(path, tmp_path / "copy")
    store = QuantizedStore(tmp_path / "copy", create=False)
    check(store, {record.id: record for record in records()})
    store.close()
