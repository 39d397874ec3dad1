"""The vector cache: transparent, apart for whatever changes a vector, bounded, private, shared."""

import json
import logging
import multiprocessing
import os
import pickle
import random
import stat
import subprocess
import sys
import threading
from dataclasses import fields, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

import toy_models
from rag_embeddings.encode import cache_file
from rag_embeddings.encode import cached as cached_module
from rag_embeddings.encode.base import Encoder, Role, TokenEncoder
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.cache_file import default_path
from rag_embeddings.encode.cached import CachedEncoder, vector_keys
from rag_embeddings.encode.profile import Profile
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.errors import BudgetError, StoreError, TextTooLongError, VectorError
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.testing.encoder_laws import check_encoder

posix = pytest.mark.skipif(os.name != "posix", reason="modes and forks are POSIX")


class HashEncoder:
    """Vectors that differ in every bit with anything that may change a vector, so that any cross hit shows."""

    def __init__(
        self, profile: Profile, precision: str = "float32", too_long: str = "split", variant: str = ""
    ) -> None:
        self.profile = profile
        self.precision = precision
        self.too_long = too_long
        self.variant = variant
        self.tokenizer = len
        self.calls: list[tuple[str, ...]] = []

    def encode(self, texts, role):
        self.calls.append(tuple(texts))
        return np.array([self.vector(text, role) for text in texts], dtype=np.float32).reshape(
            -1, self.profile.dimensions
        )

    def vector(self, text, role):
        seed = repr((self.profile, self.precision, self.too_long, self.variant, str(role), text)).encode(
            "utf-8", "surrogatepass"
        )
        number = int.from_bytes(blake2b(seed, digest_size=8).digest())
        return np.random.default_rng(number).standard_normal(self.profile.dimensions).astype(np.float32)


BASE = Profile(model="m", dimensions=8, max_tokens=256)
ENCODERS = [
    HashEncoder(BASE),
    HashEncoder(replace(BASE, model="n")),
    HashEncoder(replace(BASE, query_prompt="query: ")),
    HashEncoder(replace(BASE, document_prompt="query: ")),
    HashEncoder(replace(BASE, dimensions=16)),
    HashEncoder(replace(BASE, normalize=False)),
    HashEncoder(replace(BASE, max_tokens=512)),
    HashEncoder(BASE, precision="bfloat16"),
    HashEncoder(BASE, too_long="error"),
    HashEncoder(BASE, variant="other settings"),
]
TEXTS = ["", " ", "a", "A", "a ", "query: a", "\ud800", "\x00", "😀", "é", "e\u0301", "x" * 5000, *map(str, range(30))]


def bits(vectors: np.ndarray) -> bytes:
    assert vectors.dtype == np.float32
    return vectors.tobytes()


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    return VectorCache(tmp_path / "cache" / "vectors.sqlite")


def test_ten_thousand_random_steps_give_what_the_encoder_gives_bit_for_bit(tmp_path: Path) -> None:
    rng = random.Random(7)
    path = tmp_path / "vectors.sqlite"
    cache = VectorCache(path)
    known: set[tuple[int, Role, str]] = set()
    hits = 0
    for step in range(10_000):
        if rng.random() < 0.005:
            cache.close()
            cache = VectorCache(path)
        if rng.random() < 0.002:
            cache.clear()
            known.clear()
        number = rng.randrange(len(ENCODERS))
        encoder, role = ENCODERS[number], rng.choice(list(Role))
        texts = rng.choices(TEXTS, k=rng.randint(0, 6))
        encoder.calls.clear()
        found = CachedEncoder(encoder, cache).encode(texts, role)
        encoded = list(encoder.calls)
        assert bits(found) == bits(encoder.encode(texts, role)), step
        assert found.shape == (len(texts), encoder.profile.dimensions)
        expected = [text for text in dict.fromkeys(texts) if (number, role, text) not in known]
        assert encoded == ([tuple(expected)] if expected else []), step
        hits += len(set(texts)) - len(expected)
        known.update((number, role, text) for text in texts)
    assert hits > 5_000  # the cache was really in play
    assert cache.info().damaged == 0
    cache.close()


