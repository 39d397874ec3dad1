"""The only places where a document changes shape: LlamaIndex in, LlamaIndex out."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import (
    BaseNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.schema import Document as LlamaIndexDocument

from rag_embeddings.split.slices import slices_of, spelled, traced
from rag_embeddings.text import Document, Span, content_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.text import Chunk

BOOKKEEPING = (
    "start_index",
    "end_index",
    "spans",
    "boundaries",
    "source_id",
    "chunk_id",
    "score",
    "matches",
    "linked_from",
)
"""Metadata keys for programs. They are kept out of what an embedding or language model sees."""

LAYOUT = ("headings", "kinds", "last_page", "context_left_out")
"""Metadata keys of a chunk for programs: what models should see of them stands in its ``context``."""

PRESENTATION = "_llama_index"
"""Metadata key of the core document under which a node's own excluded keys and templates travel, where it has any."""

_PRESENTED = (
    "excluded_embed_metadata_keys",
    "excluded_llm_metadata_keys",
    "metadata_template",
    "metadata_separator",
    "text_template",
)


class ReadDocument(LlamaIndexDocument):
    """A core document inside of a node parser, which asks for LlamaIndex's: the layout that a reader found stays."""

    _core: Document = PrivateAttr()

    @classmethod
    def of(cls, document: Document) -> ReadDocument:
        """Wrap a document."""
        node = cls(**_fields(document))
        node._core = document
        return node

    @property
    def core(self) -> Document:
        """The document that was wrapped."""
        return self._core


class PassageNode(TextNode):
    """A passage that was found, stored and serialised as the plain text node it is.

    Its hash says nothing of the query: retrievers that join what several queries or retrievers found, such as
    LlamaIndex's ``QueryFusionRetriever``, know the same passage by it.
    """

    @property
    def hash(self) -> str:
        """Digest of the passage's id and text; that of a text node covers metadata, and thereby scores and matches."""
        return content_id("passage", self.node_id, self.text)


def to_core(node: BaseNode | Document) -> Document:
    """Turn a LlamaIndex document or node into a core document. One of the core, with its layout, stays as it is.

    Args:
        node: Left untouched; its metadata is copied. A stored embedding and relationships are not part of the result.

    Returns:
        The same text (without metadata), id and metadata. Excluded metadata keys and templates that are not
        LlamaIndex's defaults travel in the metadata, under `PRESENTATION`.
    """
    if isinstance(node, Document):
        return node
    if isinstance(node, ReadDocument):
        return node.core
    metadata = deepcopy(node.metadata)
    presentation = {
        name: deepcopy(getattr(node, name))
        for name in _PRESENTED
        if hasattr(node, name) and getattr(node, name) != _default(name)
    }
    if presentation:
        metadata[PRESENTATION] = presentation
    return Document(text=node.get_content(MetadataMode.NONE), id=node.node_id, metadata=metadata)


def from_core(document: Document) -> LlamaIndexDocument:
    """Turn a core document into LlamaIndex's. Undoes `to_core` for text, id, metadata, excluded keys and templates."""
    return LlamaIndexDocument(**_fields(document))


def _fields(document: Document) -> dict[str, Any]:
    metadata = deepcopy(dict(document.metadata))
    presentation = metadata.pop(PRESENTATION, {})
    return {"text": document.text, "id_": document.id, "metadata": metadata, **presentation}


def from_chunks(
    chunks: Sequence[Chunk], parent: BaseNode, node_ids: Sequence[str], *, include_metadata: bool = True
) -> list[TextNode]:
    """Turn the chunks of a node into nodes.

    Args:
        chunks: Chunks of ``to_core(parent)``.
        parent: The document or node that was split. Its embedding is not copied: it is the vector of another text.
        node_ids: Ids of the new nodes.
        include_metadata: Give a node the parent's metadata, the chunk's, ``start_index``, ``end_index`` and
            ``source_id``; otherwise none.

    Returns:
        Nodes whose text is the slice. Their SOURCE is the root document, and their offsets count characters there.
        A chunk of several spans has them in ``spans``, such as ``"0-57,120-188"``; its offsets enclose them all.
        Where a parent that is itself a node does not say where it stands in the root, the offsets are None, and so
        are they where its text is not what was split, as with a piece of HTML.
    """
    source = parent.source_node or _reference(parent)
    slices = _slices(parent, chunks[0].document.text) if chunks else []
    presentation = _presentation(parent)
    nodes = []
    for chunk, node_id in zip(chunks, node_ids, strict=True):
        spans = traced(chunk.spans, slices)
        node = TextNode(
            id_=node_id,
            text=chunk.text,
            metadata=_metadata(chunk, parent, spans, source.node_id) if include_metadata else {},
            start_char_idx=spans[0].start if spans else None,
            end_char_idx=spans[-1].end if spans else None,
            relationships={NodeRelationship.SOURCE: source},
            **_hiding_bookkeeping(presentation, chunk),
        )
        nodes.append(node)
    return nodes


