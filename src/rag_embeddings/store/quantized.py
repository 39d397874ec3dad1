"""Vectors as codes that are searched, and as floats on disk that put the best of them in order.

::

    DIR/records.sqlite3       ids, texts, metadata, which slot each vector is in
    DIR/vectors.f32           the vectors, one row a slot
    DIR/codec-N.safetensors   the fitted codec
    DIR/index-N.codes         the codes of most records, in a row or as a graph (usearch); mapped into memory
    DIR/lock                  held by the writing process until it closes the store

Codec and index are derived: they are made from the vectors, into new files, and named in SQLite when they are whole.
Records that came since are compared one by one, so that every record is found from the moment it is written.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from rag_embeddings.codec.int8 import Int8Codec
from rag_embeddings.errors import (
    IndexNotFoundError,
    SpaceMismatchError,
    StoreError,
    StoreLockedError,
)
from rag_embeddings.store.code_index import CodeIndexFiles
from rag_embeddings.store.records import checked_query
from rag_embeddings.store.slot_records import FILE, OutdatedError, SlotRecords

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeVar

    from rag_embeddings.codec.base import VectorCodec
    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity
    from rag_embeddings.store.base import Hit, Record
    from rag_embeddings.store.code_index import CodeIndex
    from rag_embeddings.store.vector_file import Slots
    from rag_embeddings.store.where import Where

    Result = TypeVar("Result")

_LOCK_SECONDS = 0.25
_ATTEMPTS = 8  # of a read that another process's writes overtook
_SHARE = 50  # the index is extended when one record in so many is not in it
_WIDER = 8  # how much wider the second look into the index is, where a filter let too little through


class QuantizedStore:
    """A directory of vectors with a small index in memory. Thread-safe. Obeys `rag_embeddings.store.base.Store`.

    A search takes ``k * oversample`` records whose codes are nearest from the index, adds those that are not in the
    index yet, and compares their float vectors with the query. Scores are those of the float vectors. Until
    ``build_after`` records are there, and with ``exact=True``, all vectors are compared.

    One process may write to a directory at a time, from its first write until `close`; reading is free to all.

    Args:
        path: The directory; made if absent.
        codec: How vectors become codes, fitted or not (then it is fitted on up to 20,000 of the vectors when the index
            is first built). None: the one the directory was made with; for a new one `Int8Codec`.
        similarity: How vectors are compared; None: as the codec, or as the directory was made with.
        oversample: How many records are compared as floats, for each one asked for.
        build_after: Records outside the index from which on a write extends the index; 2 % of the records if that is
            more. See `build`.
        space: `Profile.space` of the vectors, stamped on a new directory and compared with that of an existing one;
            empty to go without.
        create: Whether to make the directory if there is none.

    Raises:
        MissingExtraError: If usearch or safetensors is not installed.
        IndexNotFoundError: If there is no store and ``create`` is False.
        SpaceMismatchError: If the directory holds vectors of another space.
        StoreError: If the directory was made with another codec or similarity, or is none of this version.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        codec: VectorCodec | None = None,
        similarity: Similarity | None = None,
        oversample: int = 16,
        build_after: int = 20_000,
        space: str = "",
        create: bool = True,
    ) -> None:
        if oversample < 1 or build_after < 1:
            raise ValueError(f"oversample and build_after must be at least 1, got {oversample} and {build_after}")
        if codec is not None and similarity not in {None, codec.similarity}:
            raise ValueError(f"the codec compares by {codec.similarity}, {similarity} was asked for")
        self.path = Path(path)
        self.oversample = oversample
        self.build_after = build_after
        self._lock = RLock()
        self._building = RLock()
        self._writer: FileLock | None = None
        if not create and not (self.path / FILE).is_file():
            raise IndexNotFoundError(f"there is no store in {str(path)!r}; write some records first")
        self.path.mkdir(parents=True, exist_ok=True)
        self._records = SlotRecords(self.path)
        try:
            self.similarity, self._files = self._stamped(codec, similarity, space)
        except BaseException:
            self._records.close()
            raise

    def _stamped(
        self, codec: VectorCodec | None, similarity: Similarity | None, space: str
    ) -> tuple[Similarity, CodeIndexFiles]:
        """Compare what was asked for with what the directory was made with, or write it down."""
        asked = codec or Int8Codec(similarity=similarity or "cosine")
        with self._records.database.writing():
            found = self._records.meta("codec")
            if found is None:
                found = {"kind": asked.kind, "settings": asked.settings()}
                self._records.remember("codec", found)
            if not self._records.meta("space") and space:
                if len(self._records):
                    raise SpaceMismatchError(f"the vectors in {str(self.path)!r} have no stamp of their space")
                self._records.remember("space", space)
            if space and self._records.meta("space") != space:
                raise SpaceMismatchError(
                    f"{str(self.path)!r} holds vectors of another space; use the same model and prompts, "
                    "or another directory"
                )
        files = CodeIndexFiles(self.path, found, codec)
        if similarity is not None and files.similarity != similarity:
            raise StoreError(f"{str(self.path)!r} compares vectors by {files.similarity}, {similarity} was asked for")
        return files.similarity, files

    # --- writing -----------------------------------------------------------------------------------------------------

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records, replacing those whose id exists, metadata and all.

        Raises:
            StoreError: On a vector of another width or an impossible id, with nothing written.
            CodecError: If the codec can make no codes of vectors of this width, with nothing written.
            StoreLockedError: If another process is writing.
            VectorError: On NaN, infinity or a vector of zeros (in the dimensions the codec keeps), with nothing
                written.
        """
        with self._lock:
            self._become_writer()
            self._records.upsert(records, self._files.kept, self._files.check_width)
        least = max(self.build_after, self._indexed() // _SHARE, self._files.least_sample)
        if self._records.outside() >= least:
            self.build()

    def delete(self, ids: Sequence[str]) -> None:
        """Remove records. Ids that do not exist are ignored.

        Vectors are overwritten with zeros; see `purge` for the rest.
        """
        with self._lock:
            self._become_writer()
            self._records.delete(ids)

    def build(self, *, anew: bool = False) -> None:
        """Bring every record into the index, which a write does by itself when enough records wait.

        The codes of records that are gone stay in the index, unseen, until they are a quarter of it. Reading and
        writing go on meanwhile.

        Args:
            anew: Fit the codec and make all codes again, as is sensible where the vectors have become others.

        Raises:
            CodecError: If there are too few vectors to fit the codec on.
            StoreError: If the disk is full.
            StoreLockedError: If another process is writing.
        """
        with self._building:
            with self._lock:
                self._become_writer()
            try:
                self._files.build(self._records, anew=anew)
            except OutdatedError as error:
                raise self._damaged(error) from error

    def purge(self) -> None:
        """Remove from the files what is left of deleted records: their codes, texts and vectors."""
        with self._building, self._lock:
            self._become_writer()
            if self._records.meta("index"):
                self._files.build(self._records, anew=True)
            self._records.purge()

    def _become_writer(self) -> None:
        self._check_open()
        if self._writer is not None:
            return
        lock = FileLock(self.path / "lock", thread_local=False)
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout:
            pid = self._records.meta("writer")
            raise StoreLockedError(
                f"process {pid} is writing to {str(self.path)!r}; wait until it has closed the store"
            ) from None
        self._writer = lock
        self._records.remember("writer", os.getpid())
        self._files.tidy(self._records)

    # --- reading -----------------------------------------------------------------------------------------------------

    def search(self, vector: Vectors, k: int, *, where: Where | None = None, exact: bool = False) -> list[Hit]:
        """Return the k most similar records, best first, equal ones in the order of their ids.

        Args:
            vector: The query, shape (dim,).
            k: Number of hits; fewer come where fewer match.
            where: Only records that fulfil a condition. Where the index cannot give enough of them, the vectors of
                all that do are compared.
            exact: Compare all vectors.

        Raises:
            ValueError: If ``k`` is below 1.
            StoreError: If the vector has another width.
        """
        return self._read(partial(self._search, vector, k, where, exact=exact))

    def _search(self, vector: Vectors, k: int, where: Where | None, *, exact: bool) -> list[Hit]:
        query = checked_query(vector, k, self._records.width)
        index = None if exact else self._files.current(self._records)
        slots = self._records.slots(where) if index is None else self._candidates(index, query, k, where)
        return self._records.best(slots, query, k, self.similarity)

    def _candidates(self, index: CodeIndex, query: Vectors, k: int, where: Where | None) -> Slots:
        wanted = k * self.oversample
        for count in (wanted, wanted * _WIDER):
            nodes = index.search(query, count)
            slots = self._records.slots_of(nodes, where)
            # A node may stand for several records, or for none any more.
            if len(slots) * 2 >= wanted or len(nodes) == len(index):
                return np.union1d(slots, self._records.slots(where, outside=True))
        return self._records.slots(where)

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Return the records that exist, in the order of ``ids``."""
        return self._read(partial(self._records.get, ids))

    def contains(self, ids: Sequence[str]) -> set[str]:
        """Return those of ``ids`` that exist."""
        return self._read(partial(self._records.contains, ids))

    def ids(self, where: Where | None = None) -> Iterator[str]:
        """Yield every id, or those of records that fulfil a condition, in no particular order."""
        self._check_open()
        return self._records.ids(where)

    def __len__(self) -> int:
        return self._read(partial(len, self._records))

    @property
    def space(self) -> str:
        """`Profile.space` stamped on the directory; empty where there is none."""
        return str(self._read(partial(self._records.meta, "space")) or "")

    @property
    def codec(self) -> VectorCodec | None:
        """The fitted codec; None before the index is first built."""
        return self._read(partial(self._files.codec, self._records))

    def _indexed(self) -> int:
        index: dict[str, Any] | None = self._records.meta("index")
        return 0 if index is None else int(index["nodes"])

    def _read(self, read: Callable[[], Result]) -> Result:
        """Read in one transaction; again if another process has overwritten what this one saw."""
        for _ in range(_ATTEMPTS):
            try:
                with self._records.database.reading():
                    return read()
            except OutdatedError as error:
                overtaken = error
        raise self._damaged(overtaken)

    def _damaged(self, error: OutdatedError) -> StoreError:
        return StoreError(
            f"{str(self.path)!r} is damaged: {error} is not as it was written. Records can be written again; "
            "the index is made again by build(anew=True)"
        )

    def close(self) -> None:
        """Close the files and let others write. A closed store raises StoreError on use."""
        with self._building, self._lock:
            self._files.close()
            self._records.close()
            if self._writer is not None:
                self._writer.release()
                self._writer = None

    def _check_open(self) -> None:
        with self._records.database.reading():
            pass
