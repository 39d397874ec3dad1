"""Local embedding models as a LlamaIndex embedding, with the model's own query and document prompts."""

import asyncio
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr, field_validator

from rag_embeddings.encode.base import Role
from rag_embeddings.llama_index.component import PortableComponent

if TYPE_CHECKING:
    from rag_embeddings.encode.transformer import TransformerEncoder

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

_building = Lock()


class InstructionEmbedding(PortableComponent, BaseEmbedding):
    """A sentence-transformers model that knows queries from documents.

    Prompts come from the model's own configuration and are applied to every query and every text; newlines reach the
    tokenizer as they are. The weights are loaded at the first use. A pickle, a copy and ``to_dict()`` carry every
    setting and no weights. Concurrent calls, threads or tasks, are safe.

    ``embeddings_cache`` is refused: LlamaIndex keys it by the bare text, so that a query would be answered with the
    vector of the document of the same text, or with that of another model.

    Examples:
        ```python
        from rag_embeddings.llama_index import InstructionEmbedding

        embed_model = InstructionEmbedding(model_name="sentence-transformers/all-MiniLM-L6-v2")
        vector = embed_model.get_query_embedding("Where is Paris?")
        vectors = embed_model.get_text_embedding_batch(["Paris is in France."])
        ```
    """

    model_name: str = Field(default=DEFAULT_MODEL, description="Name on the Hugging Face hub, or a local folder.")
    query_prompt: str | None = Field(
        default=None, description="Put in front of queries. None: the model's own. Empty: none."
    )
    document_prompt: str | None = Field(
        default=None, description="Put in front of texts. None: the model's own. Empty: none."
    )
    device: str | None = Field(default=None, description="'cpu', 'cuda', 'mps', ... None: the best that is there.")
    revision: str | None = Field(
        default=None, description="Branch, tag or commit on the hub. None: the default branch."
    )
    normalize: bool | None = Field(default=None, description="Scale vectors to length 1. None: as the model does.")
    dimensions: int | None = Field(
        default=None, ge=1, description="Keep the first so many dimensions, for models trained for it. None: all."
    )
    too_long: Literal["split", "error"] = Field(
        default="split",
        description="What happens to a text longer than the model reads: split it and average the parts, or raise "
        "TextTooLongError. It is never truncated.",
    )
    batch_tokens: int | None = Field(
        default=None, ge=1, description="Tokens per forward pass, padding included. None: the encoder's default."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="fp32",
        description="Number format: 'bf16' is about twice as fast where the processor has it, 'auto' takes it there.",
    )
    trust_remote_code: bool = Field(
        default=False, description="Run Python code that comes with the model. Off unless you have read that code."
    )
    embed_batch_size: int = Field(
        default=1024,
        gt=0,
        le=2048,
        description="Texts handed to the encoder in one call; the encoder makes batches by tokens itself.",
    )

    _loaded: tuple[tuple[Any, ...], Any] | None = PrivateAttr(default=None)

    def __init__(self, model_name: str = DEFAULT_MODEL, **kwargs: Any) -> None:
        super().__init__(model_name=model_name, **kwargs)  # type: ignore[call-arg]  # a field of BaseEmbedding

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this class."""
        return "InstructionEmbedding"

    @field_validator("embeddings_cache")
    @classmethod
    def _refuse_cache(cls, cache: object) -> None:
        if cache is not None:
            raise ValueError(
                f"embeddings_cache={type(cache).__name__}(...) cannot be used: LlamaIndex keys it by the bare text, "
                "so a query and a document of the same text would share one vector. Leave embeddings_cache out"
            )

    @property
    def encoder(self) -> "TransformerEncoder":
        """The encoder behind this object; made at the first use, and again after a setting was assigned."""
        from rag_embeddings.encode.transformer import TransformerEncoder  # noqa: PLC0415  # imports torch

        options = {
            "device": self.device,
            "revision": self.revision,
            "query_prompt": self.query_prompt,
            "document_prompt": self.document_prompt,
            "normalize": self.normalize,
            "dimensions": self.dimensions,
            "too_long": self.too_long,
            "precision": self.precision,
            "trust_remote_code": self.trust_remote_code,
        }
        if self.batch_tokens is not None:
            options["batch_tokens"] = self.batch_tokens
        key = (self.model_name, *options.items())
        with _building:
            if self._loaded is None or self._loaded[0] != key:
                self._loaded = (key, TransformerEncoder(self.model_name, **options))  # type: ignore[arg-type]
            encoder: TransformerEncoder = self._loaded[1]
            return encoder

    def _encode(self, texts: list[str], role: Role) -> list[Embedding]:
        vectors: list[Embedding] = self.encoder.encode(texts, role).tolist() if texts else []
        return vectors

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._encode([query], Role.QUERY)[0]

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._encode([text], Role.DOCUMENT)[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return self._encode(texts, Role.DOCUMENT)

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)
