"""The sentences that matter, marked in what any retriever found."""

from typing import Annotated, Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode
from pydantic import SkipValidation

from rag_embeddings.encode.base import Encoder
from rag_embeddings.encode.wrap import wrap
from rag_embeddings.retrieve.highlight import Highlighter, highlighted, marked

_KEY = "highlights"


class SentenceHighlightPostprocessor(BaseNodePostprocessor):
    """Marks in each node the sentences that speak to the query.

    Nodes of this package's retrievers say which sentences matched; nothing is computed for them. Those of any other
    retriever are cut into sentences, which are embedded and compared with the query; that takes ``embed_model``.

    Returned are copies: the text with the marks, and ``metadata["highlights"]``, the sentences as ``[start, end]`` in
    characters of the text as it was, best first, which models do not see. Empty marks leave the text alone.

    Raises:
        ValueError: While nodes are processed, if one does not say which sentences matched and there is no embedding
            model, or no query, to find them.
        TypeError: While nodes are processed, if one holds something other than text.

    Examples:
        ```python
        from llama_index.core.query_engine import RetrieverQueryEngine
        from rag_embeddings.llama_index import SentenceHighlightPostprocessor

        engine = RetrieverQueryEngine.from_args(
            retriever, llm=llm, node_postprocessors=[SentenceHighlightPostprocessor(before="<mark>", after="</mark>")]
        )
        ```
    """

    embed_model: Annotated[BaseEmbedding | Encoder | None, SkipValidation] = Field(default=None, exclude=True)
    """Compares query and sentences, for nodes that do not say what matched."""
    sentences: int = Field(default=2, ge=1)
    """How many sentences of a node are marked, at most."""
    least: float | None = None
    """Least similarity of a sentence that is found by ``embed_model``; None: the best, however similar."""
    before: str = "**"
    """Put in front of a marked stretch."""
    after: str = "**"
    """Put behind it."""
    language: str = "en"
    """ISO 639-1 code, for sentence boundaries in nodes that do not say what matched."""

    _wrapped: tuple[Any, Encoder] | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any, /) -> None:
        """Refuse at once what cannot encode."""
        super().model_post_init(context)
        self._highlighter()

    @classmethod
    def class_name(cls) -> str:
        """Name under which LlamaIndex serialises it."""
        return "SentenceHighlightPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        passages = []
        for item in nodes:
            # A Document may be a node, too, and is no TextNode.
            if not isinstance(item.node, TextNode) and getattr(item.node, "text_resource", None) is None:
                raise TypeError(f"only text can be marked, and node {item.node_id} is a {type(item.node).__name__}")
            passages.append((item.node.get_content(MetadataMode.NONE), item.node.metadata))
        # Without a query nothing can be compared with it.
        highlighter = None if query_bundle is None else self._highlighter()
        query = "" if query_bundle is None else query_bundle.query_str
        found = highlighted(query, passages, highlighter, self.sentences)
        results = []
        for item, (text, metadata), spans in zip(nodes, passages, found, strict=True):
            node = item.node.model_copy(deep=True)
            node.set_content(marked(text, spans, self.before, self.after))
            node.metadata = {**metadata, _KEY: [[span.start, span.end] for span in spans]}
            for keys in (node.excluded_embed_metadata_keys, node.excluded_llm_metadata_keys):
                if _KEY not in keys:
                    keys.append(_KEY)
            results.append(NodeWithScore(node=node, score=item.score))
        return results

    def _highlighter(self) -> Highlighter | None:
        """Make it of the settings as they are now: fields may be assigned, copies have others."""
        if self.embed_model is None:
            return None
        if self._wrapped is None or self._wrapped[0] is not self.embed_model:
            self._wrapped = self.embed_model, wrap(self.embed_model)  # asks a service once how wide its vectors are
        return Highlighter(self._wrapped[1], self.sentences, self.least, self.language)
