"""Chroma as a server and as a directory: the same laws, one writer, no stale answers, no foreign spaces."""

import os
import signal
import socket
import time
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest
from test_filters import check, own
from test_laws import few

from chroma_server import chroma_process, chroma_server
from index_corpus import in_child, pipe, start
from rag_embeddings.errors import (
    ChromaDamagedError,
    IndexNotFoundError,
    SpaceMismatchError,
    StoreError,
    StoreLockedError,
)
from rag_embeddings.langchain import ChromaVectorStore
from rag_embeddings.store.base import Record
from rag_embeddings.store.chroma import ChromaStore
from rag_embeddings.store.chroma_client import ChromaServer, _sessions
from rag_embeddings.store.memory import MemoryStore
from rag_embeddings.store.where import Where
from rag_embeddings.testing.store import check_store

WIDTH = 8


def records(count=30, version=0):
    random = np.random.default_rng(version)
    return [
        Record(f"id-{n}", row, f"text {n} of version {version}", {"version": version, "n": n})
        for n, row in enumerate(random.normal(size=(count, WIDTH)).astype(np.float32))
    ]


def holds(store, expected):
    assert sorted(store.ids()) == sorted(item.id for item in expected)
    for item in expected:
        (found,) = store.get([item.id])
        assert (found.text, found.metadata) == (item.text, item.metadata)
        assert store.search(item.vector, 1)[0].id == item.id


# --- a server ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with chroma_server(tmp_path_factory.mktemp("server")) as running:
        yield running


class OnServer:
    def __init__(self, server):
        self.server = server

    def open(self, name):
        store = ChromaStore(self.server, name)
        store._slice, self.name = 2, name
        return store

    def make(self):
        return self.open(f"c-{uuid4()}")

    def reopen(self, store):
        store.close()
        return self.open(self.name)


def test_a_server_obeys_the_laws_of_a_store(server):
    there = OnServer(server)
    check_store(there.make, reopen=there.reopen, settings=few(3, 20))


def test_filters_mean_the_same_on_a_server(server):
    rows = [
        ("some text", {"k": 1, "l": [1.0, 2.0], "f": -2.1879166393254574e-05}),
        ("a%b_c", {"k": 1.5, "l": ["a", "é"]}),
        ("nul\0nul", {"k": "1", "flag": True}),
        ("Some Text", {"k": 2**53 + 1, "l": [1, 2]}),
        ("", {}),
    ]
    store = OnServer(server).make()
    asked = [
        Where.equals("k", 1),
        Where.equals("k", 1.5),
        Where.between("k", 1.2, None),
        ~Where.between("k", 0, 9),
        Where.exists("k") & ~Where.has("l", 1),
        Where.text_contains("text") | Where.equals("flag", True),
        Where.among("k", []),
        Where.equals("f", -2.1879166393254574e-05) & ~Where.exists("flag"),
    ]
    check(store, rows, [*asked, *own(rows)])
    store.close()


def test_two_clients_of_a_server_see_each_others_writes(server):
    one, two = ChromaStore(server, "shared"), ChromaStore(server, "shared")
    one.upsert(records())
    two.upsert(records(10, 1))
    two.delete(["id-20"])
    expected = [*records(10, 1), *(item for item in records()[10:] if item.id != "id-20")]
    for store in (one, two):
        holds(store, expected)
        store.close()


def test_documents_on_a_server(server):
    from langchain_core.documents import Document
    from langchain_core.embeddings import DeterministicFakeEmbedding

    store = ChromaVectorStore(DeterministicFakeEmbedding(size=16), server, collection="documents")
    item = Document(page_content="a text", id="one", metadata={"nested": {"a": 1}, "n": 1})
    store.add_documents([item])
    assert store.similarity_search("a text", filter={"n": 1}) == [item]
    store.close()


def test_a_server_that_has_gone_away_is_a_declared_error(tmp_path):
    with chroma_server(tmp_path) as running:
        store = ChromaStore(running, "records")
        store.upsert(records(3))
    for attempt in (lambda: store.upsert(records(3)), lambda: store.search(records()[0].vector, 1), lambda: len(store)):
        with pytest.raises(StoreError, match="Chroma failed"):
            attempt()
    with pytest.raises(StoreError, match=f"no Chroma server answers at 127.0.0.1:{running.port}"):
        ChromaStore(running, "records")
    store.close()


def test_a_server_that_accepts_and_never_answers_is_a_declared_error():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(StoreError, match=f"no Chroma server answers at 127.0.0.1:{port}"):
            ChromaStore(ChromaServer("127.0.0.1", port, timeout=0.1), "records")


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs a process that can be stopped")
def test_a_server_that_falls_silent_is_a_declared_error(tmp_path):
    with chroma_process(tmp_path) as (process, running):
        store = ChromaStore(replace(running, timeout=5.0), "records")
        store.upsert(records(3))
        for session in _sessions(store._client):
            assert session.timeout.read == session.timeout.connect == 5.0
            session.timeout = 0.1
        process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(StoreError, match="Chroma failed: timed out"):
                len(store)
        finally:
            process.send_signal(signal.SIGCONT)
        assert len(store) == 3
        store.close()


def test_a_timeout_that_would_never_end_is_refused():
    with pytest.raises(ValueError, match="above 0 seconds, got 0"):
        ChromaServer(timeout=0)


def test_headers_are_not_shown():
    assert "secret" not in repr(ChromaServer(headers={"x-chroma-token": "secret"}))


