"""Local embedding models as LlamaIndex embeddings, with the model's own query and document prompts."""

from collections.abc import Hashable
from typing import Any, Literal

from llama_index.core.bridge.pydantic import Field

from rag_embeddings.encode.base import Encoder
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.cached import CachedEncoder
from rag_embeddings.encode.resolve import DEFAULT_MODEL
from rag_embeddings.encode.transformer import OPTIONS, TransformerEncoder
from rag_embeddings.llama_index.encoded import EncodedEmbedding
from rag_embeddings.text import canonical_json


class InstructionEmbedding(EncodedEmbedding):
    """A sentence-transformers model that knows queries from documents.

    Prompts come from you, else from the model's own configuration, else from the catalog of this package, and are
    applied to every query and every text; newlines reach the tokenizer as they are.
    ``embed_model.encoder.profile.explain()`` says what is used and who decided on it. The weights are loaded at the
    first use. A pickle, a copy and ``to_dict()`` carry every setting and no weights. Concurrent calls, threads or
    tasks, are safe.

    ``cache_path`` keeps vectors on disk, by role, prompt and everything else that changes them. LlamaIndex's own
    ``embeddings_cache`` is refused: it is keyed by the bare text, so that a query would be answered with the vector of
    the document of the same text, or with that of another model.

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
        default=None, description="Put in front of queries. None: the model's own, else the catalog's. Empty: none."
    )
    document_prompt: str | None = Field(
        default=None, description="Put in front of texts. None: the model's own, else the catalog's. Empty: none."
    )
    task: str | None = Field(
        default=None,
        description="What texts are embedded for: the name of one of the model's prompts or adapters, or, for models "
        "that are told, one sentence.",
    )
    prompt_slots: dict[str, str] | None = Field(
        default=None, description="What fills other slots of the model's template: {'domain': 'legal'}."
    )
    catalog_name: str | None = Field(
        default=None,
        description="The published model that a folder holds a copy of, if the catalog's prompts are to be used.",
    )
    pooling: str | None = Field(
        default=None,
        description="'cls', 'mean', 'max', 'weightedmean', 'lasttoken', 'mean_sqrt_len_tokens' or "
        "'mean_without_first'. None: the model's own.",
    )
    device: str | None = Field(default=None, description="'cpu', 'cuda', 'mps', ... None: the best that is there.")
    revision: str | None = Field(
        default=None, description="Branch, tag or commit on the hub. None: the default branch."
    )
    normalize: bool | None = Field(default=None, description="Scale vectors to length 1. None: as the model does.")
    similarity_name: Literal["cosine", "dot", "euclidean"] | None = (
        Field(  # `similarity` is a method of every embedding
            default=None, description="How indexes compare vectors. None: as the model was trained for."
        )
    )
    dimensions: int | None = Field(
        default=None, ge=1, description="Keep the first so many dimensions, for models trained for it. None: all."
    )
    layers: int | None = Field(
        default=None, ge=1, description="Run only so many of the lower layers, for models trained for it. None: all."
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Take texts of so many tokens. None: as many as the model takes."
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
    cache_path: str | None = Field(
        default=None, description="File in which vectors are kept and looked up by role. None: they are not kept."
    )

    def __init__(self, model_name: str = DEFAULT_MODEL, **kwargs: Any) -> None:
        super().__init__(model_name=model_name, **kwargs)

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this class."""
        return "InstructionEmbedding"

    def _settings(self) -> Hashable:
        return canonical_json({**self._options(), "model_name": self.model_name, "cache_path": self.cache_path})

    def _options(self) -> dict[str, Any]:
        """Return the arguments of the core's encoder that are set."""
        names = {name: "similarity_name" if name == "similarity" else name for name in OPTIONS}
        return {name: value for name, field in names.items() if (value := getattr(self, field)) is not None}

    def _made(self) -> Encoder:
        encoder = TransformerEncoder(self.model_name, **self._options())
        return encoder if self.cache_path is None else CachedEncoder(encoder, VectorCache(self.cache_path))
