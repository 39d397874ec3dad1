"""`rag-embeddings cache info` and `clear`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rag_embeddings.cli.app import cli
from rag_embeddings.encode.base import Role
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.cached import CachedEncoder
from rag_embeddings.testing.encoder import DeterministicEncoder


def run(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(cli, ["cache", *arguments], input=answer)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    with VectorCache(tmp_path / "v.sqlite") as cache:
        CachedEncoder(DeterministicEncoder(), cache).encode(["a", "b", "c"], Role.DOCUMENT)
    return tmp_path / "v.sqlite"


def test_info_shows_what_is_there(filled: Path) -> None:
    result = run("info", "--path", str(filled))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"path     {filled}", "vectors  3", "on disk  0.0 MB"]
    found = json.loads(run("info", "--path", str(filled), "--json").stdout)
    assert found == {"path": str(filled), "vectors": 3, "bytes": filled.stat().st_size, "damaged_files": []}


def test_info_of_no_cache_makes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.platform", "linux")
    result = run("info", "--json")
    assert json.loads(result.stdout)["vectors"] == 0
    assert json.loads(result.stdout)["path"] == str(tmp_path / "cache" / "rag-embeddings" / "vectors.sqlite")
    assert run("clear").stdout == "0 vectors removed\n"
    assert not (tmp_path / "cache").exists()


def test_clear_asks_first(filled: Path) -> None:
    result = run("clear", "--path", str(filled), answer="n\n")
    assert result.exit_code == 1
    assert VectorCache(filled).info().vectors == 3
    result = run("clear", "--path", str(filled), answer="y\n")
    assert (result.exit_code, result.stdout) == (0, "3 vectors removed\n")
    assert VectorCache(filled).info().vectors == 0


def test_clear_as_json_without_asking_removes_damaged_files(filled: Path) -> None:
    damaged = filled.with_name("v.sqlite.corrupt-1")
    damaged.write_bytes(b"x")
    assert str(damaged) in run("info", "--path", str(filled)).stdout
    result = run("clear", "--path", str(filled), "--yes", "--json")
    assert json.loads(result.stdout) == {"path": str(filled), "removed": 3}
    assert not damaged.exists()


def test_another_file_is_one_line_of_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine " * 500)
    for command in (("info",), ("clear", "--yes")):
        result = run(*command, "--path", str(tmp_path / "notes.txt"))
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert "is not a vector cache" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert (tmp_path / "notes.txt").read_text() == "mine " * 500
