"""``rag-embeddings models``."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from rag_embeddings.cli import main
from rag_embeddings.cli.catalog import models
from rag_embeddings.encode.catalog import entries, find, select


def run(*arguments: str):
    return CliRunner().invoke(models, arguments)


def test_the_table_lists_every_model() -> None:
    result = run()
    assert result.exit_code == 0
    assert f"{len(entries())} of {len(entries())} models" in " ".join(result.output.split())
    for entry in entries():
        assert entry.name in result.output


def test_a_row_shows_prompts_limits_and_price() -> None:
    output = run("--family", "qwen3").output
    row = next(line for line in output.splitlines() if "Qwen3-Embedding-4B" in line)
    assert row.split()[1:] == ["4.0B", "2560", "to", "32", "32768", "apache-2.0", "-"]
    assert r'query: "Instruct: {task}\nQuery:"' in output
    assert "document" not in output
    openai = run("--family", "openai").output
    assert "0.02" in openai
    assert "0.13" in openai
    assert "query: input_type=search_query" in run("--family", "cohere").output
    assert "query: ?" in run("--family", "voyage").output


@pytest.mark.parametrize(
    ("options", "conditions"),
    [
        ([], {}),
        (["--family", "bge"], {"family": "bge"}),
        (["--kind", "api"], {"kind": "api"}),
        (["--max-tokens", "8192"], {"max_tokens": 8192}),
        (["--dim", "256"], {"dimensions": 256}),
        (["--licence", "apache-2.0"], {"licence": "apache-2.0"}),
        (["--license", "MIT"], {"licence": "mit"}),
        (["--multilingual"], {"multilingual": True}),
        (["--monolingual"], {"multilingual": False}),
        (["--late-chunking"], {"late_chunking": True}),
        (
            ["--kind", "open", "--max-tokens", "2048", "--dim", "256", "--licence", "apache-2.0", "--multilingual"],
            {"kind": "open", "max_tokens": 2048, "dimensions": 256, "licence": "apache-2.0", "multilingual": True},
        ),
    ],
)
def test_json_holds_what_select_finds(options: list[str], conditions: dict) -> None:
    result = run(*options, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == [entry.to_dict() for entry in select(**conditions)]
    assert json.loads(result.stdout)


def test_nothing_found() -> None:
    result = run("--family", "nonsense")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "qwen3" in result.stderr
    result = run("--family", "nonsense", "--json")
    assert json.loads(result.stdout) == []


def test_one_model() -> None:
    output = run("illuin-conteb/modernbert-large-insent").output
    assert "joined by [SEP]" in output
    assert '"search_document: "' in output
    assert "no, native from transformers 5; yes before" in run("nomic-ai/nomic-embed-text-v1.5").output
    assert "input_type" in run("embed-v4.0").output
    shown = run("google/embeddinggemma-300m", "--json")
    assert json.loads(shown.stdout) == find("google/embeddinggemma-300m").to_dict()


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_every_model_can_be_shown(entry) -> None:
    result = run(entry.name)
    assert result.exit_code == 0
    assert entry.name in result.output


def test_a_name_nobody_knows(capsys) -> None:
    assert main(["models", "BAAI/bge-smal-en"]) == 1
    assert "BAAI/bge-small-en-v1.5" in capsys.readouterr().err
    assert main(["models", "?"]) == 1
    assert "rag-embeddings models" in capsys.readouterr().err


def test_it_is_a_command_of_the_program(capsys) -> None:
    assert main(["models", "--family", "bge", "--json"]) == 0
    assert {model["family"] for model in json.loads(capsys.readouterr().out)} == {"bge"}


def test_a_narrow_terminal_still_shows_whole_rows(monkeypatch) -> None:
    monkeypatch.setattr("rag_embeddings.cli.catalog._WIDTH", 80)
    lines = run("--family", "qwen3").output.splitlines()
    assert max(map(len, lines)) <= 80
    row = ["Qwen/Qwen3-Embedding-8B", "7.6B", "4096", "to", "32", "32768", "apache-2.0", "-"]
    assert row in [line.split() for line in lines]


@pytest.mark.parametrize(
    "options", [["BAAI/bge-m3", "--kind", "open"], ["--kind", "x"], ["--dim", "0"], ["--dim", "a"]]
)
def test_wrong_usage(options: list[str]) -> None:
    assert run(*options).exit_code == 2


def test_it_loads_nothing_heavy() -> None:
    code = (
        "import sys; from rag_embeddings.cli.catalog import models; models(['--json'], standalone_mode=False);"
        "print({'torch', 'transformers', 'rich'} & set(sys.modules) or 'light', file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "light"
