"""The quickstart as a user runs it: copied elsewhere, in a process of its own, offline."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.read.files import find_files, read_file
from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.store.directory import IndexDirectory

EXAMPLE = Path(__file__).parents[2] / "examples" / "llama_index_quickstart.py"
FILES = {
    "mill.md": "# The mill\r\n\r\nThe miller opened both gates. Water ran over the weir.\r\n",
    "deep/pay.txt": "Invoices are paid within thirty days.\n\nLate payment costs two percent a month.\n",
    "deep/more.txt": "Cats sleep all day.",
    "picture.png": "not read",
}
ECHO = """
from llama_index.core.llms import MockLLM

class Echo(MockLLM):
    model: str = "none"

    def __init__(self, model):
        super().__init__()
        self.model = model

    def complete(self, prompt, formatted=False, **kwargs):
        answer = super().complete(prompt, formatted, **kwargs)
        answer.text = f"model {self.model} read {answer.text}"
        return answer
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("user")
    shutil.copy(EXAMPLE, place)
    for name, text in FILES.items():
        path = place / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    package = place / "packages" / "llama_index" / "llms" / "echo"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(ECHO)
    return place


def run(place, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    environment |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(place / "packages")}
    return subprocess.run(
        [sys.executable, EXAMPLE.name, *arguments],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_it_answers_with_the_cited_passage_and_shares_its_index(place):
    result = run(place, "files", "What is the fee for paying late?", "-k", "1")
    assert result.returncode == 0, result.stderr
    pay = (place / "files" / "deep" / "pay.txt").resolve()
    text = FILES["deep/pay.txt"].strip()
    assert f"[1] {pay.as_posix()}, characters 0-{len(text)} (score 0." in result.stdout
    assert "match: Late payment costs two percent a month." in result.stdout
    assert text in result.stdout
    assert "OpenAI" not in result.stdout + result.stderr

    # The core finds the same in it, and has nothing to embed again.
    encoder = TransformerEncoder(device="cpu")
    with IndexDirectory.open(place / "rag-index") as directory:
        indexer = Indexer(directory, Pipeline(encoder, RecursiveSplitter(tokenizer=encoder)))
        summary = indexer.upsert([read_file(path) for path in find_files([place / "files"])])
        assert len(summary.unchanged) == 3
        assert summary.encoded == 0
        assert indexer.get([pay.as_posix()])[0].text == FILES["deep/pay.txt"]
        match = SentenceParentSearch(directory, encoder).search("What is the fee for paying late?", 1)[0]
        assert match.chunk.document.id == pay.as_posix()


def test_a_language_model_reads_the_passages_and_a_lost_file_is_forgotten(place):
    (place / "files" / "deep" / "more.txt").unlink()
    other = place / "elsewhere.txt"
    other.write_text("A file of another folder.")
    encoder = TransformerEncoder(device="cpu")
    with IndexDirectory.open(place / "rag-index", create=True) as directory:
        Indexer(directory, Pipeline(encoder, RecursiveSplitter(tokenizer=encoder))).upsert([read_file(other)])
    other.unlink()
    result = run(place, "files", "Who opened the gates?", "--llm", "echo:parrot", "-k", "9")
    assert result.returncode == 0, result.stderr
    assert "model parrot read Answer from the passages only" in result.stdout
    assert "The miller opened both gates." in result.stdout
    assert "Question: Who opened the gates?" in result.stdout
    assert "matches:" not in result.stdout
    assert "more.txt" not in result.stdout
    assert "elsewhere.txt, characters" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["packages", "q"], "no document in packages"),
        (["files", "q", "--llm", "nobody:x"], "pip install llama-index-llms-nobody"),
    ],
)
def test_mistakes_are_one_line(place, arguments, message):
    result = run(place, *arguments)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
