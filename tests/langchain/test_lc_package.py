"""The package's face: its names, and what happens without LangChain."""

import subprocess
import sys

import pytest

import rag_embeddings.langchain as package


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_public_names():
    assert package.__all__ == sorted(package.__all__)
    assert dir(package) == package.__all__
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
        assert getattr(package, name).__doc__
    with pytest.raises(AttributeError, match="NoSuchThing"):
        package.NoSuchThing  # noqa: B018


def test_importing_loads_neither_torch_nor_chroma():
    code = (
        "import sys; from rag_embeddings.langchain import *; "
        "print(sorted({'torch', 'sentence_transformers', 'chromadb', 'llama_index'} & set(sys.modules)))"
    )
    assert run(code).stdout.strip() == "[]"


@pytest.mark.parametrize("missing", ["langchain_core", "langchain_text_splitters"])
def test_without_langchain_the_extra_is_named(missing):
    result = run(f"import sys; sys.modules[{missing!r}] = None; import rag_embeddings.langchain")
    assert result.returncode == 1
    assert "MissingExtraError" in result.stderr
    assert "pip install 'rag-embeddings[langchain]'" in result.stderr
