"""The file under the vector cache: where it lies, opening, transactions, and what happens when it is damaged.

SQLite with a write-ahead log and ``synchronous=NORMAL``: a killed process leaves the file sound; a power cut may lose
the last transactions, which a cache can afford.
"""

from __future__ import annotations

import atexit
import logging
import os
import sqlite3
import stat
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

from filelock import FileLock, Timeout

from rag_embeddings.errors import CacheUnavailableError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

FORMAT = 1  # part of every key too: bump it when the meaning of a row changes
PAGE = 8192  # bytes; with a rowid table the fastest and smallest of those measured
_WAIT = 30.0  # seconds that a process waits for another's transaction
_MAGIC = b"SQLite format 3\x00"
_SHORTEST = 512  # bytes of the smallest SQLite file that is not empty
_APPLICATION = 0x52_41_47_56  # "RAGV", bytes 68 to 71 of the file
_TABLES = {
    b"vectors": "CREATE TABLE vectors (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, dim INTEGER NOT NULL, "
    "crc INTEGER NOT NULL, data BLOB NOT NULL)",
    # Apart from the vectors, because noting a use must not rewrite a page of vectors.
    b"uses": "CREATE TABLE uses (vector INTEGER PRIMARY KEY, tick INTEGER NOT NULL)",
    b"clock": "CREATE TABLE clock (tick INTEGER NOT NULL)",
}
# Primary result codes of SQLite that blame the surroundings (busy, read-only, full, ...). Every other error in
# statements that never change means that the file is damaged.
_SURROUNDINGS = frozenset({3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 22, 23})
_LOGGER = logging.getLogger(__name__)


class _DamagedError(sqlite3.DatabaseError):
    """A file of ours whose tables are not as they must be."""


def default_path() -> Path:
    """Return where the vectors of this user are kept: in the user's cache directory, never a shared temporary one."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        named = Path(os.environ.get("XDG_CACHE_HOME", ""))
        base = named if named.is_absolute() else Path.home() / ".cache"  # the specification: ignore a relative path
    return base / "rag-embeddings" / "vectors.sqlite"


class CacheFile:
    """One SQLite file, shared by the threads of this process and by other processes.

    It opens at first use, closes before the process forks, and opens again when it is used after that, or when the file
    was removed or replaced meanwhile.

    Args:
        path: The file; its directory is made (0700) if absent, the file too (0600).
        before_closing: Called with the connection before it closes; what it raises of SQLite is dropped.

    Attributes:
        set_aside: Number of damaged files renamed by this object.
    """

    def __init__(self, path: Path, before_closing: Callable[[sqlite3.Connection], None]) -> None:
        self.path = path
        self.set_aside = 0
        self._before_closing = before_closing
        self._lock = RLock()
        self._db: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        _FILES.add(self)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function that only reads; again, on a new file, if this one proves damaged.

        Raises:
            CacheUnavailableError: If the file cannot be read at the moment.
            StoreError: If the file cannot be opened, or is not a vector cache.
        """
        return self._run(work)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function in one transaction, kept whole or not at all; again, on a new file, if this one is damaged.

        Raises:
            CacheUnavailableError: If the file cannot be written at the moment.
            StoreError: If the file cannot be opened, or is not a vector cache.
        """

        def transaction(db: sqlite3.Connection) -> T:
            db.execute("BEGIN IMMEDIATE")
            try:
                result = work(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return result

        return self._run(transaction)

    def close(self) -> None:
        """Close the file. The next use opens it again."""
        with self._lock:
            if self._db is not None and identity(self.path) == self._identity:
                with suppress(sqlite3.Error):  # closing must succeed, also on a damaged file
                    self._before_closing(self._db)
            self._drop()

    def damaged_files(self) -> list[Path]:
        """Return the damaged files that were set aside, by this process or another."""
        prefix = f"{self.path.name}.corrupt-"
        found = [item for item in self.path.parent.glob("*.corrupt-*") if item.name.startswith(prefix)]
        return sorted(item for item in found if item.name.removeprefix(prefix).partition("-")[0].isdigit())

    def remove_damaged(self) -> None:
        """Delete the damaged files that were set aside."""
        for item in self.damaged_files():
            item.unlink(missing_ok=True)

    # --- inside --------------------------------------------------------------------------------------------------

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            for attempt in (1, 2):
                db = self._connection()
                try:
                    return work(db)
                except sqlite3.Error as error:
                    if not is_damage(error):
                        raise CacheUnavailableError(f"the vector cache {self.path} cannot be used: {error}") from error
                    self._replace(error)
                    if attempt == 2:  # noqa: PLR2004
                        raise CacheUnavailableError(
                            f"the vector cache {self.path} was damaged again right after it was begun anew: {error}"
                        ) from error
        raise AssertionError  # unreachable: the loop returns or raises

    def _connection(self) -> sqlite3.Connection:
        if self._db is not None:
            if identity(self.path) == self._identity:
                return self._db
            self._drop()  # removed or replaced by someone: what we hold is an orphan
        make_directory(self.path.parent)
        with self._opening():
            try:
                self._db = _opened(self.path)
            except sqlite3.Error as error:
                if not is_damage(error):
                    busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
                    kind = CacheUnavailableError if busy else StoreError
                    raise kind(f"the vector cache {self.path} cannot be opened: {error}") from error
                self._move(error)
                self._db = _opened(self.path)
            self._identity = identity(self.path)
        return self._db

    def _replace(self, error: sqlite3.Error) -> None:
        """Set the open file aside, unless another process did so already."""
        damaged = self._identity
        self._drop()
        with self._opening():
            if identity(self.path) == damaged:
                self._move(error)

    def _move(self, error: sqlite3.Error) -> None:
        """Rename the file and its companions. Only one damaged file is kept, so that damage cannot fill the disk."""
        if not (isinstance(error, _DamagedError) or _is_ours(self.path)):
            raise StoreError(_foreign(self.path)) from error
        number = 1 + max((int(item.name.rpartition("-")[2]) for item in self._numbered()), default=0)
        self.remove_damaged()
        target = self.path.with_name(f"{self.path.name}.corrupt-{number}")
        for suffix in ("-wal", "-shm", "-journal"):  # first: they must not be applied to the new file
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        self.path.rename(target)
        self.set_aside += 1
        _LOGGER.error("the vector cache %s was damaged (%s): renamed to %s and begun anew", self.path, error, target)

    def _numbered(self) -> list[Path]:
        return [item for item in self.damaged_files() if item.name.rpartition("-")[2].isdigit()]

    def _drop(self) -> None:
        db, self._db, self._identity = self._db, None, None
        if db is not None:
            with suppress(sqlite3.Error):  # a damaged file cannot always be closed in order
                db.close()

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Keep other processes from opening or renaming the file meanwhile."""
        try:
            lock = FileLock(f"{self.path}.lock", timeout=_WAIT, mode=0o600)
            lock.acquire()
        except Timeout as error:
            raise CacheUnavailableError(f"another process has held {self.path}.lock for {_WAIT:.0f} seconds") from error
        except OSError as error:
            raise StoreError(f"the vector cache {self.path} cannot be opened: {error}") from error
        try:
            yield
        finally:
            lock.release()


