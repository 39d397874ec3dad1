"""Laws for LlamaIndex components, as functions: what langchain-tests is for LangChain.

LlamaIndex ships no such suite, and its base classes break several of these laws for a subclass that relies on them.
Each function raises AssertionError and says which law was broken; run them in a test of your own::

    check_embedding(InstructionEmbedding, options={"query_prompt": "query: "})
    check_node_parser(partial(RecursiveNodeParser, chunk_size=16, tokenizer=len))
    check_retriever(retriever, ["What is a law?"])

``make`` is a class, or any function that makes a new component and passes keyword arguments on to it.
"""

from __future__ import annotations

import asyncio
import json
import pickle
from copy import deepcopy
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.errors import require

require("llama_index.core", "llama-index")

from llama_index.core.base.base_retriever import BaseRetriever  # noqa: E402  # after the clear error
from llama_index.core.base.embeddings.base import BaseEmbedding  # noqa: E402
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler  # noqa: E402
from llama_index.core.node_parser import NodeParser  # noqa: E402
from llama_index.core.schema import (  # noqa: E402
    BaseComponent,
    BaseNode,
    Document,
    MetadataMode,
    NodeRelationship,
    QueryBundle,
    TextNode,
)
from llama_index.core.storage.kvstore import SimpleKVStore  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from llama_index.core.schema import NodeWithScore

TEXTS = ("Paris is in France.", "Line one.\nLine two.", "Paris is in France.", "日本語のテキスト 👩‍👩‍👧", "x")

DOCUMENTS = (
    # The same sentences over and over: offsets that are searched for, not known, go wrong here.
    Document(id_="repeated", text="The cat sat. The cat sat again. " * 30, metadata={"title": "Cats"}),
    Document(id_="lines", text="# One\r\n\r\nFirst line.\r\nSecond.\r\n\r\n# Two\r\n\r\n" + "Third line.\r\n" * 20),
    Document(id_="no-space", text="日本語。" * 60 + "👩‍👩‍👧" * 10, metadata={"language": "ja"}),
    Document(
        id_="presented",
        text="A short one.\n\n\nIt has white space around.   " * 10,
        metadata={"title": "Short", "secret": "s"},
        excluded_embed_metadata_keys=["secret"],
        excluded_llm_metadata_keys=["secret", "title"],
        text_template="{metadata_str} | {content}",
        metadata_template="{key}={value}",
        metadata_separator="; ",
    ),
)

_LARGEST_PICKLE = 100_000  # bytes; settings are far smaller, weights far larger


def check_embedding(
    make: Callable[..., BaseEmbedding],
    *,
    options: Mapping[str, Any] | None = None,
    texts: Sequence[str] = TEXTS,
    tolerance: float = 1e-5,
) -> None:
    """Check an embedding.

    Args:
        make: Makes the embedding.
        options: For every option that changes a vector, a value that is not its default.
        texts: What is embedded.
        tolerance: Largest difference of a number in two vectors of one text.

    Raises:
        AssertionError: If a law is broken. One vector per text, in order, as a list of float; the same alone, in a
            batch, through every async method, from concurrent callers, from a copy, a pickle and ``from_dict``;
            ``to_dict`` tells all options apart; a pickle has no weights and leaves the original usable; a cache does
            not answer a query with the vector of a text.
    """
    embedding = make()
    _check_component(make, options or {})
    singles = [embedding.get_text_embedding(text) for text in texts]
    query = embedding.get_query_embedding(texts[0])
    for vector in (*singles, query):
        _law(type(vector) is list and all(type(value) is float for value in vector), "a vector is a list of float")
        _law(len(vector) == len(query), "all vectors have the same length")

    def same(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]], law: str) -> None:
        _law(np.shape(found) == np.shape(expected) and np.allclose(found, expected, rtol=0, atol=tolerance), law)

    same(embedding.get_text_embedding_batch(list(texts)), singles, "a batch gives the vectors of its texts, in order")
    _law(embedding.get_text_embedding_batch([]) == [], "no texts give no vectors")
    _overridden(embedding, BaseEmbedding, "_aget_text_embedding", "_get_text_embeddings", "_aget_text_embeddings")

    async def ask() -> None:
        same([await embedding.aget_query_embedding(texts[0])], [query], "an async query has the sync one's vector")
        same([await embedding.aget_text_embedding(texts[0])], singles[:1], "an async text has the sync one's vector")
        batch = await embedding.aget_text_embedding_batch(list(texts))
        same(batch, singles, "an async batch has the vectors of the sync one")
        _law(await embedding.aget_text_embedding_batch([]) == [], "no texts give no vectors, async")
        crowd = await asyncio.gather(
            *(embedding.aget_text_embedding(text) for text in texts for _ in range(4)),
            *(embedding.aget_query_embedding(texts[0]) for _ in range(4)),
        )
        expected = [vector for vector in singles for _ in range(4)] + [query] * 4
        same(crowd, expected, "concurrent callers get their own vectors")

    asyncio.run(ask())
    for copy, law in _copies(embedding):
        same([copy.get_query_embedding(texts[0])], [query], f"{law} gives the same vectors for queries")
        same(copy.get_text_embedding_batch(list(texts)), singles, f"{law} gives the same vectors for texts")
    same([embedding.get_query_embedding(texts[0])], [query], "an embedding is usable after it was pickled and copied")
    _check_cache(make, texts[0], query, same)
    nodes = embedding([TextNode(text=text) for text in texts])
    same([node.get_embedding() for node in nodes], singles, "as a transformation it gives each node its vector")


