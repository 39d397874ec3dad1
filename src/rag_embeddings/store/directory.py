"""One index on disk: the ledger, two Chroma collections, one writer, any number of readers.

::

    DIR/ledger.sqlite3    whole documents, spans, which version is live
    DIR/vectors/          vectors with text and metadata, two SQLite files
    DIR/chroma/           what finds them: collections "sentences" and "chunks"
    DIR/lock              held by the writing process until it closes the index
    DIR/chroma.lock       held for moments, while Chroma's files are written or read from disk

Reading takes no lock. A Chroma client goes stale for good once another process has written, so each read compares the
ledger's generation with the one its client was opened at and opens a new client when it changed. Opening takes
``chroma.lock`` for some milliseconds: Chroma replays its log on opening and may write while it does.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from rag_embeddings.errors import IndexNotFoundError, StoreError
from rag_embeddings.store.shared import SharedIndex

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

    from rag_embeddings.encode.profile import Profile
    from rag_embeddings.store.ledger import Ledger
    from rag_embeddings.store.shared import View

_registry: dict[Path, SharedIndex] = {}
_registry_lock = RLock()
# What a fork left behind. SQLite and Chroma forbid using it in the child, closing it and opening the same files again
# included; so it is kept from the garbage collector, and its path remembered.
_abandoned: list[SharedIndex] = []


class IndexDirectory:
    """A handle on an index. Handles on the same directory in one process share everything; see `open`.

    Thread-safe and a context manager. A fork of the process cannot use it, nor open the same directory: it is told so.
    """

    def __init__(self, shared: SharedIndex) -> None:
        self._shared = shared
        self._closed = False
        self._finalizer = weakref.finalize(self, _release, shared)

    @classmethod
    def open(cls, path: str | Path | None, *, create: bool = False) -> IndexDirectory:
        """Open an index.

        Args:
            path: The directory; None makes a private index in memory.
            create: Whether to make the directory if there is no index in it.

        Returns:
            A handle to be closed. The files close with the last handle of the process.

        Raises:
            IndexNotFoundError: If there is no index and ``create`` is False.
            StoreError: If the directory holds something that is no index of this version, or was open in the process
                that this one was forked from.
        """
        return cls(_acquire(None if path is None else Path(path).resolve(), create=create))

    @property
    def path(self) -> Path | None:
        """The directory; None in memory."""
        return self._shared.path

    @property
    def profile(self) -> Profile | None:
        """Profile of the vectors, stamped at the first write; None before it."""
        return self._use().profile

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the pipeline at the last write; empty before it."""
        return dict(self.ledger.meta("settings") or {})

    @property
    def ledger(self) -> Ledger:
        """Documents, spans, liveness."""
        return self._use().ledger

    def counts(self) -> dict[str, int]:
        """Return how many ``documents``, ``chunks`` and ``sentences`` can be found."""
        return self.ledger.counts()

    def reading(self, profile: Profile | None = None) -> AbstractContextManager[View | None]:
        """Open the vector stores for reading, as fresh as the ledger. Not to be nested in one thread.

        Args:
            profile: What the reader encodes with; None skips the check.

        Returns:
            A context manager that gives the stores, or None while nothing has been written.

        Raises:
            SpaceMismatchError: If the index holds vectors of another space.
        """
        return self._use().reading(profile)

    def writing(self, profile: Profile) -> AbstractContextManager[View]:
        """Become the writer, until the index is closed. Not to be called inside `reading`.

        Args:
            profile: What the writer encodes with. The first one ever is stamped on the index.

        Returns:
            A context manager that gives the stores; threads of one process take turns.

        Raises:
            StoreLockedError: If another process is the writer, after a fraction of a second.
            SpaceMismatchError: If the index holds vectors of another space.
        """
        return self._use().writing(profile)

    def close(self) -> None:
        """Close this handle. Closing twice is fine; any other use afterwards raises StoreError."""
        self._closed = True
        self._finalizer()

    def __enter__(self) -> IndexDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _use(self) -> SharedIndex:
        if self._closed:
            raise StoreError("this index is closed")
        if self._shared.pid != os.getpid():
            raise _forked(self._shared.path)
        return self._shared


def _acquire(path: Path | None, *, create: bool) -> SharedIndex:
    with _registry_lock:
        if path is not None and any(shared.path == path for shared in _abandoned):
            raise _forked(path)
        shared = None if path is None else _registry.get(path)
        if shared is None:
            if path is not None and not create and not SharedIndex.exists(path):
                raise IndexNotFoundError(f"there is no index in {str(path)!r}; index some documents first")
            shared = SharedIndex(path)
            if path is not None:
                _registry[path] = shared
        shared.handles += 1
        return shared


def _release(shared: SharedIndex) -> None:
    if shared.pid != os.getpid():
        return
    with _registry_lock:
        shared.handles -= 1
        if shared.handles:
            return
        if shared.path is not None:
            _registry.pop(shared.path, None)
        shared.close()


def _forked(path: Path | None) -> StoreError:
    where = "in memory" if path is None else f"in {str(path)!r}"
    return StoreError(
        f"the index {where} was open in this process before it was forked, which SQLite and Chroma do not survive; "
        "start child processes with the method 'spawn' or 'forkserver', or open the index only in the child"
    )


def _forget_parent() -> None:
    global _registry_lock  # noqa: PLW0603 - the parent's lock may have been held by a thread that did not fork along
    _registry_lock = RLock()
    _abandoned.extend(_registry.values())
    _registry.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
