"""`make demo`, as it runs: three questions through all three doors, and nothing embedded the second time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rag_embeddings.encode.resolve import bundled_folder

DEMO = Path(__file__).parents[1] / "examples" / "demo.py"


def run(db):
    done = subprocess.run(
        [sys.executable, str(DEMO), "--db", str(db)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def cited(lines):
    """What stands below each question, the index's summary and the times left out."""
    return lines[next(number for number, line in enumerate(lines) if line.startswith("== Question 1")) : -1]


@pytest.mark.slow
@pytest.mark.skipif(bundled_folder() is None, reason="the bundled model (extra bundled-model) is not installed")
def test_the_demo_cites_three_answers_and_embeds_nothing_twice(tmp_path):
    first = run(tmp_path / "db")
    again = run(tmp_path / "db")
    assert sum("returned the same passage" in line for line in first) == 3
    assert sum(line.startswith("[1] ") for line in first) == 3
    assert sum(">>>" in line for line in first) == 3
    assert " 0 unchanged" in first[1]
    assert again[1].startswith("0 added, ")
    assert ", 0 replaced, 0 removed, 0 failed" in again[1]
    assert "0 passages and 0 sentences written, 0 texts encoded" in again[2]
    assert cited(again) == cited(first)
    assert again[-1].startswith("== Done: indexed in ")
