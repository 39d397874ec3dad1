"""The directions in which imports may run, the lightness of the package, and its public names."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import rag_embeddings

SOURCE = Path(rag_embeddings.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))

# A room may import those of its own or an earlier row; `split` sees the protocols of `encode`, not its models.
BASE = {"text", "errors", "_version", "testing.faults"}
ROOMS = {"read", "split", "encode", "codec", "store"}
MIDDLE = {"index", "retrieve", "evaluate", "explore"}
OUTER = {"langchain", "llama_index", "cli"}
FRAMEWORKS = {"langchain", "langchain_core", "langchain_text_splitters", "langchain_classic", "llama_index"}
# A store keeps fitted codecs, whichever they are.
STORED_CODECS = ["codec.base", "codec.saved", "codec.int8"]
# One module joins what a splitter cut with what an encoder saw.
# Declarations are sentences.
MEETINGS = {"encode.late": {"split.base", "split.sentences"}, "read.scope": {"split.sentences"}}
HOMES = {
    "torch": {"encode.model", "encode.precision"},
    "sentence_transformers": {"encode.setup", "encode.model", "encode.precision", "retrieve.rerank"},
    "chromadb": {"store.chroma", "store.chroma_client"},
    "usearch": {"store.graph"},
    "faiss": {"codec.product"},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function, also as a string given to an importer."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
        elif (
            isinstance(node, ast.Call)
            and getattr(node.func, "id", getattr(node.func, "attr", "")) in {"require", "import_module"}
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            found.add(node.args[0].value)
    return found


def inner(names: set[str]) -> set[str]:
    return {name.removeprefix("rag_embeddings").lstrip(".") for name in names if name.split(".")[0] == "rag_embeddings"}


def room(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_run_one_way(path: Path) -> None:
    module = module_name(path)
    here = room(module)
    for target in inner(imports(path)):
        there = room(target)
        if target in BASE or there == here or here in {"", "testing"} or target == "":
            continue
        if here in ROOMS:
            protocols = {"encode.base", "encode.profile", *STORED_CODECS * (here == "store")} | MEETINGS.get(
                module, set()
            )
            assert target in protocols, f"{module} imports {target}: rooms see only protocols"
        elif here in MIDDLE:
            assert there in ROOMS or target.endswith(".base"), f"{module} imports {target}"
        elif here in OUTER:
            assert there not in OUTER, f"{module} imports {target}: adapters do not know each other"
        else:
            pytest.fail(f"{module} imports {target}")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_heavy_libraries_stay_in_their_rooms(path: Path) -> None:
    module = module_name(path)
    roots = {name.split(".")[0] for name in imports(path)}
    for library, homes in HOMES.items():
        assert library not in roots or module in homes, f"{module} imports {library}"
    if room(module) not in OUTER and not module.startswith("testing."):
        assert not roots & FRAMEWORKS, f"{module} names a framework"


def test_importing_the_package_is_light() -> None:
    code = "import rag_embeddings, sys, json; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(result.stdout)}
    assert not loaded & {"torch", "transformers", "numpy", "chromadb", "pydantic", *FRAMEWORKS}


def test_public_names_are_sorted_and_importable() -> None:
    names = rag_embeddings.__all__
    assert names == sorted(names, key=lambda name: (name != "__version__", name))
    assert len(names) == len(set(names))
    for name in names:
        assert getattr(rag_embeddings, name) is not None
    assert set(dir(rag_embeddings)) >= set(names)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = rag_embeddings.Nonsense


def test_every_public_class_of_the_core_is_a_public_name() -> None:
    """A class that a public function takes, gives or raises can be named without knowing its file."""
    expected = set()
    for path in MODULES:
        module = module_name(path)
        if room(module) in {"text", "errors", "index", "retrieve", "store", "split", "encode", "evaluate"}:
            tree = ast.parse(path.read_text())
            for node in tree.body:
                public = isinstance(node, ast.ClassDef) and not node.name.startswith("_")
                if (public and room(module) in {"text", "errors"}) or (
                    public and any(word in node.name for word in ("Splitter", "Encoder", "Store", "Search", "Indexer"))
                ):
                    expected.add(node.name)
    assert expected <= set(rag_embeddings.__all__), sorted(expected - set(rag_embeddings.__all__))


@pytest.mark.parametrize("package", ["langchain", "llama_index"])
def test_adapters_list_their_names(package: str) -> None:
    module = importlib.import_module(f"rag_embeddings.{package}")
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name).__module__.startswith(f"rag_embeddings.{package}")
