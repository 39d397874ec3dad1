"""What all handles on one index directory share in a process: ledger, stores, the writer's lock."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Condition, RLock
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from rag_embeddings.encode.profile import Profile
from rag_embeddings.errors import SpaceMismatchError, StoreError, StoreLockedError
from rag_embeddings.store.ledger import Ledger
from rag_embeddings.store.memory import MemoryStore
from rag_embeddings.store.pair import Pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rag_embeddings.store.base import VectorReader

_LEDGER, _LOCK = "ledger.sqlite3", "lock"
_LOCK_SECONDS = 0.25  # a second writer hears quickly that it is one


@dataclass(frozen=True, slots=True)
class View:
    """The vector stores as one read or write sees them.

    Attributes:
        sentences: Vectors of sentences.
        chunks: Vectors of chunks.
        generation: The ledger's generation that the stores are at least as new as.
    """

    sentences: VectorReader
    chunks: VectorReader
    generation: int


class SharedIndex:
    """See the module and `rag_embeddings.store.directory.IndexDirectory`.

    Args:
        path: The directory, made if absent; None for memory.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.pid = os.getpid()
        self.handles = 0
        if path is not None:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except FileExistsError as error:
                raise StoreError(f"{str(path)!r} is a file, and an index is a directory; name another place") from error
        self.ledger = Ledger(None if path is None else path / _LEDGER)
        self._pair = None if path is None else Pair(path, self.ledger)
        self._stores: tuple[VectorReader, VectorReader] | None = None
        self._opened_at = -1  # generation of the ledger before the stores were opened
        self._lock: FileLock | None = None
        self._is_writer = False
        self._turn = RLock()  # threads that write take turns
        self._condition = Condition()
        self._users = 0  # reads in progress
        self._changing = False

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether there is an index in a directory."""
        return (path / _LEDGER).is_file()

    @property
    def profile(self) -> Profile | None:
        """Profile stamped on the index."""
        values = self.ledger.meta("profile")
        return None if values is None else Profile.from_dict(values)

    @contextmanager
    def reading(self, profile: Profile | None) -> Iterator[View | None]:
        """See `rag_embeddings.store.directory.IndexDirectory.reading`."""
        if profile is not None:
            self._check(profile)
        with self._condition:
            self._condition.wait_for(lambda: not self._changing)
            generation = self.ledger.generation
            if not self._is_writer and (self._stores is None or self._opened_at != generation):
                self._change(self._open_for_reading)
                generation = self._opened_at
            self._users += 1
            stores = self._stores
        try:
            yield None if stores is None else View(*stores, generation)
        finally:
            with self._condition:
                self._users -= 1
                self._condition.notify_all()

    @contextmanager
    def writing(self, profile: Profile) -> Iterator[View]:
        """See `rag_embeddings.store.directory.IndexDirectory.writing`."""
        with self._turn:
            self._check(profile)
            if not self._is_writer:
                self._become_writer(profile)
            if self._stores is None:
                raise StoreError("this index is closed")
            try:
                yield View(*self._stores, self.ledger.generation)
            except StoreError:
                self._distrust_stores()
                raise

    def close(self) -> None:
        """Close the stores, then the ledger, then give the lock back, even if the disk is full."""
        with self._turn, self._condition:
            try:
                self._change(self._close_stores)
                if self._is_writer:
                    self.ledger.remember("writer", None)
            finally:
                self._is_writer = False
                self.ledger.close()
                if self._lock is not None:
                    self._lock.release()
                    self._lock = None

    def _distrust_stores(self) -> None:
        """Open the stores anew before they are used again: Chroma may wait for ever after a write that failed.

        The lock stays ours, and our name in the ledger, so that the next write looks for damage.
        """
        if self._pair is None:
            return
        with self._condition:
            self._change(self._close_stores)
            self._is_writer, self._opened_at = False, -1

    def _become_writer(self, profile: Profile) -> None:
        lock = self._lock or self._locked()
        try:
            self._check(profile)  # another writer may have stamped the index before we had the lock
            was_cut_off = self.ledger.meta("writer") is not None  # a writer that closes the index takes its name off
            with self.ledger.writing():
                self.ledger.remember("writer", os.getpid())
                if self.ledger.meta("profile") is None:
                    self.ledger.remember("profile", profile.to_dict())
                    self.ledger.remember("space", profile.space)
            with self._condition:
                self._condition.wait_for(lambda: not self._changing)
                self._change(partial(self._open_for_writing, profile, was_cut_off=was_cut_off))
                self._is_writer = True
        except BaseException:
            if lock is not None and lock is not self._lock:
                lock.release()
            raise
        self._lock = lock

    def _locked(self) -> FileLock | None:
        if self.path is None:
            return None
        lock = FileLock(self.path / _LOCK, thread_local=False)
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout:
            pid = self.ledger.meta("writer")
            who = f"process {pid}" if pid else "another process"
            raise StoreLockedError(
                f"{who} is writing to the index in {str(self.path)!r}; wait until it has closed the index"
            ) from None
        return lock

    def _check(self, profile: Profile) -> None:
        space = self.ledger.meta("space")
        if space is None or space == profile.space:
            return
        differences = Profile.from_dict(self.ledger.meta("profile")).differences(profile)
        where = "in memory" if self.path is None else f"in {str(self.path)!r}"
        raise SpaceMismatchError(
            f"the index {where} holds vectors of another space ({differences}). "
            "Use the same model and prompts, or index into another directory"
        )

    def _change(self, change: Callable[[], None]) -> None:
        """Change the stores while nobody uses them; the condition is held."""
        self._changing = True
        try:
            self._condition.wait_for(lambda: self._users == 0)
            change()
        finally:
            self._changing = False
            self._condition.notify_all()

    def _close_stores(self) -> None:
        stores, self._stores = self._stores, None
        for store in stores or ():
            store.close()

    def _open_for_reading(self) -> None:
        self._opened_at = self.ledger.generation
        profile = self.profile
        if self._pair is None or profile is None:  # in memory, or nothing was ever written
            return
        self._close_stores()
        self._stores = self._pair.for_reading(profile.similarity)

    def _open_for_writing(self, profile: Profile, *, was_cut_off: bool) -> None:
        self._close_stores()
        if self._pair is None:
            self._stores = (MemoryStore(profile.similarity), MemoryStore(profile.similarity))
        else:
            self._stores = self._pair.for_writing(profile.similarity, was_cut_off=was_cut_off)
