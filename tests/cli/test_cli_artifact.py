"""`rag-embeddings export` and `import`: a file between two indexes, and no text embedded."""

import numpy as np

from rag_embeddings import EmbeddingArtifact, IndexDirectory


def test_there_and_back(world, tmp_path) -> None:
    before = world.index()
    out, matrix = tmp_path / "out.safetensors", tmp_path / "out.npy"
    found = world.json("export", "--db", world.db, out, "--npy", matrix)
    assert (found["documents"], found["chunks"], found["sentences"]) == (2, before["chunks"], before["sentences"])
    assert found["vectors"] == found["chunks"] + found["sentences"]
    assert (found["dimensions"], found["model"], found["bytes"]) == (256, "deterministic", out.stat().st_size)
    assert np.load(matrix).shape == (found["vectors"], 256)
    encoded = world.encoder.encoded
    imported = world.json("import", out, "--db", tmp_path / "other")
    assert sorted(imported["added"]) == [world.id("mill.md"), world.id("sub/bridge.txt")]
    assert (imported["chunks"], imported["sentences"]) == (found["chunks"], found["sentences"])
    assert len(world.json("import", out, "--db", tmp_path / "other")["unchanged"]) == 2
    assert world.encoder.encoded == encoded
    with IndexDirectory.open(world.db) as one, IndexDirectory.open(tmp_path / "other") as two:
        for identity in one.ledger.document_ids():
            assert one.ledger.live_version(identity) == two.ledger.live_version(identity)
    asked = world.json("ask", "When did the mill burn down?", "--db", tmp_path / "other")
    assert asked == world.json("ask", "When did the mill burn down?", "--db", world.db)
    again = world.json("index", world.docs, "--db", tmp_path / "other")  # the index goes on as if it had been made here
    assert len(again["unchanged"]) == 2


def test_what_people_read(world, tmp_path) -> None:
    world.index()
    assert "of 2 documents" in world.call("export", "--db", world.db, tmp_path / "out").stdout
    assert world.call("import", tmp_path / "out", "--db", tmp_path / "other").stdout.startswith("2 added, 0 unchanged")


def test_some_kinds_only(world, tmp_path) -> None:
    world.index()
    found = world.json("export", "--db", world.db, tmp_path / "out", "--kinds", "chunks")
    assert (found["sentences"], found["documents"]) == (0, 0)
    with EmbeddingArtifact(tmp_path / "out") as artifact:
        assert len(artifact) == found["chunks"]
    refused = world.call("import", tmp_path / "out", "--db", tmp_path / "other", code=1)
    assert "without their documents" in refused.stderr


def test_errors_are_one_line(world, tmp_path) -> None:
    (tmp_path / "text").write_text("no artifact, but a text of some length")
    for arguments, message in [
        (["export", "--db", tmp_path / "absent", tmp_path / "out"], "there is no index"),
        (["import", tmp_path / "text", "--db", tmp_path / "other"], "is no artifact"),
    ]:
        result = world.call(*arguments, code=1)
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
    assert "does not exist" in world.call("import", tmp_path / "absent", "--db", tmp_path / "other", code=2).stderr
