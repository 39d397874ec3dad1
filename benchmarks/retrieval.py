"""Similarity, keywords and both, on questions in the text's words and in other words, beside the frameworks.

The data is the public set of "Evaluating Chunking Strategies for Retrieval" (Smith and Troynikov, Chroma, 2024), with
its questions as published and asked again in other words, or any folder that holds text files and questions as
``rag-embeddings evaluate`` takes them::

    python benchmarks/retrieval.py --data FOLDER

Our index is made at its defaults, once with vectors of each text by itself and once with late ones. The peers get the
same model and passages of the same mean size: LangChain's EnsembleRetriever and ParentDocumentRetriever, LlamaIndex's
QueryFusionRetriever and AutoMergingRetriever. They need packages that this one does not::

    pip install langchain-classic langchain-community rank-bm25 llama-index-retrievers-bm25

Prints recall at 5 passages and at 500 and 1,000 tokens for each, and the paired differences between the default hybrid
search and each other, with 95 % intervals.
"""

from __future__ import annotations

import argparse
import atexit
import shutil
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rag_embeddings.encode.base import Encoder, Role, Vectors
    from rag_embeddings.evaluate import Evaluation, Question
    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.text import Chunk, Document

    Retrieve = Callable[[str, int], Sequence[Match]]

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "chunk_eval"
SETS = {"questions.csv": "in the text's words", "questions_paraphrased.csv": "in other words"}
HEADLINE = ("recall@5", "recall@500_tokens", "recall@1000_tokens")
OURS = "hybrid"
SIDES = ("dense", "keywords")
COUNTER = "cl100k_base"
CHILDREN_PER_PARENT = 8  # children fetched for each passage that is asked for
LEAVES_PER_PASSAGE = 2  # leaves fetched for each passage that is asked for, which merge into fewer
LEAVES = (64, 80, 96, 112, 128)  # tokens of a leaf that auto-merging is tried with


@dataclass(frozen=True)
class Pipeline:
    """A retriever and all the passages it may return."""

    name: str
    retrieve: Retrieve
    chunks: Sequence[Chunk]
    is_ours: bool = False


