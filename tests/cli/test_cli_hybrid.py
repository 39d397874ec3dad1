"""Keywords, filters and patterns on the command line."""

import json

import pytest

QUESTION = "What burned down in the autumn?"


@pytest.fixture
def indexed(world):
    world.index(world.docs, "--max-tokens", "120")
    return world


def test_hybrid_finds_keywords_and_evaluates(indexed, tmp_path) -> None:
    dense = indexed.json("ask", QUESTION, "--db", indexed.db, "-k", "3")["passages"]
    hybrid = indexed.json("ask", QUESTION, "--db", indexed.db, "-k", "3", "--hybrid", "--score", "sum")["passages"]
    assert hybrid[0]["source_id"] == indexed.id("mill.md")
    assert hybrid[0]["score"] > dense[0]["score"]
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"question": QUESTION, "references": ["It burned down in the autumn of 1902"]}))
    result = indexed.json("evaluate", "--questions", questions, "--db", indexed.db, "--hybrid", "--score", "sum")
    assert result["means"]["recall@1"]["mean"] == 1


@pytest.mark.parametrize("hybrid", [[], ["--hybrid"]])
def test_filters(indexed, hybrid) -> None:
    def sources(*options):
        found = indexed.json("ask", QUESTION, "--db", indexed.db, "-k", "9", *options, *hybrid)["passages"]
        return {passage["source_id"] for passage in found}

    mill, bridge = indexed.id("mill.md"), indexed.id("sub/bridge.txt")
    assert sources() == {mill, bridge}
    assert sources("--where", f"source={bridge}") == {bridge}
    assert sources("--where", f"source={bridge}", "--where", f"source_id={mill}") == set()
    assert sources("--pattern", r"(?i)\bMIDDLE arch\b") == {bridge}
    assert sources("--pattern", "no such words") == set()
    output = indexed.call("ask", QUESTION, "--db", indexed.db, "--pattern", "no such words", *hybrid).output
    assert output.startswith("No passage passes.")


def test_a_file_is_named_as_ask_shows_it(indexed, monkeypatch) -> None:
    monkeypatch.chdir(indexed.docs)
    for named in ("source=sub/bridge.txt", "source_id=./sub/bridge.txt"):
        found = indexed.json("ask", QUESTION, "--db", indexed.db, "-k", "9", "--where", named)["passages"]
        assert {passage["source_id"] for passage in found} == {indexed.id("sub/bridge.txt")}


def test_what_left_nothing_over_is_named(indexed) -> None:
    asked = ("ask", QUESTION, "--db", indexed.db, "--where", "source=nowhere.md")
    assert "--where" in (output := indexed.call(*asked).output)
    assert "--pattern" not in output
    assert "--where and --pattern" in indexed.call(*asked, "--pattern", "xyz").output


def test_wrong_filters(indexed) -> None:
    asked = ("ask", QUESTION, "--db", indexed.db)
    assert "is not KEY=VALUE" in indexed.call(*asked, "--where", "source", code=2).stderr
    assert "no regular expression that RE2 can run" in indexed.call(*asked, "--pattern", "(a", code=1).stderr


def test_keywords_can_be_chosen_and_taken_away(indexed) -> None:
    asked = ("ask", QUESTION, "--db", indexed.db, "--hybrid")
    assert indexed.index(indexed.docs, "--keywords", "none")["encoded"] == 0
    assert "has no keywords" in indexed.call(*asked, code=1).stderr
    assert indexed.index(indexed.docs, "--keywords", "plain")["encoded"] == 0
    assert indexed.json(*asked)["passages"]
    assert (
        "no stemmer for 'xx'"
        in indexed.call("index", indexed.docs, "--db", indexed.db, "--keywords", "xx", code=2).stderr
    )


def test_values_are_compared_as_they_are_spelled() -> None:
    from rag_embeddings.cli.searching import conditions_of

    where = conditions_of(None, None, ("year=2020", "draft=false", "tag=a=b"))
    assert where.matches("", {"year": 2020, "draft": False, "tag": ["x", "a=b"]})
    assert where.matches("", {"year": "2020", "draft": "false", "tag": "a=b"})
    assert not where.matches("", {"year": 2021, "draft": False, "tag": "a=b"})
    assert not where.matches("", {"year": 2020, "draft": 0, "tag": "a=b"})
    assert conditions_of(None, None, ()) is None
