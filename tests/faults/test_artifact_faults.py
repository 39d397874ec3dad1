"""Artifacts under kills, errors, damage and full disks: the old file or the new one, and one clear error."""

import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from index_corpus import check_index, corpus, in_child, pipe, pipeline, start
from rag_embeddings import (
    ArtifactError,
    ArtifactRecord,
    EmbeddingArtifact,
    IndexDirectory,
    Indexer,
    Profile,
    StoreError,
    StoreLockedError,
    export_index,
    import_artifact,
)
from rag_embeddings.store import artifact_save as module
from rag_embeddings.store.artifact_save import ArtifactSave
from rag_embeddings.testing import faults

WIDTH = 16
PROFILE = Profile("some-model", dimensions=WIDTH)


def records(count, version):
    rows = np.random.default_rng(version).normal(size=(count, WIDTH)).astype(np.float32)
    return [ArtifactRecord(f"id-{n}", row, f"text {n}", {"version": version}) for n, row in enumerate(rows)]


def save(path, version, count=30):
    module._BATCH = 8  # so that a save has many steps
    EmbeddingArtifact.save(path, records(count, version), PROFILE).close()


def names_in(folder):
    return sorted(file.name for file in folder.iterdir())


def version_of(path):
    """Check that an artifact is whole; return its version."""
    with EmbeddingArtifact(path) as opened:
        found = list(opened)
    (version,) = {record.metadata["version"] for record in found}
    for record, expected in zip(found, records(30, version), strict=True):
        assert record.id == expected.id
        assert np.array_equal(record.vector, expected.vector)
    return version


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 8)


def story(path, hit=0):
    names = []

    def visit(name):
        names.append(name)
        if len(names) == hit:
            os.kill(os.getpid(), signal.SIGKILL)

    with faults.watched(visit):
        save(path, 2)
    return names


def test_killed_at_every_step_there_is_the_old_one_or_the_new_one(tmp_path):
    names = story(tmp_path / "whole")
    assert set(names) == {
        "artifact.after_slice",
        "artifact.after_vectors",
        "artifact.after_records",
        "artifact.after_documents",
        "artifact.after_sync",
        "artifact.after_replace",
    }
    for hit in sorted({names.index(name) + 1 for name in names}):
        name = names[hit - 1]
        folder = tmp_path / str(hit)
        folder.mkdir()
        save(folder / "a", 1)
        assert in_child(story, folder / "a", hit) == -signal.SIGKILL
        assert version_of(folder / "a") == (2 if name == "artifact.after_replace" else 1)
        save(folder / "a", 3)  # which needs nobody to tidy up, and does so itself
        assert version_of(folder / "a") == 3
        assert names_in(folder) == ["a"]


def test_an_error_at_every_step_leaves_nothing_behind(tmp_path):
    for hit in range(1, len(story(tmp_path / "whole")) + 1):
        folder = tmp_path / str(hit)
        folder.mkdir()
        save(folder / "a", 1)
        with faults.armed("*", KeyboardInterrupt(), hit=hit), pytest.raises(KeyboardInterrupt):
            save(folder / "a", 2)
        assert version_of(folder / "a") in {1, 2}
        assert names_in(folder) == ["a"]


def slowly(path, connection):
    with ArtifactSave(path, PROFILE) as writing:
        writing.add(records(1, 1)[0])
        connection.send("begun")
        connection.recv()


def test_a_second_process_is_refused_and_the_first_unharmed(tmp_path):
    ours, theirs = pipe()
    process = start(slowly, tmp_path / "a", theirs)
    assert ours.poll(timeout=60)
    ours.recv()
    with pytest.raises(StoreLockedError, match="another process is saving"):
        save(tmp_path / "a", 2)
    ours.send("finish")
    process.join(60)
    assert process.exitcode == 0
    with EmbeddingArtifact(tmp_path / "a") as opened:
        assert [record.id for record in opened] == ["id-0"]
    save(tmp_path / "a", 2)
    assert version_of(tmp_path / "a") == 2


def test_who_has_it_open_goes_on_reading_what_was_there(tmp_path):
    save(tmp_path / "a", 1)
    with EmbeddingArtifact(tmp_path / "a") as opened:
        before = iter(opened)
        first = next(before)
        save(tmp_path / "a", 2)
        assert {record.metadata["version"] for record in [first, *before, *opened]} == {1}
        assert np.array_equal(opened.vectors, [record.vector for record in records(30, 1)])
    assert version_of(tmp_path / "a") == 2


