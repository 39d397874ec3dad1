"""The faults that stores are held to, each as a check that sound code passes and a deliberately broken copy does not.

A check that cannot fail proves nothing. So every one is run twice: on the store as it is, and with the fault put back.
"""

import resource
import signal
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import safetensors.numpy
from filelock import FileLock
from hypothesis import HealthCheck, Phase, settings
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from test_bad_input import OTHERS, PROFILE

from index_corpus import pipe, start
from rag_embeddings.codec import base as codec_base
from rag_embeddings.codec.binary import BinaryCodec
from rag_embeddings.codec.int8 import Int8Codec
from rag_embeddings.codec.saved import load_codec, save_codec
from rag_embeddings.encode.profile import Profile
from rag_embeddings.errors import RagEmbeddingsError, SpaceMismatchError, StoreError, StoreLockedError, VectorError
from rag_embeddings.langchain import ChromaVectorStore, vector_store
from rag_embeddings.store import chroma, memory, quantized, slot_records, sqlite, turns, where_chroma
from rag_embeddings.store.base import Record
from rag_embeddings.store.chroma import ChromaStore
from rag_embeddings.store.database import Database
from rag_embeddings.store.memory import MemoryStore
from rag_embeddings.store.quantized import QuantizedStore
from rag_embeddings.store.sqlite import SqliteStore
from rag_embeddings.store.where import Where
from rag_embeddings.testing import faults
from rag_embeddings.testing.store import check_store

WIDTH = 16
FAULTS = {}


def fault(name):
    """Name a check; `broken_by` puts the fault back."""

    def register(check):
        FAULTS[name] = (check, FAULTS.get(name, (None, None))[1])
        return check

    return register


def broken_by(name):
    def register(breaks):
        FAULTS[name] = (FAULTS[name][0], breaks)
        return breaks

    return register


def records(count=30, version=0, width=WIDTH):
    rows = np.random.default_rng(version).normal(size=(count, width)).astype(np.float32)
    return [Record(f"id-{n}", row, f"text {n}", {"version": version, "n": n}) for n, row in enumerate(rows)]


# --- any number in one call, and what a failure costs ----------------------------------------------------------------


@fault("R15 more records than Chroma takes at once")
def any_number(path):
    store = ChromaStore(path, "records")
    try:
        store.upsert(records(5_471, width=4))
        assert len(store) == 5_471
    finally:
        store.close()


@broken_by("R15 more records than Chroma takes at once")
def _(patch):
    patch.setattr("chromadb.api.client.Client.get_max_batch_size", lambda _: 10**9)


@fault("R15 a failure costs one batch of work")
def one_batch(path):
    class Failing(DeterministicFakeEmbedding):
        def embed_documents(self, texts):
            if "text 2400" in texts:
                raise ConnectionError("the service has gone away")
            return super().embed_documents(texts)

    store = ChromaVectorStore(Failing(size=4), path)
    try:
        with pytest.raises(ConnectionError):
            store.add_documents([Document(page_content=f"text {n}", id=str(n)) for n in range(2_500)])
        assert len(store.store) == 2_000
    finally:
        store.close()


@broken_by("R15 a failure costs one batch of work")
def _(patch):
    patch.setattr(vector_store, "islice", lambda items, _: items)


# --- bad vectors -------------------------------------------------------------------------------------------------------

BAD = {
    "zero": np.zeros(WIDTH),
    "nan": np.full(WIDTH, np.nan),
    "infinity": np.full(WIDTH, np.inf),
    "narrow": np.ones(WIDTH - 1),
}
STORES = {
    "memory": lambda path: MemoryStore(),
    "sqlite": lambda path: SqliteStore(path / "records.sqlite3"),
    "chroma": lambda path: ChromaStore(path, "records"),
    "quantized": QuantizedStore,
}


def nothing_bad_is_stored(kind, path):
    store = STORES[kind](path)
    try:
        for name, vector in BAD.items():
            try:
                store.upsert([*records(3), Record(f"bad {name}", vector.astype(np.float32))])
            except (StoreError, VectorError) as error:
                named = f"bad {name}" in str(error)
            except Exception as error:
                raise AssertionError(f"{name} is {error!r}") from error
            else:
                raise AssertionError(f"{name} was stored")
            assert named
            assert len(store) == 0
    finally:
        store.close()


