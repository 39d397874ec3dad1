"""Artifacts of LlamaIndex's nodes, and into LlamaIndex's stores and indices, without embedding again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from llama_index.core.indices.base import BaseIndex
from llama_index.core.schema import BaseNode, MetadataMode, NodeRelationship, RelatedNodeInfo, TextNode

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.profile import Profile
from rag_embeddings.encode.wrap import wrap
from rag_embeddings.errors import StoreError
from rag_embeddings.llama_index.convert import PRESENTATION, to_core
from rag_embeddings.llama_index.encoded import EncodedEmbedding
from rag_embeddings.store.artifact import EmbeddingArtifact
from rag_embeddings.store.artifact_save import ArtifactRecord
from rag_embeddings.text import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.vector_stores.types import BasePydanticVectorStore

    from rag_embeddings.encode.base import Encoder

_BATCH = 1_000  # nodes embedded or written at a time


def save_nodes(
    path: str | Path, nodes: Iterable[BaseNode], embed_model: BaseEmbedding | Encoder | Profile
) -> EmbeddingArtifact:
    """Save nodes with their vectors as an artifact.

    Args:
        path: The file; replaced if it is there.
        nodes: Nodes as any parser gives them, drawn as needed. Vectors that they have are kept; relations to the next
            and the previous node are not.
        embed_model: What the vectors were made with, and what makes those that are missing, of the text that LlamaIndex
            embeds; a `Profile` where none is missing.

    Returns:
        The artifact, open.

    Raises:
        DocumentError: If metadata is not JSON.
        StoreError: If an id occurs twice, a vector is missing and cannot be made, or the file cannot be written.
        VectorError: If a vector has NaN, infinity or zeros only.
    """
    if isinstance(embed_model, Profile):
        return EmbeddingArtifact.save(path, _records(nodes, None), embed_model)
    encoder = wrap(embed_model)
    records = _records(nodes, encoder)
    first = list(islice(records, 1))  # so that a model of somebody else has shown how many dimensions it has
    return EmbeddingArtifact.save(path, chain(first, records), encoder.profile)


def to_node(record: ArtifactRecord) -> TextNode:
    """Turn a record of an artifact into a node with its vector, its place, and its document as SOURCE."""
    spans, source = record.spans, record.source_id
    return TextNode(
        id_=record.id,
        text=record.text,
        embedding=record.vector.tolist(),
        metadata=record.placed_metadata() if len(spans) > 1 else dict(record.metadata),
        start_char_idx=spans[0].start if spans else None,
        end_char_idx=spans[-1].end if spans else None,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)} if source else {},
        **record.extra.get(PRESENTATION, {}),
    )


def upload(
    artifact: EmbeddingArtifact,
    target: BaseIndex[Any] | BasePydanticVectorStore,
    *,
    kinds: Sequence[str] = ("", "chunk"),
    **options: Any,
) -> list[str]:
    """Write an artifact into a LlamaIndex vector store or index. Nothing is embedded.

    Nodes that are there are replaced, where the store can delete nodes by id; in others delete them first.

    Args:
        artifact: The vectors.
        target: A ``VectorStoreIndex``, or a vector store by itself.
        kinds: Which records; sentences only where they are asked for.
        **options: Handed to ``insert_nodes`` of an index, or ``add`` of a store.

    Returns:
        The ids of the nodes.

    Raises:
        SpaceMismatchError: If the index embeds its queries with a model of this package of another space.
    """
    model = getattr(target, "_embed_model", None)
    artifact.check_space(model.encoder.profile if isinstance(model, EncodedEmbedding) else None)
    add = target.insert_nodes if isinstance(target, BaseIndex) else target.add
    ids: list[str] = []
    nodes = map(to_node, artifact.records(kinds))
    while part := list(islice(nodes, _BATCH)):
        if not ids:
            add(part[:1], **options)  # some stores make their collection now, and could delete nothing before
        names = [node.node_id for node in part]
        with suppress(NotImplementedError):  # it replaces what it has under an id, as far as it can be told
            target.delete_nodes(names)  # Chroma's store would keep the old vector
        add(part, **options)
        ids += names
    return ids


async def aupload(
    artifact: EmbeddingArtifact,
    target: BaseIndex[Any] | BasePydanticVectorStore,
    *,
    kinds: Sequence[str] = ("", "chunk"),
    **options: Any,
) -> list[str]:
    """Write an artifact without blocking the event loop; see `upload`."""
    return await asyncio.to_thread(upload, artifact, target, kinds=kinds, **options)


def _records(nodes: Iterable[BaseNode], encoder: Encoder | None) -> Iterator[ArtifactRecord]:
    iterator = iter(nodes)
    while part := list(islice(iterator, _BATCH)):
        missing = [node for node in part if node.embedding is None]
        if missing and encoder is None:
            raise StoreError(f"node {missing[0].node_id!r} has no embedding, and a profile cannot make one")
        made: dict[str, Any] = {}
        if missing and encoder is not None:
            vectors = encoder.encode([node.get_content(MetadataMode.EMBED) for node in missing], Role.DOCUMENT)
            made = {node.node_id: vector for node, vector in zip(missing, vectors, strict=True)}
        for node in part:
            yield _record(node, node.embedding if node.embedding is not None else made[node.node_id])


def _record(node: BaseNode, vector: Any) -> ArtifactRecord:
    core = to_core(node)
    metadata = dict(core.metadata)
    presentation = metadata.pop(PRESENTATION, None)
    start, end = getattr(node, "start_char_idx", None), getattr(node, "end_char_idx", None)
    spans = () if start is None or end is None else (Span(start, end),)
    return ArtifactRecord(
        core.id,
        vector,
        core.text,
        metadata,
        node.ref_doc_id or "",
        spans,
        kind="chunk" if spans else "",
        extra={PRESENTATION: presentation} if presentation else {},
    )
