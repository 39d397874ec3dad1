"""Records on their way into an artifact."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from rag_embeddings._version import __version__
from rag_embeddings.errors import DocumentError, StoreError, VectorError
from rag_embeddings.store.artifact_file import KINDS, ArtifactWriter
from rag_embeddings.store.base import Record
from rag_embeddings.store.records import checked_id
from rag_embeddings.testing.faults import failpoint
from rag_embeddings.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Profile
    from rag_embeddings.text import Span

Kind = Literal["", "chunk", "sentence"]
_BATCH = 1_000  # vectors written at a time


@dataclass(frozen=True, slots=True)
class ArtifactRecord(Record):
    """A record, and where its text comes from.

    Attributes:
        source_id: Id of the document that the text is part of; empty where that is not known.
        spans: Where it stands in that document, in characters; empty where that is not known.
        kind: ``"chunk"`` or ``"sentence"``; empty where it is not known.
        extra: What an adapter keeps for itself, as JSON; no store gets it.
    """

    source_id: str = ""
    spans: tuple[Span, ...] = ()
    kind: Kind = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def placed_metadata(self) -> dict[str, Any]:
        """Return the metadata with the place in it, as splitters write it.

        Returns:
            ``source_id``, ``start_index`` and ``end_index``, and for several spans ``spans``, such as
            ``"0-57,120-188"``, beside what the record has. What is not known is left out.
        """
        place: dict[str, Any] = {"source_id": self.source_id} if self.source_id else {}
        if self.spans:
            place |= {"start_index": self.spans[0].start, "end_index": self.spans[-1].end}
        if len(self.spans) > 1:
            place["spans"] = ",".join(f"{span.start}-{span.end}" for span in self.spans)
        return {**self.metadata, **place}


class ArtifactSave:
    """Save an artifact record by record: a context manager, after which the file is there, or is as it was.

    Args:
        path: The file.
        profile: What the vectors were made with.
        settings: See `EmbeddingArtifact`.
        fingerprint: See `EmbeddingArtifact`.
    """

    def __init__(
        self, path: str | Path, profile: Profile, *, settings: Mapping[str, Any] | None = None, fingerprint: str = ""
    ) -> None:
        self._profile = profile
        self._rows: list[Vectors] = []
        self._seen: set[bytes] = set()
        self._kinds: Counter[str] = Counter()
        self._documents = 0
        manifest = {
            "profile": profile.to_dict(),
            "dimensions": profile.dimensions,
            "space": profile.space,
            "settings": dict(settings or {}),
            "fingerprint": fingerprint,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": __version__,
        }
        self._writer = ArtifactWriter(Path(path), profile.dimensions, manifest)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
                self._writer.finish({"kinds": dict(self._kinds), "documents": self._documents})
        finally:
            self._writer.close()

    def add(self, record: Record) -> int:
        """Add a record.

        Returns:
            Its row.
        """
        vector = self._checked(record)
        fields = {
            "id": json.dumps(record.id),
            "text": json.dumps(record.text, ensure_ascii=False),
            "metadata": _spelled(record, record.metadata),
        }
        kind: str = ""
        if isinstance(record, ArtifactRecord):
            kind = record.kind
            fields["source_id"] = json.dumps(record.source_id, ensure_ascii=False)
            fields["spans"] = json.dumps([[span.start, span.end] for span in record.spans])
            if record.extra:
                fields["extra"] = _spelled(record, record.extra)
            fields["kind"] = json.dumps(*checked_kinds([kind]))
        self._writer.record("{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}")
        self._rows.append(vector)
        self._kinds[kind] += 1
        if len(self._rows) >= _BATCH:
            self._flush()
        return len(self._seen) - 1

    def add_document(self, line: str) -> None:
        """Add what is kept of a whole document: a JSON object on one line."""
        self._writer.document(line)
        self._documents += 1

    def _flush(self) -> None:
        if self._rows:
            self._writer.vectors(np.stack(self._rows))
            self._rows = []
            failpoint("artifact.after_slice")

    def _checked(self, record: Record) -> Vectors:
        checked_id(record.id)
        digest = blake2b(record.id.encode(), digest_size=16).digest()
        if digest in self._seen:
            raise StoreError(f"the id {record.id!r} occurs twice; an artifact holds each once")
        self._seen.add(digest)
        vector = np.asarray(record.vector, dtype=np.float32)
        if vector.shape != (self._profile.dimensions,):
            raise StoreError(
                f"the vector of record {record.id!r} has shape {vector.shape}, the profile says "
                f"{self._profile.dimensions} dimensions"
            )
        if not np.isfinite(vector).all() or not vector.any():
            raise VectorError(f"the vector of record {record.id!r} has NaN, infinity or zeros only")
        return vector


def checked_kinds(kinds: Sequence[str] | None) -> Sequence[str]:
    """Return which kinds of records are wanted.

    Raises:
        ValueError: If there is no such kind.
    """
    if isinstance(kinds, str) or any(kind not in KINDS for kind in kinds or ()):
        raise ValueError(f"kinds is a list of {', '.join(map(repr, KINDS))}, got {kinds!r}")
    return KINDS if kinds is None else kinds


def _spelled(record: Record, values: Mapping[str, Any]) -> str:
    try:
        return canonical_json(dict(values))
    except DocumentError as error:
        raise DocumentError(f"the metadata of record {record.id!r} cannot be saved: {error}") from error
