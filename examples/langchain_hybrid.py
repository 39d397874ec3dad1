"""Meaning and words together: what keywords add to a search by vectors, with LangChain.

    pip install "rag-embeddings[langchain,local,chroma,keywords,patterns,read,bundled-model]"
    python langchain_hybrid.py FOLDER "What does error E1047 mean?" --pattern "E[0-9]+"

It indexes the folder into ./rag-index and prints the best passages by vectors alone and by vectors and keywords; with
--pattern only passages in whose text a regular expression matches. Everything runs on this machine, offline.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rag_embeddings import errors, find_files, read_file
from rag_embeddings.langchain import HybridRetriever, InstructionEmbeddings


def main() -> int:
    """Run from the command line; return its exit code."""
    parser = argparse.ArgumentParser(description="Compare a search by vectors with one by vectors and keywords.")
    parser.add_argument("folder", type=Path, help="folder with the files")
    parser.add_argument("question")
    parser.add_argument("-k", type=int, default=3, help="number of passages (%(default)s)")
    parser.add_argument("--pattern", help="regular expression that has to match in a passage")
    parser.add_argument("--db", type=Path, default=Path("rag-index"), help="where the index lives (%(default)s)")
    options = parser.parse_args()
    try:
        with HybridRetriever(
            embeddings=InstructionEmbeddings(),
            directory=options.db,
            k=options.k,
            score="mean",  # for both, so that the scores can be compared
        ) as retriever:
            retriever.upsert([read_file(path) for path in find_files([options.folder])])
            for title, way in (("by vectors", "similarity"), ("by vectors and keywords", "hybrid")):
                print(f"== {title}")
                for passage in retriever.invoke(options.question, search_type=way, pattern=options.pattern):
                    place = f"{Path(passage.metadata['source_id']).name}:{passage.metadata['start_index']}"
                    text = " ".join(passage.page_content.split())
                    print(f"{passage.metadata['score']:.2f}  {place}  {text[:200]}")
    except errors.RagEmbeddingsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
