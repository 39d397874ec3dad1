"""An index as an artifact, and an artifact as an index again: the same documents, ids and vectors, nothing encoded."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from rag_embeddings.encode.late import LateDocument
from rag_embeddings.errors import ArtifactError, StoreError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.pipeline import Pipeline, stamped
from rag_embeddings.store.artifact import EmbeddingArtifact
from rag_embeddings.store.artifact_save import ArtifactRecord, ArtifactSave
from rag_embeddings.store.version import Sentence, Version
from rag_embeddings.text import Block, Chunk, Document, Span, canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rag_embeddings.encode.base import Role, Vectors
    from rag_embeddings.encode.late import Units
    from rag_embeddings.encode.profile import Profile
    from rag_embeddings.index.indexer import Summary
    from rag_embeddings.store.directory import IndexDirectory
    from rag_embeddings.store.ledger import Ledger
    from rag_embeddings.store.links import LinkRule

Kinds = Literal["all", "chunks", "sentences"]
_ATTEMPTS = 100  # how often a document is read again because it was replaced meanwhile


def export_index(directory: IndexDirectory, path: str | Path, *, kinds: Kinds = "all") -> EmbeddingArtifact:
    """Save the vectors of an index as an artifact.

    Each document is saved as it stands when its turn comes, whole; writers need not wait. Ledger and stores are read
    document by document, so that memory does not grow with the index, but for the ids.

    Args:
        directory: The index; stays open.
        path: The file; replaced if it is there.
        kinds: ``"all"`` saves chunks, sentences and the whole documents, and can become an index again. ``"chunks"`` or
            ``"sentences"`` save only these.

    Returns:
        The artifact, open. A record's metadata is that of the document and of the chunk; a sentence has ``chunk_id``,
        the id of the first chunk that it stands in.

    Raises:
        ValueError: If ``kinds`` is none of these.
        StoreError: If nothing has been indexed, or the file cannot be written.
    """
    if kinds not in {"all", "chunks", "sentences"}:
        raise ValueError(f"kinds must be 'all', 'chunks' or 'sentences', got {kinds!r}")
    profile = directory.profile
    if profile is None:
        raise StoreError("the index holds nothing that could be saved; index some documents first")
    settings = directory.settings
    with ArtifactSave(path, profile, settings=settings, fingerprint=_fingerprint(profile, settings)) as save:
        for identity in directory.ledger.document_ids():
            found = _read(directory, identity)
            if found is not None:
                _save(save, *found, kinds)
    return EmbeddingArtifact(path, check=False)


def import_artifact(
    artifact: EmbeddingArtifact,
    directory: IndexDirectory,
    *,
    keywords: str | bool | None = None,
    links: LinkRule | bool | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Summary:
    """Write what `export_index` saved into an index. Nothing is encoded.

    It is the bulk path of `Indexer.upsert`: documents that are there as they are cost nothing, others of the same ids
    are replaced, the rest stays; a run that was cut off is finished by the next.

    Args:
        artifact: Saved with ``kinds="all"``.
        directory: The index, an empty one or one of the same space.
        keywords: As for `Indexer`. They are no part of an artifact, but made again from the texts.
        links: As for `Indexer`. They are made again from the vectors.
        progress: As for `Indexer.upsert`.

    Returns:
        What was done; ``encoded`` is 0.

    Raises:
        ArtifactError: If the artifact was not made of a whole index, or is damaged.
        SpaceMismatchError: If the index holds vectors of another space.
        StoreLockedError: If another process is writing to the index.
    """
    if len(artifact) and not artifact.document_count:
        raise ArtifactError(
            f"{str(artifact.path)!r} holds vectors without their documents, which an index needs; export with "
            "kinds='all', or upload it into a store"
        )
    pipeline = _Stored(artifact)
    indexer = Indexer(directory, pipeline, keywords=keywords, links=links)
    summary = indexer.upsert(pipeline.documents(), progress=progress)
    return replace(summary, encoded=0)


# --- out of an index -------------------------------------------------------------------------------------------------


def _read(directory: IndexDirectory, identity: str) -> tuple[Version, dict[str, Vectors]] | None:
    """Return a document's live version and the vectors of its units; None if it is gone meanwhile."""
    ledger = directory.ledger
    for _ in range(_ATTEMPTS):
        version = ledger.live_version(identity)
        if version is None:
            return None
        sentences = {sentence.id for group in version.sentences for sentence in group}
        chunks = {chunk.id for chunk in version.chunks}
        with directory.reading() as view:
            if view is None:
                return None
            vectors = view.sentences.vectors(sorted(sentences)) | view.chunks.vectors(sorted(chunks))
        is_live = ledger.states([identity]).get(identity, (None, False))[0] == version.name
        if is_live and vectors.keys() == sentences | chunks and _is_settled(ledger, version):
            return version, vectors
    raise StoreError(
        f"document {identity!r} was being replaced during each of {_ATTEMPTS} attempts to read it, or has vectors of a "
        "version that was given up; let the writer finish, or index it again"
    )


