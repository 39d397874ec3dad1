"""Split one text by structure, by meaning and by Bollinger bands, in LangChain, and compare the chunks.

    pip install "rag-embeddings[langchain,local,bundled-model]"
    python langchain_splitters.py notes.md

Every chunk says exactly where it stands in the file. The splitters are ``TextSplitter``s: they work wherever LangChain
takes one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from langchain_core.documents import Document

from rag_embeddings.langchain import (
    BollingerTextSplitter,
    InstructionEmbeddings,
    RegexTextSplitter,
    SemanticTextSplitter,
    TopicTextSplitter,
)


def main() -> None:
    """Print the chunks that each splitter makes of a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--chunk-size", type=int, default=200, help="most tokens of a chunk")
    options = parser.parse_args()
    if not options.file.is_file():
        parser.error(f"{options.file} is no file")

    text = options.file.read_text(encoding="utf-8")
    document = Document(page_content=text, id=str(options.file))
    embeddings = InstructionEmbeddings(model="sentence-transformers/all-MiniLM-L6-v2")
    size = options.chunk_size
    splitters = {
        "by structure": RegexTextSplitter(chunk_size=size, embeddings=embeddings),
        "by meaning": SemanticTextSplitter(embeddings, chunk_size=size),
        "as SemanticChunker would": SemanticTextSplitter(
            embeddings, chunk_size=size, breakpoint_threshold_type="percentile"
        ),
        "by Bollinger bands": BollingerTextSplitter(embeddings, chunk_size=size),
        "by topic": TopicTextSplitter(embeddings, chunk_size=size),
    }
    for name, splitter in splitters.items():
        chunks = splitter.split_documents([document])
        print(f"{name}: {len(chunks)} chunks")
        for chunk in chunks:
            start, end = chunk.metadata["start_index"], chunk.metadata["end_index"]
            place = chunk.metadata.get("spans", f"{start}-{end}")  # a topic may stand in several places
            print(f"  characters {place}: {' '.join(chunk.page_content.split())[:70]}")


if __name__ == "__main__":
    main()
