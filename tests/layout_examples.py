"""A long report with a declaration early and amounts late, and a way to run an example as a user does."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
MILLS = ["Lyon", "Porto", "Leeds", "Ghent", "Turin", "Malmo", "Graz", "Lisbon", "Derry", "Bergen"]


def report() -> str:
    first = "# Annual report\n\n## About this report\n\nAll numbers in this document are in millions of euros.\n"
    mills = (
        f"## The {mill} mill\n\nThe {mill} mill stands by the river and was repaired last year. Its staff was glad of "
        f"the new roof.\n\n### Results\n\nIt earned {100 + len(mill) * index} from flour. "
        "The rest came from letting the barn.\n\n### Outlook\n\nFor the coming year a modest rise is expected.\n"
        for index, mill in enumerate(MILLS)
    )
    return "\n".join([first, *mills])


def check_example(name: str, home: Path) -> None:
    """Run an example in a process of its own, from a folder of its own."""
    shutil.copy(EXAMPLES / name, home)
    (home / "report.md").write_text(report(), encoding="utf-8")
    command = [sys.executable, name, "report.md", "What did the Lisbon mill earn from flour?", "-k", "2"]
    result = subprocess.run(command, cwd=home, capture_output=True, encoding="utf-8", timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n[2]") == 1
    assert f"It earned {100 + 6 * 7} from flour." in result.stdout
    assert "Note: All numbers in this document are in millions of euros." in result.stdout
    assert "Annual report" in result.stdout


def check_missing_file(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is a clear error, before any model is loaded."""
    monkeypatch.setattr(sys, "argv", [name, "nowhere.md", "x"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert stopped.value.code == 2
    assert "nowhere.md" in capsys.readouterr().err