def make_directory(path: Path) -> None:
    """Make a directory that only this user can enter; leave one that exists as it is.

    Raises:
        StoreError: If it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        if not path.is_dir():
            raise NotADirectoryError(path)
    except OSError as error:
        raise StoreError(f"the directory of the vector cache cannot be made: {error}") from error


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells one file from another of the same name, None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error means that the file is damaged, rather than busy, full or forbidden."""
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):  # a mistake of ours: never hide it
        return False
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, _DamagedError) or (code is not None and code & 0xFF not in _SURROUNDINGS)


def _opened(path: Path) -> sqlite3.Connection:
    """Open a file, make its tables if it is new, and check that they are ours and can be written."""
    try:
        # Opened only to be made: closing a descriptor of an existing database would drop SQLite's locks on it.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{path} is not a regular file: a vector cache is never opened through a link") from None
        if 0 < found.st_size < _SHORTEST:
            # SQLite would take it for empty and write over it.
            raise (_DamagedError("it is cut off") if _is_ours(path) else StoreError(_foreign(path))) from None
    except OSError as error:
        raise StoreError(f"the vector cache {path} cannot be made: {error}") from error
    db = sqlite3.connect(path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
    try:
        _prepare(db, path)
    except BaseException:
        with suppress(sqlite3.Error):
            db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.text_factory = bytes  # damage can make a text of a blob: it must still arrive
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 24)  # bytes; no damaged length makes us allocate more
    for pragma in (f"page_size = {PAGE}", "trusted_schema = OFF", "cell_size_check = ON", "cache_size = -16384"):
        db.execute(f"PRAGMA {pragma}")
    tables = dict(db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if tables and application != _APPLICATION and not tables.keys() & _TABLES.keys():
        raise StoreError(_foreign(path))
    try:
        db.execute("BEGIN IMMEDIATE")  # shows that the file can be written, too
    except sqlite3.OperationalError as error:
        readonly = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY
        if readonly and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
            raise _DamagedError("its header says that it cannot be written") from error
        raise
    if not tables and application == 0:
        for statement in _TABLES.values():
            db.execute(statement)
        db.execute("INSERT INTO clock VALUES (0)")
        db.execute(f"PRAGMA application_id = {_APPLICATION}")
        db.execute(f"PRAGMA user_version = {FORMAT}")
    elif tables != {name: statement.encode() for name, statement in _TABLES.items()}:
        raise _DamagedError("its tables are not those of a vector cache")
    elif (application, db.execute("PRAGMA user_version").fetchone()[0]) != (_APPLICATION, FORMAT):
        raise _DamagedError("its header is not that of a vector cache of this format")
    db.execute("COMMIT")
    db.execute("PRAGMA journal_mode = WAL")  # after the tables, so that page 1 stands in the file from the start
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA journal_size_limit = 16777216")


def _foreign(path: Path) -> str:
    return f"{path} is not a vector cache, and was left as it was; give the path of a new file"


def _is_ours(path: Path) -> bool:
    """Return whether the start of a file is, or once was, that of a vector cache: it may be cut off or zeroed."""
    with path.open("rb") as file:
        head = file.read(100)
    if len(head) < 100 or not any(head):  # noqa: PLR2004 - the length of the header of a SQLite file
        return head[:16] == _MAGIC[: len(head)] or not any(head)
    return head[68:72] == _APPLICATION.to_bytes(4)


_FILES: WeakSet[CacheFile] = WeakSet()
_HELD: list[CacheFile] = []


def _before_fork() -> None:
    """Close every file and keep it closed through the fork: SQLite's locks do not survive one."""
    for file in list(_FILES):
        file._lock.acquire()  # noqa: SLF001 - same module
        _HELD.append(file)
        file.close()


def _after_fork() -> None:
    while _HELD:
        _HELD.pop()._lock.release()  # noqa: SLF001 - same module


def _close_all() -> None:
    for file in list(_FILES):
        file.close()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
