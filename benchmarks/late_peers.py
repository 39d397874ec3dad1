"""What others make of a text: chonkie's late chunks, the frameworks' semantic pipelines; and what any model is given.

Used by ``late_chunking.py``. Peers that are not installed are left out.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings import Chunk, Document, Span, Units
from rag_embeddings.encode.late import units
from rag_embeddings.encode.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Vectors = np.ndarray[Any, np.dtype[np.float32]]

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def installed(module: str) -> bool:
    """Return whether a module of a peer is installed, and what it is part of."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def chonkie_layout(documents: Sequence[Document], size: int) -> tuple[list[Units], Vectors]:
    """Let chonkie cut and encode."""
    from chonkie import LateChunker
    from chonkie.embeddings import SentenceTransformerEmbeddings
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformerEmbeddings(SentenceTransformer(str(resolve(MODEL).folder)))
    chunker = LateChunker(embedding_model=model, chunk_size=size)
    cut, vectors = [], []
    with counting(chunker.embedding_model.model, f"chonkie LateChunker {size}"):
        for document in documents:
            found = [item for item in chunker.chunk(document.text) if item.text.strip()]
            vectors.extend(item.embedding for item in found)
            cut.append(units(document, _Given([Span(item.start_index, item.end_index) for item in found])))
    matrix = np.array(vectors, dtype=np.float32)
    return cut, matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


class _Given:
    """A splitter whose boundaries are somebody else's."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans

    def split(self, document: Document) -> list[Chunk]:
        return [Chunk(document, (span,)) for span in self.spans]

    def settings(self) -> dict[str, Any]:
        return {"splitter": "given"}


def semantic_pipelines() -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield what LangChain and LlamaIndex users run: its name, the model in it, and text to chunks and vectors."""
    folder = str(resolve(MODEL).folder)
    if installed("langchain_experimental") and installed("langchain_huggingface"):
        from langchain_experimental.text_splitter import SemanticChunker
        from langchain_huggingface import HuggingFaceEmbeddings

        embeddings = HuggingFaceEmbeddings(model_name=folder)

        def langchain(documents: Sequence[Document]) -> tuple[list[Chunk], Vectors]:
            chunker = SemanticChunker(embeddings)
            texts = [chunker.split_text(document.text) for document in documents]
            vectors = embeddings.embed_documents([text for part in texts for text in part])
            return _located(documents, texts), np.array(vectors, dtype=np.float32)

        yield "LangChain SemanticChunker", (embeddings._client, langchain)  # noqa: SLF001
    if installed("llama_index.embeddings.huggingface"):
        from llama_index.core.node_parser import SemanticSplitterNodeParser
        from llama_index.core.schema import Document as LlamaIndexDocument
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding

        embed_model = HuggingFaceEmbedding(folder, device="cpu")

        def llama_index(documents: Sequence[Document]) -> tuple[list[Chunk], Vectors]:
            parser = SemanticSplitterNodeParser(embed_model=embed_model)
            texts = [
                [node.text for node in parser.get_nodes_from_documents([LlamaIndexDocument(text=document.text)])]
                for document in documents
            ]
            vectors = embed_model.get_text_embedding_batch([text for part in texts for text in part])
            return _located(documents, texts), np.array(vectors, dtype=np.float32)

        yield "LlamaIndex SemanticSplitter", (embed_model._model, llama_index)  # noqa: SLF001


def _located(documents: Sequence[Document], texts: Sequence[Sequence[str]]) -> list[Chunk]:
    """Find chunks whose place their splitter did not tell; white space may have been changed."""
    found = []
    for document, parts in zip(documents, texts, strict=True):
        places = [index for index, char in enumerate(document.text) if not char.isspace()]
        dense = "".join(document.text[index] for index in places)
        at = 0
        for part in parts:
            wanted = "".join(part.split())
            start = dense.index(wanted, at) if wanted else at
            at = start + len(wanted)
            found.append(Chunk(document, (Span(places[min(start, len(places) - 1)], places[max(at - 1, 0)] + 1),)))
    return found


@contextmanager
def counting(model: Any, title: str, own: int = 0) -> Iterator[list[float]]:
    """Count tokens that enter a `LocalModel` or a SentenceTransformer, padding included, and the time."""
    seen = [0]

    def count(_: Any, arguments: Any) -> None:
        seen[0] += arguments[0]["input_ids"].numel()

    def counted(*arguments: Any) -> Any:
        features = make(*arguments)
        seen[0] += features["input_ids"].numel()
        return features

    make = getattr(model, "_features", None)
    if make is not None:  # ours prepares its layers in another way
        model._features, remove = counted, lambda: delattr(model, "_features")  # noqa: SLF001
    else:
        remove = model[0].register_forward_pre_hook(count).remove
    taken = [0.0]
    began = time.perf_counter()
    try:
        yield taken
    finally:
        remove()
        taken[0] = time.perf_counter() - began
    per_token = f", {seen[0] / own:.2f} for each of the text's" if own else ""
    print(f"  [{title}: {seen[0]} tokens through the model{per_token}, {taken[0]:.1f} s]", flush=True)
