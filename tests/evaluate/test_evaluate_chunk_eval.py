"""The yardstick: two documents, 220 questions, the real model, the defaults."""

import json
from pathlib import Path

import pytest

from rag_embeddings.cli import main
from rag_embeddings.encode.resolve import bundled_folder
from rag_embeddings.evaluate import load_questions
from rag_embeddings.read.files import find_files, read_file

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "chunk_eval"
needs_data = pytest.mark.skipif(
    not (DATA / "questions.csv").is_file(),
    reason="the questions of shared/data/chunk_eval are not beside the repository",
)


@needs_data
@pytest.mark.parametrize("name", ["questions.csv", "questions_paraphrased.csv"])
def test_the_published_offsets_are_those_of_our_reader(name: str) -> None:
    """Every excerpt stands where its author says, so that the figures are comparable with published ones."""
    documents = [read_file(path) for path in find_files([DATA])]
    questions = load_questions(DATA / name, documents)
    assert len(questions) == 220
    texts = {document.id: document.text for document in documents}
    for question in questions:
        for reference in question.references:
            assert len({texts[item.document][item.start : item.end] for item in reference.copies}) == 1


@needs_data
@pytest.mark.slow
@pytest.mark.skipif(bundled_folder() is None, reason="the bundled model (extra bundled-model) is not installed")
def test_the_defaults_find_what_answers(tmp_path, capsys) -> None:
    """As a user does it: two commands."""
    db = str(tmp_path / "db")
    files = [str(path) for path in find_files([DATA])]
    assert main(["index", *files, "--db", db]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--questions", str(DATA / "questions.csv"), "--db", db, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["questions"]) == 220
    assert result["means"]["recall@5"]["mean"] >= 0.85, result["means"]
    assert result["means"]["recall@1000_tokens"]["mean"] >= 0.84, result["means"]
    assert 150 <= result["mean_tokens_live"] <= 256