class Remembering:
    """An encoder that encodes each text once, so that every pipeline gets the same vectors of the questions."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.profile = encoder.profile
        self.tokenizer = encoder.tokenizer
        self._known: dict[tuple[str, str], Vectors] = {}

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        """Encode texts, those that are new."""
        new = [text for text in dict.fromkeys(texts) if (text, role) not in self._known]
        if new:
            self._known |= zip(((text, role) for text in new), self._encoder.encode(new, role), strict=True)
        return np.stack([self._known[text, role] for text in texts])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with text files and questions")
    parser.add_argument("--no-peers", action="store_true", help="only this package")
    options = parser.parse_args()
    files = [options.data / name for name in SETS if (options.data / name).is_file()]
    if not files:
        print(f"skipped: there is no {' or '.join(SETS)} in {options.data}; name the folder with --data")
        return

    from rag_embeddings.encode.transformer import TransformerEncoder
    from rag_embeddings.evaluate import load_questions
    from rag_embeddings.read.files import find_files, read_file

    encoder = TransformerEncoder()
    documents = [read_file(path) for path in find_files([options.data])]
    asked = {path.name: load_questions(path, documents) for path in files}
    pipelines = list(ours(encoder, documents))
    size = mean_tokens(pipelines[0].chunks)
    if not options.no_peers:
        pipelines += langchain_peers(encoder, documents, size)
        pipelines += llama_index_peers(encoder, documents, size, next(iter(asked.values())))
    print(f"{len(documents)} documents, {encoder.profile.model}, passages of {size:.0f} tokens in the mean\n")
    for name, questions in asked.items():
        report(SETS[name], questions, documents, pipelines)


# --- ours -------------------------------------------------------------------------------------------------------------


def ours(encoder: Encoder, documents: Sequence[Document]) -> Iterator[Pipeline]:
    """Index at the defaults, plain and late."""
    from rag_embeddings.encode.late import LatePass
    from rag_embeddings.index.indexer import Indexer
    from rag_embeddings.index.pipeline import Pipeline as IndexPipeline
    from rag_embeddings.index.splitter import index_splitter
    from rag_embeddings.retrieve.hybrid import HybridSearch
    from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
    from rag_embeddings.store.directory import IndexDirectory

    splitter = index_splitter(encoder, {})
    chunks = [chunk for document in documents for chunk in splitter.split(document)]
    questions = Remembering(encoder)
    for suffix, late in (("", None), (", late vectors", LatePass(encoder))):
        folder = Path(tempfile.mkdtemp())
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        directory = IndexDirectory.open(folder, create=True)
        made_by = IndexPipeline(encoder, splitter, late)
        seconds = [timed(lambda: Indexer(directory, made_by, keywords=False).upsert(documents))]  # noqa: B023
        size = size_of(folder)
        seconds.append(timed(lambda: Indexer(directory, made_by, keywords=True).upsert([])))  # noqa: B023
        print(
            f"indexed{suffix}: {seconds[0]:.1f} s and {size / 1e6:.1f} MB; keywords: {seconds[1]:.2f} s more "
            f"({seconds[1] / seconds[0]:.1%}) and {(size_of(folder) - size) / 1e6:.1f} MB more"
        )
        searches: dict[str, Any] = {
            OURS: HybridSearch(directory, questions),
            "hybrid, score=best": HybridSearch(directory, questions, score="best"),
            "hybrid, min-max half and half": HybridSearch(directory, questions, fusion="minmax"),
            "hybrid, reciprocal ranks": HybridSearch(directory, questions, fusion="rrf"),
            "dense": SentenceParentSearch(directory, questions, score="mean"),
            "dense, score=best": SentenceParentSearch(directory, questions, score="best"),
            # So heavy that only equal words leave a say to similarity.
            "keywords": HybridSearch(directory, questions, beta=1e6),
        }
        for name, search in searches.items():
            yield Pipeline(name + suffix, search.search, chunks, is_ours=True)


# --- LangChain --------------------------------------------------------------------------------------------------------


def langchain_peers(encoder: Encoder, documents: Sequence[Document], size: float) -> Iterator[Pipeline]:
    """EnsembleRetriever over BM25 and vectors, and ParentDocumentRetriever, as LangChain's documentation shows them."""
    if find_spec("langchain_classic") is None or find_spec("rank_bm25") is None:
        print("LangChain: skipped, langchain-classic or rank-bm25 is not installed")
        return
    from langchain_classic.retrievers import EnsembleRetriever, ParentDocumentRetriever
    from langchain_community.retrievers import BM25Retriever
    from langchain_core.documents import Document as LangChainDocument
    from langchain_core.stores import InMemoryStore
    from langchain_core.vectorstores import InMemoryVectorStore
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    from rag_embeddings.langchain import InstructionEmbeddings

    embeddings = InstructionEmbeddings(model=encoder.profile.model)
    whole = [LangChainDocument(document.text, metadata={"source": document.id}) for document in documents]
    sources = {document.id: document for document in documents}

    def splitter(tokens: int) -> Any:
        return RecursiveCharacterTextSplitter.from_tiktoken_encoder(
            COUNTER, chunk_size=tokens, chunk_overlap=0, add_start_index=True
        )

    def chunk(part: LangChainDocument) -> Chunk:
        return chunk_of(sources[part.metadata["source"]], part.metadata["start_index"], part.page_content)

    tokens = fitting(size, lambda number: [chunk(part) for part in splitter(number).split_documents(whole)])
    parts = splitter(tokens).split_documents(whole)
    store = InMemoryVectorStore(embeddings)
    store.add_documents(parts)
    keywords, vectors = BM25Retriever.from_documents(parts), store.as_retriever()
    ensemble = EnsembleRetriever(retrievers=[keywords, vectors], weights=[0.5, 0.5])

    def by_ensemble(question: str, k: int) -> list[Match]:
        keywords.k = k
        vectors.search_kwargs = {"k": k}
        return matches(chunk(part) for part in ensemble.invoke(question)[:k])

    chunks = [chunk(part) for part in parts]
    yield Pipeline(f"LangChain EnsembleRetriever, {tokens}", by_ensemble, chunks)

    parents = ParentDocumentRetriever(
        vectorstore=InMemoryVectorStore(embeddings),
        docstore=InMemoryStore(),
        child_splitter=splitter(100),
        parent_splitter=splitter(tokens),
    )
    parents.add_documents(whole)

    def by_parent(question: str, k: int) -> list[Match]:
        parents.search_kwargs = {"k": CHILDREN_PER_PARENT * k}
        return matches(chunk(part) for part in parents.invoke(question)[:k])

    yield Pipeline(f"LangChain ParentDocumentRetriever, 100 in {tokens}", by_parent, chunks)