def _is_settled(ledger: Ledger, version: Version) -> bool:
    """Whether no other version of a document may have overwritten vectors that both have, being made differently."""
    contexts: dict[str, str] = {}
    for chunk, sentences in zip(version.chunks, version.sentences, strict=True):
        for identity in (chunk.id, *(sentence.id for sentence in sentences)):
            contexts.setdefault(identity, chunk.context)
    return all(
        context == contexts.get(identity, context) and stamped(name) == stamped(version.name)
        for place in ledger.live_chunks([chunk.id for chunk in version.chunks[:1]]).values()
        for identity, others in ledger.siblings(place.version).items()
        for context, _, name in others
    )


def _save(save: ArtifactSave, version: Version, vectors: Mapping[str, Vectors], kinds: Kinds) -> None:
    document = version.document
    rows: dict[str, int] = {}
    for chunk in version.chunks if kinds != "sentences" else ():
        metadata = {**document.metadata, **chunk.metadata, **({"context": chunk.context} if chunk.context else {})}
        if chunk.id not in rows:
            rows[chunk.id] = save.add(
                ArtifactRecord(
                    chunk.id, vectors[chunk.id], chunk.text, metadata, document.id, chunk.spans, kind="chunk"
                )
            )
    for chunk, sentences in zip(version.chunks, version.sentences, strict=True) if kinds != "chunks" else ():
        for sentence in sentences:
            if sentence.id not in rows:
                metadata = {**document.metadata, "chunk_id": chunk.id}
                text, spans = sentence.span.of(document.text), (sentence.span,)
                rows[sentence.id] = save.add(
                    ArtifactRecord(
                        sentence.id, vectors[sentence.id], text, metadata, document.id, spans, kind="sentence"
                    )
                )
    if kinds == "all":
        save.add_document(_spelled(version, rows))


def _spelled(version: Version, rows: Mapping[str, int]) -> str:
    """Spell a document on one line. Texts are as they are; metadata is spelled as in the ledger."""
    document = version.document
    blocks = [[block.span.start, block.span.end, block.kind, block.level, block.page] for block in document.blocks]
    chunks = [
        {
            "row": rows[chunk.id],
            "spans": [[span.start, span.end] for span in chunk.spans],
            "headings": chunk.headings,
            "context": chunk.context,
            "metadata": chunk.metadata,
            "sentences": [[unit.span.start, unit.span.end, unit.id, rows[unit.id]] for unit in sentences],
        }
        for chunk, sentences in zip(version.chunks, version.sentences, strict=True)
    ]
    fields = {"id": document.id, "name": version.name, "text": document.text, "blocks": blocks, "chunks": chunks}
    spelled = json.dumps(fields, ensure_ascii=False)
    return f'{spelled[:-1]}, "metadata": {canonical_json(document.metadata)}}}'


def _fingerprint(profile: Profile, settings: Mapping[str, Any]) -> str:
    """Return `Pipeline.fingerprint` of the pipeline that an index was last written with."""
    encoder, late = _Encoder(profile), settings.get("late")
    was_late = None if late is None else _Late(encoder, late)
    return Pipeline(encoder, _Splitter(settings), was_late).fingerprint  # type: ignore[arg-type]  # has what is asked for


