"""What compression costs and saves: bytes, recall against exact search, latency at one client.

    python benchmarks/quantization.py --vectors FILE.npy               # float32 of shape (n, dim), any vectors
    python benchmarks/quantization.py --vectors FILE.npy --data FOLDER # made from a folder's sentences if absent
    python benchmarks/quantization.py --vectors FILE.npy --only codes  # or stores: one of the two tables
    python benchmarks/quantization.py --vectors FILE.npy --stores FOLDER  # stores that are there are not made again
    python benchmarks/quantization.py --synthetic 1000000              # memory and latency at a million

The last 1,000 vectors are the queries. Beside it, asked in turn with the same queries: Chroma, and LangChain's FAISS
store, as their users make them (skipped where they are not installed).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.codec.binary import BinaryCodec
from rag_embeddings.codec.int8 import Int8Codec
from rag_embeddings.codec.product import ProductCodec
from rag_embeddings.codec.truncate import TruncateCodec
from rag_embeddings.store.base import Record
from rag_embeddings.store.quantized import QuantizedStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from rag_embeddings.codec.base import VectorCodec
    from rag_embeddings.encode.base import Vectors

    Search = Callable[[Vectors], list[int]]

QUERIES = 1_000
K = 10
WIDTH = 384
SLICE = 5_000
SENTENCES = 101_000


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, help="file of vectors")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders with texts to make it from")
    parser.add_argument("--only", choices=["codes", "stores"], help="one of the two tables")
    parser.add_argument("--ask", type=int, default=QUERIES, help="queries to ask each store (default: %(default)s)")
    parser.add_argument("--stores", type=Path, help="folder to keep the stores in; a temporary one if not given")
    parser.add_argument("--synthetic", type=int, help="number of made-up vectors for the test at scale")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
    elif options.synthetic:
        at_scale(options.synthetic)
    elif options.vectors:
        if not options.vectors.exists():
            np.save(options.vectors, encoded(options.data))
        vectors = np.load(options.vectors)
        vectors, queries = vectors[:-QUERIES], vectors[-QUERIES:]
        print(f"{len(vectors):,} vectors of {vectors.shape[1]} dimensions, {len(queries):,} queries")
        truth = exact(vectors, queries)
        if options.only != "stores":
            codes_alone(vectors, queries, truth)
        if options.only != "codes":
            with tempfile.TemporaryDirectory() as root:
                asked = slice(0, options.ask)
                stores(options.stores or Path(root), vectors, queries[asked], truth[asked])
    else:
        parser.error("give --vectors or --synthetic")


def encoded(folders: list[Path]) -> Vectors:
    """Encode the sentences of text and HTML files with the bundled model."""
    from rag_embeddings.encode.base import Role
    from rag_embeddings.encode.transformer import TransformerEncoder
    from rag_embeddings.read.files import find_files, read_file
    from rag_embeddings.split.sentences import sentence_spans

    sentences: dict[str, None] = {}
    for path in find_files(folders, ["*.html", "*.txt", "*.md"]):
        text = read_file(path).text
        found = (" ".join(span.of(text).split()) for span in sentence_spans(text))
        sentences.update(dict.fromkeys(sentence for sentence in found if 30 <= len(sentence) <= 400))
    texts = np.random.default_rng(0).permutation(list(sentences))[:SENTENCES].tolist()
    return TransformerEncoder().encode(texts, Role.DOCUMENT)


def exact(vectors: Vectors, queries: Vectors) -> NDArray[np.int64]:
    """Return the K nearest of all, shape (queries, K)."""
    return np.concatenate([np.argsort(-(part @ vectors.T), axis=1)[:, :K] for part in np.array_split(queries, 50)])


def codes_alone(vectors: Vectors, queries: Vectors, truth: NDArray[np.int64]) -> None:
    """Print what codes find without the floats."""
    print("\ncodes alone, compared with the float query\n")
    print(f"{'codec':<24}{'bytes':>8}{'recall@10':>12}")
    for name, codec in codecs().items():
        fitted = codec.fit(vectors[:20_000])
        codes = fitted.encode(vectors)
        some = slice(0, 200)
        found = [np.argsort(-fitted.score(query, codes))[:K].tolist() for query in queries[some]]
        print(f"{name:<24}{fitted.bytes_per_vector:>8}{recall(found, truth[some]):>12.3f}", flush=True)


def stores(root: Path, vectors: Vectors, queries: Vectors, truth: NDArray[np.int64]) -> None:
    """Print what stores find, how fast, and how large their index is."""
    print(f"\nstores, asked {len(queries):,} queries in turn\n", flush=True)
    made = list(opened(root, vectors))
    times: dict[str, list[float]] = {name: [] for name, *_ in made}
    answers: dict[str, list[list[int]]] = {name: [] for name, *_ in made}
    for *_, search in made:
        search(queries[0])  # opened, and warm
    for query in queries:
        for name, _, _, search in made:
            start = time.perf_counter()
            found_ids = search(query)
            times[name].append(time.perf_counter() - start)
            answers[name].append(found_ids)
    print(f"{'store':<34}{'bytes':>8}{'recall@10':>12}{'p50 ms':>9}{'p95 ms':>9}{'build s':>9}")
    for name, size, seconds, _ in made:
        p50, p95 = np.percentile(times[name], [50, 95]) * 1e3
        print(f"{name:<34}{size:>8.0f}{recall(answers[name], truth):>12.4f}{p50:>9.2f}{p95:>9.2f}{seconds:>9.0f}")
    print("\nbytes: of the searched index, for each vector; ours and Chroma keep the floats on disk as well")


def codecs() -> dict[str, VectorCodec]:
    """Return the codecs that are compared."""
    return {
        "int8": Int8Codec(),
        "binary": BinaryCodec(),
        "product, parts of 8": ProductCodec(),
        "product, parts of 4": ProductCodec(part_width=4),
        "truncated to 256": TruncateCodec(dimensions=256),
        "truncated to 128": TruncateCodec(dimensions=128),
        "truncated to 64": TruncateCodec(dimensions=64),
        "int8 of 256": Int8Codec(dimensions=256),
        "binary of 256": BinaryCodec(dimensions=256),
    }


def recall(found: list[list[int]], truth: NDArray[np.int64]) -> float:
    """Return the share of the K nearest that were found."""
    return float(np.mean([len(set(ids) & set(row)) / K for ids, row in zip(found, truth.tolist(), strict=True)]))


def opened(root: Path, vectors: Vectors) -> Iterator[tuple[str, float, float, Search]]:
    """Yield name, bytes a vector, seconds to build, and how to search."""
    for name, codec in {
        "int8, rescored": Int8Codec(),
        "binary, rescored": BinaryCodec(),
        "product, rescored": ProductCodec(),
    }.items():
        path = root / name
        start = time.perf_counter()
        store = QuantizedStore(path) if path.exists() else filled(path, codec, [vectors])
        seconds = time.perf_counter() - start
        size = sum(file.stat().st_size for file in path.glob("index-*")) / len(vectors)
        yield name, size, seconds, lambda query, store=store: [int(hit.id) for hit in store.search(query, K)]
        if name.startswith("int8"):
            yield (
                "exact",
                vectors.shape[1] * 4,
                0.0,
                lambda query, store=store: [int(hit.id) for hit in store.search(query, K, exact=True)],
            )
    yield from chroma(root / "chroma", vectors)
    yield from faiss(vectors)


def filled(path: Path, codec: VectorCodec, blocks: Any) -> QuantizedStore:
    """Write vectors into a new store and build its index."""
    store = QuantizedStore(path, codec=codec, build_after=10**9)
    number = 0
    for block in blocks:
        for start in range(0, len(block), SLICE):
            part = block[start : start + SLICE]
            store.upsert([Record(str(number + row), vector) for row, vector in enumerate(part)])
            number += len(part)
    store.build()
    return store


def chroma(path: Path, vectors: Vectors) -> Iterator[tuple[str, float, float, Search]]:
    """Chroma with its own settings, by cosine."""
    if find_spec("chromadb") is None:
        print("Chroma: skipped, chromadb is not installed")
        return
    import chromadb

    start = time.perf_counter()
    client = chromadb.PersistentClient(str(path), settings=chromadb.config.Settings(anonymized_telemetry=False))
    collection = client.get_or_create_collection(
        "all", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
    )
    for first in range(collection.count(), len(vectors), SLICE):
        part = vectors[first : first + SLICE]
        collection.add(ids=[str(first + row) for row in range(len(part))], embeddings=part)
    seconds = time.perf_counter() - start
    size = sum(file.stat().st_size for file in path.glob("*/*.bin")) / len(vectors)

    def search(query: Vectors) -> list[int]:
        found = collection.query(query_embeddings=query[np.newaxis], n_results=K, include=["distances"])
        return [int(identity) for identity in found["ids"][0]]

    yield "Chroma", size, seconds, search


def faiss(vectors: Vectors) -> Iterator[tuple[str, float, float, Search]]:
    """LangChain's FAISS store, which compares everything."""
    if find_spec("faiss") is None or find_spec("langchain_community") is None:
        print("FAISS: skipped, faiss or langchain-community is not installed")
        return
    from langchain_community.vectorstores import FAISS
    from langchain_core.embeddings import DeterministicFakeEmbedding

    start = time.perf_counter()
    pairs = ((str(row), vector) for row, vector in enumerate(vectors))
    store = FAISS.from_embeddings(pairs, DeterministicFakeEmbedding(size=vectors.shape[1]))
    seconds = time.perf_counter() - start

    def search(query: Vectors) -> list[int]:
        found = store.similarity_search_with_score_by_vector(query.tolist(), K)
        return [int(document.page_content) for document, _ in found]

    yield "LangChain FAISS", vectors.shape[1] * 4, seconds, search


