"""Two embedding models as one: one for queries, another for documents."""

from functools import cached_property
from typing import Any, Literal

from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict, field_validator

from rag_embeddings.encode.dual import DualEncoder
from rag_embeddings.encode.wrap import wrap
from rag_embeddings.langchain.embeddings import InstructionEmbeddings
from rag_embeddings.langchain.encoded import EncodedEmbeddings


class DualEncoderEmbeddings(EncodedEmbeddings):
    """Queries go to one model, documents to another that was trained with it.

    Dual encoders, and description-based retrieval, where the query describes what a text says instead of resembling it.
    Both models must give vectors of equal width.

    Setup:
        ``pip install 'rag-embeddings[langchain,local]'``

    Instantiate:
        ```python
        from rag_embeddings.langchain import DualEncoderEmbeddings, InstructionEmbeddings

        embeddings = DualEncoderEmbeddings(
            query_embeddings=InstructionEmbeddings(model="abstract-sim-query", pooling="mean_without_first"),
            document_embeddings=InstructionEmbeddings(model="abstract-sim-sentence", pooling="mean_without_first"),
        )
        ```

    Use:
        ```python
        vectors = embeddings.embed_documents(["The miller opened both gates."])
        vector = embeddings.embed_query("somebody lets water through")
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    query_embeddings: Embeddings
    """Embeds the queries: any LangChain embeddings; a string is the name or folder of a local model."""
    document_embeddings: Embeddings
    """Embeds the documents, likewise."""
    similarity: Literal["cosine", "dot", "euclidean"] | None = None
    """How this package's indexes compare vectors. None: as both models were trained for."""

    @field_validator("query_embeddings", "document_embeddings", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return InstructionEmbeddings(model=value) if isinstance(value, str) else value

    @cached_property
    def encoder(self) -> DualEncoder:
        """The core's encoder, which splitters and indexes of this package use directly. Cheap until it encodes."""
        return DualEncoder(wrap(self.query_embeddings), wrap(self.document_embeddings), similarity=self.similarity)
