"""`rag-embeddings index`, on real files and a real index on disk."""

import os

import pytest

from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.testing.encoder import DeterministicEncoder


def stored(world) -> dict[str, str]:
    with IndexDirectory.open(world.db) as directory:
        ledger = directory.ledger
        return {document.id: document.text for document in ledger.live_documents(ledger.document_ids())}


def test_files_are_added_then_left_alone_then_replaced(world) -> None:
    first = world.index()
    both = [world.id("mill.md"), world.id("sub/bridge.txt")]
    assert (first["added"], first["unchanged"], first["replaced"], first["removed"]) == (both, [], [], [])
    assert first["failed"] == []
    assert first["encoded"] == first["chunks"] + first["sentences"] == world.encoder.encoded
    assert set(first) == {
        "added", "unchanged", "replaced", "removed", "failed", "chunks", "sentences", "encoded", "seconds",
    }  # fmt: skip
    second = world.index()
    assert (second["unchanged"], second["encoded"], second["chunks"]) == (both, 0, 0)
    world.write("mill.md", "The mill was rebuilt.")
    third = world.index()
    assert (third["replaced"], third["unchanged"]) == ([both[0]], [both[1]])
    assert stored(world)[both[0]] == "The mill was rebuilt."


def test_layout_is_asked_for_once_and_shows_headings(world) -> None:
    guide = world.write("guide.md", "# Guide\n\n## Gates\n\n" + "The upper gate is opened in spring. " * 40)
    first = world.index(guide, "--splitter", "layout", "--max-tokens", 200)
    assert first["chunks"] > 1
    assert world.index(guide)["unchanged"] == [world.id("guide.md")]
    found = world.json("ask", "--db", world.db, "When is the gate opened?")
    assert any(passage["context"] == "Guide > Gates" for passage in found["passages"])
    assert world.index(guide, "--splitter", "recursive")["replaced"] == [world.id("guide.md")]


def test_the_text_is_stored_to_the_character(world) -> None:
    world.write("bom.md", b"\xef\xbb\xbfA\r\nB\rC \xf0\x9f\x98\x80\n")
    world.index()
    texts = stored(world)
    assert texts[world.id("bom.md")] == "A\r\nB\rC \U0001f600\n"
    assert texts[world.id("sub/bridge.txt")] == (world.docs / "sub/bridge.txt").read_bytes().decode()


def test_the_summary_says_what_happened(world) -> None:
    world.write("bad.txt", b"\xff\xfe")
    result = world.call("index", world.docs, "--db", world.db, code=1)
    first, second = result.stdout.strip().split("\n")
    assert first == "2 added, 0 unchanged, 0 replaced, 0 removed, 1 failed"
    assert "texts encoded in" in second
    assert result.stderr.count("failed: ") == 1
    assert "bad.txt" in result.stderr


def test_what_cannot_be_read_is_named_and_the_rest_is_done(world) -> None:
    world.write("utf16.md", "text".encode("utf-16"))
    world.write("latin.txt", b"caf\xe9 au lait")
    world.write("binary.txt", b"abc\0def")
    result = world.index(code=1)
    assert len(result["added"]) == 2
    reasons = {item["path"].rpartition("/")[2]: item["reason"] for item in result["failed"]}
    assert "is UTF-16" in reasons["utf16.md"]
    assert "not UTF-8: invalid continuation byte at byte 3" in reasons["latin.txt"]
    assert "binary" in reasons["binary.txt"]
    assert set(stored(world)) == set(result["added"])


def test_a_document_that_can_no_longer_be_read_keeps_its_old_version(world) -> None:
    world.index()
    world.write("mill.md", b"\xff")
    result = world.index(world.docs, "--prune", code=1)
    assert (result["removed"], len(result["failed"])) == ([], 1)
    assert stored(world)[world.id("mill.md")].startswith("# The mill")


def test_prune_removes_what_is_gone_below_the_given_paths_only(world) -> None:
    world.write("sub/third.md", "A third text.")
    world.index()
    (world.docs / "mill.md").unlink()
    (world.docs / "sub/third.md").unlink()
    assert world.index()["removed"] == []
    assert world.index(world.docs / "sub", "--prune")["removed"] == [world.id("sub/third.md")]
    assert set(stored(world)) == {world.id("mill.md"), world.id("sub/bridge.txt")}
    assert world.index(world.docs, "--prune")["removed"] == [world.id("mill.md")]
    assert set(stored(world)) == {world.id("sub/bridge.txt")}