for _kind in STORES:
    fault(f"R16 bad vectors, {_kind}")(lambda path, kind=_kind: nothing_bad_is_stored(kind, path))

    @broken_by(f"R16 bad vectors, {_kind}")
    def _(patch):
        for module in (memory, sqlite, chroma, slot_records):
            patch.setattr(module, "prepared", lambda given, _: list(given))


# --- the laws of a store -----------------------------------------------------------------------------------------------


def laws(make, reopen):
    few = settings(
        max_examples=16,  # what a broken copy does wrong shows in these, whatever else the run has imported
        stateful_step_count=30,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    check_store(make, reopen=reopen, settings=few)


def disk(root, open_store):
    """Return what makes stores in fresh directories, and what opens the last one again."""
    paths = []

    def make():
        paths.append(root / str(len(paths)))
        paths[-1].mkdir()
        return open_store(paths[-1])

    def reopen(store):
        store.close()
        return open_store(paths[-1])

    return make, reopen


@fault("R21 an update leaves old metadata")
def chroma_laws(path):
    store = STORES["chroma"](path / "plain")  # what random examples miss now and then
    try:
        for metadata in ({"kept": 1, "gone": 2}, {"kept": 1}):
            store.upsert([Record("a", np.ones(WIDTH, dtype=np.float32), "", metadata)])
        assert store.get(["a"])[0].metadata == {"kept": 1}
    finally:
        store.close()
    laws(*disk(path, STORES["chroma"]))


@broken_by("R21 an update leaves old metadata")
def _(patch):
    patch.setattr(chroma, "_replacing", lambda metadata, _: dict(metadata) or None)


@fault("R21 a restart loses records")
def sqlite_laws(path):
    laws(*disk(path, STORES["sqlite"]))


@broken_by("R21 a restart loses records")
def _(patch):
    patch.setattr(sqlite, "Database", lambda _, *others: Database(None, *others))


@fault("R21 a delete leaves records")
def memory_laws(path):
    laws(MemoryStore, None)


@broken_by("R21 a delete leaves records")
def _(patch):
    whole = MemoryStore.delete
    patch.setattr(MemoryStore, "delete", lambda store, ids: whole(store, ids[:1]))


@fault("R21 the index finds other records than it was given")
def quantized_laws(path):
    laws(*disk(path, lambda place: QuantizedStore(place, build_after=3)))


@broken_by("R21 the index finds other records than it was given")
def _(patch):
    whole = slot_records.SlotRecords.assign
    patch.setattr(
        slot_records.SlotRecords,
        "assign",
        lambda store, numbers, nodes: whole(store, numbers, np.where(nodes == nodes.max(initial=-1), 10**6, nodes)),
    )


@fault("R21 Chroma's filters mean something else")
def filters(path):
    store = ChromaStore(path, "records")
    store.upsert([Record("a", np.ones(4, dtype=np.float32), "", {"k": 1})])
    try:
        assert list(store.ids(Where.equals("k", 1.5))) == []
        assert list(store.ids(~Where.equals("k", 1.5))) == ["a"]
    finally:
        store.close()


@broken_by("R21 Chroma's filters mean something else")
def _(patch):
    def naive(key, value, *, negated):
        return where_chroma.Translation({key: {"$ne" if negated else "$eq": value}}, exact=True)

    patch.setattr(where_chroma, "_equal", naive)


# --- one writer ----------------------------------------------------------------------------------------------------------


def second_writer_is_refused(kind, file, path):
    STORES[kind](path).close()
    first = FileLock(path / file)
    first.acquire()
    store = STORES[kind](path)
    try:
        with pytest.raises(StoreLockedError):
            store.upsert(records(1))
    finally:
        store.close()
        first.release()


class NoLock:
    def __init__(self, *_, **__):
        pass

    def acquire(self, timeout=0):
        pass

    def release(self):
        pass


for _kind, _file, _module in (("chroma", "writer.lock", turns), ("quantized", "lock", quantized)):
    fault(f"R22 two writers, {_kind}")(lambda path, kind=_kind, file=_file: second_writer_is_refused(kind, file, path))

    @broken_by(f"R22 two writers, {_kind}")
    def _(patch, module=_module):
        patch.setattr(module, "FileLock", NoLock)


# --- codecs --------------------------------------------------------------------------------------------------------------


def clumps(count, seed=0):
    random = np.random.default_rng(7)
    centres = random.normal(size=(count // 10, 64))
    random = np.random.default_rng(seed)
    rows = centres[random.integers(0, len(centres), count)] + 0.4 * random.normal(size=(count, 64))
    return rows.astype(np.float32)


@fault("R25 truncate, then normalise")
def order_of_steps(_):
    vectors = clumps(200)
    codec = Int8Codec(dimensions=16).fit(vectors)
    louder = vectors.copy()
    louder[:, 16:] *= 9
    assert np.array_equal(codec.encode(vectors), codec.encode(louder))


@broken_by("R25 truncate, then normalise")
def _(patch):
    patch.setattr(
        codec_base.VectorCodec,
        "_shortened",
        lambda codec, matrix: (matrix / np.linalg.norm(matrix, axis=-1, keepdims=True))[..., : codec.dimensions],
    )


@fault("R25 half a step at most")
def half_a_step(_):
    vectors = clumps(200)
    codec = Int8Codec(similarity="dot").fit(vectors)
    step = codec.state()["step"]
    assert (np.abs(codec.decode(codec.encode(vectors)) - vectors) <= step * 0.5001 + 1e-6).all()


@broken_by("R25 half a step at most")
def _(patch):
    patch.setattr("rag_embeddings.codec.int8.np.rint", np.floor)


@fault("R25 the scale is saved")
def scale_is_saved(path):
    codec = Int8Codec().fit(clumps(200))
    save_codec(codec, path / "codec")
    vectors = clumps(50, 1)
    try:
        found = load_codec(path / "codec")
    except RagEmbeddingsError as error:
        raise AssertionError("the codec does not come back") from error
    assert np.array_equal(found.encode(vectors), codec.encode(vectors))


@broken_by("R25 the scale is saved")
def _(patch):
    whole = safetensors.numpy.save
    patch.setattr(
        "safetensors.numpy.save",
        lambda tensors, metadata: whole({**tensors, "step": np.ones_like(tensors["step"])}, metadata),
    )


@fault("R25 recall with rescoring")
def recall_with_rescoring(path):
    vectors, queries = clumps(4_000), clumps(60, 1)
    for codec, least in ((Int8Codec(), 0.99), (BinaryCodec(), 0.95)):
        store = QuantizedStore(path / codec.kind, codec=codec, build_after=10**9)
        store.upsert([Record(str(n), row) for n, row in enumerate(vectors)])
        store.build()
        found = [
            len({hit.id for hit in store.search(query, 10)} & {hit.id for hit in store.search(query, 10, exact=True)})
            for query in queries
        ]
        store.close()
        assert np.mean(found) / 10 >= least, codec.kind


@broken_by("R25 recall with rescoring")
def _(patch):
    whole = QuantizedStore.__init__
    patch.setattr(QuantizedStore, "__init__", lambda *args, **options: whole(*args, **options, oversample=1))


# --- killed, interrupted, out of disk, damaged ----------------------------------------------------------------------------


@fault("R11 R12 an update that is cut off leaves the old records whole")
def cut_off(path):
    store = QuantizedStore(path)
    store.upsert(records())
    try:
        with faults.armed("quantized.after_vectors", KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
            store.upsert(records(10, 1))
        found = store.get([item.id for item in records()])
        for item, expected in zip(found, records(), strict=True):
            assert item.metadata == expected.metadata
            assert np.array_equal(item.vector, expected.vector)
    except StoreError as error:
        raise AssertionError("an old record is damaged") from error
    finally:
        store.close()


@broken_by("R11 R12 an update that is cut off leaves the old records whole")
def _(patch):
    """Write into the slots of the records that are replaced."""
    whole = slot_records.SlotRecords._forget
    patch.setattr(slot_records.SlotRecords, "_allocated", lambda store, _: store.reused)

    def forget(store, ids):
        freed = whole(store, ids)
        store.reused = freed if len(freed) else np.arange(len(ids))
        return freed[:0]

    patch.setattr(slot_records.SlotRecords, "_forget", forget)


@fault("R12 a vector that another process has overwritten is not returned")
def overwritten(path):
    store = QuantizedStore(path)
    store.upsert(records())
    store.close()
    content = bytearray((path / "vectors.f32").read_bytes())
    content[4 * WIDTH * 3 + 7] ^= 1
    (path / "vectors.f32").write_bytes(content)
    store = QuantizedStore(path)
    try:
        with pytest.raises(StoreError, match="damaged"):
            store.get(["id-3"])
    finally:
        store.close()


@broken_by("R12 a vector that another process has overwritten is not returned")
def _(patch):
    patch.setattr(slot_records, "_checksum", lambda _: 0)


def filled(path, declared, connection):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if not declared:
        ChromaStore._declared = lambda _: nullcontext()
    store = ChromaStore(path, "records")
    store.upsert(records(100))
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
    error = None
    for version in range(1, 200):
        try:
            store.upsert([Record(f"{version}-{n}", item.vector, "text " * 50) for n, item in enumerate(records(200))])
        except Exception as found:  # noqa: BLE001 - which it is, is the question
            error = found
            break
    resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
    if declared:
        with pytest.raises(StoreError, match="open it again"):  # where Chroma would wait for ever, every other time
            store.upsert(records(1))
    store.close()
    store = ChromaStore(path, "records")
    store.upsert(records(100, 1))
    whole = [item.metadata["version"] for item in store.get([f"id-{n}" for n in range(100)])] == [1] * 100
    store.close()
    connection.send((isinstance(error, StoreError), repr(error), whole))


DECLARED = True


@fault("R26 a full disk is a declared error")
def full_disk(path):
    ours, theirs = pipe()
    process = start(filled, path, DECLARED, theirs)
    theirs.close()  # so that the end of the child is noticed
    assert ours.poll(timeout=120), "the child said nothing"
    declared, error, whole = ours.recv()
    process.join(timeout=60)
    assert declared, error
    assert whole


@broken_by("R26 a full disk is a declared error")
def _(patch):
    patch.setitem(globals(), "DECLARED", False)


@fault("R27 Ctrl-C leaves no lock and no marker")
def interrupted(path):
    store = ChromaStore(path, "records")
    store._slice = 10
    calls = []

    def ctrl_c(*given):
        calls.append(given)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return replacing(*given)

    replacing, chroma._replacing = chroma._replacing, ctrl_c
    try:
        with pytest.raises(KeyboardInterrupt):
            store.upsert(records())
    finally:
        chroma._replacing = replacing
    assert not (path / "chroma.busy").exists()
    assert len(store) == 10
    store.upsert(records())
    assert len(store) == 30
    store.close()
    for name in ("writer.lock", "chroma.lock"):
        lock = FileLock(path / name)
        lock.acquire(timeout=0)
        lock.release()


@broken_by("R27 Ctrl-C leaves no lock and no marker")
def _(patch):
    @contextmanager
    def forgetful(gate):
        gate._marker.write_text(gate._fingerprint(), encoding="ascii")
        yield
        gate._marker.unlink(missing_ok=True)

    patch.setattr("rag_embeddings.store.gate.Gate._marked", forgetful)


# --- spaces ----------------------------------------------------------------------------------------------------------------


@fault("R28 vectors of another space")
def another_space(path):
    for name, make in {
        "chroma": lambda place, space: ChromaStore(place, "records", space=space),
        "quantized": lambda place, space: QuantizedStore(place, space=space),
    }.items():
        make(path / name, PROFILE.space).close()
        for field, value in OTHERS.items():
            other = Profile(**{**vars_of(PROFILE), field: value})
            with pytest.raises(SpaceMismatchError):
                make(path / name, other.space).close()


def vars_of(profile):
    return {field: getattr(profile, field) for field in profile.__dataclass_fields__}


@broken_by("R28 vectors of another space")
def _(patch):
    patch.setattr(Profile, "space", property(lambda profile: profile.model))


# --- every check, on sound code and on the broken copy -------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAULTS)
def test_sound(name, tmp_path):
    FAULTS[name][0](tmp_path)


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_copy_is_caught(name, tmp_path, monkeypatch):
    check, breaks = FAULTS[name]
    breaks(monkeypatch)
    caught = (AssertionError, StoreError, pytest.fail.Exception)
    with pytest.raises(caught):
        check(tmp_path)
