"""Late chunking against re-embedding, chonkie, and the frameworks' semantic pipelines: quality, tokens, time.

The data is the public set of "Evaluating Chunking Strategies for Retrieval" (Smith and Troynikov, Chroma, 2024), or any
folder that holds text files and a ``questions.csv`` as ``rag-embeddings evaluate`` takes it::

    python benchmarks/late_chunking.py quality --data FOLDER
    python benchmarks/late_chunking.py speed --data FOLDER
    python benchmarks/late_chunking.py memory

Every vector is of all-MiniLM-L6-v2. ``quality`` takes the same boundaries for every row and prints paired 95 %
intervals; "re-embedded, truncated" is what the frameworks' own embeddings do to chunks over 256 tokens, "re-embedded"
averages their parts. Peers that are not installed are left out: chonkie; langchain-experimental with
langchain-huggingface; llama-index-embeddings-huggingface. Tokens are counted where they enter the model, padding
included.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from late_peers import chonkie_layout, counting, installed, semantic_pipelines

from rag_embeddings import (
    Chunk,
    Document,
    LatePass,
    Match,
    RecursiveSplitter,
    Role,
    TransformerEncoder,
    Units,
    find_files,
    read_file,
)
from rag_embeddings.encode.late import units
from rag_embeddings.encode.windows import Windows
from rag_embeddings.evaluate import compare, evaluate, load_questions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rag_embeddings import Evaluation

    Vectors = np.ndarray[Any, np.dtype[np.float32]]

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "chunk_eval"
METRICS = ("recall@5", "recall@500_tokens", "recall@1000_tokens")


def main() -> None:
    """Run one part of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("quality", "speed", "memory", "memory-of"))
    parser.add_argument("--data", type=Path, default=DATA, help="folder with text files and questions.csv")
    parser.add_argument("--questions", nargs="+", default=["questions.csv", "questions_paraphrased.csv"])
    parser.add_argument("--window", type=int, help="tokens in a window in `quality` (default: all the model takes)")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each pipeline in `speed`, interleaved")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], help="ours in `speed`")
    parser.add_argument("--threads", type=int, help="threads that torch may use (default: its own number)")
    parser.add_argument("--tokens", type=int, default=200_000, help="size of the document in `memory-of`")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.part == "memory":
        memory()
        return
    if options.part == "memory-of":
        memory_of(options.tokens)
        return
    if not (options.data / options.questions[0]).is_file():
        print(f"skipped: there is no {options.questions[0]} in {options.data}; name the folder with --data")
        return
    documents = [read_file(path) for path in find_files([options.data])]
    if options.part == "quality":
        quality(documents, options.data, options.questions, Windows(options.window))
    else:
        speed(documents, options.data, options)


# --- quality ---------------------------------------------------------------------------------------------------------


def quality(documents: Sequence[Document], folder: Path, files: Sequence[str], windows: Windows) -> None:
    """Print recall of late and re-embedded vectors on the same boundaries."""
    encoder = TransformerEncoder()
    asked = {name: load_questions(folder / name, documents) for name in files if (folder / name).is_file()}
    queries = {name: encoder.encode([item.text for item in found], Role.QUERY) for name, found in asked.items()}
    layouts: dict[str, tuple[list[Units], Vectors | None]] = {}
    for size in (400, 200):
        splitter = RecursiveSplitter(size)
        layouts[f"recursive {size}"] = [units(document, splitter) for document in documents], None
        if installed("chonkie"):
            layouts[f"chonkie LateChunker {size}"] = chonkie_layout(documents, size)
    for layout, (cut, theirs) in layouts.items():
        chunks = [chunk for item in cut for chunk in item.chunks]
        owners = np.repeat(np.arange(len(chunks)), [len(spans) for item in cut for spans in item.sentences])
        vectors, sentences = encoded(encoder, windows, cut, theirs)
        print(f"== {layout}: {len(chunks)} chunks")
        for name, questions in asked.items():
            ranks = {
                row: evaluate(ranking(questions, queries[name] @ found.T, chunks), questions, documents)
                for row, found in vectors.items()
            }
            ranks |= {
                f"{row}, sentences to parents": evaluate(
                    ranking(questions, best_of(queries[name] @ found.T, owners, len(chunks)), chunks),
                    questions,
                    documents,
                )
                for row, found in sentences.items()
            }
            report(f"{layout}, {Path(name).stem}", ranks)