def from_match(match: Match) -> NodeWithScore:
    """Turn a search result into a scored node: the passage under its chunk id, with `Match.metadata`."""
    metadata = match.metadata()
    presentation = metadata.pop(PRESENTATION, {})
    document = match.chunk.document
    source = RelatedNodeInfo(node_id=document.id, node_type=ObjectType.DOCUMENT)
    node = PassageNode(  # type: ignore[call-arg]  # LlamaIndex's aliases, which a subclass inherits
        id_=match.chunk.id,
        text=match.chunk.text,
        metadata=metadata,
        start_char_idx=match.chunk.start,
        end_char_idx=match.chunk.end,
        relationships={NodeRelationship.SOURCE: source},
        **_hiding_bookkeeping(presentation, match.chunk),
    )
    return NodeWithScore(node=node, score=match.score)


def _metadata(chunk: Chunk, parent: BaseNode, spans: Sequence[Span], source_id: str) -> dict[str, Any]:
    """Merge the parent's metadata, the chunk's and the place; the parent's own place does not hold for a part of it."""
    place = {"start_index", "end_index", "source_id", *(() if parent.source_node is None else ("spans",))}
    metadata = {**deepcopy(parent.metadata), **deepcopy(dict(chunk.metadata))}
    metadata = {key: value for key, value in metadata.items() if key not in place}
    if spans:
        metadata |= {"start_index": spans[0].start, "end_index": spans[-1].end}
    metadata["source_id"] = source_id
    if len(spans) > 1:
        metadata["spans"] = spelled(spans)
    if chunk.context:
        metadata["context"] = chunk.context
    return metadata


def _reference(parent: BaseNode) -> RelatedNodeInfo:
    """Refer to a root document. LlamaIndex cannot hash a text with lone surrogates; then there is no hash."""
    try:
        return parent.as_related_node_info()
    except UnicodeEncodeError:
        return RelatedNodeInfo(node_id=parent.node_id, node_type=parent.get_type(), metadata=parent.metadata)


def _slices(parent: BaseNode, text: str) -> list[Span]:
    """Return the slices of the root document that a text read from a parent is made of; none if that is not known."""
    if parent.source_node is None:
        return [Span(0, len(text))]
    start, end = getattr(parent, "start_char_idx", None), getattr(parent, "end_char_idx", None)
    unread = text == parent.get_content(MetadataMode.NONE)  # a reader makes another text of HTML
    return (slices_of(text, start, end, parent.metadata.get("spans")) or []) if unread else []


def _default(name: str) -> Any:
    return TextNode.model_fields[name].get_default(call_default_factory=True)


def _presentation(node: BaseNode) -> dict[str, Any]:
    return {name: deepcopy(getattr(node, name)) for name in _PRESENTED if hasattr(node, name)}


def _hiding_bookkeeping(presentation: Mapping[str, Any], chunk: Chunk) -> dict[str, Any]:
    """Add the bookkeeping keys to those that models do not see. A page number is for language models only."""
    result = dict(presentation)
    layout = [key for key in LAYOUT if key in chunk.metadata]
    page = ["page"] if "page" in chunk.metadata else []
    for name, more in (("excluded_embed_metadata_keys", page), ("excluded_llm_metadata_keys", [])):
        result[name] = list(dict.fromkeys([*result.get(name, ()), *BOOKKEEPING, *layout, *more]))
    return result