# --- what stands where a pipeline was --------------------------------------------------------------------------------


class _Encoder:
    """Stands where the encoder was; there is nothing to encode."""

    tokenizer = None

    def __init__(self, profile: Profile) -> None:
        self.profile = profile

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        raise StoreError(f"{len(texts)} texts came without vectors, to be encoded as {role}")


class _Splitter:
    """Stands where the splitter was."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = dict(settings.get("splitter") or {})
        self.language = str(self._settings.get("language", "en"))

    def settings(self) -> dict[str, Any]:
        return self._settings

    def split(self, document: Document) -> list[Chunk]:
        raise StoreError(f"document {document.id!r} came without chunks")


class _Late:
    """Stands where the late pass was."""

    def __init__(self, encoder: _Encoder, settings: Mapping[str, Any]) -> None:
        self.encoder = encoder
        self._settings = dict(settings)

    def settings(self) -> dict[str, Any]:
        return self._settings


# --- into an index ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Saved(Document):
    """A document, and the line of the artifact that tells the rest of it."""

    line: Mapping[str, Any] = field(default_factory=dict)


class _Ready(_Late):
    """Hands out the vectors of an artifact, as a late pass does those that it makes."""

    def __init__(self, encoder: _Encoder, artifact: EmbeddingArtifact) -> None:
        super().__init__(encoder, {})
        self._artifact = artifact

    def encode(self, group: Sequence[Units]) -> list[LateDocument]:
        return [self._found(item) for item in group]

    def _found(self, item: Units) -> LateDocument:
        lines = _line(item.document)["chunks"]
        chunks = self._artifact.take([line["row"] for line in lines])
        sentences = self._artifact.take([row for line in lines for *_, row in line["sentences"]])
        return LateDocument(item.document, tuple(item.chunks), chunks, tuple(map(tuple, item.sentences)), sentences)


class _Stored(Pipeline):
    """The pipeline that an artifact was made with, as far as its settings tell; hands out what it made."""

    _artifact: EmbeddingArtifact

    def __init__(self, artifact: EmbeddingArtifact) -> None:
        encoder = _Encoder(artifact.profile)
        super().__init__(encoder, _Splitter(artifact.settings), _Ready(encoder, artifact))  # type: ignore[arg-type]  # has what the writer asks for
        object.__setattr__(self, "_artifact", artifact)  # the dataclass is frozen

    @property
    def vector_stamp(self) -> str:
        """No other vector is taken for one of these, so that those of the artifact are written."""
        return "artifact"

    def settings(self) -> dict[str, Any]:
        return self._artifact.settings

    def documents(self) -> Iterator[_Saved]:
        for line in self._artifact.documents():
            try:
                blocks = tuple(Block(Span(start, end), *rest) for start, end, *rest in line["blocks"])
                yield _Saved(line["text"], line["id"], line["metadata"], blocks, line)
            except (KeyError, TypeError, ValueError) as error:
                raise self._artifact.unreadable("document", error) from error

    def version_name(self, document: Document, fingerprint: str) -> str:  # noqa: ARG002 - it is in the name
        return str(_line(document)["name"])

    def version(self, document: Document, name: str) -> Version:
        lines = _line(document)["chunks"]
        try:
            chunks = [_chunk(document, line) for line in lines]
            sentences = [
                [Sentence(identity, Span(start, end)) for start, end, identity, _ in line["sentences"]]
                for line in lines
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise self._artifact.unreadable("document", error) from error
        return Version(document, name, chunks, sentences)


def _line(document: Document) -> Mapping[str, Any]:
    if not isinstance(document, _Saved):
        raise StoreError(f"document {document.id!r} is none of the artifact")
    return document.line


def _chunk(document: Document, line: Mapping[str, Any]) -> Chunk:
    spans = tuple(Span(start, end) for start, end in line["spans"])
    return Chunk(document, spans, tuple(line["headings"]), line["context"], line["metadata"])
