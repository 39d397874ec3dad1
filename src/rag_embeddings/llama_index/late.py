"""Late chunking as a LlamaIndex node parser: nodes leave with vectors that know their document."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Self

from llama_index.core.bridge.pydantic import ConfigDict, Field, field_serializer, field_validator, model_validator
from llama_index.core.schema import BaseNode, MetadataMode, TextNode
from llama_index.core.utils import get_tqdm_iterable

from rag_embeddings.encode.late import LatePass, Units, units
from rag_embeddings.encode.windows import Windows
from rag_embeddings.encode.wrap import wrap
from rag_embeddings.llama_index.convert import to_core
from rag_embeddings.llama_index.embedding import InstructionEmbedding
from rag_embeddings.llama_index.naming import cannot_rebuild
from rag_embeddings.llama_index.node_parsers import SpanNodeParser, core_splitter
from rag_embeddings.split.base import Splitter
from rag_embeddings.split.recursive import RecursiveSplitter

_CONTENT = "\0"


class LateChunkingNodeParser(SpanNodeParser):
    """Embeds whole documents and pools each chunk's tokens, so that a node's vector knows what stands around it.

    Nodes leave with ``node.embedding`` set. ``VectorStoreIndex.from_documents(..., transformations=[parser])``,
    ``index.insert`` and ``IngestionPipeline`` store these vectors without another call; queries need the same
    ``embed_model``. An embedding model behind this parser in a pipeline would overwrite them, and a warning says so:
    leave it out.

    A document's metadata, as LlamaIndex would embed it (without ``excluded_embed_metadata_keys``), stands in front of
    the text wherever the model looks at it, and is pooled into no node. Other than that, nodes are those of
    ``splitter``; see `SpanNodeParser`.

    Stores differ in what they do with an id that they hold already; LlamaIndex's ``ChromaVectorStore`` keeps the old
    vector without a word. Delete a document (``index.delete_ref_doc``) before it is inserted again, or let
    ``index.refresh_ref_docs`` or an ingestion pipeline with a docstore do that.

    Args:
        splitter: How documents become chunks: another parser of this package, or a splitter of the core. None: a
            recursive splitter under ``chunk_size`` and ``chunk_overlap``, which counts as the model does.

    Examples:
        ```python
        from llama_index.core import VectorStoreIndex
        from rag_embeddings.llama_index import InstructionEmbedding, LateChunkingNodeParser, RecursiveNodeParser

        embed_model = InstructionEmbedding()
        parser = LateChunkingNodeParser(
            splitter=RecursiveNodeParser(chunk_size=256, embed_model=embed_model), embed_model=embed_model
        )
        index = VectorStoreIndex.from_documents(documents, transformations=[parser], embed_model=embed_model)
        ```
    """

    model_config = ConfigDict(populate_by_name=True)

    embed_model: Any = Field(
        default_factory=InstructionEmbedding,
        validate_default=True,
        description="The model; it takes the mean over tokens that see both sides.",
    )
    # The base class has a property of this name.
    inner: Any = Field(default=None, alias="splitter", description="How documents become chunks.")
    window: int | None = Field(
        default=None, ge=1, description="Tokens the model sees at once, special ones included. None: all it takes."
    )
    overlap: float = Field(default=0.25, ge=0, lt=1, description="Least share of a window that the next one repeats.")
    mix: float = Field(
        default=0.0, ge=0, lt=1, description="Share of a vector that a chunk has by itself; 0.5 is the mean of both."
    )
    paper_compat: bool = Field(default=False, description="Lay windows as the paper does.")
    force: bool = Field(default=False, description="Take models that were not trained for it all the same.")

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this class."""
        return "LateChunkingNodeParser"

    @property
    def splitter(self) -> Splitter:
        """The core splitter behind this parser."""
        return super().splitter if self.inner is None else core_splitter(self.inner)

    @property
    def late_pass(self) -> LatePass:
        """The core's late pass, with these settings."""
        windows = Windows(self.window, self.overlap, self.paper_compat)
        return LatePass(wrap(self.embed_model), windows=windows, mix=self.mix, force=self.force)

    def _token_source(self) -> Any:
        return wrap(self.embed_model) if self.tokenizer is None else self.tokenizer

    def _make(self, source: Any) -> Splitter:
        return RecursiveSplitter(self.chunk_size, self.chunk_overlap or 0, tokenizer=source, language=self.language)

    def _parse_nodes(
        self,
        nodes: Sequence[BaseNode],
        show_progress: bool = False,  # noqa: FBT001, FBT002  # LlamaIndex's signature
        **kwargs: Any,  # noqa: ARG002  # IngestionPipeline.run(**kwargs) hands its own to every transformation
    ) -> list[BaseNode]:
        splitter = self.splitter
        parents: list[BaseNode] = []

        def cut() -> Iterator[Units]:
            for node in get_tqdm_iterable(nodes, show_progress, "Parsing nodes"):
                parents.append(node)
                context = _embedded_in_front(node) if self.include_metadata else ""
                yield units(to_core(node), splitter, context, sentences=False)

        found: list[BaseNode] = []
        for index, late in enumerate(self.late_pass.encode_many(cut())):
            made = self._nodes(late.chunks, parents[index])
            found.extend(_late_node(node, vector) for node, vector in zip(made, late.vectors.tolist(), strict=True))
        return found

    @model_validator(mode="after")
    def _one_way_to_count(self) -> Self:
        """Unlike the base class's: here the embedding model is for more than counting. Refuses impossible settings."""
        if self.chunk_overlap is not None and self.chunk_overlap >= self.chunk_size:
            raise ValueError(f"chunk_overlap={self.chunk_overlap} must be less than chunk_size={self.chunk_size}")
        _ = self.late_pass
        return self

    @field_validator("inner", mode="before")
    @classmethod
    def _known_splitter(cls, value: Any) -> Any:
        if isinstance(value, dict):
            kinds = {kind.class_name(): kind for kind in _kinds()}
            if value.get("class_name") not in kinds:
                raise cannot_rebuild(f"splitter {value.get('class_name')!r}", "its settings", "splitter")
            return kinds[value["class_name"]].from_dict(value)
        if value is not None:
            core_splitter(value)
        return value

    @field_serializer("inner")
    def _spelled_splitter(self, value: Any) -> Any:
        if value is None or isinstance(value, SpanNodeParser):
            return None if value is None else value.to_dict()
        return {"class_name": type(value).__name__, "settings": value.settings()}


