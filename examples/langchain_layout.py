"""Ask one long document a question, with LangChain: passages know their section, and what was declared elsewhere.

    pip install "rag-embeddings[langchain,local,chroma,read,bundled-model]"
    python langchain_layout.py REPORT.md "What did the Lisbon mill earn?"

The document is cut along its layout. In front of each passage stand the headings above it and the declarations in
force ("all numbers in this document are in millions"), wherever in the document they were made; they are embedded with
the passage, and shown to a language model. Everything runs on this machine, offline.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rag_embeddings import DocumentError, ScopeNotes, read_file
from rag_embeddings.langchain import InstructionEmbeddings, LayoutTextSplitter, SentenceParentIndex

if TYPE_CHECKING:
    from langchain_core.documents import Document


def shown(number: int, passage: Document) -> str:
    """Write a passage for a person: where it stands, what a model is told beside it, the text."""
    found = passage.metadata
    place = [f"characters {found['start_index']}-{found['end_index']}"]
    if "page" in found:
        place.insert(0, f"page {found['page']}")
    told = "".join(f"    | {line}\n" for line in found.get("context", "").splitlines())
    return f"[{number}] {found.get('headings', found['source'])} ({', '.join(place)})\n{told}{passage.page_content}\n"


def main() -> int:
    """Run from the command line; return its exit code."""
    parser = argparse.ArgumentParser(description="Ask one document a question.")
    parser.add_argument("file", type=Path)
    parser.add_argument("question")
    parser.add_argument("-k", type=int, default=3, help="passages to find (default: %(default)s)")
    options = parser.parse_args()

    try:
        document = read_file(options.file)
    except DocumentError as error:
        print(error, file=sys.stderr)
        return 2
    embeddings = InstructionEmbeddings()
    splitter = LayoutTextSplitter(chunk_size=200, embeddings=embeddings, notes=ScopeNotes())
    with SentenceParentIndex(embeddings=embeddings, splitter=splitter, k=options.k) as index:
        index.upsert([document])
        for number, passage in enumerate(index.invoke(options.question), start=1):
            print(shown(number, passage))
    return 0


if __name__ == "__main__":
    sys.exit(main())
