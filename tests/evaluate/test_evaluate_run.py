"""Evaluating a retriever: figures by hand, depth of retrieval, saving, comparing."""

import json

import numpy as np
import pytest

from rag_embeddings.errors import DocumentError, QuestionError
from rag_embeddings.evaluate import Evaluation, Question, Range, Reference, compare, evaluate
from rag_embeddings.retrieve.base import Match
from rag_embeddings.split.tokens import token_counter
from rag_embeddings.text import Chunk, Document, Span

DOCUMENT = Document("".join(f"<{number:03}>" for number in range(200)), id="numbers")  # 1,000 characters
CHUNKS = [Chunk(DOCUMENT, (Span(start, start + 20),)) for start in range(0, 1000, 20)]
CHARACTERS = token_counter(len)


def ranking(*order: int):
    """A retriever that always returns these chunks, in this order, and notes how many it was asked for."""
    asked = []

    def retrieve(question: str, k: int) -> list[Match]:
        asked.append(k)
        return [Match(CHUNKS[number], 1.0, ()) for number in order[:k]]

    retrieve.asked = asked
    return retrieve


def question(text: str, *spans: tuple[int, int]) -> Question:
    return Question(text, tuple(Reference(Range(DOCUMENT.id, *span)) for span in spans))


def run(retrieve, *questions: Question, **options) -> Evaluation:
    options = {"ks": (1, 2), "budgets": (30, 50), "counter": CHARACTERS} | options
    return evaluate(retrieve, questions, [DOCUMENT], **options)


def test_every_figure_by_hand() -> None:
    result = run(ranking(5, 0, 1), question("one", (10, 30), (900, 920)), question("two", (100, 110)), chunks=CHUNKS)
    one, two = result.rows()
    assert one == {
        "question": "one",
        "recall@1": 0, "precision@1": 0, "iou@1": 0,
        "recall@2": 10 / 40, "precision@2": 10 / 40, "iou@2": 10 / 70,
        "recall@30_tokens": 0, "precision@30_tokens": 0, "iou@30_tokens": 0,
        "recall@50_tokens": 20 / 40, "precision@50_tokens": 20 / 50, "iou@50_tokens": 20 / 70,
        "reference_recall@1": 0, "reference_recall@2": 1 / 2,
        "passage_precision@1": 0, "passage_precision@2": 1 / 2,
        "ndcg@1": 0, "ndcg@2": pytest.approx(1 / np.log2(3) / 2),
        "mrr": 1 / 2,
        "precision_omega": 40 / 60,
    }  # fmt: skip
    assert (two["recall@1"], two["precision@1"], two["iou@1"], two["mrr"], two["ndcg@2"]) == (1, 0.5, 0.5, 1, 1)
    assert result.mean("recall@2") == (10 / 40 + 1) / 2
    assert (result.mean_tokens_live, result.passages_live, result.mean_tokens_retrieved) == (20, 50, 20)


def test_retrieval_goes_as_deep_as_the_largest_budget_needs() -> None:
    retrieve = ranking(*range(50))
    result = run(retrieve, question("?", (990, 1000)), ks=(3,), budgets=(100, 999))
    assert retrieve.asked == [3, 6, 12, 24, 48, 96]
    assert result.mean("recall@999_tokens") == 9 / 10
    shallow = ranking(*range(50))
    run(shallow, question("?", (0, 10)), ks=(3,), budgets=(60,))
    assert shallow.asked == [3]


def test_a_retriever_with_few_or_no_passages_is_fine() -> None:
    result = run(ranking(), question("?", (0, 10)))
    assert {value for name, value in result.rows()[0].items() if name != "question"} == {0}
    assert result.mean_tokens_retrieved == 0
    assert result.mean_tokens_live is None
    assert run(ranking(0), question("?", (0, 10))).mean("passage_precision@2") == 1 / 2


def test_the_budget_of_a_passage_of_several_spans_follows_its_spans() -> None:
    topic = Chunk(DOCUMENT, (Span(0, 20), Span(500, 520)))
    result = run(lambda *_: [Match(topic, 1.0, ())], question("?", (500, 520)))
    assert result.mean("recall@1") == 1
    assert result.mean("precision@1") == 1 / 2
    assert result.mean("recall@30_tokens") == 1 / 2


