"""Whose turn it is to use a Chroma directory: one process writes, others read what was there when they opened it.

Chroma itself lets two processes write at once, and then finds 4 to 49 % of their records no more. A client that was
open while another process wrote answers from what it has in memory, and may write that back. So a writer holds a lock
from its first write until it closes the store and counts its writes in a file; who opened at an earlier count hears it.

::

    DIR/writer.lock     held by the writing process
    DIR/writer.count    number of writes, and the process that wrote last
    DIR/chroma.lock     held for moments, while Chroma's files are written or read from disk; see `gate`
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock, Timeout

from rag_embeddings.errors import ChromaDamagedError, StoreError, StoreLockedError
from rag_embeddings.store.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOCK_SECONDS = 0.25  # a second writer hears quickly that it is one


class Access(Protocol):
    """What a store asks before it touches Chroma."""

    def opening(self) -> AbstractContextManager[Any]:
        """Entered around whatever reads files from disk."""
        ...

    def writing(self) -> AbstractContextManager[Any]:
        """Entered around every write."""
        ...

    def check(self) -> None:
        """Called before every read."""
        ...

    def close(self) -> None:
        """Called when the store closes."""
        ...


class Guarded:
    """Access that somebody else regulates: an index directory, or a server."""

    def __init__(self, guard: Callable[[], AbstractContextManager[Any]]) -> None:
        self.opening = self.writing = guard

    def check(self) -> None:
        """See `Access.check`."""

    def close(self) -> None:
        """See `Access.close`."""


class Turns:
    """Access of one store to a directory of its own. See the module.

    Args:
        path: The Chroma directory; made if absent.

    Raises:
        StoreError: If this process has the directory open since before another one wrote to it.
    """

    def __init__(self, path: str | Path) -> None:
        self._directory = _acquire(Path(path).resolve())
        self._writes = False
        self._closed = False

    @contextmanager
    def opening(self) -> Iterator[None]:
        """See `Access.opening`."""
        with self._directory.gate():
            self.check()
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See `Access.writing`.

        Raises:
            StoreLockedError: If another process is writing.
            StoreError: If another process has written since the store was opened.
        """
        if not self._writes:
            self._directory.become_writer()
            self._writes = True
        with self._directory.gate():
            self._directory.advance()
            yield

    def check(self) -> None:
        """See `Access.check`.

        Raises:
            StoreError: If another process has written since the store was opened.
        """
        self._directory.check()

    def close(self) -> None:
        """See `Access.close`."""
        if not self._closed:
            self._closed = True
            _release(self._directory, writes=self._writes)


class _Directory:
    """What all stores of one process that use a directory share, as they share Chroma's client."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.stores = 0
        self.writers = 0
        self.gate = Gate(path, path / "chroma.lock", self._damaged)
        self._count = path / "writer.count"
        self._lock = FileLock(path / "writer.lock", thread_local=False)
        with self.gate():
            self._seen = self._written()

    def become_writer(self) -> None:
        with _registry_lock:
            if not self.writers:
                try:
                    self._lock.acquire(timeout=_LOCK_SECONDS)
                except Timeout:
                    raise StoreLockedError(
                        f"process {self._written()[1]} is writing to {str(self.path)!r}; wait until it has closed the "
                        "store"
                    ) from None
                try:
                    self.check()
                    self._remember(self._seen[0])
                except BaseException:
                    self._lock.release()
                    raise
            self.writers += 1

    def stop_writing(self) -> None:
        self.writers -= 1
        if not self.writers:
            self._lock.release()

    def advance(self) -> None:
        self._remember(self._seen[0] + 1)

    def _remember(self, count: int) -> None:
        self._seen = (count, os.getpid())
        self._count.write_text(f"{count} {os.getpid()}", encoding="ascii")

    def check(self) -> None:
        if self.writers:
            return
        if self._written()[0] != self._seen[0]:
            raise StoreError(
                f"process {self._written()[1]} has written to {str(self.path)!r} since this one opened it; close every "
                "store of this directory and open it again. Where one process writes and others read all the time, use "
                "an IndexDirectory, a QuantizedStore or a Chroma server"
            )

    def _written(self) -> tuple[int, int]:
        try:
            count, process = self._count.read_text(encoding="ascii").split()
        except FileNotFoundError:
            return 0, 0
        return int(count), int(process)

    def _damaged(self) -> None:
        raise ChromaDamagedError(
            f"a process was killed while Chroma wrote its index in {str(self.path)!r}, which Chroma does not survive; "
            "write the records into a new directory"
        )


_registry: dict[Path, _Directory] = {}
_registry_lock = RLock()


def _acquire(path: Path) -> _Directory:
    with _registry_lock:
        directory = _registry.get(path)
        if directory is None:
            directory = _Directory(path)
            _registry[path] = directory
        directory.check()
        directory.stores += 1
        return directory


def _release(directory: _Directory, *, writes: bool) -> None:
    with _registry_lock:
        if writes:
            directory.stop_writing()
        directory.stores -= 1
        if not directory.stores:
            _registry.pop(directory.path, None)
