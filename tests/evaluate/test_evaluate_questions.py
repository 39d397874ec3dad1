"""Reading questions: what is accepted, and errors that name the row."""

import csv
import json
from pathlib import Path

import pytest

from rag_embeddings.errors import QuestionError
from rag_embeddings.evaluate import Question, Range, load_questions
from rag_embeddings.text import Document

MILL = Document("The mill burned in 1902. It was rebuilt. \U0001f600 The owner moved.", id="/docs/mill.md")
FARM = Document("A farm. It was rebuilt. The end.", id="/docs/farm.txt")
DOCUMENTS = [MILL, FARM]
BURNED = "The mill burned in 1902."


def write_csv(path: Path, *rows: dict, encoding: str = "utf-8") -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()}
            )
    return path


def load(tmp_path: Path, row: dict, documents=DOCUMENTS) -> Question:
    """Through both formats, which have to agree."""
    by_csv = load_questions(write_csv(tmp_path / "q.csv", row), documents)
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    assert load_questions(tmp_path / "q.jsonl", documents) == by_csv
    (question,) = by_csv
    return question


def test_an_excerpt_is_located_and_its_copies_are_known(tmp_path: Path) -> None:
    question = load(tmp_path, {"question": "What then?", "references": ["It was rebuilt."]})
    (reference,) = question.references
    places = (Range(MILL.id, 25, 40), Range(FARM.id, 8, 23))
    assert reference.place == places[0]
    assert reference.copies == places


@pytest.mark.parametrize("name", ["/docs/farm.txt", "farm.txt", "farm"])
@pytest.mark.parametrize("field", ["document", "corpus_id"])
def test_a_document_is_named_by_id_file_name_or_stem(tmp_path: Path, name: str, field: str) -> None:
    question = load(tmp_path, {"question": "?", "references": ["It was rebuilt."], field: name})
    assert question.references[0].place == Range(FARM.id, 8, 23)
    inside = load(tmp_path, {"question": "?", "references": [{"content": "It was rebuilt.", field: name}]})
    assert inside == question


@pytest.mark.parametrize(
    "reference",
    [
        {"content": BURNED, "start_index": 0, "end_index": 24},
        {"start_index": 0, "end_index": 24},
        {"content": BURNED},
        BURNED,
        {"content": BURNED, "start_index": None, "end_index": None},
    ],
)
def test_every_spelling_of_a_reference_means_the_same(tmp_path: Path, reference) -> None:
    question = load(tmp_path, {"question": "When?", "references": [reference], "document": "mill"})
    assert [item.place for item in question.references] == [Range(MILL.id, 0, 24)]


def test_offsets_are_characters_not_bytes(tmp_path: Path) -> None:
    start = MILL.text.index("The owner")
    row = {"question": "?", "references": [{"content": "The owner", "start_index": start, "end_index": start + 9}]}
    assert load(tmp_path, row).references[0].place == Range(MILL.id, start, start + 9)
    assert load(tmp_path, {"question": "?", "references": ["\U0001f600"]}).references[0].place.start == start - 2


def test_byte_order_mark_line_breaks_and_other_columns_are_fine(tmp_path: Path) -> None:
    row = {"topic": "a\r\nb", "question": "Wann,\nwann?", "references": [BURNED]}
    path = write_csv(tmp_path / "q.csv", row, row, encoding="utf-8-sig")
    first, second = load_questions(path, DOCUMENTS)
    assert first == second
    assert first.text == "Wann,\nwann?"


def test_a_field_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    long = Document("x" * 300_000, id="long")
    assert load(tmp_path, {"question": "?", "references": [long.text]}, [long]).references[0].place.end == 300_000


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"references": [BURNED], "question": ""}, "'question' is missing or empty"),
        ({"question": "?", "references": []}, "at least one excerpt"),
        ({"question": "?", "references": ["not there"]}, "'not there' does not stand in any document"),
        ({"question": "?", "references": [BURNED], "document": "farm"}, "does not stand in document '/docs/farm.txt'"),
        ({"question": "?", "references": [BURNED], "document": "barn"}, "no document 'barn' among the 2"),
        (
            {
                "question": "?",
                "references": [{"content": BURNED, "start_index": 1, "end_index": 25}],
                "document": "mill",
            },
            r"has 'he mill burned in 1902. ' at 1 to 25, not 'The mill burned in 1902.'",
        ),
        ({"question": "?", "references": [{"content": BURNED, "start_index": 1, "end_index": 25}]}, "fit 0 documents"),
        ({"question": "?", "references": [{"start_index": 1, "end_index": 25}]}, "need a 'document'"),
        ({"question": "?", "references": [{"start_index": 1, "end_index": 2500}], "document": "mill"}, "do not lie in"),
        ({"question": "?", "references": [{"start_index": -2, "end_index": 2}], "document": "mill"}, "do not lie in"),
        ({"question": "?", "references": [{"start_index": 4, "end_index": 4}], "document": "mill"}, "do not lie in"),
        ({"question": "?", "references": [{"start_index": 4}], "document": "mill"}, "one is missing"),
        (
            {"question": "?", "references": [{"start_index": "4", "end_index": "6"}], "document": "mill"},
            "whole numbers",
        ),
        ({"question": "?", "references": [{"text": BURNED}]}, "needs 'content'"),
        ({"question": "?", "references": [" "]}, "not blank"),
        ({"question": "?", "references": [7]}, "neither an excerpt nor an object: 7"),
    ],
)
def test_an_unusable_row_is_named(tmp_path: Path, row: dict, message: str) -> None:
    good = {"question": "When?", "references": [BURNED]}
    (tmp_path / "q.jsonl").write_text(f"{json.dumps(good)}\n\n{json.dumps(row)}\n")
    with pytest.raises(QuestionError, match=r"q.jsonl, line 3: .*") as error:
        load_questions(tmp_path / "q.jsonl", DOCUMENTS)
    error.match(message)
    with pytest.raises(QuestionError, match=r"q.csv, line 3: .*") as error:
        load_questions(write_csv(tmp_path / "q.csv", good, row), DOCUMENTS)
    error.match(message)


def test_an_ambiguous_name_lists_what_it_could_mean(tmp_path: Path) -> None:
    documents = [Document("one", id="/a/x.md"), Document("two", id="/b/x.md")]
    with pytest.raises(QuestionError, match=r"'x.md' could be any of '/a/x.md', '/b/x.md'"):
        load(tmp_path, {"question": "?", "references": ["two"], "document": "x.md"}, documents)
    assert load(tmp_path, {"question": "?", "references": ["two"]}, documents).references[0].place.document == "/b/x.md"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("q.csv", b"question,answer\n?,x\n", "no column 'references'; its columns are 'question', 'answer'"),
        ("q.csv", b"", "no column 'question' and no column 'references'"),
        ("q.csv", b"question,references\n", "has no questions"),
        ("q.csv", b"question,references\n?,not json\n", "line 2: 'references' is not JSON"),
        ("q.csv", b"question,references\n?\n", "line 2: 'references' has to be a list"),
        ("q.csv", b"question,references\n\xff,x\n", "not UTF-8: .* at byte 20"),
        ("q.jsonl", b"{\n", "line 1: not JSON"),
        ("q.jsonl", b"[1]\n", "line 1: an object is needed"),
        ("q.jsonl", b"\n\n", "has no questions"),
    ],
)
def test_an_unusable_file_is_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(QuestionError, match=message) as error:
        load_questions(tmp_path / name, DOCUMENTS)
    error.match(name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match=r"nothing.csv: No such file"):
        load_questions(tmp_path / "nothing.csv", DOCUMENTS)