@pytest.mark.parametrize("other", range(1, len(ENCODERS)))
def test_nothing_is_found_across_what_changes_a_vector(cache: VectorCache, other: int) -> None:
    CachedEncoder(ENCODERS[0], cache).encode(TEXTS, Role.DOCUMENT)
    CachedEncoder(ENCODERS[0], cache).encode(TEXTS, Role.QUERY)
    before = cache.info().hits
    for role in Role:
        CachedEncoder(ENCODERS[other], cache).encode(TEXTS, role)
    assert cache.info().hits == before


def test_every_field_of_a_profile_that_makes_up_the_space_is_in_the_key() -> None:
    other = {str: "other", int: 99, bool: False, float: 0.5}
    first = vector_keys(["text"], Role.QUERY, BASE)
    for field in fields(Profile):
        value = getattr(BASE, field.name)
        if field.name == "query_suffix" or isinstance(value, dict | tuple):
            continue
        changed = replace(BASE, **{field.name: other.get(type(value), 1)})
        if changed.space != BASE.space:
            assert vector_keys(["text"], Role.QUERY, changed) != first, field.name


def test_a_query_never_gets_the_vector_of_a_document(cache: VectorCache) -> None:
    encoder = DeterministicEncoder(query_prompt="find this ")
    cached = CachedEncoder(encoder, cache)
    document, query = cached.encode(["text"], Role.DOCUMENT), cached.encode(["text"], Role.QUERY)
    assert not np.array_equal(document, query)
    assert bits(query) == bits(encoder.encode(["text"], Role.QUERY))


@given(st.lists(st.text(max_size=6), min_size=2, max_size=4), st.data())
def test_no_two_ways_to_cut_the_same_bytes_share_a_key(parts: list[str], data: st.DataObject) -> None:
    """Prompt, variant and text stand next to each other: moving a character across must change the key."""
    whole = "".join(parts)
    cuts = data.draw(st.lists(st.integers(0, len(whole)), min_size=2, max_size=2).map(sorted))
    moved = [whole[: cuts[0]], whole[cuts[0] : cuts[1]], whole[cuts[1] :]]
    first = [*[*parts, "", ""][:2], "".join(parts[2:])]
    keys = [
        vector_keys([text], Role.QUERY, BASE, variant=variant, prompt=prompt)[0]
        for variant, prompt, text in (first, moved)
    ]
    assert (keys[0] == keys[1]) == (first == moved)


def test_twenty_thousand_ways_to_cut_the_same_bytes_have_as_many_keys() -> None:
    rng = random.Random(1)
    cuts = {tuple(sorted(rng.choices(range(600), k=2))) for _ in range(20_000)}
    seen = {vector_keys(["a" * (600 - b)], Role.QUERY, BASE, variant="a" * a, prompt="a" * (b - a))[0] for a, b in cuts}
    assert len(seen) == len(cuts)


def test_each_distinct_text_is_encoded_once(cache: VectorCache) -> None:
    encoder = DeterministicEncoder()
    texts = ["one", "two", "one", "one", "two", "three"] * 50
    found = CachedEncoder(encoder, cache).encode(texts, Role.DOCUMENT)
    assert encoder.encoded == 3
    assert bits(found) == bits(DeterministicEncoder().encode(texts, Role.DOCUMENT))
    assert bits(CachedEncoder(encoder, cache).encode(texts, Role.DOCUMENT)) == bits(found)
    assert encoder.encoded == 3


def test_the_laws_of_encoders_hold_through_a_cache(cache: VectorCache) -> None:
    check_encoder(CachedEncoder(DeterministicEncoder(), cache))


