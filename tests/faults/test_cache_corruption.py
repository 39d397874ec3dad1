"""A damaged cache never serves a wrong vector, never fails a run, and heals."""

import random
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.cached import CachedEncoder, vector_keys
from rag_embeddings.testing.encoder import DeterministicEncoder

TEXTS = [f"text number {index}" for index in range(120)]
ENCODER = DeterministicEncoder(48)
EXPECTED = ENCODER.encode(TEXTS, Role.DOCUMENT)


def flip(data: bytearray, rng: random.Random) -> None:
    """One to eight flipped bits anywhere."""
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def flip_structure(data: bytearray, rng: random.Random) -> None:
    """Flipped bits where SQLite keeps its structure: the starts of pages."""
    for _ in range(rng.randint(1, 4)):
        page = rng.randrange(-(-len(data) // 8192)) * 8192
        data[min(len(data) - 1, page + rng.randrange(120))] ^= 1 << rng.randrange(8)


def flip_header(data: bytearray, rng: random.Random) -> None:
    """One flipped bit in the header of the file."""
    data[rng.randrange(100)] ^= 1 << rng.randrange(8)


def cut(data: bytearray, rng: random.Random) -> None:
    """Cut off anywhere."""
    del data[rng.randrange(len(data)) :]


def zero_page(data: bytearray, rng: random.Random) -> None:
    """A page, or a sector, of zeros."""
    size = rng.choice([512, 4096, 8192])
    start = rng.randrange(-(-len(data) // size)) * size
    data[start : start + size] = bytes(len(data[start : start + size]))


def noise(data: bytearray, rng: random.Random) -> None:
    """A run of random bytes behind the header."""
    start = rng.randrange(100, len(data))
    size = min(rng.randint(1, 3000), len(data) - start)
    data[start : start + size] = rng.randbytes(size)


def swap(data: bytearray, rng: random.Random) -> None:
    """Two pages exchanged: each sound in itself."""
    first, second = (rng.randrange(1, len(data) // 8192) * 8192 for _ in range(2))
    data[first : first + 8192], data[second : second + 8192] = (
        data[second : second + 8192],
        data[first : first + 8192],
    )


DAMAGES = [flip, flip_structure, flip_header, cut, zero_page, noise, swap]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A cache at rest, and one as a killed writer leaves it, half of it still in the log."""
    folder = tmp_path_factory.mktemp("sound")
    cache = VectorCache(folder / "v.sqlite")
    CachedEncoder(ENCODER, cache).encode(TEXTS[:60], Role.DOCUMENT)
    cache.close()
    CachedEncoder(ENCODER, cache).encode(TEXTS, Role.DOCUMENT)
    # A copy beside the open file: reading it here would drop SQLite's locks when closed, and nobody else has it open.
    killed, log = cache.path.read_bytes(), Path(f"{cache.path}-wal").read_bytes()
    cache.close()
    return {"rest": cache.path.read_bytes(), "killed": killed, "log": log}


def check_heals(path: Path) -> VectorCache:
    """Whatever the file is: right vectors, no error; and after a few runs, found without encoding."""
    cache = VectorCache(path)
    for _ in range(6):
        encoder = DeterministicEncoder(48)
        found = CachedEncoder(encoder, cache).encode(TEXTS, Role.DOCUMENT)
        assert found.tobytes() == EXPECTED.tobytes()
        cache.close()
        if encoder.encoded == 0:
            break
    assert encoder.encoded == 0, "it did not heal"
    info = cache.info()
    assert info.skipped == 0
    assert len(info.damaged_files) == (1 if info.set_aside else 0)
    return cache


def damaged_runs(folder: Path, sound: dict[str, bytes], seed: int, runs: int) -> tuple[int, int]:
    rng = random.Random(seed)
    rows = files = 0
    for number in range(runs):
        path = folder / str(number) / "v.sqlite"
        path.parent.mkdir()
        state = rng.choice(["rest", "killed", "log"])
        data = bytearray(sound[state])
        rng.choice(DAMAGES)(data, rng)
        if state == "rest":
            path.write_bytes(data)
        else:
            path.write_bytes(data if state == "killed" else sound["killed"])
            Path(f"{path}-wal").write_bytes(sound["log"] if state == "killed" else data)
        info = check_heals(path).info()
        rows += info.damaged
        files += info.set_aside
        shutil.rmtree(path.parent)
    return rows, files


def test_a_hundred_corruptions_serve_no_wrong_vector(tmp_path: Path, sound: dict[str, bytes]) -> None:
    rows, files = damaged_runs(tmp_path, sound, 1, 100)
    assert rows > 10
    assert files > 10


@pytest.mark.slow
def test_a_thousand_corruptions_serve_no_wrong_vector(tmp_path: Path, sound: dict[str, bytes]) -> None:
    rows, files = damaged_runs(tmp_path, sound, 2, 1000)
    assert rows > 100
    assert files > 100


@pytest.mark.parametrize("byte", range(100))
def test_every_byte_of_the_header_may_be_lost(tmp_path: Path, sound: dict[str, bytes], byte: int) -> None:
    data = bytearray(sound["rest"])
    data[byte] ^= 0x55
    path = tmp_path / "v.sqlite"
    path.write_bytes(data)
    check_heals(path)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 99, 100, 101, 511, 512, 513, 8191, 8192, 8193, 16384])
def test_every_kind_of_cut_heals(tmp_path: Path, sound: dict[str, bytes], length: int) -> None:
    path = tmp_path / "v.sqlite"
    path.write_bytes(sound["rest"][:length])
    check_heals(path)


def test_a_file_of_zeros_heals(tmp_path: Path, sound: dict[str, bytes]) -> None:
    path = tmp_path / "v.sqlite"
    path.write_bytes(bytes(len(sound["rest"])))
    check_heals(path)


ROWS = {
    "vector of another text": "UPDATE vectors SET data = (SELECT data FROM vectors LIMIT 1), "
    "crc = (SELECT crc FROM vectors LIMIT 1)",
    "one bit": "UPDATE vectors SET data = substr(data, 1, 7) || x'ff' || substr(data, 9)",
    "cut off": "UPDATE vectors SET data = substr(data, 1, 100)",
    "twice as long": "UPDATE vectors SET data = data || data",
    "empty": "UPDATE vectors SET data = x''",
    "text": "UPDATE vectors SET data = CAST(data AS TEXT), dim = 'wide', crc = 'sum'",
    "other width": "UPDATE vectors SET dim = 12",
    "no width": "UPDATE vectors SET dim = 1.5",
    "other sum": "UPDATE vectors SET crc = crc + 1",
    "huge sum": "UPDATE vectors SET crc = 9223372036854775807",
    "key moved": "UPDATE vectors SET key = x'00' || substr(key, 2)",
}


@pytest.mark.parametrize("change", ROWS)
def test_rows_changed_behind_our_back_are_never_served(tmp_path: Path, sound: dict[str, bytes], change: str) -> None:
    path = tmp_path / "v.sqlite"
    path.write_bytes(sound["rest"])
    db = sqlite3.connect(path)
    db.execute(ROWS[change])
    db.commit()
    db.close()
    info = check_heals(path).info()
    # The first of all rows may have got the vector it had.
    assert info.damaged in ((0,) if change == "key moved" else (len(TEXTS), len(TEXTS) - 1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_not_served_though_its_sum_is_right(tmp_path: Path, value: float) -> None:
    from rag_embeddings.encode import cache_rows

    cache = VectorCache(tmp_path / "v.sqlite")
    keys = vector_keys(TEXTS, Role.DOCUMENT, ENCODER.profile)
    vectors = EXPECTED.copy()
    vectors[::2, 5] = value
    rows = [cache_rows.row(key, vector) for key, vector in zip(keys, vectors, strict=True)]
    cache._file.write(lambda db: cache_rows.insert(db, rows, cache.max_bytes))
    cache.close()
    assert check_heals(cache.path).info().damaged == 60


SCHEMAS = {
    "no table": "DROP TABLE vectors",
    "no uses": "DROP TABLE uses",
    "no clock": "DROP TABLE clock",
    "other columns": "ALTER TABLE vectors ADD COLUMN more",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON vectors BEGIN DELETE FROM vectors; END",
    "a view": "CREATE VIEW v AS SELECT 1",
    "other format": "PRAGMA user_version = 99",
}


@pytest.mark.parametrize("change", SCHEMAS)
def test_other_tables_than_ours_are_set_aside(tmp_path: Path, sound: dict[str, bytes], change: str) -> None:
    path = tmp_path / "v.sqlite"
    path.write_bytes(sound["rest"])
    db = sqlite3.connect(path)
    db.execute(SCHEMAS[change])
    db.commit()
    db.close()
    assert check_heals(path).info().set_aside == 1


def test_lost_uses_neither_fail_nor_break_the_bound(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "v.sqlite", max_bytes=1 << 20)
    keys = vector_keys(map(str, range(2000)), Role.DOCUMENT, ENCODER.profile)
    cache.put_many(keys[:500], np.ones((500, 300)))
    cache._file.write(lambda db: db.execute("DELETE FROM uses"))
    cache.put_many(keys[500:], np.ones((1500, 300)))
    assert cache.path.stat().st_size <= 1 << 20
    cache._file.write(lambda db: db.execute("DELETE FROM vectors"))
    cache.put_many(keys, np.ones((2000, 300)))
    assert keys[-1] in cache.get_many(keys[-1:], 300)
    assert cache.path.stat().st_size <= 1 << 20


def test_damage_while_it_is_open_is_survived_too(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    writer, other = VectorCache(path), VectorCache(path)
    CachedEncoder(ENCODER, writer).encode(TEXTS, Role.DOCUMENT)
    CachedEncoder(ENCODER, other).encode(TEXTS[:1], Role.DOCUMENT)
    with path.open("r+b") as file:
        file.write(b"\xff" * 20_000)
    Path(f"{path}-wal").write_bytes(b"")
    for _ in range(3):
        for cache in (writer, other):
            found = CachedEncoder(DeterministicEncoder(48), cache).encode(TEXTS, Role.DOCUMENT)
            assert found.tobytes() == EXPECTED.tobytes()
    writer.close()
    other.close()
    check_heals(path)


def test_only_the_latest_damaged_file_is_kept(tmp_path: Path, sound: dict[str, bytes]) -> None:
    path = tmp_path / "v.sqlite"
    cache = VectorCache(path)
    for number in range(1, 4):
        data = bytearray(sound["rest"])
        data[:4096] = bytes(4096)
        path.write_bytes(data)
        cache.get_many([b"k" * 32], 48)
        cache.close()
        (kept,) = cache.info().damaged_files
        assert kept.endswith(f"v.sqlite.corrupt-{number}")
        assert Path(kept).read_bytes() == data
    assert cache.info().set_aside == 3