def encoded(
    encoder: TransformerEncoder, windows: Windows, cut: Sequence[Units], theirs: Vectors | None
) -> tuple[dict[str, Vectors], dict[str, Vectors]]:
    """Encode chunks and sentences in every way, and print what each cost."""
    chunk_texts = [chunk.text for item in cut for chunk in item.chunks]
    sentence_texts = [span.of(item.document.text) for item in cut for spans in item.sentences for span in spans]
    own = sum(len(ids) for ids in _ids(encoder, [item.document.text for item in cut]))
    model = _local_model(encoder)
    with counting(model, "late, chunks and sentences", own):
        late = list(LatePass(encoder, windows=windows).encode_many(cut))
    with counting(model, "re-embedded chunks", own):
        plain = encoder.encode(chunk_texts, Role.DOCUMENT)
    with counting(model, "re-embedded sentences", own):
        plain_sentences = encoder.encode(sentence_texts, Role.DOCUMENT)
    vectors = {
        "late": np.concatenate([found.vectors for found in late]),
        "re-embedded": plain,
        "re-embedded, truncated": model._model.encode(  # noqa: SLF001
            chunk_texts, normalize_embeddings=True, show_progress_bar=False
        ),
    }
    if theirs is not None:
        vectors["chonkie's own"] = theirs
    late_sentences = np.concatenate([found.sentence_vectors for found in late])
    mixed = late_sentences + plain_sentences
    sentences = {
        "late": late_sentences,
        "re-embedded": plain_sentences,
        "mix=0.5": mixed / np.linalg.norm(mixed, axis=1, keepdims=True),
    }
    return vectors, sentences


def best_of(scores: Vectors, owners: np.ndarray[Any, Any], count: int) -> Vectors:
    """Return for each chunk the score of its best sentence."""
    best = np.full((len(scores), count), -np.inf, dtype=np.float32)
    for column, owner in enumerate(owners):
        np.maximum(best[:, owner], scores[:, column], out=best[:, owner])
    return best


def ranking(questions: Sequence[Any], scores: Vectors, chunks: Sequence[Chunk]) -> Callable[[str, int], list[Match]]:
    """Make a retriever of a matrix of scores."""
    rows = {question.text: row for row, question in enumerate(questions)}

    def retrieve(question: str, k: int) -> list[Match]:
        row = scores[rows[question]]
        return [Match(chunks[index], float(row[index]), ()) for index in np.argsort(-row, kind="stable")[:k]]

    return retrieve


def report(title: str, results: dict[str, Evaluation]) -> None:
    """Print each row, then what late vectors change, question by question."""
    print(f"\n-- {title}: recall at 5 chunks, 500 tokens, 1000 tokens")
    for name, result in results.items():
        print(f"  {name:<42}", *(f"{100 * result.interval(metric).mean:6.1f}" for metric in METRICS))
    pairs = [
        ("late", "re-embedded, truncated"),
        ("late", "re-embedded"),
        ("late", "chonkie's own"),
        ("late, sentences to parents", "re-embedded, truncated"),
        ("late, sentences to parents", "re-embedded"),
        ("late, sentences to parents", "re-embedded, sentences to parents"),
        ("mix=0.5, sentences to parents", "re-embedded, sentences to parents"),
    ]
    for one, other in pairs:
        if other in results:
            differences = compare(results[one], results[other]).differences
            shown = (differences[metric].scaled(100) for metric in METRICS)
            print(f"  {one} minus {other}:", *(f"{d.mean:+.1f} [{d.low:+.1f}, {d.high:+.1f}]" for d in shown))
    print()


# --- speed -----------------------------------------------------------------------------------------------------------


