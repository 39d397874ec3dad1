"""The two vector stores of an index on disk, sentences and chunks: opening them, and building them again."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from rag_embeddings.errors import ChromaDamagedError, IndexNotFoundError, SpaceMismatchError, StoreError
from rag_embeddings.store.gate import Gate
from rag_embeddings.store.kept import KeptStore, complete, finds, is_small
from rag_embeddings.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rag_embeddings.encode.profile import Similarity
    from rag_embeddings.store.base import Store, VectorReader
    from rag_embeddings.store.chroma import ChromaStore
    from rag_embeddings.store.ledger import Ledger

_NAMES = ("sentences", "chunks")
_CHROMA = "chroma"
_VECTORS = "vectors"


class Pair:
    """Opens the stores of one index directory. Holds nothing open itself.

    Args:
        path: The index directory.
        ledger: Its ledger, where profile and space are stamped.
    """

    def __init__(self, path: Path, ledger: Ledger) -> None:
        self._path = path
        self._ledger = ledger
        self._guard = Gate(path / _CHROMA, path / "chroma.lock", self._distrust)

    def for_reading(self, similarity: Similarity) -> tuple[VectorReader, VectorReader]:
        """Open the stores as they are.

        Chroma is not opened where it is not asked: while the collections are small, and while its files are damaged or
        being built again, which only a writer does. The records kept beside it answer then, exactly.
        """
        stores = self._kept(similarity)
        if all(map(is_small, stores)):
            return stores
        with self._guard():
            if self._ledger.meta("rebuilding"):
                return stores
            try:
                return self._with_chroma(stores, similarity, create=False)
            except (ChromaDamagedError, IndexNotFoundError):
                return stores

    def for_writing(self, similarity: Similarity, *, was_cut_off: bool) -> tuple[VectorReader, VectorReader]:
        """Open the stores, make Chroma's files if they are absent, build them again if they are damaged.

        Args:
            similarity: How vectors are compared.
            was_cut_off: Whether the last writer did not close the index, so that damage must be looked for.
        """
        stores = None
        with self._guard():  # which notices if Chroma's files were left half-written
            distrusted = self._ledger.meta("rebuilding")
        if not distrusted:
            try:
                stores = self._kept_and_found(similarity, create=True)
            except ChromaDamagedError:
                stores = None
        if stores is not None and (was_cut_off or any(len(store.index) != len(store.kept) for store in stores)):
            for store in stores:
                complete(store.kept, store.index)
            if not all(finds(store.kept, store.index) for store in stores):
                _close(stores)
                stores = None
        return stores or self._rebuilt(similarity)

    def _rebuilt(self, similarity: Similarity) -> tuple[KeptStore, KeptStore]:
        self._distrust()
        self._ledger.advance()  # readers let go of the old files
        with self._guard():
            shutil.rmtree(self._path / _CHROMA, ignore_errors=True)
        stores = self._kept_and_found(similarity, create=True)
        for store in stores:
            complete(store.kept, store.index)
        self._ledger.remember("rebuilding", False)  # noqa: FBT003
        self._ledger.advance()
        return stores

    def _distrust(self) -> None:
        """From now on nobody opens Chroma's files, until a writer has built them again."""
        self._ledger.remember("rebuilding", True)  # noqa: FBT003 - a value, not a flag

    def _kept_and_found(self, similarity: Similarity, *, create: bool) -> tuple[KeptStore, KeptStore]:
        kept = self._kept(similarity)
        try:
            return self._with_chroma(kept, similarity, create=create)
        except BaseException:
            _close(kept)
            raise

    def _with_chroma(
        self, kept: tuple[SqliteStore, SqliteStore], similarity: Similarity, *, create: bool
    ) -> tuple[KeptStore, KeptStore]:
        found: list[ChromaStore] = []
        try:
            for name in _NAMES:
                found.append(self._chroma(name, similarity, create=create))  # noqa: PERF401 - closed if the next fails
        except BaseException:
            _close(found)
            raise
        return KeptStore(kept[0], found[0]), KeptStore(kept[1], found[1])

    def _chroma(self, name: str, similarity: Similarity, *, create: bool) -> ChromaStore:
        from rag_embeddings.store.chroma import ChromaStore  # noqa: PLC0415 - chromadb is an extra

        space = self._ledger.meta("space")
        path = self._path / _CHROMA
        try:
            return ChromaStore(path, name, similarity=similarity, create=create, space=space, guard=self._guard)
        except SpaceMismatchError as error:
            raise StoreError(
                f"ledger and vectors in {str(self._path)!r} belong to different indexes; "
                "delete the directory and index again"
            ) from error

    def _kept(self, similarity: Similarity) -> tuple[SqliteStore, SqliteStore]:
        folder = self._path / _VECTORS
        files = [folder / f"{name}.sqlite3" for name in _NAMES]
        if not all(file.exists() for file in files) and self._ledger.counts()["chunks"]:
            raise StoreError(
                f"the vectors of the index in {str(self._path)!r} are gone; delete the directory and index again"
            )
        folder.mkdir(exist_ok=True)
        sentences = SqliteStore(files[0], similarity=similarity)
        try:
            return sentences, SqliteStore(files[1], similarity=similarity)
        except BaseException:
            sentences.close()
            raise


def _close(stores: Sequence[Store]) -> None:
    for store in stores:
        store.close()
