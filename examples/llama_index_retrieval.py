"""The ways to retrieve, side by side on a folder of documents, with LlamaIndex.

    pip install "rag-embeddings[llama-index,local,chroma,keywords,read,bundled-model]"
    python llama_index_retrieval.py FOLDER "What does the handbook say about holidays?"

It indexes the folder into ./rag-index, links what different files say alike, and prints what each way of asking finds:
the best passages; by words and meaning; unlike each other; as many as fit into a number of tokens, with neighbours
merged; with sentences around; with linked passages of other files. The sentences that matched are marked. Everything
runs on this machine, offline, without a language model; `engine` is what answers with one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llama_index.core.query_engine import RetrieverQueryEngine

from rag_embeddings import LinkRule, errors, find_files, read_file
from rag_embeddings.llama_index import InstructionEmbedding, SentenceHighlightPostprocessor, SentenceParentRetriever

if TYPE_CHECKING:
    from llama_index.core.llms import LLM
    from llama_index.core.schema import NodeWithScore

WAYS = {
    "best passages": {"similarity_top_k": 2},
    "by words and meaning": {"similarity_top_k": 2, "vector_store_query_mode": "hybrid"},
    "unlike each other": {"similarity_top_k": 2, "vector_store_query_mode": "mmr"},
    "as many as fit, neighbours merged": {"token_budget": 200, "merge": True},
    "with a sentence on both sides": {"similarity_top_k": 2, "window": 1},
    "with linked passages": {"similarity_top_k": 1, "link_tokens": 200},
}


def engine(retriever: SentenceParentRetriever, llm: LLM) -> RetrieverQueryEngine:
    """Make the query engine: at most 1,500 tokens of passages, the sentences that matched marked for the model."""
    filling = retriever.with_settings(token_budget=1500, merge=True, vector_store_query_mode="hybrid")
    return RetrieverQueryEngine.from_args(filling, llm=llm, node_postprocessors=[SentenceHighlightPostprocessor()])


def shown(found: NodeWithScore) -> str:
    """Write a passage for a person: file, characters, how it was found, the text with its marks."""
    facts = found.metadata
    how = "linked" if "linked_from" in facts else f"score {facts['score']:.2f}"
    place = f"{Path(facts['source_id']).name}, characters {facts['start_index']}-{facts['end_index']}"
    return f"  {place} ({how})\n    " + found.text.replace("\n", "\n    ")


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

    highlighter = SentenceHighlightPostprocessor(sentences=1)
    try:
        with SentenceParentRetriever.from_documents(
            [read_file(path) for path in find_files([options.folder])],
            embed_model=InstructionEmbedding(),
            directory=options.db,
            links=LinkRule(options.threshold),
        ) as retriever:
            for way, settings in WAYS.items():
                found = retriever.with_settings(**settings).retrieve(options.question)
                print(f"\n{way}: {settings}")
                print("\n".join(map(shown, highlighter.postprocess_nodes(found, query_str=options.question))))
    except errors.RagEmbeddingsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