def check_node_parser(
    make: Callable[..., NodeParser],
    *,
    options: Mapping[str, Any] | None = None,
    documents: Sequence[Document] = DOCUMENTS,
) -> None:
    """Check a node parser whose nodes are slices of the text.

    Args:
        make: Makes the parser. Choose a small chunk size, so that documents are split.
        options: For every option that changes a result, a value that is not its default.
        documents: What is split.

    Raises:
        AssertionError: If a law is broken. Every node's text is the slice of the root document from its
            ``start_char_idx`` to its ``end_char_idx``, alone and behind another parser; nodes cover all text; they
            keep metadata, excluded keys and templates, and do not inherit an embedding; SOURCE, PREVIOUS and NEXT are
            right, hashes too; ``id_func``, ``include_metadata`` and ``include_prev_next_rel`` are honoured; async
            equals sync; ``to_dict`` tells all options apart; a copy, a pickle and ``from_dict`` split alike; a pickle
            leaves the original usable.
    """
    parser = make()
    _check_component(make, options or {})
    _overridden(parser, NodeParser, "_aparse_nodes")
    originals = [document.to_dict() for document in documents]
    nodes = parser.get_nodes_from_documents(documents)
    _law([document.to_dict() for document in documents] == originals, "documents are left as they were")
    _law(len(nodes) > len(documents), "documents are split: choose a smaller chunk size for this check")
    _check_nodes(nodes, documents)
    _law(parser.get_nodes_from_documents([Document(text="")]) == [], "an empty document gives no node")

    def shape(nodes: Iterable[BaseNode]) -> list[tuple[Any, ...]]:
        return [(*_place(node), node.ref_doc_id, node.metadata) for node in nodes]

    _law(shape(asyncio.run(parser.aget_nodes_from_documents(documents))) == shape(nodes), "async equals sync")
    _law(shape(parser(documents, unknown_option=1)) == shape(nodes), "a pipeline's own keyword arguments do no harm")
    for copy, law in _copies(parser):
        _law(shape(copy.get_nodes_from_documents(documents)) == shape(nodes), f"{law} splits alike")
    _law(shape(parser(documents)) == shape(nodes), "a parser is usable after it was pickled and copied")

    embedded = [document.model_copy(update={"embedding": [1.0, 0.0]}) for document in documents]
    _law(all(node.embedding is None for node in parser(embedded)), "a node does not inherit the document's embedding")
    named = make(id_func=_numbered).get_nodes_from_documents(documents)
    ids = [node.node_id for node in named]
    _law(
        all(name.split("#")[0] == node.ref_doc_id for name, node in zip(ids, named, strict=True)),
        "id_func gets (i, doc)",
    )
    _law(len(set(ids)) == len(ids), "id_func counts the nodes of a document")
    bare = make(include_prev_next_rel=False).get_nodes_from_documents(documents)
    _law(
        all(set(node.relationships) == {NodeRelationship.SOURCE} for node in bare), "include_prev_next_rel is honoured"
    )
    bare = make(include_metadata=False).get_nodes_from_documents(documents)
    keys = {key for document in documents for key in document.metadata}
    _law(not any(keys & set(node.metadata) for node in bare), "include_metadata is honoured")
    _check_chain(parser, documents)


