"""A document as it goes into a vector store, in sentences, and a key-value store, in passages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.late import units
from rag_embeddings.encode.wrap import wrap
from rag_embeddings.langchain.convert import from_chunk
from rag_embeddings.langchain.late import LateChunkingEmbeddings
from rag_embeddings.text import Chunk, Span, canonical_json, span_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rag_embeddings.encode.late import Units
    from rag_embeddings.split.base import Splitter
    from rag_embeddings.text import Document as CoreDocument


@dataclass(frozen=True)
class CutDocument:
    """A document as it goes into both stores.

    Attributes:
        id: Id of the document.
        units: Its chunks and sentences.
        parents: The passages by id, as the key-value store keeps them.
        sentences: The sentences by id, as the vector store keeps them.
    """

    id: str
    units: Units
    parents: dict[str, bytes]
    sentences: dict[str, Document]


def cut_document(document: CoreDocument, splitter: Splitter) -> CutDocument:
    """Cut a document into passages and these into sentences."""
    cut = units(document, splitter)
    parents: dict[str, bytes] = {}
    sentences: dict[str, Document] = {}
    for chunk, spans in zip(cut.chunks, cut.sentences, strict=True):
        passage = from_chunk(chunk)
        place = json.loads(canonical_json(passage.metadata))
        parents[chunk.id] = spelled({"document": document.id, "text": passage.page_content, "metadata": place})
        for span in spans:
            id_ = span_id(cut.document, "sentence", (span,))
            # A sentence may stand in several passages. Not every store can hold a list.
            among = sentences[id_].metadata["parent_ids"].split(",") if id_ in sentences else []
            metadata = from_chunk(Chunk(cut.document, (span,))).metadata
            metadata["parent_ids"] = ",".join(dict.fromkeys([*among, chunk.id]))
            sentences[id_] = Document(page_content=span.of(cut.document.text), id=id_, metadata=metadata)
    return CutDocument(document.id, cut, parents, sentences)


def embedded_sentences(embeddings: Any, cuts: Sequence[CutDocument]) -> Iterator[tuple[Document, list[float]]]:
    """Yield each sentence once, with a vector that knows its first passage's context, or its whole document."""
    if isinstance(embeddings, LateChunkingEmbeddings):
        late = embeddings.late_pass.encode([cut.units for cut in cuts])
        vectors = [vector for found in late for vector in found.sentence_vectors]
    else:
        texts = [
            f"{chunk.context}\n\n{span.of(chunk.document.text)}" if chunk.context else span.of(chunk.document.text)
            for cut in cuts
            for chunk, spans in zip(cut.units.chunks, cut.units.sentences, strict=True)
            for span in spans
        ]
        vectors = list(wrap(embeddings).encode(texts, Role.DOCUMENT))
    place = iter(vectors)
    for cut in cuts:
        found: dict[str, Any] = {}
        for spans in cut.units.sentences:
            for span in spans:
                found.setdefault(span_id(cut.units.document, "sentence", (span,)), next(place))
        yield from ((sentence, found[id_].tolist()) for id_, sentence in cut.sentences.items())


def places(sentence: Document) -> list[tuple[str, Span]]:
    """Return the passages that a sentence stands in, and where it stands; none if it is not one of ours."""
    found = sentence.metadata
    if "parent_ids" not in found:
        return []
    span = Span(int(found["start_index"]), int(found["end_index"]))
    return [(id_, span) for id_ in found["parent_ids"].split(",")]


def spelled(value: dict[str, Any]) -> bytes:
    """Return JSON as it is kept; texts may hold any characters."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