class LateNode(TextNode):
    """A text node that says when its vector is replaced by another, which knows nothing of the document.

    It is stored and serialised as the plain text node it is.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "embedding" and value is not None and self.embedding is not None and value != self.embedding:
            warnings.warn(
                "the vectors of LateChunkingNodeParser are being overwritten by an embedding model that stands behind "
                "it; leave that model out of the pipeline",
                stacklevel=2,
            )
        super().__setattr__(name, value)


def _late_node(node: TextNode, vector: list[float]) -> LateNode:
    fields = {name: getattr(node, name) for name in TextNode.model_fields}
    return LateNode(**{**fields, "embedding": vector})


def _embedded_in_front(node: BaseNode) -> str:
    """Return what LlamaIndex would put in front of a node's text when it embeds it."""
    metadata = node.get_metadata_str(mode=MetadataMode.EMBED)
    if not metadata:
        return ""
    template = getattr(node, "text_template", "{metadata_str}\n\n{content}")
    return str(template.format(content=_CONTENT, metadata_str=metadata)).partition(_CONTENT)[0]


def _kinds() -> Iterator[type[SpanNodeParser]]:
    """Yield every parser of this package that is loaded."""
    todo: list[Any] = [SpanNodeParser]
    while todo:
        found = todo.pop().__subclasses__()
        yield from found
        todo += found
