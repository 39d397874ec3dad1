"""The one file of an artifact: safetensors, written as the data comes and checked as it is opened.

::

    8 bytes           length of the header
    header            JSON, padded with spaces; the manifest stands in its metadata
    "vectors"         float32 of shape (n, dim), memory-mapped by any reader of safetensors
    "records"         bytes: one line of JSON for each vector
    "documents"       bytes: one line of JSON for each whole document, where there are any

Texts are UTF-8 in which lone surrogates are passed through. Nothing in the file can run code.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from threading import RLock
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from rag_embeddings.errors import ArtifactError, StoreError, StoreLockedError
from rag_embeddings.testing.faults import failpoint
from rag_embeddings.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rag_embeddings.encode.base import Vectors

FORMAT = "rag-embeddings artifact"
VERSION = 1
KINDS = ("", "chunk", "sentence")
_SECTIONS = ("vectors", "records", "documents")
_BLOCK = 1 << 20  # bytes read or copied at a time
_LARGEST_HEADER = 100_000_000  # the bound of safetensors itself
_LOCK_SECONDS = 0.25
_DIGITS = 10**18  # as long as any number that the header will hold


class ArtifactWriter:
    """Writes an artifact beside its place and puts it there whole; used by one thread.

    A save that is killed leaves the artifact that was there before, and a hidden file that the next save writes over.

    Args:
        path: The file; replaced if it is there.
        dimensions: Width of the vectors.
        manifest: JSON-safe values that say what the vectors are.

    Raises:
        StoreError: If the file cannot be written.
        StoreLockedError: If another process is writing to the same path.
    """

    def __init__(self, path: Path, dimensions: int, manifest: Mapping[str, Any]) -> None:
        self._path = path
        self._dimensions = dimensions
        self._manifest = dict(manifest)
        self._digests = {name: _digest() for name in _SECTIONS}
        self._sizes = dict.fromkeys(_SECTIONS, 0)
        self._partial = path.with_name(f".{path.name}.partial")
        self._lock = FileLock(path.with_name(f".{path.name}.lock"), thread_local=False)
        if path.is_dir():
            raise StoreError(f"{str(path)!r} is a directory; an artifact is one file")
        if not path.parent.is_dir():  # which the lock would make
            raise StoreError(f"{str(path)!r} cannot be written: there is no directory {str(path.parent)!r}")
        with ExitStack() as opening, self._declaring():
            self._acquire()
            opening.callback(self._lock.release)
            opening.callback(_remove, Path(self._lock.lock_file))
            opening.callback(self._partial.unlink, missing_ok=True)
            self._file = opening.enter_context(self._partial.open("w+b"))
            self._spools = {
                name: opening.enter_context(tempfile.TemporaryFile(dir=path.parent)) for name in _SECTIONS[1:]
            }
            # As long as the header will be at most, so that the vectors' place is known.
            counts = {"documents": _DIGITS, "kinds": dict.fromkeys(KINDS, _DIGITS)}
            largest = self._header(dict.fromkeys(_SECTIONS, _DIGITS), _DIGITS, counts)
            self._reserved = -(-(len(largest) + 64) // 8) * 8
            self._file.seek(8 + self._reserved)
            self._cleanup = opening.pop_all()

    def vectors(self, rows: Vectors) -> None:
        """Append rows, float32 of shape (n, dim)."""
        self._write("vectors", self._file, np.ascontiguousarray(rows, dtype="<f4").tobytes())

    def record(self, line: str) -> None:
        """Append the record of a row: one line of JSON."""
        self._write("records", self._spools["records"], _spelled(line))

    def document(self, line: str) -> None:
        """Append a document: one line of JSON."""
        self._write("documents", self._spools["documents"], _spelled(line))

    def finish(self, counts: Mapping[str, Any]) -> None:
        """Put the artifact in its place: the moment it exists.

        Args:
            counts: What the manifest says beside what it began with: ``documents``, and ``kinds`` of records.
        """
        with self._declaring():
            failpoint("artifact.after_vectors")
            for name in _SECTIONS[1:]:
                self._spools[name].seek(0)
                shutil.copyfileobj(self._spools[name], self._file, _BLOCK)
                failpoint(f"artifact.after_{name}")
            header = self._header(self._sizes, self._sizes["vectors"] // (4 * self._dimensions), counts)
            self._file.seek(0)
            self._file.write(self._reserved.to_bytes(8, "little") + header.ljust(self._reserved))
            self._file.flush()
            os.fsync(self._file.fileno())
            failpoint("artifact.after_sync")
            self._file.close()  # Windows replaces no file that is open
            self._partial.replace(self._path)
            failpoint("artifact.after_replace")
            _sync_directory(self._path.parent)

    def close(self) -> None:
        """Forget what was not finished, and let others write."""
        with self._declaring():
            self._cleanup.close()

    def _write(self, section: str, file: IO[bytes], data: bytes) -> None:
        with self._declaring():
            file.write(data)
        self._digests[section].update(data)
        self._sizes[section] += len(data)

    def _header(self, sizes: Mapping[str, int], count: int, counts: Mapping[str, Any]) -> bytes:
        digests = {name: digest.hexdigest() for name, digest in self._digests.items()}
        manifest = canonical_json({**self._manifest, **counts, "count": count, "digests": digests})
        header: dict[str, Any] = {
            "__metadata__": {
                "format": FORMAT,
                "version": str(VERSION),
                "manifest": manifest,
                "digest": _digest(manifest.encode()).hexdigest(),
            }
        }
        begin = 0
        for name in _SECTIONS:
            end = begin + sizes[name]
            shape = [count, self._dimensions] if name == "vectors" else [sizes[name]]
            dtype = "F32" if name == "vectors" else "U8"
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
            begin = end
        return json.dumps(header, separators=(",", ":")).encode()

    def _acquire(self) -> None:
        try:
            self._lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout:
            raise StoreLockedError(
                f"another process is saving {str(self._path)!r}; wait until it has finished"
            ) from None

    @contextmanager
    def _declaring(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{str(self._path)!r} cannot be written: {error}") from error


class ArtifactFile:
    """An artifact that is open. Thread-safe.

    Args:
        path: The file.
        check: Whether to read all of it once and compare the digests.

    Raises:
        FileNotFoundError: If there is no such file.
        ArtifactError: If it is something else, damaged, or of a newer version.
    """

    def __init__(self, path: Path, *, check: bool = True) -> None:
        self._name = str(path)
        self._lock = RLock()
        self._file = path.open("rb")
        try:
            self.manifest, self._data, offsets = self._opened()
            self._places = {name: (self._data + begin, end - begin) for name, (begin, end) in offsets.items()}
            self.shape = (int(self.manifest["count"]), int(self.manifest["dimensions"]))
            if check:
                self._check()
        except BaseException:
            self._file.close()
            raise

    def mapped(self) -> Vectors:
        """Return all vectors, float32 of shape (n, dim), memory-mapped and read-only."""
        if not self.shape[0]:
            return np.zeros(self.shape, dtype=np.float32)
        with self._open():
            return np.memmap(self._file, dtype="<f4", mode="r", offset=self._places["vectors"][0], shape=self.shape)

    def rows(self, first: int, count: int) -> Vectors:
        """Return some vectors, float32 of shape (count, dim), read from the file."""
        begin = self._places["vectors"][0] + first * self.shape[1] * 4
        data = self._read(begin, count * self.shape[1] * 4)
        return np.frombuffer(data, dtype="<f4").reshape(count, self.shape[1])

    def lines(self, section: str) -> Iterator[dict[str, Any]]:
        """Yield the lines of ``"records"`` or ``"documents"``, parsed."""
        rest = b""
        for block in self._blocks(section):
            *whole, rest = (rest + block).split(b"\n")
            yield from map(self._parsed, whole)
        if rest:
            raise self._damaged("its last line has no end")

    def close(self) -> None:
        """Close the file. A closed artifact raises StoreError on use."""
        with self._lock:
            self._file.close()

    def _opened(self) -> tuple[dict[str, Any], int, dict[str, list[int]]]:
        size = os.fstat(self._file.fileno()).st_size
        length = int.from_bytes(self._file.read(8), "little")
        if not 2 <= length <= min(_LARGEST_HEADER, size - 8):  # noqa: PLR2004 - the shortest JSON object
            raise ArtifactError(f"{self._name!r} is no artifact: it does not begin as a safetensors file does")
        try:
            header = json.loads(self._file.read(length))
            metadata = header["__metadata__"]
            is_ours = metadata["format"] == FORMAT
            version, text = int(metadata["version"]), metadata["manifest"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ArtifactError(f"{self._name!r} is no artifact of this package") from error
        if not is_ours:
            raise ArtifactError(f"{self._name!r} is no artifact of this package")
        if version != VERSION:
            raise ArtifactError(
                f"{self._name!r} is an artifact of version {version} and this version of the package reads "
                f"{VERSION}; upgrade the package"
            )
        try:
            if _digest(text.encode("utf-8", "surrogatepass")).hexdigest() != metadata["digest"]:
                raise self._damaged("its manifest is not what was saved")
            manifest = json.loads(text)
            shape = [manifest["count"], manifest["dimensions"]]
            entries = {name: header[name] for name in _SECTIONS}
            offsets = {name: entry["data_offsets"] for name, entry in entries.items()}
            ends = [0, *(offsets[name][1] for name in _SECTIONS)]
            sound = (
                header.keys() == {"__metadata__", *_SECTIONS}
                and [offsets[name][0] for name in _SECTIONS] == ends[:-1]
                and ends == sorted(ends)
                and entries["vectors"]["shape"] == shape
                and entries["vectors"]["dtype"] == "F32"
                and ends[1] == 4 * shape[0] * shape[1]
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged("its header is not what was saved") from error
        if not sound:
            raise self._damaged("its header is not what was saved")
        if size != 8 + length + ends[-1]:
            raise self._damaged(f"it has {size:,} bytes and should have {8 + length + ends[-1]:,}")
        return manifest, 8 + length, offsets

    def _check(self) -> None:
        for name in _SECTIONS:
            digest = _digest()
            for block in self._blocks(name):
                digest.update(block)
            if digest.hexdigest() != self.manifest["digests"][name]:
                raise self._damaged(f"its {name} are not what was saved")

    def _blocks(self, section: str) -> Iterator[bytes]:
        with self._open():
            begin, size = self._places[section]
        for start in range(0, size, _BLOCK):
            yield self._read(begin + start, min(_BLOCK, size - start))

    def _read(self, begin: int, size: int) -> bytes:
        with self._open():
            try:
                self._file.seek(begin)
                data = self._file.read(size)
            except OSError as error:
                raise StoreError(f"{self._name!r} cannot be read: {error}") from error
        if len(data) != size:
            raise self._damaged("it ends too early")
        return data

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            found = json.loads(line.decode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError) as error:
            raise self._damaged("a line of it is no JSON") from error
        if not isinstance(found, dict):
            raise self._damaged("a line of it is no JSON object")
        return found

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._file.closed:
                raise StoreError(f"the artifact {self._name!r} is closed")
            yield

    def _damaged(self, what: str) -> ArtifactError:
        return ArtifactError(f"{self._name!r} is damaged: {what}; save it again")


def _spelled(line: str) -> bytes:
    return line.encode("utf-8", "surrogatepass") + b"\n"


def _remove(lock: Path) -> None:
    with suppress(PermissionError):  # Windows removes no file that is open
        lock.unlink(missing_ok=True)


def _digest(data: bytes = b"") -> Any:
    return blake2b(data, digest_size=32)


def _sync_directory(path: Path) -> None:
    """Make a rename survive a power cut, where directories can be synchronised."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(path, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