def test_it_is_an_encoder_with_the_profile_and_tokenizer_inside(cache: VectorCache) -> None:
    encoder = DeterministicEncoder()
    cached = CachedEncoder(encoder, cache)
    assert isinstance(cached, Encoder)
    assert not isinstance(cached, TokenEncoder)
    assert cached.profile is encoder.profile
    assert cached.tokenizer is len
    with pytest.raises(TypeError, match="list"):
        cached.encode("text", Role.QUERY)


def test_token_vectors_go_through(cache: VectorCache) -> None:
    class Tokens(DeterministicEncoder):
        def encode_tokens(self, text, role):
            return text, role

    cached = CachedEncoder(Tokens(), cache)
    assert isinstance(cached, TokenEncoder)
    assert cached.encode_tokens("text", Role.QUERY) == ("text", Role.QUERY)


def test_a_model_behind_a_cache_gives_its_own_vectors(cache: VectorCache) -> None:
    encoder = toy_models.encoder("mean")
    cached = CachedEncoder(encoder, cache)
    check_encoder(cached)
    texts = ["the river rose", "", "the river rose", "copper melts"]
    for role in Role:
        for _ in range(2):
            np.testing.assert_allclose(cached.encode(texts, role), encoder.encode(texts, role), rtol=0, atol=1e-5)
    assert isinstance(cached, TokenEncoder)
    assert len(cached.encode_tokens("the river rose", Role.QUERY).spans)


def test_an_encoder_that_refuses_long_texts_refuses_them_behind_a_cache_too(cache: VectorCache) -> None:
    long = "the river rose " * 500
    CachedEncoder(toy_models.encoder("mean"), cache).encode([long], Role.DOCUMENT)
    with pytest.raises(TextTooLongError):
        CachedEncoder(TransformerEncoder(toy_models.folder("mean"), too_long="error"), cache).encode(
            [long], Role.DOCUMENT
        )


def test_what_is_returned_belongs_to_the_caller(cache: VectorCache) -> None:
    cached = CachedEncoder(DeterministicEncoder(), cache)
    for _ in range(2):
        found = cached.encode(["text", "text"], Role.QUERY)
        found[:] = 9
    assert bits(cached.encode(["text"], Role.QUERY)) == bits(DeterministicEncoder().encode(["text"], Role.QUERY))


@pytest.mark.parametrize("bad", ["nan", "infinity", "zero", "narrow", "fewer", "more"])
def test_bad_vectors_are_an_error_and_are_not_stored(cache: VectorCache, bad: str) -> None:
    class Bad(DeterministicEncoder):
        def encode(self, texts, role):
            vectors = super().encode(texts, role)
            change = {
                "nan": lambda: np.where(np.arange(len(vectors))[:, None] == 1, np.nan, vectors),
                "infinity": lambda: vectors * np.inf,
                "zero": lambda: vectors * 0,
                "narrow": lambda: vectors[:, :-1],
                "fewer": lambda: vectors[:-1],
                "more": lambda: np.concatenate([vectors, vectors[:1]]),
            }
            with np.errstate(invalid="ignore"):
                return change[bad]()

    with pytest.raises(VectorError):
        CachedEncoder(Bad(), cache).encode(["one", "two", "three"], Role.DOCUMENT)
    assert cache.info().vectors == 0


def test_work_done_before_a_failure_is_kept(cache: VectorCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_module, "_SLICE", 10)

    class Failing(DeterministicEncoder):
        def encode(self, texts, role):
            if self.encoded == 30:
                raise TimeoutError
            return super().encode(texts, role)

    texts = [f"text {number}" for number in range(50)]
    with pytest.raises(TimeoutError):
        CachedEncoder(Failing(), cache).encode(texts, Role.DOCUMENT)
    encoder = DeterministicEncoder()
    found = CachedEncoder(encoder, cache).encode(texts, Role.DOCUMENT)
    assert encoder.encoded == 20
    assert bits(found) == bits(DeterministicEncoder().encode(texts, Role.DOCUMENT))