# --- LlamaIndex -------------------------------------------------------------------------------------------------------


def llama_index_peers(
    encoder: Encoder, documents: Sequence[Document], size: float, questions: Sequence[Question]
) -> Iterator[Pipeline]:
    """QueryFusionRetriever over BM25 and vectors, and AutoMergingRetriever, as LlamaIndex's documentation has them."""
    if find_spec("llama_index") is None or find_spec("llama_index.retrievers.bm25") is None:
        print("LlamaIndex: skipped, llama-index-retrievers-bm25 is not installed")
        return
    from llama_index.core import VectorStoreIndex
    from llama_index.core.llms import MockLLM
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.core.retrievers import QueryFusionRetriever
    from llama_index.core.schema import Document as LlamaIndexDocument
    from llama_index.retrievers.bm25 import BM25Retriever

    from rag_embeddings.llama_index import InstructionEmbedding

    model = InstructionEmbedding(model_name=encoder.profile.model)
    whole = [LlamaIndexDocument(id_=document.id, text=document.text) for document in documents]
    sources = {document.id: document for document in documents}

    def chunk(node: Any) -> Chunk:
        return chunk_of(sources[node.ref_doc_id], node.start_char_idx, node.text)

    def parsed(number: int) -> list[Any]:
        return list(SentenceSplitter(chunk_size=number, chunk_overlap=0).get_nodes_from_documents(whole))

    tokens = fitting(size, lambda number: [chunk(node) for node in parsed(number)])
    nodes = parsed(tokens)
    index = VectorStoreIndex(nodes, embed_model=model)
    for mode in ("reciprocal_rerank", "relative_score"):

        def by_fusion(question: str, k: int, mode: str = mode) -> list[Match]:
            keywords = BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=min(k, len(nodes)))
            fusion = QueryFusionRetriever(
                [index.as_retriever(similarity_top_k=k), keywords],
                llm=MockLLM(),
                mode=mode,
                similarity_top_k=k,
                num_queries=1,
                use_async=False,
            )
            return matches(chunk(found.node) for found in fusion.retrieve(question))

        yield Pipeline(f"LlamaIndex QueryFusionRetriever, {mode}, {tokens}", by_fusion, [chunk(node) for node in nodes])
    yield auto_merging(encoder, documents, size, questions)