# --- at scale ----------------------------------------------------------------------------------------------------


def synthetic(count: int, *, stored: int, seed: int) -> Iterator[Vectors]:
    """Yield vectors of length 1, 50,000 at a time, around centres to which 50 of those stored belong each.

    Vectors of the same centre have a cosine of about 0.67, all others about 0.
    """
    centres = np.random.default_rng(0).normal(size=(max(1, stored // 50), WIDTH)).astype(np.float32)
    random = np.random.default_rng(seed)
    for start in range(0, count, 50_000):
        size = min(50_000, count - start)
        rows = centres[random.integers(0, len(centres), size)]
        rows = rows + 0.7 * random.standard_normal((size, WIDTH), dtype=np.float32)
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def at_scale(count: int) -> None:
    """Build a binary store and measure it in a process of its own."""
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "store"
        start = time.perf_counter()
        filled(path, BinaryCodec(), synthetic(count, stored=count, seed=1)).close()
        print(f"{count:,} vectors written and indexed in {time.perf_counter() - start:.0f} s", flush=True)
        sizes = {file.name: file.stat().st_size / count for file in sorted(path.iterdir())}
        print("bytes a vector on disk: " + ", ".join(f"{name} {size:.0f}" for name, size in sizes.items() if size >= 1))
        subprocess.run([sys.executable, __file__, "--measure", str(path)], check=True)  # noqa: S603 - this file itself


def measure(path: Path) -> None:
    """Search 1,000 times in a fresh process; print latency, recall and memory."""
    with closing(QuantizedStore(path)) as store:
        count = len(store)
    queries = next(synthetic(QUERIES, stored=count, seed=2))
    before = resident()
    store = QuantizedStore(path)
    store.search(queries[0], K)
    times = []
    for query in queries:
        start = time.perf_counter()
        store.search(query, K)
        times.append(time.perf_counter() - start)
    after = resident()
    p50, p95 = np.percentile(times, [50, 95]) * 1e3
    print(f"binary, rescored: p50 {p50:.2f} ms, p95 {p95:.2f} ms, {len(times):,} searches")
    used, whole = after - before, count * WIDTH * 4
    print(
        f"memory that opening and searching added: {used / 2**20:.0f} MiB, mapped files included; "
        f"as float32 {whole / 2**20:.0f} MiB: one {whole / used:.1f}th"
    )
    near = [{hit.id for hit in store.search(query, K)} for query in queries[:20]]
    truth = [{hit.id for hit in store.search(query, K, exact=True)} for query in queries[:20]]
    print(f"recall@10 of 20 queries: {np.mean([len(a & b) / K for a, b in zip(near, truth, strict=True)]):.3f}")
    store.close()


def resident() -> int:
    """Return the bytes of this process that are in memory, pages of mapped files included."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


if __name__ == "__main__":
    main()