# --- a directory: one writer, no stale answers ---------------------------------------------------------------------


def write_and_wait(path, connection):
    store = ChromaStore(path, "records")
    store.upsert(records(20, 1))
    connection.send("written")
    connection.recv()
    store.close()


def said(connection):
    assert connection.poll(timeout=60), "the child process said nothing for a minute"
    return connection.recv()


def write(path, version):
    store = ChromaStore(path, "records")
    store.upsert(records(20, version))
    store.close()


def test_a_second_writer_is_refused_at_once_and_the_first_is_unharmed(tmp_path):
    ours, theirs = pipe()
    writer = start(write_and_wait, tmp_path, theirs)
    assert said(ours) == "written"
    store = ChromaStore(tmp_path, "records")
    holds(store, records(20, 1))
    for attempt in (lambda: store.upsert(records(1)), lambda: store.delete(["id-1"])):
        before = time.monotonic()
        with pytest.raises(StoreLockedError, match=f"process {writer.pid} is writing"):
            attempt()
        assert time.monotonic() - before < 1  # a promise of the interface, not a measurement
    ours.send("close")
    writer.join(timeout=60)
    store.upsert(records(5, 2))
    holds(store, [*records(5, 2), *records(20, 1)[5:]])
    store.close()


def test_a_killed_writer_frees_the_lock(tmp_path):
    ours, theirs = pipe()
    writer = start(write_and_wait, tmp_path, theirs)
    assert said(ours) == "written"
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(timeout=60)
    store = ChromaStore(tmp_path, "records")
    store.upsert(records(20, 2))
    holds(store, records(20, 2))
    store.close()


def test_who_had_it_open_while_another_process_wrote_is_told_and_never_answers_from_the_past(tmp_path):
    write(tmp_path, 0)
    store = ChromaStore(tmp_path, "records")
    assert in_child(write, tmp_path, 1) == 0
    for attempt in (
        lambda: store.search(records()[0].vector, 1),
        lambda: list(store.ids()),
        lambda: store.upsert(records(1)),
        lambda: ChromaStore(tmp_path, "records"),  # which would share Chroma's client
    ):
        with pytest.raises(StoreError, match=r"has written to .* since this one opened it"):
            attempt()
    store.close()
    store = ChromaStore(tmp_path, "records")
    holds(store, records(20, 1))
    store.close()


def test_two_stores_of_one_process_write_in_turn(tmp_path):
    one, two = ChromaStore(tmp_path, "one-records"), ChromaStore(tmp_path, "two-records")
    for version in range(3):
        one.upsert(records(10, version))
        two.upsert(records(10, version + 1))
    holds(one, records(10, 2))
    one.close()
    holds(two, records(10, 3))
    two.upsert(records(10, 4))
    holds(two, records(10, 4))
    two.close()
    assert in_child(write, tmp_path, 0) == 0  # the lock is free


def test_files_that_a_kill_left_half_written_are_not_opened(tmp_path):
    write(tmp_path, 0)
    (tmp_path / "chroma.busy").write_text("another fingerprint")  # what a killed writer leaves behind
    with pytest.raises(ChromaDamagedError, match="killed while Chroma wrote"):
        ChromaStore(tmp_path, "records")


# --- what does not belong together -----------------------------------------------------------------------------------


def test_spaces_are_kept_apart(tmp_path):
    store = ChromaStore(tmp_path, "stamped", space="one")
    assert store.space == "one"
    store.close()
    ChromaStore(tmp_path, "stamped", space="one").close()
    ChromaStore(tmp_path, "stamped").close()
    with pytest.raises(SpaceMismatchError, match="another space"):
        ChromaStore(tmp_path, "stamped", space="two")
    ChromaStore(tmp_path, "plain").close()
    with pytest.raises(SpaceMismatchError, match="not stamped"):
        ChromaStore(tmp_path, "plain", space="one")
    with pytest.raises(IndexNotFoundError):
        ChromaStore(tmp_path, "absent", create=False)
    with pytest.raises(IndexNotFoundError):
        ChromaStore(tmp_path / "nowhere", "absent", create=False)
    assert not (tmp_path / "nowhere").exists()


def test_an_update_drops_the_metadata_it_does_not_name(tmp_path):
    store = ChromaStore(tmp_path, "records")
    store.upsert([Record("a", np.ones(4, dtype=np.float32), "old", {"a": 1, "list": [1, 2]})])
    store.upsert([Record("a", np.ones(4, dtype=np.float32), "new", {"a": 9})])
    assert (store.get(["a"])[0].text, store.get(["a"])[0].metadata) == ("new", {"a": 9})
    assert list(store.ids(Where.has("list", 1))) == []
    store.close()


# --- filters and the graph -------------------------------------------------------------------------------------------


def test_a_filter_finds_all_it_should_among_equal_vectors(tmp_path):
    """Chroma's graph loses some of them, with a filter and without."""
    random = np.random.default_rng(0)
    rows = np.repeat(random.normal(size=(40, WIDTH)), 50, axis=0).astype(np.float32)
    items = [Record(f"id-{n}", row, f"text {n}", {"m": n % 100}) for n, row in enumerate(rows)]
    store, memory = ChromaStore(tmp_path, "records"), MemoryStore()
    for each in (store, memory):
        each.upsert(items)
    for number in range(0, 100, 7):
        condition = Where.equals("m", number)
        found = store.search(rows[number], 20, where=condition)
        expected = memory.search(rows[number], 20, where=condition)
        assert len(found) == 20
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)
    store.close()