def test_prune_of_a_file_a_folder_or_a_pattern_that_is_gone(world) -> None:
    world.write("one.md", "One.")
    world.write("two.log", "Two.")
    world.index(world.docs, world.docs / "two.log")
    for name in ("one.md", "mill.md", "two.log", "sub/bridge.txt"):
        (world.docs / name).unlink()
    (world.docs / "sub").rmdir()
    assert world.index(world.docs / "one.md", "--prune")["removed"] == [world.id("one.md")]
    assert world.index(world.docs / "sub", "--prune")["removed"] == [world.id("sub/bridge.txt")]
    assert world.index(f"{world.docs}/*.log", "--prune")["removed"] == [world.id("two.log")]
    assert set(stored(world)) == {world.id("mill.md")}
    assert "there is no file or folder" in world.call(
        "index", world.docs / "typo.md", "--db", world.db, "--prune", code=1
    ).stderr  # fmt: skip
    assert "nothing matches" in world.call("index", f"{world.docs}/*.x", "--db", world.db, "--prune", code=1).stderr


def test_prune_leaves_documents_alone_that_are_no_files(world) -> None:
    from rag_embeddings.index.indexer import Indexer
    from rag_embeddings.index.pipeline import Pipeline
    from rag_embeddings.split.recursive import RecursiveSplitter
    from rag_embeddings.text import Document

    with IndexDirectory.open(world.db, create=True) as directory:
        splitter = RecursiveSplitter(tokenizer=world.encoder)
        Indexer(directory, Pipeline(world.encoder, splitter)).upsert([Document("From a database.", id="row 7")])
    world.index(world.docs, "--prune")
    assert "row 7" in stored(world)


def test_paths_may_be_files_folders_and_patterns(world) -> None:
    log = world.write("server.log", "The server started.")
    world.write(".hidden.md", "hidden")
    (world.docs / ".git").mkdir()
    world.write(".git/notes.md", "hidden too")
    assert len(world.index()["added"]) == 2
    assert world.index(log)["added"] == [world.id("server.log")]
    again = world.index(world.docs / "mill.md", world.docs, f"{world.docs}/**/*.txt", log)
    assert sorted(again["unchanged"]) == sorted(map(world.id, ["mill.md", "server.log", "sub/bridge.txt"]))


@pytest.mark.parametrize(
    ("globs", "names"),
    [
        (["*.txt"], ["sub/bridge.txt"]),
        (["sub/*"], ["sub/bridge.txt"]),
        (["**/*.md", "*.log"], ["mill.md", "server.log"]),
    ],
)
def test_globs_choose_files_of_a_folder(world, globs: list[str], names: list[str]) -> None:
    world.write("server.log", "The server started.")
    options = [item for pattern in globs for item in ("--glob", pattern)]
    assert sorted(world.index(world.docs, *options)["added"]) == sorted(map(world.id, names))


def test_a_pattern_that_is_not_below_the_folder_is_one_line(world) -> None:
    error = world.call("index", world.docs, "--glob", "/srv/*.txt", "--db", world.db, code=1).stderr
    assert error.startswith("error: '/srv/*.txt' is no pattern for files below a folder")
    assert len(error.splitlines()) == 1


