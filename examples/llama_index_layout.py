"""Ask one long document a question, with LlamaIndex: passages know their section, and what was declared elsewhere.

    pip install "rag-embeddings[llama-index,local,chroma,read,bundled-model]"
    python llama_index_layout.py REPORT.md "What did the Lisbon mill earn?"

The document is cut along its layout. In front of each passage stand the headings above it and the declarations in
force ("all numbers in this document are in millions"), wherever in the document they were made; they are embedded with
the passage, and a language model reads what is printed here. Everything runs on this machine, offline.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llama_index.core.schema import MetadataMode

from rag_embeddings import DocumentError, ScopeNotes, read_file
from rag_embeddings.llama_index import InstructionEmbedding, LayoutNodeParser, SentenceParentRetriever


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
    embed_model = InstructionEmbedding()
    with SentenceParentRetriever.from_documents(
        [document],
        embed_model=embed_model,
        node_parser=LayoutNodeParser(chunk_size=200, embed_model=embed_model, notes=ScopeNotes()),
        similarity_top_k=options.k,
    ) as retriever:
        for number, found in enumerate(retriever.retrieve(options.question), start=1):
            node = found.node
            print(f"[{number}] characters {node.metadata['start_index']}-{node.metadata['end_index']}")
            print(node.get_content(MetadataMode.LLM), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
