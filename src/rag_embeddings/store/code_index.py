"""The index of a `QuantizedStore`: made beside the one in use, named in SQLite when it is whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol
from zlib import crc32

import numpy as np

from rag_embeddings.codec.saved import codec_of, load_codec, save_codec
from rag_embeddings.errors import CodecError, StoreError
from rag_embeddings.store.bit_file import BitFile
from rag_embeddings.store.code_file import CodeFile
from rag_embeddings.store.graph import Graph, require_usearch
from rag_embeddings.store.slot_records import OutdatedError
from rag_embeddings.testing.faults import failpoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from rag_embeddings.codec.base import Codes, VectorCodec
    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity
    from rag_embeddings.store.slot_records import SlotRecords

_SAMPLE = 20_000  # vectors that a codec is fitted on
_BLOCK = 16_384  # vectors coded at a time
_STALE = 4  # made anew when one node in so many stands for no record


class CodeIndex(Protocol):
    """Codes under numbers, called nodes, and which of them are nearest to a query."""

    def __len__(self) -> int: ...

    def add(self, codes: Codes) -> NDArray[np.int64]:
        """Add codes; return the node of each, -1 for those that `search` would not find."""
        ...

    def search(self, query: Vectors, count: int) -> NDArray[np.int64]:
        """Return the nodes nearest to a query."""
        ...

    def save(self, path: Path) -> None:
        """Write into a file."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class CodeIndexFiles:
    """Opens, makes and removes the files of codec and index.

    Args:
        path: The directory.
        made_with: Kind and settings of the codec that the directory was made with.
        codec: The codec asked for, if any.

    Raises:
        MissingExtraError: If usearch is needed and not installed.
        StoreError: If the two differ.
    """

    def __init__(self, path: Path, made_with: Mapping[str, Any], codec: VectorCodec | None) -> None:
        plain = codec_of(made_with["kind"], made_with["settings"])
        if codec is not None and (codec.kind, codec.settings()) != (plain.kind, plain.settings()):
            raise StoreError(
                f"{str(path)!r} was made with the codec {plain.kind!r} and {plain.settings()}, "
                f"not {codec.kind!r} and {codec.settings()}"
            )
        self._path = path
        self._given = codec or plain
        if Graph.suits(self._given):
            require_usearch()  # when opened, not at the first large write
        self._open: tuple[str, VectorCodec, CodeIndex] | None = None

    @property
    def similarity(self) -> Similarity:
        """How the codec compares."""
        return self._given.similarity

    @property
    def kept(self) -> int | None:
        """In how many leading dimensions a vector must not be zeros only; None for all."""
        return self._given.dimensions if self._given.similarity == "cosine" else None

    def check_width(self, width: int) -> None:
        """Refuse vectors of a width that the codec can make no codes of; see `VectorCodec.check_width`."""
        self._given.check_width(width)

    @property
    def least_sample(self) -> int:
        """How many vectors the codec needs at least."""
        return self._given.least_sample

    def codec(self, records: SlotRecords) -> VectorCodec | None:
        """Return the fitted codec, None before the index is first made."""
        return self._open[1] if self.current(records) is not None and self._open is not None else None

    def current(self, records: SlotRecords) -> CodeIndex | None:
        """Return the index that the transaction sees, None if there is none. It is read-only.

        Raises:
            OutdatedError: If its files are gone or not what they were.
        """
        meta = records.meta("index")
        if meta is None:
            return None
        if self._open is None or self._open[0] != meta["name"]:
            self.close()
            codec = self._loaded(meta)
            path = self._whole(meta)
            try:
                self._open = (meta["name"], codec, _opened(codec, path))
            except StoreError as error:  # a writer has removed it just now
                raise OutdatedError(str(path)) from error
        return self._open[2]

    def _whole(self, meta: Mapping[str, Any]) -> Path:
        """Return the path of an index whose file is as it was written: a graph with a flipped bit can end a process."""
        path = self._path / f"index-{meta['name']}.codes"
        if _checksum(path) != meta["checksum"]:
            raise OutdatedError(str(path))
        return path

    def _loaded(self, meta: Mapping[str, Any]) -> VectorCodec:
        path = self._path / f"codec-{meta['codec']}.safetensors"
        try:
            codec = load_codec(path)
        except (FileNotFoundError, CodecError) as error:
            raise OutdatedError(str(error)) from error
        if codec.fingerprint != meta["fingerprint"]:
            raise OutdatedError(str(path))
        if self._given.fitted and self._given.fingerprint != codec.fingerprint:
            raise StoreError(
                f"{str(self._path)!r} has a codec of the same kind that was fitted on other vectors; "
                "open it without a codec, or with one that is not fitted"
            )
        return codec

    def build(self, records: SlotRecords, *, anew: bool) -> None:
        """Make an index of all records. See `QuantizedStore.build`.

        Args:
            records: The records; they may change meanwhile.
            anew: Fit the codec again, keep nothing.

        Raises:
            OutdatedError: If codec or index are not what they were.
        """
        meta = None if anew else records.meta("index")
        number = int(records.meta("builds") or 0) + 1
        records.remember("builds", number)
        codec = self._fitted(records) if meta is None else self._loaded(meta)
        keep = meta is not None and (meta["nodes"] - records.nodes_in_use()) * _STALE <= meta["nodes"]
        numbers, slots = records.numbered(outside=keep)
        if keep and not numbers:
            return
        index = _opened(codec, self._whole(meta) if meta is not None and keep else None, writable=True)
        nodes = [
            index.add(codec.encode(records.read(slots[start : start + _BLOCK])))
            for start in range(0, len(slots), _BLOCK)
        ]
        made = {
            "name": str(number),
            "codec": str(number) if meta is None else meta["codec"],
            "fingerprint": codec.fingerprint,
            "nodes": len(index),
        }
        self._save(codec, index, made)
        index.close()
        made["checksum"] = _checksum(self._path / f"index-{number}.codes")
        failpoint("quantized.after_index_saved")
        with records.database.writing():
            if not keep:
                records.unassign()
            records.assign(numbers, np.concatenate(nodes) if nodes else np.zeros(0, dtype=np.int64))
            records.remember("index", made)
        failpoint("quantized.after_index_named")
        self.tidy(records)

    def _fitted(self, records: SlotRecords) -> VectorCodec:
        if self._given.fitted:
            return self._given
        slots = records.slots()
        return self._given.fit(records.read(slots[:: max(1, -(-len(slots) // _SAMPLE))]))

    def _save(self, codec: VectorCodec, index: CodeIndex, made: Mapping[str, Any]) -> None:
        path, codec_path = (
            self._path / f"index-{made['name']}.codes",
            self._path / f"codec-{made['codec']}.safetensors",
        )
        try:
            index.save(path)
            if not codec_path.exists():
                save_codec(codec, codec_path)
            for file in (path, codec_path):
                with file.open("rb+") as opened:
                    os.fsync(opened.fileno())
        except (OSError, RuntimeError) as error:  # usearch knows only the latter
            path.unlink(missing_ok=True)
            raise StoreError(f"{str(path)!r} cannot be written: {error}") from error

    def tidy(self, records: SlotRecords) -> None:
        """Remove files of other builds, finished or not. A reader that wanted one of them looks again."""
        meta = records.meta("index") or {"name": None, "codec": None}
        current = {f"index-{meta['name']}.codes", f"codec-{meta['codec']}.safetensors"}
        for file in [*self._path.glob("index-*.codes"), *self._path.glob("codec-*.safetensors")]:
            if file.name not in current:
                try:
                    file.unlink(missing_ok=True)
                except PermissionError:  # Windows keeps a file that is open; the next writer removes it
                    continue

    def close(self) -> None:
        """Let go of the files."""
        if self._open is not None:
            self._open[2].close()
            self._open = None


def _opened(codec: VectorCodec, path: Path | None, *, writable: bool = False) -> CodeIndex:
    if Graph.suits(codec):
        return Graph(codec, path, writable=writable)
    return BitFile(codec, path) if BitFile.suits(codec) else CodeFile(codec, path)


def _checksum(path: Path) -> int:
    checksum = 0
    try:
        with path.open("rb") as file:
            while block := file.read(2**20):
                checksum = crc32(block, checksum)
    except FileNotFoundError as error:
        raise OutdatedError(str(path)) from error
    return checksum
