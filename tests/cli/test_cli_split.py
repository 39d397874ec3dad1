"""`rag-embeddings split`: the chunks of every splitter on a terminal, as JSON and as a page."""

import pytest

from rag_embeddings.split.bollinger import BollingerSplitter
from rag_embeddings.text import Document

TEXT = "".join(
    f"Sentence {n} speaks of {'mills and rivers' if n // 5 % 2 else 'courts and judges'} here. " for n in range(40)
)


@pytest.fixture
def file(world):
    return world.write("long.txt", TEXT)


@pytest.mark.parametrize("name", ["recursive", "sliding", "layout", "regex", "semantic", "bollinger", "topics"])
def test_chunks_are_slices_within_the_budget(world, file, name):
    found = world.json("split", file, "--splitter", name, "--max-tokens", 200)
    assert found["splitter"]["max_tokens"] == 200
    assert len(found["chunks"]) > 1
    for chunk in found["chunks"]:
        assert "\n".join(TEXT[start:end] for start, end in chunk["spans"]) == chunk["text"]
        assert chunk["tokens"] <= 200


def test_the_series_is_the_splitters(world, file):
    found = world.json("split", file, "--splitter", "bollinger", "--max-tokens", 200)
    expected = BollingerSplitter(world.encoder, 200).explain(Document(TEXT))
    assert [boundary["at"] for boundary in found["boundaries"]] == expected.at.tolist()
    assert [boundary["cut"] for boundary in found["boundaries"]] == expected.cuts.tolist()
    assert [boundary["similarity"] for boundary in found["boundaries"]] == expected.similarity.tolist()
    assert found["boundaries"][0]["lower"] is None


def test_it_writes_a_page(world, file, tmp_path):
    page = tmp_path / "out.html"
    result = world.call("split", file, "--splitter", "bollinger", "--max-tokens", 200, "--html", page)
    assert str(page) in result.stdout
    assert 'class="similarity"' in page.read_text(encoding="utf-8")


def test_it_prints_a_line_for_each_chunk(world, file):
    lines = world.call("split", file, "--max-tokens", 300).stdout.splitlines()
    assert lines[0].startswith("[1] ")
    assert lines[-1] == f"{len(lines) - 1} chunks"


def test_a_language_model_marks_boundaries(world, file):
    found = world.json("split", file, "--splitter", "llm", "--llm", "fake:model", answer="[6, 11]")
    assert world.chats == ["fake:model"]
    assert found["splitter"]["model"] == "fake:model"
    assert found["chunks"][0]["metadata"] == {"boundaries": "llm"}


@pytest.mark.parametrize("arguments", [["--splitter", "llm"], ["--llm", "a:b"], ["--splitter", "nonsense"]])
def test_wrong_usage(world, file, arguments):
    world.call("split", file, *arguments, code=2)


def test_html_is_read_as_a_browser_shows_it(world):
    pytest.importorskip("rag_embeddings.read.html")
    file = world.write("page.html", "<html><body><h1>Title</h1><p>Some &amp; text.</p></body></html>")
    found = world.json("split", file, "--splitter", "recursive")
    assert "Some & text." in found["chunks"][0]["text"]


def test_a_missing_file_is_one_line(world):
    assert world.call("split", "nowhere.txt", code=1).stderr.count("\n") == 1
