"""The core's splitters as LlamaIndex node parsers whose nodes know where they stand."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from itertools import pairwise
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr, field_serializer, field_validator, model_validator
from llama_index.core.node_parser import NodeParser
from llama_index.core.node_parser.node_utils import default_id_func
from llama_index.core.schema import BaseNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.schema import Document as LlamaIndexDocument
from llama_index.core.utils import get_tqdm_iterable

from rag_embeddings.encode.wrap import wrap
from rag_embeddings.llama_index.component import PortableComponent
from rag_embeddings.llama_index.convert import ReadDocument, from_chunks, to_core
from rag_embeddings.llama_index.embedding import InstructionEmbedding
from rag_embeddings.llama_index.naming import callable_name, cannot_rebuild
from rag_embeddings.split.base import DEFAULT_MAX_TOKENS, DEFAULT_TOKENIZER, Splitter
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.split.sliding import SlidingWindowSplitter
from rag_embeddings.split.tokens import CallableCounter, token_counter
from rag_embeddings.text import Chunk, Document


class SpanNodeParser(PortableComponent, NodeParser):
    """What our node parsers share: nodes are slices of the text and say where they stand in the root document.

    - ``start_char_idx`` and ``end_char_idx`` are exact, repeated text or not. In a chain of parsers they count in the
      root document, which SOURCE names, as long as the parser before sets its own.
    - Node ids are derived from the input's id, its text and the place, the same on every run and in every process; an
      ``id_func`` of yours is called as ``id_func(i, input)`` instead.
    - PREVIOUS and NEXT join neighbours of one root document, with the neighbour's hash and without its metadata.
    - ``chunk_size`` limits the text, and its context where it has one. Metadata that LlamaIndex puts in front when it
      embeds or prompts comes on top.
    - An input's own embedding is not handed to its nodes. Empty text gives no node.
    """

    chunk_size: int = Field(default=DEFAULT_MAX_TOKENS, gt=0, description="Most tokens in a chunk.")
    chunk_overlap: int | None = Field(default=0, ge=0, description="Tokens that neighbouring chunks share.")
    embed_model: Any = Field(
        default=None, description="Count tokens as this embedding model does: one whose encoder has a tokenizer."
    )
    tokenizer: Any = Field(
        default=None,
        description="Count tokens with a tiktoken encoding (by name), a Hugging Face tokenizer or a function from text "
        f"to its number of tokens. With neither this nor embed_model: {DEFAULT_TOKENIZER!r}.",
    )
    language: str = Field(default="en", description="ISO 639-1 code of the language, for sentence boundaries.")

    _made: tuple[tuple[Any, ...], Splitter] | None = PrivateAttr(default=None)

    @property
    def splitter(self) -> Splitter:
        """The core splitter behind this parser; made at the first use, and again after a setting was assigned."""
        source = self._token_source()
        own = type(self).model_fields.keys() - NodeParser.model_fields.keys() - {"embed_model", "tokenizer"}
        values = {name: getattr(self, name) for name in own}
        key = (
            source,
            {name: copy(value) if isinstance(value, list | dict) else value for name, value in values.items()},
        )
        if self._made is None or self._made[0] != key:
            self._made = (key, self._make(source))
        return self._made[1]

    @abstractmethod
    def _make(self, source: Any) -> Splitter: ...

    def _token_source(self) -> Any:
        if self.embed_model is None:
            return DEFAULT_TOKENIZER if self.tokenizer is None else self.tokenizer
        encoder = wrap(self.embed_model)
        if encoder.tokenizer is None:
            raise ValueError(
                f"{type(self.embed_model).__name__} has no tokenizer of its own; "
                f"give tokenizer= instead, for example {DEFAULT_TOKENIZER!r}"
            )
        return encoder

    def get_nodes_from_documents(
        self,
        documents: Sequence[LlamaIndexDocument | Document],
        show_progress: bool = False,  # noqa: FBT001, FBT002  # LlamaIndex's signature
        **kwargs: Any,
    ) -> list[BaseNode]:
        """Parse documents into nodes.

        Args:
            documents: LlamaIndex's, or the core's with the layout that a reader found, such as `read_file` gives.
            show_progress: Show a progress bar.
            **kwargs: Handed on.

        Returns:
            The nodes of all documents, in order.
        """
        return super().get_nodes_from_documents(_accepted(documents), show_progress, **kwargs)

    async def aget_nodes_from_documents(
        self,
        documents: Sequence[LlamaIndexDocument | Document],
        show_progress: bool = False,  # noqa: FBT001, FBT002  # LlamaIndex's signature
        **kwargs: Any,
    ) -> list[BaseNode]:
        """Parse documents into nodes without blocking the event loop; see `get_nodes_from_documents`."""
        return await super().aget_nodes_from_documents(_accepted(documents), show_progress, **kwargs)

    def _parse_nodes(
        self,
        nodes: Sequence[BaseNode],
        show_progress: bool = False,  # noqa: FBT001, FBT002  # LlamaIndex's signature
        **kwargs: Any,  # noqa: ARG002  # IngestionPipeline.run(**kwargs) hands its own to every transformation
    ) -> list[BaseNode]:
        splitter = self.splitter
        found: list[BaseNode] = []
        for node in get_tqdm_iterable(nodes, show_progress, "Parsing nodes"):
            found.extend(self._nodes(splitter.split(to_core(node)), node))
        return found

    def _nodes(self, chunks: Sequence[Chunk], parent: BaseNode) -> list[TextNode]:
        if self.id_func is default_id_func:
            ids = [chunk.id for chunk in chunks]
        else:
            ids = [self.id_func(position, parent) for position in range(len(chunks))]
        return from_chunks(chunks, parent, ids, include_metadata=self.include_metadata)

    async def _aparse_nodes(
        self,
        nodes: Sequence[BaseNode],
        show_progress: bool = False,  # noqa: FBT001, FBT002  # LlamaIndex's signature
        **kwargs: Any,
    ) -> list[BaseNode]:
        return await asyncio.to_thread(self._parse_nodes, nodes, show_progress, **kwargs)

    def _postprocess_parsed_nodes(
        self,
        nodes: list[BaseNode],
        parent_doc_map: dict[str, LlamaIndexDocument],  # noqa: ARG002  # LlamaIndex's signature
    ) -> list[BaseNode]:
        """Join neighbours.

        The base class would search for the offsets that are already exact, and compare sources while it rewrites them.
        """
        if self.include_prev_next_rel:
            for node, following in pairwise(nodes):
                if _adjoin(node, following):
                    node.relationships[NodeRelationship.NEXT] = _reference(following)
                    following.relationships[NodeRelationship.PREVIOUS] = _reference(node)
        return nodes

    @model_validator(mode="after")
    def _one_way_to_count(self) -> "SpanNodeParser":
        if self.embed_model is not None and self.tokenizer is not None:
            raise ValueError("both embed_model= and tokenizer= are given; tokens are counted by one of them")
        self._make(len)  # refuses impossible settings, whatever counts
        return self

    @field_validator("embed_model", mode="before")
    @classmethod
    def _restored_embed_model(cls, value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("class_name") != InstructionEmbedding.class_name():
                raise cannot_rebuild(f"embedding model {value.get('class_name')!r}", "its settings", "embed_model")
            return InstructionEmbedding.from_dict(value)
        return value if value is None or isinstance(value, BaseEmbedding) else wrap(value)

    @field_validator("tokenizer", mode="before")
    @classmethod
    def _restored_tokenizer(cls, value: Any) -> Any:
        if isinstance(value, dict):
            raise cannot_rebuild(f"tokenizer {value.get('tokenizer_name')!r}", "its name", "tokenizer")
        return value

    @field_validator("id_func", mode="before")
    @classmethod
    def _restored_id_func(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if value.get("id_func_name") != callable_name(default_id_func):
            raise cannot_rebuild(f"id_func {value.get('id_func_name')!r}", "its name", "id_func")
        return default_id_func

    @field_serializer("embed_model")
    def _spelled_embed_model(self, value: Any) -> Any:
        if value is None or isinstance(value, BaseEmbedding):
            return None if value is None else value.to_dict()
        return {"class_name": type(value).__name__, "profile": value.profile.to_dict()}

    @field_serializer("tokenizer")
    def _spelled_tokenizer(self, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        counter = token_counter(value)
        return {"tokenizer_name": callable_name(value) if isinstance(counter, CallableCounter) else counter.name}

    @field_serializer("id_func")
    def _spelled_id_func(self, value: Callable[..., str]) -> dict[str, str]:
        return {"id_func_name": callable_name(value), "title": "id_func"}


class RecursiveNodeParser(SpanNodeParser):
    """Splits at the strongest boundary that fits: sections, paragraphs, sentences, words.

    Every chunk is a slice of the document and at most ``chunk_size`` tokens long; see `SpanNodeParser` for what nodes
    carry.

    Examples:
        ```python
        from rag_embeddings.llama_index import RecursiveNodeParser

        parser = RecursiveNodeParser(chunk_size=200, embed_model=embed_model)
        nodes = parser.get_nodes_from_documents(documents)
        ```
    """

    target: int | None = Field(default=None, gt=0, description="Tokens of a good chunk. None: chunk_size.")

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this class."""
        return "RecursiveNodeParser"

    def _make(self, source: Any) -> Splitter:
        return RecursiveSplitter(
            self.chunk_size, self.chunk_overlap or 0, tokenizer=source, language=self.language, target=self.target
        )