def check_retriever(
    retriever: BaseRetriever,
    queries: Sequence[str],
    *,
    texts: Mapping[str, str] | None = None,
    embed_model: BaseEmbedding | None = None,
) -> None:
    """Check a retriever.

    Args:
        retriever: Over an index that has something to find.
        queries: What is asked; each must find something.
        texts: The indexed documents' text by id, to check offsets against.
        embed_model: The retriever's embedding model, to check that a query that brings its own vector is searched by
            it.

    Raises:
        AssertionError: If a law is broken. Results are scored nodes, best first, each once, with their document as
            SOURCE, and one hash whatever the query; async, concurrent callers and callbacks work; offsets are exact.
    """
    _overridden(retriever, BaseRetriever, "_aretrieve")
    expected = [retriever.retrieve(query) for query in queries]
    hashes: dict[str, str] = {}
    for query, found in zip(queries, expected, strict=True):
        _law(len(found) > 0, f"query {query!r} finds something")
        scores = [result.score for result in found]
        _law(all(type(score) is float for score in scores), "every result has a score of type float")
        _law(scores == sorted(scores, key=lambda score: -(score or 0.0)), "results come best first")
        _law(len({result.node_id for result in found}) == len(found), "no result comes twice")
        for result in found:
            _law(result.node.ref_doc_id is not None, "a result says which document it is from")
            known = hashes.setdefault(result.node_id, result.node.hash)
            _law(known == result.node.hash, "a node has one hash, by which retrievers of several queries know it again")
            if texts is not None:
                start, end, text = _place(result.node)
                _law(
                    texts[result.node.ref_doc_id or ""][start:end] == text,
                    f"a result's offsets are exact: {text!r:.50}",
                )

    async def ask() -> list[list[NodeWithScore]]:
        return list(await asyncio.gather(*(retriever.aretrieve(query) for query in [*queries] * 4)))

    crowd = asyncio.run(ask())
    for found, again in zip(crowd, expected * 4, strict=True):
        _law(_results(found) == _results(again), "concurrent async callers get what sync callers get")
        # A model's vectors differ in the last digits with the company of a text, and so do scores.
        _law(
            np.allclose([result.get_score() for result in found], [result.get_score() for result in again], atol=1e-4),
            "concurrent async callers get the scores that sync callers get",
        )
    if embed_model is not None:
        for query, found in zip(queries, expected, strict=True):
            bundle = QueryBundle("", embedding=embed_model.get_query_embedding(query))
            by_vector = [result.node_id for result in retriever.retrieve(bundle)]
            _law(by_vector == [result.node_id for result in found], "a query's own vector is searched for")
    debug = LlamaDebugHandler(print_trace_on_end=False)
    before, retriever.callback_manager = retriever.callback_manager, CallbackManager([debug])
    try:
        retriever.retrieve(queries[0])
    finally:
        retriever.callback_manager = before
    _law(len(debug.get_event_pairs(CBEventType.RETRIEVE)) == 1, "a retrieval is reported to callbacks once")


def _results(found: Iterable[NodeWithScore]) -> list[tuple[str, str]]:
    return sorted((result.node_id, result.text) for result in found)


def _law(holds: bool, law: str) -> None:  # noqa: FBT001
    if not holds:
        raise AssertionError(f"broken law: {law}")


def _check_component(make: Callable[..., BaseComponent], options: Mapping[str, Any]) -> None:
    component = make()
    kind = type(component)
    named_by = next(base for base in kind.__mro__ if "class_name" in vars(base))
    _law(not named_by.__module__.startswith("llama_index."), "class_name() is the class's own, not its base's")
    _law(component.to_dict()["class_name"] == kind.class_name(), "to_dict() has the class name")
    spellings = {json.dumps(component.to_dict(), sort_keys=True)}
    for name, value in options.items():
        changed = make(**{name: value})
        spelling = json.dumps(changed.to_dict(), sort_keys=True)
        _law(spelling not in spellings, f"option {name!r} changes to_dict(), or a cache mixes results up")
        spellings.add(spelling)
        again = json.dumps(kind.from_dict(changed.to_dict()).to_dict(), sort_keys=True)
        _law(again == spelling, f"from_dict(to_dict()) keeps option {name!r}")
        again = json.dumps(pickle.loads(pickle.dumps(changed)).to_dict(), sort_keys=True)  # noqa: S301  # our own bytes
        _law(again == spelling, f"a pickle keeps option {name!r}")


