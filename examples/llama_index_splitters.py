"""Split one text by structure, by meaning and by Bollinger bands, in LlamaIndex, and compare the nodes.

    pip install "rag-embeddings[llama-index,local,bundled-model]"
    python llama_index_splitters.py notes.md

Every node says exactly where it stands in the file. The node parsers work wherever LlamaIndex takes a transformation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llama_index.core import Document

from rag_embeddings.llama_index import (
    BollingerNodeParser,
    InstructionEmbedding,
    RegexNodeParser,
    SemanticNodeParser,
    TopicNodeParser,
)


def main() -> None:
    """Print the nodes that each parser makes of a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--chunk-size", type=int, default=200, help="most tokens of a chunk")
    options = parser.parse_args()
    if not options.file.is_file():
        parser.error(f"{options.file} is no file")

    document = Document(text=options.file.read_text(encoding="utf-8"), id_=str(options.file))
    embed_model = InstructionEmbedding(model_name="sentence-transformers/all-MiniLM-L6-v2")
    size = options.chunk_size
    parsers = {
        "by structure": RegexNodeParser(chunk_size=size, embed_model=embed_model),
        "by meaning": SemanticNodeParser(chunk_size=size, embed_model=embed_model),
        "by Bollinger bands": BollingerNodeParser(chunk_size=size, embed_model=embed_model),
        "by topic": TopicNodeParser(chunk_size=size, embed_model=embed_model),
    }
    for name, node_parser in parsers.items():
        nodes = node_parser.get_nodes_from_documents([document])
        print(f"{name}: {len(nodes)} nodes")
        for node in nodes:
            # a topic may stand in several places
            place = node.metadata.get("spans", f"{node.start_char_idx}-{node.end_char_idx}")
            print(f"  characters {place}: {' '.join(node.text.split())[:70]}")


if __name__ == "__main__":
    main()
