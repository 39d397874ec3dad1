"""Two models, one space: one for queries, another for the documents they look for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from rag_embeddings.encode.aspects import InnerAspects
from rag_embeddings.encode.base import Role
from rag_embeddings.encode.profile import Profile
from rag_embeddings.errors import UnsupportedModelError
from rag_embeddings.text import content_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rag_embeddings.encode.base import Encoder, TokenVectors, Vectors
    from rag_embeddings.encode.profile import Similarity


class DualEncoder(InnerAspects):
    """An encoder made of two that were trained together.

    Queries go to one, documents to the other; everything else (prompts, cache, limits) is their own affair. Its profile
    is that of both, so that an index made with this pair takes no other.

    Description-based retrieval is the case in point: the query describes what a text says in the abstract, and need not
    resemble it (Ravfogel et al., "Description-Based Text Similarity", COLM 2024, arXiv 2305.12517).

    Args:
        query_encoder: Encodes the queries.
        document_encoder: Encodes the documents.
        similarity: How their vectors are compared; None takes what both say.

    Raises:
        UnsupportedModelError: At first use, if their dimensions differ, or their similarities while none is given.
    """

    def __init__(
        self, query_encoder: Encoder, document_encoder: Encoder, *, similarity: Similarity | None = None
    ) -> None:
        self.query_encoder = query_encoder
        self.document_encoder = document_encoder
        self.similarity = similarity
        # Attributes, so that an encoder of token vectors is recognised just then. Late chunking is for documents.
        if hasattr(document_encoder, "encode_tokens"):
            self.encode_tokens: Callable[[str, Role], TokenVectors] = self._encode_tokens
        if hasattr(document_encoder, "encode_tokens_many"):
            self.encode_tokens_many: Callable[..., Any] = document_encoder.encode_tokens_many

    def __repr__(self) -> str:
        return f"DualEncoder({self.query_encoder!r}, {self.document_encoder!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("query_encoder", "document_encoder", "similarity")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def profile(self) -> Profile:
        """Everything that changes a vector, of both."""
        query, document = self.query_encoder.profile, self.document_encoder.profile
        if query.dimensions != document.dimensions:
            raise UnsupportedModelError(
                f"queries of {query.model!r} have {query.dimensions} dimensions and documents of {document.model!r} "
                f"{document.dimensions}: they cannot be compared. Use two models that were trained together"
            )
        if self.similarity is None and query.similarity != document.similarity:
            raise UnsupportedModelError(
                f"{query.model!r} compares by {query.similarity!r}, {document.model!r} by {document.similarity!r}; "
                "say which it is: similarity=..."
            )
        return Profile(
            model=document.model,
            query_model=query.model,
            dimensions=document.dimensions,
            query_prompt=query.query_prompt,
            query_suffix=query.query_suffix,
            query_adapter=query.query_adapter,
            document_prompt=document.document_prompt,
            document_adapter=document.document_adapter,
            pooling=document.pooling if document.pooling == query.pooling else f"{query.pooling}, {document.pooling}",
            normalize=query.normalize and document.normalize,
            similarity=self.similarity or document.similarity,
            weights=content_id("dual", query.space, document.space),  # says everything of both
            max_tokens=min((item.max_tokens for item in (query, document) if item.max_tokens), default=None),
            document_tokens=document.document_tokens,
            layers=document.layers,
            sources={
                name: side.sources[name]
                for side, name in ((query, "query_prompt"), (document, "document_prompt"))
                if name in side.sources
            },
        )

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the documents."""
        return self.document_encoder.tokenizer

    def _inside(self) -> tuple[Encoder, ...]:
        return self.query_encoder, self.document_encoder

    def encode(self, texts: Sequence[str], role: Role, **options: Any) -> Vectors:
        """Encode texts with the encoder of their role.

        Args:
            texts: Any number of texts.
            role: Whether they are queries or documents.
            **options: Handed to that encoder, such as ``task``.

        Returns:
            float32 of shape (len(texts), dimensions), in the order of ``texts``.
        """
        encoder = self.query_encoder if Role(role) is Role.QUERY else self.document_encoder
        _ = self.profile  # refuses a pair that does not match
        return encoder.encode(texts, Role(role), **options)

    def _encode_tokens(self, text: str, role: Role) -> TokenVectors:
        encoder = self.query_encoder if Role(role) is Role.QUERY else self.document_encoder
        return cast("TokenVectors", cast("Any", encoder).encode_tokens(text, Role(role)))
