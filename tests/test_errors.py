"""The tree of errors, and the message for a missing extra."""

import ast
import inspect
import pickle

import pytest

from rag_embeddings import errors

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_the_base_travels_and_stands_in_the_drawing(kind):
    assert issubclass(kind, errors.RagEmbeddingsError)
    again = pickle.loads(pickle.dumps(kind("what, which, what to do")))  # noqa: S301 - our own
    assert (type(again), str(again)) == (kind, "what, which, what to do")
    assert kind.__name__ in errors.__doc__


def test_a_missing_extra_says_how_to_install_it():
    assert errors.require("json", "local").__name__ == "json"
    with pytest.raises(errors.MissingExtraError, match=r"pip install 'rag-embeddings\[chroma\]'") as caught:
        errors.require("no_such_module_anywhere", "chroma")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_broken_module_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_one.py").write_text("raise RuntimeError('broken')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match="broken"):
        errors.require("broken_one", "chroma")


def test_the_drawing_nests_as_the_classes_do():
    tree = ast.parse(inspect.getsource(errors))
    bases = {node.name: [base.id for base in node.bases] for node in tree.body if isinstance(node, ast.ClassDef)}
    store = [name for name, found in bases.items() if "StoreError" in found]
    nested = [line.split()[2] for line in errors.__doc__.splitlines() if "│   " in line]
    assert sorted(nested) == sorted(store)
