"""Two embedding models as one: one for queries, another for texts."""

from collections.abc import Hashable
from typing import Any, Literal

from llama_index.core.bridge.pydantic import Field, field_validator, model_validator

from rag_embeddings.encode.dual import DualEncoder
from rag_embeddings.llama_index.embedding import InstructionEmbedding
from rag_embeddings.llama_index.encoded import EncodedEmbedding


class DualEncoderEmbedding(EncodedEmbedding):
    """Queries go to one model, texts to another that was trained with it.

    Dual encoders, and description-based retrieval, where the query describes what a text says instead of resembling it.
    Both models must give vectors of equal width. ``model_name`` is made of both names.

    Examples:
        ```python
        from rag_embeddings.llama_index import DualEncoderEmbedding, InstructionEmbedding

        embed_model = DualEncoderEmbedding(
            query_embedding=InstructionEmbedding("abstract-sim-query", pooling="mean_without_first"),
            text_embedding=InstructionEmbedding("abstract-sim-sentence", pooling="mean_without_first"),
        )
        vector = embed_model.get_query_embedding("somebody lets water through")
        ```
    """

    query_embedding: InstructionEmbedding = Field(description="Embeds the queries; a string is the name of a model.")
    text_embedding: InstructionEmbedding = Field(description="Embeds the texts; a string is the name of a model.")
    similarity_name: Literal["cosine", "dot", "euclidean"] | None = Field(
        default=None, description="How indexes compare vectors. None: as both models were trained for."
    )

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this class."""
        return "DualEncoderEmbedding"

    @field_validator("query_embedding", "text_embedding", mode="before")
    @classmethod
    def _restored(cls, value: Any) -> Any:
        if isinstance(value, str):
            return InstructionEmbedding(value)
        return InstructionEmbedding.from_dict(value) if isinstance(value, dict) else value

    @model_validator(mode="before")
    @classmethod
    def _without_name(cls, data: Any) -> Any:
        """Leave out the name, which is made anew from the names of both."""
        return {name: value for name, value in data.items() if name != "model_name"} if isinstance(data, dict) else data

    def model_post_init(self, context: Any, /) -> None:
        """Name it after both models."""
        super().model_post_init(context)
        self.model_name = f"{self.query_embedding.model_name} -> {self.text_embedding.model_name}"

    def _settings(self) -> Hashable:
        # Each of the two makes its encoder anew where one of its own settings changed.
        return id(self.query_embedding.encoder), id(self.text_embedding.encoder), self.similarity_name

    def _made(self) -> DualEncoder:
        return DualEncoder(self.query_embedding.encoder, self.text_embedding.encoder, similarity=self.similarity_name)
