"""The sentences that matter, marked in what any retriever found."""

from collections.abc import Sequence
from typing import Annotated, Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict, Field, PrivateAttr, SkipValidation

from rag_embeddings.encode.base import Encoder
from rag_embeddings.encode.wrap import wrap
from rag_embeddings.retrieve.highlight import Highlighter, highlighted, marked


class SentenceHighlighter(BaseDocumentCompressor):
    """Marks in each document the sentences that speak to the query.

    Documents of this package's retrievers say which sentences matched; nothing is computed for them. Those of any other
    retriever are cut into sentences, which are embedded and compared with the query; that takes ``embeddings``.

    Setup:
        ``pip install 'rag-embeddings[langchain,local]'``

    Instantiate:
        ```python
        from rag_embeddings.langchain import InstructionEmbeddings, SentenceHighlighter

        highlighter = SentenceHighlighter(embeddings=InstructionEmbeddings(), before="<mark>", after="</mark>")
        ```

    Use:
        ```python
        highlighter.compress_documents(retriever.invoke(query), query)
        ```

    As the ``base_compressor`` of a ``ContextualCompressionRetriever`` it works in any chain.

    Returned are copies: ``page_content`` with the marks, and ``metadata["highlights"]``, the sentences as
    ``[start, end]`` in characters of the content as it was, best first. Empty marks leave the content alone.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    embeddings: Annotated[Embeddings | Encoder | None, SkipValidation] = None
    """Compares query and sentences, for documents that do not say what matched."""
    sentences: int = Field(default=2, ge=1)
    """How many sentences of a document are marked, at most."""
    least: float | None = None
    """Least similarity of a sentence that is found by ``embeddings``; None: the best, however similar."""
    before: str = "**"
    """Put in front of a marked stretch."""
    after: str = "**"
    """Put behind it."""
    language: str = "en"
    """ISO 639-1 code, for sentence boundaries in documents that do not say what matched."""

    _wrapped: tuple[Any, Encoder] | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any, /) -> None:
        """Refuse at once what cannot encode."""
        super().model_post_init(context)
        self._highlighter()

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002  # LangChain's signature
    ) -> list[Document]:
        """Mark sentences; see the class.

        Args:
            documents: What a retriever found. Left untouched.
            query: The question.
            callbacks: Not used: no model that reports is called.

        Returns:
            As many documents, in the same order.

        Raises:
            ValueError: If a document does not say which sentences matched, and there are no embeddings to find them.
        """
        passages = [(document.page_content, document.metadata) for document in documents]
        found = highlighted(query, passages, self._highlighter(), self.sentences)
        return [
            Document(
                page_content=marked(document.page_content, spans, self.before, self.after),
                id=document.id,
                metadata={**document.metadata, "highlights": [[span.start, span.end] for span in spans]},
            )
            for document, spans in zip(documents, found, strict=True)
        ]

    def _highlighter(self) -> Highlighter | None:
        """Make it of the settings as they are now: fields may be assigned, copies have others."""
        if self.embeddings is None:
            return None
        if self._wrapped is None or self._wrapped[0] is not self.embeddings:
            self._wrapped = self.embeddings, wrap(self.embeddings)  # asks a service once how wide its vectors are
        return Highlighter(self._wrapped[1], self.sentences, self.least, self.language)