def speed(documents: Sequence[Document], folder: Path, options: argparse.Namespace) -> None:
    """Time what turns text into vectors that a store can take, side by side, and what it retrieves."""
    questions = load_questions(folder / options.questions[0], documents)
    encoders = [TransformerEncoder(precision=precision) for precision in options.precision]
    queries = encoders[0].encode([question.text for question in questions], Role.QUERY)
    own = sum(len(ids) for ids in _ids(encoders[0], [document.text for document in documents]))
    pipelines = {name: pipeline for encoder in encoders for name, pipeline in _ours(encoder)} | dict(
        semantic_pipelines()
    )
    seconds: dict[str, list[float]] = {name: [] for name in pipelines}
    busy: dict[str, list[float]] = {name: [] for name in pipelines}
    recalls: dict[str, float] = {}
    for _ in range(options.repeat):
        for name, (model, run) in pipelines.items():
            began = time.process_time()
            with counting(model, name, own) as taken:
                chunks, vectors = run(documents)
            busy[name].append(time.process_time() - began)
            seconds[name].append(taken[0])
            if name not in recalls:
                matrix = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
                result = evaluate(ranking(questions, queries @ matrix.T, chunks), questions, documents)
                recalls[name] = 100 * result.interval("recall@1000_tokens").mean
    ours = [name for name in pipelines if name.startswith("ours")]
    for title, times in (("time", seconds), ("processor time", busy)):
        print(f"-- {title}, the least of {options.repeat}, on {torch.get_num_threads()} threads; R@1000")
        for name, taken in times.items():
            print(f"{name:<42} {min(taken):7.1f} s {recalls[name]:5.1f}", end="")
            if name not in ours:
                print("  takes", ", ".join(f"{min(taken) / min(times[own]):.1f}x {own}" for own in ours), end="")
            print()


def _ours(encoder: TransformerEncoder) -> Iterator[tuple[str, tuple[Any, Any]]]:
    from rag_embeddings import SemanticSplitter

    late = LatePass(encoder)

    def ours(splitter: Any) -> Callable[[Sequence[Document]], tuple[list[Chunk], Vectors]]:
        def run(documents: Sequence[Document]) -> tuple[list[Chunk], Vectors]:
            found = list(late.run_many(documents, splitter))
            return [chunk for item in found for chunk in item.chunks], np.concatenate([item.vectors for item in found])

        return run

    model = _local_model(encoder)
    yield f"ours, one pass, {encoder.precision}", (model, ours(RecursiveSplitter(200)))
    semantic = SemanticSplitter(encoder, 200, tokenizer="cl100k_base")
    yield f"ours, two passes, {encoder.precision}", (model, ours(semantic))


# --- memory ----------------------------------------------------------------------------------------------------------


def memory() -> None:
    """Measure documents of 20,000 and 200,000 tokens, each in a process of its own."""
    for tokens in (1_000, 20_000, 200_000):
        subprocess.run([sys.executable, __file__, "memory-of", "--tokens", str(tokens)], check=True)  # noqa: S603


def memory_of(tokens: int) -> None:
    """Cut and encode one document, and print peak memory and time."""
    encoder = TransformerEncoder()
    splitter = RecursiveSplitter(200, tokenizer=encoder)
    words = "The river rose slowly in the spring and copper melts at 1085 degrees while nobody believed it. "
    text = (words * (tokens // 19 + 1))[: int(tokens * len(words) / 19)]
    LatePass(encoder).run(Document(words), splitter)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    late = LatePass(encoder).run(Document(text), splitter)
    taken = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    own = sum(len(ids) for ids in _ids(encoder, [text]))
    assert len(late.vectors) == len(late.chunks)
    assert late.vectors.any(axis=1).all()
    print(
        f"{own} tokens, {len(late.chunks)} chunks, {len(late.sentence_vectors)} sentences: {taken:.1f} s "
        f"({1e3 * taken / own:.2f} ms a token), peak {peak:.0f} MiB, {peak - before:.0f} above the loaded model"
    )


def _local_model(encoder: TransformerEncoder) -> Any:
    return encoder._load()[0]  # noqa: SLF001


def _ids(encoder: TransformerEncoder, texts: Sequence[str]) -> list[list[int]]:
    tokenizer = encoder.tokenizer
    return [tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in texts]


if __name__ == "__main__":
    main()