def test_a_folder_that_cannot_be_read_is_not_passed_by(world, monkeypatch) -> None:
    scandir = os.scandir

    def locked(path):  # permissions do not stop the superuser, as whom tests may run
        if os.fspath(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    error = world.call("index", world.docs, "--db", world.db, code=1).stderr
    assert "sub' cannot be read: Permission denied" in error


def test_a_link_is_the_file_it_leads_to(world) -> None:
    (world.docs / "link.md").symlink_to(world.docs / "mill.md")
    assert len(world.index()["added"]) == 2


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_name_that_is_not_unicode_is_reported(world) -> None:
    try:
        with open(os.path.join(os.fsencode(world.docs), b"\xff.md"), "wb") as file:  # noqa: PTH118, PTH123
            file.write(b"text")
    except OSError:
        pytest.skip("this file system takes no such name")
    result = world.index(code=1)
    assert len(result["added"]) == 2
    assert "not Unicode" in result["failed"][0]["reason"]


@pytest.mark.parametrize("name", ["nothing.md", "*.nothing"])
def test_a_path_that_is_not_there_stops_before_anything_is_written(world, name: str) -> None:
    result = world.call("index", world.docs, world.docs / name, "--db", world.db, code=1)
    assert result.stderr.startswith("error: ")
    assert name in result.stderr
    assert result.stderr.count("\n") == 1
    assert not world.db.exists()


def test_a_folder_without_text_says_what_was_looked_for(world, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    result = world.call("index", tmp_path / "empty", "--db", world.db, code=1)
    assert "--glob" in result.stderr
    assert not world.db.exists()


def test_options_left_out_stay_as_the_index_was_written(world) -> None:
    world.index(world.docs, "--max-tokens", "90", "--overlap", "20")
    again = world.index()
    assert (again["encoded"], len(again["unchanged"])) == (0, 2)
    splitter = world.json("info", "--db", world.db)["splitter"]
    assert (splitter["max_tokens"], splitter["overlap"]) == (90, 20)
    wider = world.index(world.docs, "--max-tokens", "200")
    assert len(wider["replaced"]) == 2
    splitter = world.json("info", "--db", world.db)["splitter"]
    assert (splitter["max_tokens"], splitter["overlap"]) == (200, 20)


def test_an_index_made_from_python_keeps_its_splitter(world) -> None:
    from index_corpus import Windows
    from rag_embeddings.index.indexer import Indexer
    from rag_embeddings.index.pipeline import Pipeline
    from rag_embeddings.read.files import read_file
    from rag_embeddings.split.sliding import SlidingWindowSplitter

    with IndexDirectory.open(world.db, create=True) as directory:
        splitter = SlidingWindowSplitter(max_tokens=80, overlap=10, tokenizer=world.encoder)
        Indexer(directory, Pipeline(world.encoder, splitter)).upsert([read_file(world.docs / "mill.md")])
    summary = world.index(world.docs)
    assert (len(summary["added"]), len(summary["unchanged"])) == (1, 1)
    assert world.json("info", "--db", world.db)["splitter"]["splitter"] == "sliding_window"

    with IndexDirectory.open(world.db) as directory:  # one that the command line knows nothing about
        Indexer(directory, Pipeline(world.encoder, Windows())).upsert([read_file(world.docs / "mill.md")])
    error = world.call("index", world.docs, "--db", world.db, code=1).stderr
    assert error.startswith("error: ")
    assert "'windows'" in error


def test_an_impossible_budget_is_one_line(world) -> None:
    result = world.call("index", world.docs, "--db", world.db, "--max-tokens", "10", "--overlap", "10", code=1)
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert world.call("index", world.docs, "--db", world.db, "--max-tokens", "0", code=2)


def test_another_space_is_refused_in_one_line(world) -> None:
    world.index()
    other = DeterministicEncoder(dimensions=32)
    world.write("mill.md", "changed")
    result = world.call("index", world.docs, "--db", world.db, "--model", "other", code=1, encoder=other)
    assert result.stderr.startswith("error: ")
    assert "space" in result.stderr or "dimensions" in result.stderr
    assert "Traceback" not in result.output
    assert stored(world)[world.id("mill.md")].startswith("# The mill")


class Interrupted(DeterministicEncoder):
    def encode(self, texts, role):
        raise KeyboardInterrupt


class Broken(DeterministicEncoder):
    def encode(self, texts, role):
        raise RuntimeError("the machine\nis on fire")


def test_an_interrupted_run_ends_with_130_and_can_go_on(world) -> None:
    result = world.call("index", world.docs, "--db", world.db, code=130, encoder=Interrupted(dimensions=256))
    assert result.stderr.startswith("interrupted")
    assert "Traceback" not in result.output
    assert len(world.index()["added"]) == 2


def test_the_unexpected_is_a_line_and_a_traceback_on_demand(world) -> None:
    command = ["index", world.docs, "--db", world.db]
    plain = world.call(*command, code=1, encoder=Broken(dimensions=256))
    assert "error: RuntimeError: the machine is on fire" in plain.stderr
    assert "Traceback" not in plain.output
    for arguments in (["--debug", *command], [*command, "--debug"]):
        shown = world.call(*arguments, code=1, encoder=Broken(dimensions=256))
        assert "Traceback" in shown.stderr
        assert shown.stderr.rstrip().endswith("error: RuntimeError: the machine is on fire")
