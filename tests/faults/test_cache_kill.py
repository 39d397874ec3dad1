"""`kill -9` of a writer at any moment leaves the cache sound, with all that was acknowledged in it."""

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.cached import vector_keys
from rag_embeddings.encode.profile import Profile

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill")

ROWS, WIDTH = 40, 96
PROFILE = Profile(model="m", dimensions=WIDTH)


def batch(number: int) -> tuple[list[bytes], np.ndarray]:
    texts = [f"batch {number} row {row}" for row in range(ROWS)]
    return vector_keys(texts, Role.DOCUMENT, PROFILE), np.random.default_rng(number).standard_normal(
        (ROWS, WIDTH), dtype=np.float32
    )


def written_until_killed(path: Path, first: int, acknowledged: int, spin: float, bound: int) -> int:
    """Write batches in another process, kill it after so many and a moment; return the batches acknowledged."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            cache = VectorCache(path, max_bytes=bound)
            for number in range(first, first + 10_000):
                cache.put_many(*batch(number))
                os.write(writing, b".")
        finally:
            os._exit(1)
    os.close(writing)
    seen = 0
    while seen < acknowledged:
        got = os.read(reading, acknowledged - seen)
        assert got, "the writer died by itself"
        seen += len(got)
    until = time.perf_counter() + spin
    while time.perf_counter() < until:
        pass
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    while got := os.read(reading, 1024):
        seen += len(got)
    os.close(reading)
    return seen


def check_sound(path: Path, batches: int, bound: int) -> None:
    with VectorCache(path, max_bytes=bound) as cache:
        assert cache._file.read(lambda db: db.execute("PRAGMA integrity_check").fetchone()) == (b"ok",)
        counts = "SELECT (SELECT count(*) FROM vectors), (SELECT count(*) FROM uses)"
        rows, uses = cache._file.read(lambda db: db.execute(counts).fetchone())
        assert rows == uses
        for number in range(batches):
            keys, vectors = batch(number)
            found = cache.get_many(keys, WIDTH)
            assert all(
                found[key].tobytes() == v.tobytes() for key, v in zip(keys, vectors, strict=True) if key in found
            )
            if bound > 1 << 25:
                assert len(found) == ROWS, "acknowledged and lost"
        info = cache.info()
        assert (info.damaged, info.set_aside, info.skipped) == (0, 0, 0)
        assert info.damaged_files == ()


def kill_often(folder: Path, seed: int, kills: int) -> None:
    rng = random.Random(seed)
    path, written, round_ = folder / "0.sqlite", 0, 0
    for kill in range(kills):
        if kill % 5 == 0:  # begin anew, so that the making of the file is hit too
            round_ += 1
            path, written, bound = folder / f"{round_}.sqlite", 0, rng.choice([1 << 30, 1 << 20])
        seen = written_until_killed(path, written, rng.choice([0, 0, 1, 5, 30]), rng.random() * 0.01, bound)
        written += seen
        check_sound(path, written, bound)


def test_a_killed_writer_leaves_it_sound(tmp_path: Path) -> None:
    kill_often(tmp_path, 1, 20)


@pytest.mark.slow
def test_a_writer_killed_at_two_hundred_moments_leaves_it_sound(tmp_path: Path) -> None:
    kill_often(tmp_path, 2, 200)
