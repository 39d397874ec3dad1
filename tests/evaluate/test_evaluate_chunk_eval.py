"""The yardstick: two documents, 220 questions, the real model, the defaults."""

from pathlib import Path

import pytest

from rag_embeddings.encode.resolve import bundled_folder
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.evaluate import evaluate, load_questions
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.read.plain import find_files, read_file
from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.store.directory import IndexDirectory

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
def test_the_defaults_find_what_answers(tmp_path) -> None:
    documents = [read_file(path) for path in find_files([DATA])]
    questions = load_questions(DATA / "questions.csv", documents)
    encoder = TransformerEncoder()
    splitter = RecursiveSplitter(tokenizer=encoder)
    with IndexDirectory.open(tmp_path / "db", create=True) as directory:
        Indexer(directory, Pipeline(encoder, splitter)).upsert(documents)
        result = evaluate(SentenceParentSearch(directory, encoder).search, questions, documents)
    assert result.mean("recall@5") >= 0.85, result.table()
    assert result.mean("recall@1000_tokens") >= 0.84, result.table()
