"""Guards Chroma's files: one process at a time reads them from disk or writes them, and a kill meanwhile is noticed.

Chroma overwrites the files of its vector index in place. Where a process was killed while it did, the next one to read
them gets an error at best and a segmentation fault at worst. So a marker with a fingerprint of these files lies in the
directory while they may change. Whoever finds one, and the files are not what it says, must not open them.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from rag_embeddings.errors import StoreError
from rag_embeddings.text import content_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SECONDS = 60.0  # Chroma's files are read or written for well under a second at a time


class Gate:
    """See the module. Thread-safe; may be entered again by the thread that is inside.

    Args:
        files: The directory that Chroma writes.
        lock: The lock file.
        suspect: Called when the files were left half-written, before anybody reads them.
    """

    def __init__(self, files: Path, lock: Path, suspect: Callable[[], None]) -> None:
        self._files = files
        self._marker = lock.with_suffix(".busy")
        self._lock = FileLock(lock, timeout=_SECONDS, poll_interval=0.005)
        self._suspect = suspect

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Keep other processes away from the files.

        Raises:
            StoreError: If another process keeps them for a minute.
        """
        try:
            self._lock.acquire()
        except Timeout:
            raise StoreError(
                f"another process kept {self._lock.lock_file!r} locked for {_SECONDS:.0f} s; is it stopped?"
            ) from None
        try:
            if self._lock.lock_counter > 1:
                yield
            else:
                with self._marked():
                    yield
        finally:
            self._lock.release()

    @contextmanager
    def _marked(self) -> Iterator[None]:
        if self._marker.exists() and self._marker.read_text(encoding="ascii") != self._fingerprint():
            self._suspect()
        self._marker.write_text(self._fingerprint(), encoding="ascii")
        try:
            yield
        finally:
            self._marker.unlink(missing_ok=True)

    def _fingerprint(self) -> str:
        """Of the vector index alone: SQLite, beside it, looks after itself."""
        found = []
        for file in sorted(self._files.glob("*/*")):
            status = file.stat()
            found.append(f"{file.relative_to(self._files)} {status.st_size} {status.st_mtime_ns}")
        return content_id(*found)
