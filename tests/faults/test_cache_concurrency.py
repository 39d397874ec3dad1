"""Many processes write and read one cache: nothing lost, nothing wrong, nobody told that it is locked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.cached import CachedEncoder
from rag_embeddings.testing.encoder import DeterministicEncoder

WORKER = """
import json, random, sys
from rag_embeddings.encode.base import Role
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.cached import CachedEncoder, vector_keys
from rag_embeddings.testing.encoder import DeterministicEncoder

kind, path, seed, operations, pool, bound = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
rng = random.Random(seed)
encoder = DeterministicEncoder(48)
texts = [f"text {number}" for number in range(pool)]
right = encoder.encode(texts, Role.DOCUMENT)
keys = vector_keys(texts, Role.DOCUMENT, encoder.profile)
cache = VectorCache(path, max_bytes=bound)
cached = CachedEncoder(encoder, cache)
done = wrong = 0
print("ready", flush=True)
sys.stdin.readline()
while done < operations:
    some = rng.sample(range(pool), rng.randint(1, 40))
    if kind == "writer":
        found = cached.encode([texts[index] for index in some], Role.DOCUMENT)
        wrong += sum(vector.tobytes() != right[index].tobytes() for vector, index in zip(found, some))
    else:
        found = cache.get_many([keys[index] for index in some], 48)
        wrong += sum(
            keys[index] in found and found[keys[index]].tobytes() != right[index].tobytes() for index in some
        )
    done += len(some)
    if rng.random() < 0.01:
        cache.close()
info = cache.info()
print(json.dumps({"wrong": wrong, "skipped": info.skipped, "damaged": info.damaged, "aside": info.set_aside}))
"""


def work_together(path: Path, operations: int, pool: int, bound: int, each: int = 8) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER, kind, str(path), *map(str, (seed, operations, pool, bound))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed, kind in enumerate(["writer", "reader"] * each)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:  # all at once, also at making the file
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        out, err = worker.communicate(timeout=500)
        assert (worker.returncode, err) == (0, "")
        assert json.loads(out) == {"wrong": 0, "skipped": 0, "damaged": 0, "aside": 0}


def check_whole(path: Path, pool: int) -> None:
    texts = [f"text {number}" for number in range(pool)]
    with VectorCache(path) as cache:
        encoder = DeterministicEncoder(48)
        found = CachedEncoder(encoder, cache).encode(texts, Role.DOCUMENT)
        assert found.tobytes() == DeterministicEncoder(48).encode(texts, Role.DOCUMENT).tobytes()
        assert encoder.encoded <= pool // 50  # nothing stored was lost
        assert cache._file.read(lambda db: db.execute("PRAGMA integrity_check").fetchone()) == (b"ok",)
        rows, uses = cache._file.read(
            lambda db: db.execute("SELECT (SELECT count(*) FROM vectors), (SELECT count(*) FROM uses)").fetchone()
        )
        assert rows == uses == pool


def test_eight_writers_and_eight_readers(tmp_path: Path) -> None:
    work_together(tmp_path / "v.sqlite", 400, 200, 1 << 30)
    check_whole(tmp_path / "v.sqlite", 200)


@pytest.mark.slow
def test_eight_writers_and_eight_readers_a_hundred_thousand_operations(tmp_path: Path) -> None:
    work_together(tmp_path / "v.sqlite", 6_300, 3000, 1 << 30)
    check_whole(tmp_path / "v.sqlite", 3000)


def test_writers_that_evict_each_other(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    work_together(path, 3_000, 6000, 1 << 20, each=2)
    with VectorCache(path, max_bytes=1 << 20) as cache:
        assert cache._file.read(lambda db: db.execute("PRAGMA integrity_check").fetchone()) == (b"ok",)
    assert path.stat().st_size <= 1 << 20