def _copies(component: Any) -> Iterable[tuple[Any, str]]:
    pickled = pickle.dumps(component)
    _law(len(pickled) < _LARGEST_PICKLE, f"a pickle holds settings only, not {len(pickled):,} bytes")
    yield pickle.loads(pickled), "a pickle"  # noqa: S301  # our own bytes
    yield deepcopy(component), "a deep copy"
    yield type(component).from_dict(component.to_dict()), "from_dict(to_dict())"
    yield component, "the original, after it was pickled and copied,"


def _overridden(component: Any, base: type, *names: str) -> None:
    for name in names:
        real = getattr(type(component), name) is not getattr(base, name)
        _law(real, f"{name} is the class's own: the base's blocks the event loop or goes one by one")


def _check_cache(make: Callable[..., BaseEmbedding], text: str, query: list[float], same: Callable[..., None]) -> None:
    try:
        cached = make(embeddings_cache=SimpleKVStore())
    except ValueError:  # refusing the cache keeps the law
        return
    cached.get_text_embedding(text)
    same([cached.get_query_embedding(text)], [query], "a cache does not answer a query with the vector of a text")


def _numbered(position: int, document: BaseNode) -> str:
    return f"{document.node_id}#{position}"


def _place(node: BaseNode) -> tuple[int | None, int | None, str]:
    _law(isinstance(node, TextNode), "a parser makes text nodes")
    return node.start_char_idx, node.end_char_idx, node.get_content(MetadataMode.NONE)  # type: ignore[attr-defined]


def _check_nodes(nodes: Sequence[BaseNode], documents: Sequence[Document]) -> None:
    _law(len({node.node_id for node in nodes}) == len(nodes), "node ids are unique")
    for document in documents:
        mine = [node for node in nodes if node.ref_doc_id == document.node_id]
        _check_offsets(mine, document)
        for node in mine:
            _law(node.relationships[NodeRelationship.SOURCE].hash == document.hash, "SOURCE has the document's hash")  # type: ignore[union-attr]
            _law(document.metadata.items() <= node.metadata.items(), "a node keeps the document's metadata")
            for name in ("excluded_embed_metadata_keys", "excluded_llm_metadata_keys"):
                _law(set(getattr(document, name)) <= set(getattr(node, name)), f"a node keeps {name}")
            for name in ("text_template", "metadata_template", "metadata_separator"):
                _law(getattr(document, name) == getattr(node, name), f"a node keeps {name}")
        _check_neighbours(mine)


def _check_offsets(nodes: Sequence[BaseNode], document: Document) -> None:
    text, covered = document.text, np.zeros(len(document.text), dtype=bool)
    for node in nodes:
        start, end, slice_ = _place(node)
        if start is None or end is None:
            raise AssertionError(f"broken law: a node of {document.node_id!r} has offsets: {slice_!r:.60}")
        _law(
            text[start:end] == slice_, f"text[{start}:{end}] of {document.node_id!r} is its node's text {slice_!r:.40}"
        )
        covered[start:end] = True
    missing = next((at for at, character in enumerate(text) if not covered[at] and not character.isspace()), None)
    _law(missing is None, f"nodes cover the text of {document.node_id!r}; character {missing} is in none")


def _check_neighbours(nodes: Sequence[BaseNode]) -> None:
    if not nodes:
        return
    _law(nodes[0].prev_node is None and nodes[-1].next_node is None, "the first has no PREVIOUS, the last no NEXT")
    for node, following in pairwise(nodes):
        after, before = node.next_node, following.prev_node
        if after is None or before is None:
            raise AssertionError(f"broken law: neighbours are joined by NEXT and PREVIOUS: {node.node_id!r}")
        _law(
            after.node_id == following.node_id and before.node_id == node.node_id,
            "NEXT and PREVIOUS name the neighbour",
        )
        _law(after.hash == following.hash and before.hash == node.hash, "NEXT and PREVIOUS have the neighbour's hash")


def _check_chain(parser: NodeParser, documents: Sequence[Document]) -> None:
    """Split exact halves of documents, as a parser before this one would hand them over."""
    halves: list[BaseNode] = []
    for document in documents:
        middle = len(document.text) // 2
        source = {NodeRelationship.SOURCE: document.as_related_node_info()}
        for start, end in ((0, middle), (middle, len(document.text))):
            half = TextNode(text=document.text[start:end], metadata=document.metadata, relationships=source)
            half.start_char_idx, half.end_char_idx = start, end
            halves.append(half)
    nodes = parser(halves)
    for document in documents:
        mine = [node for node in nodes if node.ref_doc_id == document.node_id]
        _check_offsets(mine, document)
        _check_neighbours(mine)