def test_passages_of_documents_beside_the_given_ones_count_as_retrieved() -> None:
    other = Chunk(Document("Something else.", id="other"), (Span(0, 10),))
    result = run(lambda *_: [Match(other, 2.0, ()), Match(CHUNKS[0], 1.0, ())], question("?", (0, 20)))
    assert (result.mean("recall@2"), result.mean("precision@2"), result.mean("mrr")) == (1, 20 / 30, 1 / 2)


def test_a_passage_of_another_version_is_refused() -> None:
    changed = Chunk(Document("changed text here", id=DOCUMENT.id), (Span(0, 10),))
    with pytest.raises(DocumentError, match="another version of document 'numbers'"):
        run(lambda *_: [Match(changed, 1.0, ())], question("?", (0, 20)))


def test_impossible_questions_and_cutoffs_are_refused() -> None:
    with pytest.raises(QuestionError, match="no questions"):
        run(ranking(0))
    with pytest.raises(QuestionError, match=r"up to 1001 of document 'numbers'"):
        run(ranking(0), question("?", (0, 1001)))
    with pytest.raises(QuestionError, match="ks needs"):
        run(ranking(0), question("?", (0, 10)), ks=(0, 1))
    with pytest.raises(QuestionError, match="budgets needs"):
        run(ranking(0), question("?", (0, 10)), budgets=())
    with pytest.raises(QuestionError, match="no references"):
        question("?")


def test_saving_and_loading_keeps_everything() -> None:
    result = run(ranking(5, 0, 1), question("one", (10, 30)), question("two", (100, 110)), chunks=CHUNKS)
    spelled = json.dumps(result.to_dict())
    again = Evaluation.from_dict(json.loads(spelled))
    assert json.dumps(again.to_dict()) == spelled
    assert again.table() == result.table()
    assert again.rows() == result.rows()
    assert compare(result, again).differences["recall@1"].high == 0


@pytest.mark.parametrize("change", [{"format": "x"}, {"ks": 3}, {"questions": [{}]}, {"questions": []}])
def test_a_damaged_file_is_refused(change: dict) -> None:
    saved = run(ranking(0), question("?", (0, 10))).to_dict()
    with pytest.raises(QuestionError, match="saved evaluation"):
        Evaluation.from_dict(saved | change)
    with pytest.raises(QuestionError, match="saved evaluation"):
        Evaluation.from_dict([saved])


def test_comparison_is_paired_and_signed() -> None:
    questions = [question(f"{number}", (20 * number, 20 * number + 20)) for number in range(5)]

    def good(text: str, k: int) -> list[Match]:
        return [Match(CHUNKS[int(text)], 1.0, ())]

    found, missed = run(good, *questions), run(ranking(40, 41), *questions)
    comparison = compare(found, missed)
    assert (comparison.differences["recall@1"].low, comparison.differences["recall@1"].high) == (1, 1)
    assert compare(missed, found).differences["recall@1"].mean == -1
    assert "+100.0 [+100.0, +100.0]" in comparison.table()
    assert "5 questions" in comparison.table()
    assert comparison.to_dict()["mrr"] == {"mean": 1, "low": 1, "high": 1}
    assert "mrr" not in compare(found, run(good, *questions, ks=(1, 2, 3))).differences


def test_what_cannot_be_paired_is_refused() -> None:
    one = run(ranking(0), question("?", (0, 10)))
    with pytest.raises(QuestionError, match="not of the same questions"):
        compare(one, run(ranking(0), question("!", (0, 10))))
    with pytest.raises(QuestionError, match="not of the same questions"):
        compare(one, run(ranking(0), question("?", (0, 11))))
    with pytest.raises(QuestionError, match="counted tokens with"):
        compare(one, run(ranking(0), question("?", (0, 10)), counter=token_counter("cl100k_base")))


def test_the_table_shows_means_and_sizes() -> None:
    table = run(ranking(0, 1), question("?", (0, 10)), chunks=CHUNKS).table()
    lines = table.split("\n")
    assert lines[0] == "questions: 1, documents: 1; mean in % [95 % interval]"
    assert any(line.split()[:2] == ["@1", "100.0"] for line in lines)
    assert "20 over all 50 in the index" in lines[-1]
    assert "P_Omega" in table
    with pytest.raises(QuestionError, match="no metric 'recall@7'"):
        run(ranking(0), question("?", (0, 10))).mean("recall@7")


def test_tokens_are_tiktokens_by_default() -> None:
    result = evaluate(ranking(0), [question("?", (0, 10))], [DOCUMENT])
    assert "cl100k_base" in result.counter
    assert {"recall@500_tokens", "recall@1000_tokens", "recall@5", "ndcg@10"} <= set(result.values)
