"""The ways to retrieve, side by side on a folder of documents, with LangChain.

    pip install "rag-embeddings[langchain,local,chroma,keywords,read,bundled-model]"
    python langchain_retrieval.py FOLDER "What does the handbook say about holidays?"

It indexes the folder into ./rag-index, links what different files say alike, and prints what each way of asking finds:
the best passages; by words and meaning; unlike each other; as many as fit into a number of tokens, with neighbours
merged; with sentences around; with linked passages of other files. The sentences that matched are marked. Everything
runs on this machine, offline, without a language model; `agent_tool` is what an agent would be given.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_core.tools import create_retriever_tool

from rag_embeddings import LinkRule, errors, find_files, read_file
from rag_embeddings.langchain import InstructionEmbeddings, SentenceHighlighter, SentenceParentIndex

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from langchain_core.tools import BaseTool

WAYS = {
    "best passages": {"k": 2},
    "by words and meaning": {"k": 2, "search_type": "hybrid"},
    "unlike each other": {"k": 2, "search_type": "mmr"},
    "as many as fit, neighbours merged": {"token_budget": 200, "merge": True},
    "with a sentence on both sides": {"k": 2, "window": 1},
    "with linked passages": {"k": 1, "links": 200},
}


def agent_tool(index: SentenceParentIndex) -> BaseTool:
    """Make the tool that an agent searches with: at most 1,500 tokens an answer, whatever it asks."""
    retriever = index.as_retriever(search_type="hybrid", token_budget=1500, merge=True)
    return create_retriever_tool(retriever, "search_documents", "Finds passages of the documents.")


def shown(passage: Document) -> str:
    """Write a passage for a person: file, characters, how it was found, the text with its marks."""
    facts = passage.metadata
    how = "linked" if "linked_from" in facts else f"score {facts['score']:.2f}"
    place = f"{Path(facts['source_id']).name}, characters {facts['start_index']}-{facts['end_index']}"
    return f"  {place} ({how})\n    " + passage.page_content.replace("\n", "\n    ")


def main() -> int:
    """Run from the command line; return its exit code."""
    parser = argparse.ArgumentParser(description="Ask a folder of documents a question in several ways.")
    parser.add_argument("folder", type=Path, help="folder with the files")
    parser.add_argument("question")
    parser.add_argument("--db", type=Path, default=Path("rag-index"), help="where the index lives (%(default)s)")
    parser.add_argument(
        "--threshold", type=float, default=0.6, help="least similarity of linked passages (%(default)s)"
    )
    options = parser.parse_args()

    highlighter = SentenceHighlighter(sentences=1)
    try:
        with SentenceParentIndex(
            embeddings=InstructionEmbeddings(), directory=options.db, link_rule=LinkRule(options.threshold)
        ) as index:
            index.upsert([read_file(path) for path in find_files([options.folder])])
            for way, settings in WAYS.items():
                found = index.invoke(options.question, **settings)
                print(f"\n{way}: {settings}")
                print("\n".join(map(shown, highlighter.compress_documents(found, options.question))))
    except errors.RagEmbeddingsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