def auto_merging(
    encoder: Encoder, documents: Sequence[Document], size: float, questions: Sequence[Question]
) -> Pipeline:
    """AutoMergingRetriever with leaves of the size at which what it returns is nearest to ours in size."""
    from llama_index.core import StorageContext, VectorStoreIndex
    from llama_index.core.node_parser import HierarchicalNodeParser, get_leaf_nodes
    from llama_index.core.retrievers import AutoMergingRetriever
    from llama_index.core.schema import Document as LlamaIndexDocument
    from llama_index.core.storage.docstore import SimpleDocumentStore

    from rag_embeddings.llama_index import InstructionEmbedding

    model = InstructionEmbedding(model_name=encoder.profile.model)
    whole = [LlamaIndexDocument(id_=document.id, text=document.text) for document in documents]
    sources = {document.id: document for document in documents}

    def merging(leaf: int) -> Pipeline:
        every = HierarchicalNodeParser.from_defaults(chunk_sizes=[16 * leaf, 4 * leaf, leaf]).get_nodes_from_documents(
            whole
        )
        by_id = {node.node_id: node for node in every}

        def place(node: Any) -> Chunk:
            """Children stand where their parent stands, and then some: their own index counts from the parent."""
            if node.parent_node is None:
                return chunk_of(sources[node.ref_doc_id], node.start_char_idx, node.text)
            parent = place(by_id[node.parent_node.node_id])
            return chunk_of(parent.document, parent.start + parent.text.index(node.text), node.text)

        docstore = SimpleDocumentStore()
        docstore.add_documents(every)
        context = StorageContext.from_defaults(docstore=docstore)
        leaves = VectorStoreIndex(get_leaf_nodes(every), storage_context=context, embed_model=model)

        def by_merging(question: str, k: int) -> list[Match]:
            base = leaves.as_retriever(similarity_top_k=LEAVES_PER_PASSAGE * k)
            found = AutoMergingRetriever(base, context).retrieve(question)
            ranked = sorted(found, key=lambda one: -(one.score or 0.0))
            return matches(place(one.node) for one in ranked[:k])

        return Pipeline(f"LlamaIndex AutoMergingRetriever, leaves of {leaf}", by_merging, [])

    def distance(pipeline: Pipeline) -> float:
        found = [match.chunk for question in questions[::5] for match in pipeline.retrieve(question.text, 10)]
        return abs(mean_tokens(found) - size)

    return min((merging(leaf) for leaf in LEAVES), key=distance)


# --- measuring --------------------------------------------------------------------------------------------------------


def report(
    title: str, questions: Sequence[Question], documents: Sequence[Document], pipelines: Sequence[Pipeline]
) -> None:
    """Ask every pipeline, print its figures and the differences."""
    from rag_embeddings.evaluate import compare, evaluate

    results: dict[str, Evaluation] = {}
    print(f"== {len(questions)} questions {title}")
    print(f"{'':56}{'R@5':>7}{'R@500':>7}{'R@1000':>7}{'tokens':>8}")
    for pipeline in pipelines:
        result = results[pipeline.name] = evaluate(pipeline.retrieve, questions, documents)
        figures = "".join(f"{result.interval(metric).scaled(100).mean:7.1f}" for metric in HEADLINE)
        print(f"{pipeline.name:56}{figures}{result.mean_tokens_retrieved:8.0f}", flush=True)
    for suffix in ("", ", late vectors"):
        print(f"\n{OURS}{suffix}, minus:")
        sides = {f"{side}{suffix}" for side in SIDES}
        for pipeline in pipelines:
            if pipeline.is_ours and pipeline.name not in sides:
                continue
            found = compare(results[OURS + suffix], results[pipeline.name]).differences
            shown = (found[metric].scaled(100) for metric in HEADLINE)
            print(
                f"  {pipeline.name:54}"
                + "".join(f"{one.mean:+7.1f} [{one.low:+.1f}, {one.high:+.1f}]".ljust(24) for one in shown)
            )
    print(flush=True)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def size_of(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def matches(chunks: Iterator[Chunk]) -> list[Match]:
    """Give passages the shape that `evaluate` takes."""
    from rag_embeddings.retrieve.base import Match

    return [Match(chunk, 0.0, ()) for chunk in chunks]


def chunk_of(document: Document, start: int, text: str) -> Chunk:
    """Return the chunk that a peer's passage is."""
    from rag_embeddings.text import Chunk, Span

    if document.text[start : start + len(text)] != text:
        start = document.text.index(text)
    return Chunk(document, (Span(start, start + len(text)),))


def fitting(size: float, split: Callable[[int], Sequence[Chunk]]) -> int:
    """Return the chunk size at which a splitter's mean is nearest to a size."""
    return min(range(100, 513, 4), key=lambda number: abs(mean_tokens(split(number)) - size))


def mean_tokens(chunks: Sequence[Chunk]) -> float:
    """Return the mean size of chunks in tokens."""
    from rag_embeddings.split.tokens import token_counter

    return fmean(token_counter(COUNTER).count([chunk.text for chunk in chunks]))


if __name__ == "__main__":
    main()
