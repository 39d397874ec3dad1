"""Vectors with all that belongs to them in one file, to be carried from one store to another without encoding again.

The layout of the file is that of `rag_embeddings.store.artifact_file`; `rag_embeddings.index.artifact` makes one of an
index and an index of one, and the adapters take their frameworks' documents and stores.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rag_embeddings.encode.profile import Profile
from rag_embeddings.errors import ArtifactError, SpaceMismatchError, StoreError
from rag_embeddings.store.artifact_file import ArtifactFile
from rag_embeddings.store.artifact_save import ArtifactRecord, ArtifactSave, checked_kinds
from rag_embeddings.store.base import Record
from rag_embeddings.text import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.store.base import Store

_BATCH = 1_000  # records read or written at a time


class EmbeddingArtifact:
    """A saved set of vectors with ids, texts, places, metadata, and what they were made with. Thread-safe to read.

    It is one safetensors file: any reader of that format finds the matrix under ``"vectors"``.

    Args:
        path: The file.
        check: Whether to read all of it once and compare the digests.

    Attributes:
        path: The file.
        profile: What the vectors were made with.
        settings: Settings of the pipeline that made them; empty where there was none.
        fingerprint: `Pipeline.fingerprint` of that pipeline; empty where there was none.
        created: When it was saved, UTC, as ISO 8601.
        version: The version of this package that saved it.

    Raises:
        FileNotFoundError: If there is no such file.
        ArtifactError: If it is something else, damaged, or of a newer version.
    """

    def __init__(self, path: str | Path, *, check: bool = True) -> None:
        self.path = Path(path)
        self._file = ArtifactFile(self.path, check=check)
        found = self._file.manifest
        try:
            self.profile = Profile.from_dict(found["profile"])
            self.settings: dict[str, Any] = found["settings"]
            self.fingerprint, self.created = str(found["fingerprint"]), str(found["created"])
            self.version = str(found["version"])
            self._kinds, self._documents = dict(found["kinds"]), int(found["documents"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._file.close()
            raise ArtifactError(f"{str(path)!r} has a manifest that this version cannot read: {error}") from error

    @classmethod
    def save(
        cls,
        path: str | Path,
        records: Iterable[Record],
        profile: Profile,
        *,
        settings: Mapping[str, Any] | None = None,
        fingerprint: str = "",
    ) -> EmbeddingArtifact:
        """Save records.

        They are drawn as needed. The file appears when it is whole; one that was there is replaced then.

        Args:
            path: The file.
            records: Records or `ArtifactRecord`, with distinct ids and metadata that is JSON.
            profile: What the vectors were made with; ``Profile("my-model", dimensions=384)`` says the least.
            settings: See the class.
            fingerprint: See the class.

        Returns:
            The artifact, open.

        Raises:
            StoreError: If a vector has another width than the profile, an id occurs twice or is impossible, or the
                file cannot be written.
            StoreLockedError: If another process is saving to the same path.
            VectorError: If a vector has NaN, infinity or zeros only.
            DocumentError: If metadata is not JSON.
        """
        with ArtifactSave(path, profile, settings=settings, fingerprint=fingerprint) as save:
            for record in records:
                save.add(record)
        return cls(path, check=False)

    def __len__(self) -> int:
        """Return the number of records."""
        return self._file.shape[0]

    def __iter__(self) -> Iterator[ArtifactRecord]:
        """Yield every record, in the order in which they were saved, in bounded memory."""
        return self.records()

    def __repr__(self) -> str:
        return f"EmbeddingArtifact({str(self.path)!r}: {len(self):,} vectors of {self.profile.model!r})"

    @property
    def dimensions(self) -> int:
        """Width of a vector."""
        return self._file.shape[1]

    @property
    def kinds(self) -> dict[str, int]:
        """How many records there are of each kind, ``""`` being those whose kind is not known."""
        return {kind: int(count) for kind, count in self._kinds.items() if count}

    @property
    def vectors(self) -> Vectors:
        """All vectors, float32 of shape (n, dim), memory-mapped and read-only."""
        return self._file.mapped()

    def records(self, kinds: Sequence[str] | None = None) -> Iterator[ArtifactRecord]:
        """Yield records, in the order in which they were saved, in bounded memory.

        Args:
            kinds: Of these kinds only; None for all.

        Raises:
            ArtifactError: If the artifact is damaged.
        """
        wanted = checked_kinds(kinds)
        lines = self._file.lines("records")
        for first in range(0, len(self), _BATCH):
            for row in self._file.rows(first, min(_BATCH, len(self) - first)):
                record = self._record(next(lines, None), row)
                if record.kind in wanted:
                    yield record

    def take(self, rows: Sequence[int]) -> Vectors:
        """Return some vectors, float32 of shape (len(rows), dim).

        Args:
            rows: Their places in the order of the records, best close to each other: all between the first and the
                last are read.

        Raises:
            ArtifactError: If there are no such rows.
        """
        if not rows:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        first, last = min(rows), max(rows)
        if first < 0 or last >= len(self):
            raise self.unreadable("row", f"{last if first >= 0 else first}")
        block: Vectors = self._file.rows(first, last - first + 1)
        return np.asarray(block[np.asarray(rows) - first])

    @property
    def document_count(self) -> int:
        """How many whole documents there are; 0 where the artifact was not made of an index."""
        return self._documents

    def documents(self) -> Iterator[dict[str, Any]]:
        """Yield what was kept of whole documents; see `rag_embeddings.index.artifact`."""
        return self._file.lines("documents")

    def unreadable(self, part: str, error: object) -> ArtifactError:
        """Return the error that says which part of the artifact cannot be read."""
        return ArtifactError(f"{str(self.path)!r} has a {part} that cannot be read ({error}); save it again")

    def upload(
        self,
        store: Store,
        *,
        profile: Profile | None = None,
        kinds: Sequence[str] | None = None,
    ) -> int:
        """Write the records into a store, encoding nothing. Uploading again replaces them.

        Args:
            store: Any store of this package. Of the metadata it keeps what it can filter by, with the place in it; see
                `ArtifactRecord.placed_metadata`.
            profile: What the store's queries will be encoded with, to be compared with what the vectors were made
                with. None compares nothing but what the store knows of itself.
            kinds: Records of these kinds only; None for all.

        Returns:
            The number of records written.

        Raises:
            SpaceMismatchError: If the store, or its queries, are of another space.
            StoreError: If the store compares vectors in another way, or has vectors of another width.
        """
        self.check_space(profile)
        self._check_store(store)
        count = 0
        records = self.records(kinds)
        while part := list(islice(records, _BATCH)):
            store.upsert([Record(item.id, item.vector, item.text, item.placed_metadata()) for item in part])
            count += len(part)
        return count

    def check_space(self, profile: Profile | None) -> None:
        """Refuse queries of another space.

        Raises:
            SpaceMismatchError: If vectors of this artifact and of the profile cannot be compared.
        """
        if profile is not None and profile.space != self.profile.space:
            raise SpaceMismatchError(
                f"{str(self.path)!r} holds vectors of another space ({self.profile.differences(profile)}). "
                "Use the same model and prompts, or embed the texts again"
            )

    def write_npy(self, path: str | Path) -> None:
        """Write the vectors alone as a ``.npy`` file, in the order of the records, for tools that read that.

        Raises:
            StoreError: If it cannot be written.
        """
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        try:
            try:
                with partial.open("wb") as file:
                    header = {"descr": "<f4", "fortran_order": False, "shape": (len(self), self.dimensions)}
                    np.lib.format.write_array_header_1_0(file, header)
                    for first in range(0, len(self), _BATCH):
                        file.write(self._file.rows(first, min(_BATCH, len(self) - first)).tobytes())
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{str(path)!r} cannot be written: {error}") from error

    def close(self) -> None:
        """Close the file. A closed artifact raises StoreError on use."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _record(self, line: Any, row: Vectors) -> ArtifactRecord:
        try:
            spans = tuple(Span(start, end) for start, end in line.get("spans", ()))
            kind, source_id = line.get("kind", ""), line.get("source_id", "")
            return ArtifactRecord(
                line["id"], row, line["text"], line["metadata"], source_id, spans, kind, line.get("extra", {})
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self.unreadable("record", error) from error

    def _check_store(self, store: Store) -> None:
        similarity = getattr(store, "similarity", None)
        if similarity not in {None, self.profile.similarity}:
            raise StoreError(
                f"the store compares vectors by {similarity}, those of {str(self.path)!r} are to be compared by "
                f"{self.profile.similarity}"
            )
        space = getattr(store, "space", "")
        if space and space != self.profile.space:
            raise SpaceMismatchError(f"the store holds vectors of another space than {str(self.path)!r}")