class SlidingWindowNodeParser(SpanNodeParser):
    """Windows of whole sentences that overlap, so that text near a boundary stands in two chunks.

    See `SpanNodeParser` for what nodes carry.
    """

    chunk_overlap: int | None = Field(
        default=None,
        ge=0,
        description="Tokens that neighbouring chunks share, as far as whole sentences allow. None: half of chunk_size.",
    )

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this class."""
        return "SlidingWindowNodeParser"

    def _make(self, source: Any) -> Splitter:
        return SlidingWindowSplitter(self.chunk_size, self.chunk_overlap, tokenizer=source, language=self.language)


def core_splitter(node_parser: NodeParser | Splitter) -> Splitter:
    """Return the core splitter behind one of our node parsers, or a core splitter as it is.

    Raises:
        ValueError: For a node parser that is not ours: others cannot say exactly where their nodes stand.
    """
    if isinstance(node_parser, SpanNodeParser):
        return node_parser.splitter
    if isinstance(node_parser, Splitter):
        return node_parser
    raise ValueError(
        f"{type(node_parser).__name__} cannot say exactly where its nodes stand; "
        "use a node parser of rag_embeddings.llama_index or a splitter of rag_embeddings"
    )


def _accepted(documents: Sequence[LlamaIndexDocument | Document]) -> list[LlamaIndexDocument]:
    return [ReadDocument.of(document) if isinstance(document, Document) else document for document in documents]


def _adjoin(node: BaseNode, following: BaseNode) -> bool:
    """Tell whether two nodes of a list are neighbours in one root document.

    A parser before this one may hand over several layers of the same document one after another; between layers the
    text begins anew.
    """
    if node.ref_doc_id != following.ref_doc_id:
        return False
    if isinstance(node, TextNode) and isinstance(following, TextNode):
        here, there = node.start_char_idx, following.start_char_idx
        return here is None or there is None or here < there
    return True


def _reference(node: BaseNode) -> RelatedNodeInfo:
    return RelatedNodeInfo(node_id=node.node_id, node_type=node.get_type(), hash=node.hash)