def test_put_refuses_what_is_not_a_vector_for_each_key(cache: VectorCache) -> None:
    keys = vector_keys(["a", "b"], Role.QUERY, BASE)
    for vectors in ([[1.0]], [1.0, 2.0], np.zeros((2, 0)), [[1.0], [np.nan]]):
        with pytest.raises(VectorError):
            cache.put_many(keys, vectors)
    cache.put_many([], np.zeros((0, 8)))
    assert not cache.path.exists()  # nothing was worth a file


def test_put_writes_over_and_get_knows_what_is_missing(cache: VectorCache) -> None:
    keys = vector_keys(["a", "b", "c"], Role.QUERY, BASE)
    cache.put_many(keys[:2], [[1, 2], [3, 4]])
    cache.put_many(keys[:1], [[5, 6]])
    found = cache.get_many([*keys, keys[0]], 2)
    assert {key: vector.tolist() for key, vector in found.items()} == {keys[0]: [5, 6], keys[1]: [3, 4]}
    info = cache.info()
    assert (info.vectors, info.hits, info.misses, info.stored) == (2, 2, 1, 3)


def test_a_row_of_another_width_is_deleted_and_made_anew(cache: VectorCache) -> None:
    encoder = DeterministicEncoder()
    keys = vector_keys(["text", "other"], Role.QUERY, encoder.profile)
    cache.put_many(keys[:1], np.ones((1, 3)))
    expected = bits(encoder.encode(["text", "other"], Role.QUERY))
    assert bits(CachedEncoder(encoder, cache).encode(["text", "other"], Role.QUERY)) == expected
    assert cache.info().damaged == 1
    assert bits(CachedEncoder(encoder, cache).encode(["text", "other"], Role.QUERY)) == expected
    assert cache.info().damaged == 1


