"""How much of what answers a question is retrieved: index two documents at the defaults, ask 220 questions.

The data is the public set of "Evaluating Chunking Strategies for Retrieval" (Smith and Troynikov, Chroma, 2024), or any
folder that holds text files and a ``questions.csv`` as ``rag-embeddings evaluate`` takes it::

    python benchmarks/chunk_eval.py --data FOLDER

Prints recall and IoU at 5 passages, recall at 1,000 tokens, and the mean passage size, with 95 % intervals: for the two
ways to score, and beside them LangChain's ParentDocumentRetriever on the same model, if langchain-classic is installed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.evaluate import Evaluation, Question
    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.text import Document

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "chunk_eval"
HEADLINE = ("recall@5", "iou@5", "recall@500_tokens", "recall@1000_tokens")
CHILDREN_PER_PARENT = 8  # child passages fetched for each parent that is asked for


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with text files and questions.csv")
    parser.add_argument("--questions", default="questions.csv", help="name of the file of questions in that folder")
    parser.add_argument("--full", action="store_true", help="print every metric")
    options = parser.parse_args()
    questions_file = options.data / options.questions
    if not questions_file.is_file():
        print(f"skipped: there is no {options.questions} in {options.data}; name the folder with --data")
        return

    from rag_embeddings.encode.transformer import TransformerEncoder
    from rag_embeddings.evaluate import compare, load_questions
    from rag_embeddings.read.files import find_files, read_file

    encoder = TransformerEncoder()
    documents = [read_file(path) for path in find_files([options.data])]
    questions = load_questions(questions_file, documents)
    print(f"{len(questions)} questions over {len(documents)} documents, {encoder.profile.model}\n")

    results = ours(encoder, questions, documents)
    if find_spec("langchain_classic") is None:
        print("LangChain ParentDocumentRetriever: skipped, langchain-classic is not installed\n")
    else:
        results["LangChain ParentDocumentRetriever 100 in 400"] = parent_document(encoder, questions, documents)
    for name, result in results.items():
        report(name, result, full=options.full)
    first, *others = results
    for other in others:
        print(f"{other}, minus {first}:")
        for metric in HEADLINE:
            difference = compare(results[other], results[first]).differences[metric].scaled(100)
            print(f"  {metric:<20} {difference.mean:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]")


def ours(encoder: Encoder, questions: Sequence[Question], documents: Sequence[Document]) -> dict[str, Evaluation]:
    """Index at the defaults in a temporary directory; ask with both scores."""
    from rag_embeddings.evaluate import evaluate
    from rag_embeddings.index.indexer import Indexer
    from rag_embeddings.index.pipeline import Pipeline
    from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
    from rag_embeddings.split.recursive import RecursiveSplitter
    from rag_embeddings.store.directory import IndexDirectory

    splitter = RecursiveSplitter(tokenizer=encoder)
    chunks = [chunk for document in documents for chunk in splitter.split(document)]
    results = {}
    with tempfile.TemporaryDirectory() as folder, IndexDirectory.open(folder, create=True) as directory:
        began = time.perf_counter()
        summary = Indexer(directory, Pipeline(encoder, splitter)).upsert(documents)
        print(f"indexed in {time.perf_counter() - began:.1f} s: {summary.encoded} texts encoded\n")
        for score in ("best", "mean"):
            search = SentenceParentSearch(directory, encoder, score=score)
            results[f"sentence to parent, score={score}"] = evaluate(search.search, questions, documents, chunks=chunks)
    return results


def parent_document(encoder: Encoder, questions: Sequence[Question], documents: Sequence[Document]) -> Evaluation:
    """LangChain's own small-to-big retriever, as its documentation shows it, with the same model."""
    from langchain_classic.retrievers import ParentDocumentRetriever
    from langchain_core.documents import Document as LangChainDocument
    from langchain_core.stores import InMemoryStore
    from langchain_core.vectorstores import InMemoryVectorStore
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    from rag_embeddings.evaluate import evaluate
    from rag_embeddings.langchain import InstructionEmbeddings
    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.text import Chunk, Span

    def splitter(tokens: int) -> Any:
        return RecursiveCharacterTextSplitter.from_tiktoken_encoder(
            "cl100k_base", chunk_size=tokens, chunk_overlap=0, add_start_index=True
        )

    retriever = ParentDocumentRetriever(
        vectorstore=InMemoryVectorStore(InstructionEmbeddings(model=encoder.profile.model)),
        docstore=InMemoryStore(),
        child_splitter=splitter(100),
        parent_splitter=splitter(400),
    )
    retriever.add_documents(
        [LangChainDocument(document.text, metadata={"source": document.id}) for document in documents]
    )
    sources = {document.id: document for document in documents}

    def chunk(parent: LangChainDocument) -> Chunk:
        start = parent.metadata["start_index"]
        return Chunk(sources[parent.metadata["source"]], (Span(start, start + len(parent.page_content)),))

    def retrieve(question: str, k: int) -> list[Match]:
        retriever.search_kwargs = {"k": CHILDREN_PER_PARENT * k}
        return [Match(chunk(parent), 0.0, ()) for parent in retriever.invoke(question)[:k]]

    store = retriever.docstore
    parents = [chunk(parent) for parent in store.mget(list(store.yield_keys()))]
    return evaluate(retrieve, questions, documents, chunks=parents)


def report(name: str, result: Evaluation, *, full: bool) -> None:
    """Print one pipeline's figures."""
    print(f"== {name}")
    if full:
        print(result.table())
    else:
        for metric in HEADLINE:
            interval = result.interval(metric).scaled(100)
            print(f"  {metric:<20} {interval.mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]")
        live = "" if result.mean_tokens_live is None else f", {result.mean_tokens_live:.0f} over the whole index"
        print(f"  mean passage         {result.mean_tokens_retrieved:.0f} tokens over the first 10{live}")
    print()


if __name__ == "__main__":
    main()
