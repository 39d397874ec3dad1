"""What indexing costs: the first time, with nothing changed, with one document changed; and what a search takes.

    python benchmarks/ingest.py                    # this project's documentation, with the bundled model
    python benchmarks/ingest.py --data FOLDER      # your text and Markdown files

Beside it, in the same process and with the same model, what LangChain users do today: its recursive splitter and
`langchain_core.indexing.index` into a Chroma vector store (skipped if langchain-chroma is not installed). That embeds
passages only, where ours embeds the sentences as well; so texts per second are compared, not documents.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.text import Document

DATA = Path(__file__).resolve().parents[1] / "docs"
QUESTIONS = (
    "Which text is matched, and which text is returned?",
    "What happens when two processes write at once?",
    "How is a prompt switched off?",
    "How many tokens may a passage have?",
)
SEARCHES = 100


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with text files")
    options = parser.parse_args()

    from rag_embeddings.encode.base import Role
    from rag_embeddings.encode.transformer import TransformerEncoder
    from rag_embeddings.read.files import find_files, read_file

    encoder = TransformerEncoder()
    documents = [read_file(path) for path in find_files([options.data])]
    encoder.encode([document.text[:500] for document in documents[:32]], Role.DOCUMENT)  # load, and warm up
    characters = sum(len(document.text) for document in documents)
    print(f"{len(documents)} documents, {characters:,} characters, {encoder.profile.model}\n")
    rate = ours(encoder, documents)
    if find_spec("langchain_chroma") is None:
        print("LangChain: skipped, langchain-chroma is not installed")
    else:
        other = langchain(encoder, documents)
        print(f"\nratio of texts per second, ours to LangChain's: {rate / other:.2f}")


def ours(encoder: Encoder, documents: list[Document]) -> float:
    """Index in a temporary directory; return the texts encoded and stored per second."""
    from rag_embeddings.index.indexer import Indexer
    from rag_embeddings.index.pipeline import Pipeline
    from rag_embeddings.index.splitter import index_splitter
    from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
    from rag_embeddings.store.directory import IndexDirectory

    longest = max(documents, key=lambda document: len(document.text))
    changed = replace(longest, text=longest.text + "\n\nA sentence that was not there before.\n")
    with tempfile.TemporaryDirectory() as folder, IndexDirectory.open(folder, create=True) as directory:
        indexer = Indexer(directory, Pipeline(encoder, index_splitter(encoder, {})))
        rate = 0.0
        for name, batch in (("first time", documents), ("nothing changed", documents), ("one changed", [changed])):
            began = time.perf_counter()
            summary = indexer.upsert(batch)
            taken = time.perf_counter() - began
            rate = rate or summary.encoded / taken
            print(f"{name:<18}{taken:8.2f} s{summary.encoded:8} texts encoded")
        search = SentenceParentSearch(directory, encoder)
        times = []
        for number in range(SEARCHES):
            began = time.perf_counter()
            search.search(QUESTIONS[number % len(QUESTIONS)], 5)
            times.append(time.perf_counter() - began)
        times.sort()
        middle, late = statistics.median(times), times[int(0.95 * SEARCHES)]
        print(
            f"{'search':<18}{1000 * middle:8.1f} ms median, {1000 * late:.1f} ms at the 95th percentile, model included"
        )
        print(f"{'texts per second':<18}{rate:8.0f}")
    return rate


def langchain(encoder: Encoder, documents: list[Document]) -> float:
    """Index with LangChain's own parts; return the texts embedded and stored per second."""
    from langchain_chroma import Chroma
    from langchain_core.documents import Document as LangChainDocument
    from langchain_core.indexing import InMemoryRecordManager, index
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    from rag_embeddings.langchain import InstructionEmbeddings

    splitter = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
        encoder.tokenizer, chunk_size=encoder.profile.document_tokens, chunk_overlap=0
    )
    embeddings = InstructionEmbeddings(model=encoder.profile.model)
    embeddings.embed_query("load, and warm up")
    items = [LangChainDocument(document.text, metadata={"source": document.id}) for document in documents]
    with tempfile.TemporaryDirectory() as folder:
        records = InMemoryRecordManager("benchmark")
        records.create_schema()
        store = Chroma("benchmark", embeddings, persist_directory=folder)
        rate = 0.0
        for name in ("first time", "nothing changed"):
            began = time.perf_counter()
            result = index(
                splitter.split_documents(items),
                records,
                store,
                cleanup="incremental",
                source_id_key="source",
                key_encoder="blake2b",
            )
            taken = time.perf_counter() - began
            rate = rate or result["num_added"] / taken
            print(f"{'LangChain, ' + name:<28}{taken:8.2f} s{result['num_added']:8} texts encoded")
    return rate


if __name__ == "__main__":
    main()