# --- size --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [3, 384, 1024, 3000])
def test_the_file_keeps_its_bound_and_what_was_used_last(tmp_path: Path, dimensions: int) -> None:
    bound = 2 << 20
    cache = VectorCache(tmp_path / "vectors.sqlite", max_bytes=bound)
    profile = replace(BASE, dimensions=dimensions)
    rng = np.random.default_rng(0)
    fits = bound // (dimensions * 4 + 200)
    keys = vector_keys(map(str, range(3 * fits)), Role.DOCUMENT, profile)
    favourites = keys[: fits // 20]
    step = fits // 10
    for start in range(0, len(keys), step):
        some = keys[start : start + step]
        cache.put_many(some, rng.standard_normal((len(some), dimensions)))
        assert cache.get_many(favourites, dimensions).keys() == set(favourites)
        assert cache.path.stat().st_size <= bound
    assert cache.info().evicted > fits
    assert cache.get_many(keys[-step:], dimensions).keys() == set(keys[-step:])
    assert not cache.get_many(keys[step * 2 : step * 3], dimensions)
    cache.close()
    assert cache.info().bytes <= bound


def test_uses_are_remembered_across_restarts(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    keys = vector_keys(map(str, range(3000)), Role.DOCUMENT, BASE)
    with VectorCache(path, max_bytes=1 << 20) as cache:
        cache.put_many(keys[:600], np.ones((600, 200)))
    with VectorCache(path, max_bytes=1 << 20) as cache:
        assert len(cache.get_many(keys[:50], 200)) == 50
    with VectorCache(path, max_bytes=1 << 20) as cache:
        cache.put_many(keys[600:1500], np.ones((900, 200)))
        found = cache.get_many(keys[:600], 200).keys()
    assert found >= set(keys[:50])
    assert len(found) < 500


def test_a_smaller_bound_shrinks_the_file(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    keys = vector_keys(map(str, range(4000)), Role.DOCUMENT, BASE)
    with VectorCache(path) as cache:
        cache.put_many(keys[:3999], np.ones((3999, 384)))
    assert path.stat().st_size > 4 << 20
    with VectorCache(path, max_bytes=1 << 20) as cache:
        cache.put_many(keys[3999:], np.ones((1, 384)))
        assert keys[3999] in cache.get_many(keys[3999:], 384)
    assert path.stat().st_size <= (1 << 20) * 9 // 8


def test_a_bound_too_small_is_refused() -> None:
    with pytest.raises(BudgetError, match="max_bytes"):
        VectorCache("anywhere", max_bytes=1000)


# --- the file ----------------------------------------------------------------------------------------------------


@posix
def test_only_this_user_can_read_it(cache: VectorCache) -> None:
    before = os.umask(0)
    try:
        cache.put_many(vector_keys(["a"], Role.QUERY, BASE), np.ones((1, 8)))
        modes = {item.name: stat.S_IMODE(item.stat().st_mode) for item in cache.path.parent.iterdir()}
    finally:
        os.umask(before)
    assert stat.S_IMODE(cache.path.parent.stat().st_mode) == 0o700
    assert set(modes) >= {"vectors.sqlite", "vectors.sqlite-wal", "vectors.sqlite-shm"}
    assert set(modes.values()) == {0o600}


@posix
def test_a_directory_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    VectorCache(tmp_path / "v.sqlite").put_many(vector_keys(["a"], Role.QUERY, BASE), np.ones((1, 8)))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_by_default_it_lies_in_the_users_cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert VectorCache().path == default_path() == tmp_path / "rag-embeddings" / "vectors.sqlite"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert default_path() == tmp_path / "home" / ".cache" / "rag-embeddings" / "vectors.sqlite"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_path().parent == tmp_path / "home" / "Library" / "Caches" / "rag-embeddings"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert default_path().parent == tmp_path / "local" / "rag-embeddings"


def test_files_of_something_else_are_left_as_they_are(tmp_path: Path) -> None:
    import sqlite3

    text = tmp_path / "notes.txt"
    text.write_text("not a cache " * 100)
    short = tmp_path / "short.txt"
    short.write_text("x")
    database = tmp_path / "other.db"
    db = sqlite3.connect(database)
    db.execute("CREATE TABLE people (name TEXT)")
    db.close()
    for path in (text, short, database):
        before = path.read_bytes()
        cache = VectorCache(path)
        for act in (cache.info, cache.clear, lambda cache=cache: cache.get_many([b"k" * 32], 8)):
            with pytest.raises(StoreError, match="left as it was"):
                act()
        assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.corrupt-*"))


@posix
def test_it_is_never_opened_through_a_link_nor_where_it_cannot_be(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    link = tmp_path / "v.sqlite"
    link.symlink_to(victim)
    with pytest.raises(StoreError, match="not a regular file"):
        VectorCache(link).get_many([b"k" * 32], 8)
    assert victim.read_bytes() == b""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="directory"):
        VectorCache(tmp_path / "file" / "v.sqlite").get_many([b"k" * 32], 8)
    (tmp_path / "directory").mkdir()
    with pytest.raises(StoreError, match="not a regular file"):
        VectorCache(tmp_path / "directory").get_many([b"k" * 32], 8)


def test_clear_leaves_no_byte_of_a_vector(cache: VectorCache) -> None:
    encoder = HashEncoder(BASE)
    vectors = CachedEncoder(encoder, cache).encode(TEXTS, Role.DOCUMENT)
    cache.close()
    content = b"".join(item.read_bytes() for item in cache.path.parent.iterdir())
    assert all(vector.tobytes() in content for vector in vectors)
    assert b"x" * 100 not in content  # the texts themselves are nowhere
    cache.path.with_name("vectors.sqlite.corrupt-3").write_bytes(content)
    assert len(cache.info().damaged_files) == 1
    cache.get_many([b"k" * 32], 8)  # open, with a log
    cache.clear()
    content = b"".join(item.read_bytes() for item in cache.path.parent.iterdir())
    assert not any(vector.tobytes() in content for vector in vectors)
    info = cache.info()
    assert (info.vectors, info.damaged_files) == (0, ())
    assert info.bytes < 100_000


def test_info_says_what_there_is_and_makes_no_file(cache: VectorCache) -> None:
    info = cache.info()
    assert (info.vectors, info.bytes) == (0, 0)
    cache.clear()
    assert not cache.path.parent.exists()
    CachedEncoder(DeterministicEncoder(), cache).encode(["a", "b", "a"], Role.QUERY)
    info = cache.info()
    assert (info.vectors, info.misses, info.hits, info.stored) == (2, 2, 0, 2)
    assert info.bytes > 0
    assert json.loads(json.dumps(info.to_dict()))["path"] == str(cache.path)


def test_a_removed_or_replaced_file_is_noticed(cache: VectorCache, tmp_path: Path) -> None:
    keys = vector_keys(["a", "b"], Role.QUERY, BASE)
    cache.put_many(keys[:1], np.ones((1, 8)))
    for item in cache.path.parent.iterdir():
        item.unlink()
    cache.path.parent.rmdir()
    assert cache.get_many(keys, 8) == {}
    cache.put_many(keys[1:], np.ones((1, 8)))
    assert list(VectorCache(cache.path).get_many(keys, 8)) == keys[1:]


def test_a_full_disk_costs_time_and_one_warning(
    cache: VectorCache, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = vector_keys(map(str, range(2000)), Role.QUERY, BASE)
    cache.put_many(keys[:1], np.ones((1, 8)))
    cache._file.read(lambda db: db.execute(f"PRAGMA max_page_count = {10}"))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            cache.put_many(keys, np.ones((2000, 400)))
    assert [record.message for record in caplog.records if "full" in record.message]
    assert len(caplog.records) == 1
    assert cache.info().skipped == 3 * 2000
    assert len(cache.get_many(keys[:1], 8)) == 1
    encoder = DeterministicEncoder(400)
    texts = [f"text {number}" for number in range(300)]
    assert bits(CachedEncoder(encoder, cache).encode(texts, Role.QUERY)) == bits(encoder.encode(texts, Role.QUERY))


def test_a_lock_held_too_long_costs_time_only(cache: VectorCache, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    cached = CachedEncoder(DeterministicEncoder(), cache)
    cached.encode(["a"], Role.QUERY)
    cache._file.read(lambda db: db.execute("PRAGMA busy_timeout = 1"))
    other = sqlite3.connect(cache.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    found = cached.encode(["a", "b"], Role.QUERY)
    other.close()
    assert bits(found) == bits(DeterministicEncoder().encode(["a", "b"], Role.QUERY))
    assert cache.info().skipped == 1
    assert cache.info().vectors == 1


def test_another_process_that_opens_the_file_for_ever_costs_time_only(
    cache: VectorCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache_file, "_WAIT", 0.01)
    encoder = CachedEncoder(DeterministicEncoder(), cache)
    with FileLock(f"{cache.path}.lock"):
        for _ in range(2):
            assert bits(encoder.encode(["a"], Role.QUERY)) == bits(DeterministicEncoder().encode(["a"], Role.QUERY))
    assert cache.info().skipped == 4
    assert len([record for record in caplog.records if "going on without it" in record.message]) == 1


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_file_is_a_declared_error(cache: VectorCache) -> None:
    cache.put_many(vector_keys(["a"], Role.QUERY, BASE), np.ones((1, 8)))
    cache.close()
    cache.path.chmod(0o400)
    with pytest.raises(StoreError, match="cannot be opened"):
        cache.get_many([b"k" * 32], 8)


# --- sharing -----------------------------------------------------------------------------------------------------


def test_pickling_takes_the_path_along(cache: VectorCache) -> None:
    cached = CachedEncoder(DeterministicEncoder(), cache)
    cached.encode(["a"], Role.QUERY)
    copy = pickle.loads(pickle.dumps(cached))  # noqa: S301 - our own bytes
    assert bits(copy.encode(["a"], Role.QUERY)) == bits(cached.encode(["a"], Role.QUERY))
    assert copy.encoder.encoded == 1
    assert copy.cache.info().hits == 1
    assert (copy.cache.path, copy.cache.max_bytes) == (cache.path, cache.max_bytes)


def test_threads_share_a_cache(cache: VectorCache) -> None:
    texts = [f"text {number}" for number in range(200)]
    expected = bits(DeterministicEncoder().encode(texts, Role.DOCUMENT))
    failures = []

    def work() -> None:
        try:
            for _ in range(10):
                assert bits(CachedEncoder(DeterministicEncoder(), cache).encode(texts, Role.DOCUMENT)) == expected
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert cache.info().vectors == 200


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="there is no fork")
def test_a_fork_in_the_middle_of_use_harms_neither_side(cache: VectorCache) -> None:
    texts = [f"text {number}" for number in range(100)]
    encoder = DeterministicEncoder()
    cached = CachedEncoder(encoder, cache)
    cached.encode(texts[:50], Role.DOCUMENT)
    expected = bits(DeterministicEncoder().encode(texts, Role.DOCUMENT))
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            CachedEncoder(DeterministicEncoder(), cache).encode(texts[:60], Role.DOCUMENT)

    thread = threading.Thread(target=busy)
    thread.start()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            wrong = True
            try:
                wrong = bits(CachedEncoder(DeterministicEncoder(), cache).encode(texts, Role.DOCUMENT)) != expected
            finally:
                cache.close()
                os._exit(int(wrong))
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    stop.set()
    thread.join()
    assert codes == [0, 0, 0, 0]
    before = encoder.encoded
    assert bits(cached.encode(texts, Role.DOCUMENT)) == expected
    assert encoder.encoded == before  # the children's vectors are there
    assert cache._file.read(lambda db: db.execute("PRAGMA integrity_check").fetchone()) == (b"ok",)


def test_a_process_pool_of_any_kind_can_use_it(cache: VectorCache) -> None:
    cached = CachedEncoder(DeterministicEncoder(), cache)
    expected = bits(cached.encode(["a", "b"], Role.QUERY))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert bits(pool.apply(cached.encode, (["a", "b"], Role.QUERY))) == expected


def test_uses_and_files_survive_the_end_of_the_process(tmp_path: Path) -> None:
    """No close, no warning, nothing lost: the file is closed at exit."""
    path = tmp_path / "v.sqlite"
    code = (
        "import sys; from rag_embeddings import CachedEncoder, Role, VectorCache; "
        "from rag_embeddings.testing.encoder import DeterministicEncoder; "
        "CachedEncoder(DeterministicEncoder(), VectorCache(sys.argv[1])).encode(['a', 'b'], Role.QUERY)"
    )
    for _ in range(2):
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, str(path)], capture_output=True, text=True, check=True
        )
        assert (result.stdout, result.stderr) == ("", "")
        assert sorted(item.name for item in tmp_path.iterdir()) == ["v.sqlite", "v.sqlite.lock"]
    cache = VectorCache(path)
    assert cache.info().vectors == 2
    ticks = cache._file.read(lambda db: db.execute("SELECT tick FROM uses").fetchall())
    assert {tick for (tick,) in ticks} == {3}  # stored at 2, used in the second run


def test_no_text_is_logged(cache: VectorCache, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        CachedEncoder(DeterministicEncoder(), cache).encode(["secret-canary"], Role.QUERY)
        cache.close()
        data = bytearray(cache.path.read_bytes())
        data[:4096] = bytes(4096)
        cache.path.write_bytes(data)
        CachedEncoder(DeterministicEncoder(), cache).encode(["secret-canary"], Role.QUERY)
    assert "corrupt-1" in caplog.text
    assert "canary" not in caplog.text
    assert not any(b"canary" in item.read_bytes() for item in cache.path.parent.iterdir())