# --- damage --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "a"
    made_by = pipeline()
    with IndexDirectory.open(None) as directory:
        Indexer(directory, made_by).upsert(corpus(count=2))
        export_index(directory, path).close()
    return path.read_bytes()


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
@example(0.0, 255)
def test_a_flipped_bit_anywhere_is_one_clear_error(
    whole,
    place,
    change,
):
    content = bytearray(whole)
    content[int(place * len(content))] ^= change
    refused_or_same(bytes(content), whole)


@given(st.integers(0, 10_000))
@example(0)
@example(7)
@example(9)
def test_a_truncated_file_is_one_clear_error(whole, length):
    refused_or_same(whole[: length % len(whole)], whole)


@given(st.floats(0, 1), st.binary(min_size=1, max_size=40))
def test_bytes_put_in_are_one_clear_error(whole, place, more):
    at = int(place * len(whole))
    refused_or_same(whole[:at] + more + whole[at:], whole)


def refused_or_same(content, whole):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        path.write_bytes(content)
        try:
            opened = EmbeddingArtifact(path)
        except ArtifactError:
            return
        with opened:  # what was hit is a space behind the header
            path.write_bytes(whole)
            with EmbeddingArtifact(path) as expected:
                for one, other in zip(opened, expected, strict=True):
                    assert (one.id, one.text, one.metadata) == (other.id, other.text, other.metadata)
                    assert np.array_equal(one.vector, other.vector)


def test_damage_behind_the_check_is_noticed_while_it_is_read(tmp_path, whole):
    path = tmp_path / "a"
    for old, new in (
        (b'"text": "', b'"txet": "'),
        (b'"spans": [[', b'"spans": [{'),
        (b'"chunk"}\n', b'"chunk"}}'),
    ):
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(ArtifactError, match="are not what was saved"):
            EmbeddingArtifact(path)
        with EmbeddingArtifact(path, check=False) as unchecked, pytest.raises(ArtifactError, match="save it again"):
            list(unchecked)


def test_opening_hostile_files_runs_nothing_and_opens_nothing_else(tmp_path, whole):
    """No audit event of a program, a socket, an import or another file, whatever the file says."""
    events, watching = [], False

    def audit(event, arguments):
        if watching and event in {
            "open",
            "exec",
            "import",
            "os.system",
            "socket.connect",
            "pickle.find_class",
            "subprocess.Popen",
        }:
            events.append((event, str(arguments[0])))

    sys.addaudithook(audit)
    random = np.random.default_rng(0)
    path = tmp_path / "a"
    for _ in range(300):
        content = bytearray(whole)
        for place in random.integers(0, len(content), size=random.integers(1, 20)):
            content[place] = random.integers(0, 256)
        path.write_bytes(content)
        watching = True
        try:
            with EmbeddingArtifact(path, check=False) as opened:
                list(opened)
        except ArtifactError:
            pass
        watching = False
    assert {event for event in events if event != ("open", str(path))} == set()


# --- no room on the disk ---------------------------------------------------------------------------------------------


def fill(path, connection):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    save(path, 1)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    errors = []
    for limit in (100, 1_500, 4_000, 6_000, 8_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
        try:
            save(path, 2, count=100)
        except StoreError as error:
            errors.append(str(error))
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    connection.send((errors, names_in(path.parent)))


def test_a_full_disk_is_a_declared_error_and_leaves_the_old_one(tmp_path):
    ours, theirs = pipe()
    process = start(fill, tmp_path / "a", theirs)
    assert ours.poll(timeout=120)
    errors, left = ours.recv()
    process.join(60)
    assert len(errors) == 5
    assert all("cannot be written" in error for error in errors)
    assert left == ["a"]
    assert version_of(tmp_path / "a") == 1


def test_a_directory_that_cannot_be_written_to(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        save(tmp_path / "a", 1)


# --- importing -------------------------------------------------------------------------------------------------------


def killed_import(path, db, hit):
    left = hit

    def visit(name):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with faults.watched(visit), EmbeddingArtifact(path) as opened, IndexDirectory.open(db, create=True) as directory:
        import_artifact(opened, directory)


def test_an_import_killed_and_run_again_is_whole(tmp_path):
    made_by = pipeline()
    with IndexDirectory.open(None) as directory:
        Indexer(directory, made_by).upsert(corpus(count=4))
        export_index(directory, tmp_path / "a").close()
    for hit in range(1, 60, 9):
        code = in_child(killed_import, tmp_path / "a", tmp_path / str(hit), hit)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        with (
            EmbeddingArtifact(tmp_path / "a") as opened,
            IndexDirectory.open(tmp_path / str(hit), create=True) as again,
        ):
            import_artifact(opened, again)
            check_index(again, corpus(count=4), made_by)
    assert hit > 9
