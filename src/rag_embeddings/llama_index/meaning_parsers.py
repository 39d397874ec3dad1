"""The splitters that look at meaning, structure or topics, as LlamaIndex node parsers."""

from abc import abstractmethod
from functools import partial
from typing import Any

from llama_index.core.bridge.pydantic import Field, field_serializer, field_validator, model_validator
from llama_index.core.llms import LLM

from rag_embeddings.encode.base import Encoder
from rag_embeddings.encode.wrap import wrap
from rag_embeddings.llama_index.naming import callable_name, cannot_rebuild
from rag_embeddings.llama_index.node_parsers import SpanNodeParser
from rag_embeddings.split.base import Splitter
from rag_embeddings.split.bollinger import BollingerSplitter
from rag_embeddings.split.llm import LLMSplitter
from rag_embeddings.split.regex import RegexSplitter
from rag_embeddings.split.semantic import SemanticSplitter
from rag_embeddings.split.thresholds import ThresholdType
from rag_embeddings.split.topics import TopicSplitter


class MeaningNodeParser(SpanNodeParser):
    """What the node parsers that encode sentences share: `SpanNodeParser`, and an embedding model that they need."""

    embed_model: Any = Field(
        description="What gives sentences their vectors, and counts tokens unless there is a tokenizer."
    )
    chunk_overlap: int | None = Field(default=0, ge=0, le=0, description="These chunks do not overlap.")
    min_chunk_size: int | None = Field(
        default=None, ge=0, description="Tokens that a chunk should at least have. None: a quarter of chunk_size."
    )

    def _token_source(self) -> Any:
        return self.embed_model, self.tokenizer  # both make the splitter

    def _make(self, source: Any) -> Splitter:
        embed_model, tokenizer = source
        return self._over(wrap(embed_model), tokenizer)

    @abstractmethod
    def _over(self, encoder: Encoder, tokenizer: Any) -> Splitter: ...

    @model_validator(mode="after")
    def _one_way_to_count(self) -> "MeaningNodeParser":
        """Unlike the base class's: here the embedding model is for more than counting. Refuses impossible settings."""
        if self.embed_model is None:
            raise ValueError(f"{type(self).__name__} needs an embed_model")
        self._make(self._token_source())
        return self


class SemanticNodeParser(MeaningNodeParser):
    """Splits between sentences where the meaning shifts, under a hard maximum of tokens.

    See `rag_embeddings.split.semantic.SemanticSplitter`, and `SpanNodeParser` for what nodes carry.

    Examples:
        ```python
        from rag_embeddings.llama_index import SemanticNodeParser

        parser = SemanticNodeParser(embed_model=embed_model, chunk_size=200)
        nodes = parser.get_nodes_from_documents(documents)
        ```
    """

    target: int | None = Field(default=None, gt=0, description="Tokens of a good chunk. None: 55 % of chunk_size.")
    weight: float = Field(default=2.0, ge=0, description="How much meaning counts against size and structure.")
    breakpoint_threshold_type: ThresholdType | None = Field(
        default=None, description="None: all cuts are chosen together by a dynamic programme."
    )
    breakpoint_threshold_amount: float | None = Field(
        default=None, description="Percentage or factor; None: 95, 3, 1.5 or 95."
    )
    buffer_size: int = Field(default=1, ge=0, description="Sentences taken along on each side, for the thresholds.")

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this class."""
        return "SemanticNodeParser"

    def _over(self, encoder: Encoder, tokenizer: Any) -> Splitter:
        return SemanticSplitter(
            encoder,
            self.chunk_size,
            self.min_chunk_size,
            target=self.target,
            weight=self.weight,
            breakpoint_threshold_type=self.breakpoint_threshold_type,
            breakpoint_threshold_amount=self.breakpoint_threshold_amount,
            buffer_size=self.buffer_size,
            tokenizer=tokenizer,
            language=self.language,
        )


class BollingerNodeParser(MeaningNodeParser):
    """Splits where the similarity of neighbouring sentences drops below its lower Bollinger band.

    See `rag_embeddings.split.bollinger.BollingerSplitter`, and `SpanNodeParser` for what nodes carry.
    """

    window: int = Field(default=12, gt=0, description="Similarities in the band.")
    k: float = Field(default=1.5, ge=0, description="Standard deviations between their mean and the lower band.")
    glue: float | None = Field(default=None, ge=0, description="Standard deviations up to the upper band. None: none.")
    group: int = Field(default=3, gt=0, description="Sentences on each side of a boundary.")

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this class."""
        return "BollingerNodeParser"

    def _over(self, encoder: Encoder, tokenizer: Any) -> Splitter:
        return BollingerSplitter(
            encoder,
            self.chunk_size,
            self.min_chunk_size,
            window=self.window,
            k=self.k,
            glue=self.glue,
            group=self.group,
            tokenizer=tokenizer,
            language=self.language,
        )


class TopicNodeParser(MeaningNodeParser):
    """Gathers the sentences of each topic, wherever they stand, into nodes of several slices.

    The slices of a node stand on lines of their own; ``metadata["spans"]`` says where they are (``"0-57,120-188"``),
    and the node's offsets enclose them all. See `rag_embeddings.split.topics.TopicSplitter`.
    """

    distance: float = Field(default=0.6, gt=0, le=2, description="Mean cosine distance within a topic.")
    blend: float = Field(default=0.5, ge=0, description="What a neighbour's vector counts for beside a sentence's own.")
    reach: int = Field(default=512, ge=2, description="Sentences that are clustered together.")
    cluster: Any = Field(default=None, description="Another clustering, from vectors to labels. Replaces distance.")

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this class."""
        return "TopicNodeParser"

    def _over(self, encoder: Encoder, tokenizer: Any) -> Splitter:
        return TopicSplitter(
            encoder,
            self.chunk_size,
            self.min_chunk_size,
            distance=self.distance,
            blend=self.blend,
            reach=self.reach,
            cluster=self.cluster,
            tokenizer=tokenizer,
            language=self.language,
        )

    @field_validator("cluster", mode="before")
    @classmethod
    def _restored_cluster(cls, value: Any) -> Any:
        if isinstance(value, dict):
            raise cannot_rebuild(f"clustering {value.get('cluster_name')!r}", "its name", "cluster")
        return value

    @field_serializer("cluster")
    def _spelled_cluster(self, value: Any) -> dict[str, str] | None:
        return None if value is None else {"cluster_name": callable_name(value)}


class RegexNodeParser(SpanNodeParser):
    """Splits by what lines look like: headings, lists, quotations, tables, code, sentences.

    See `rag_embeddings.split.regex.RegexSplitter`, and `SpanNodeParser` for what nodes carry.
    """

    target: int | None = Field(default=None, gt=0, description="Tokens of a good chunk. None: chunk_size.")
    rules: dict[str, float] = Field(
        default_factory=dict,
        description="From a regular expression to what it costs to cut in front of a line that begins with it.",
    )

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this class."""
        return "RegexNodeParser"

    def _make(self, source: Any) -> Splitter:
        return RegexSplitter(
            self.chunk_size,
            self.chunk_overlap or 0,
            tokenizer=source,
            language=self.language,
            target=self.target,
            rules=self.rules,
        )


class LLMNodeParser(SpanNodeParser):
    """Splits where a language model says that a new topic begins.

    The model answers with numbers of sentences and cannot change the text. ``metadata["boundaries"]`` of a node is
    ``"llm"``, or ``"recursive"`` where its answers could not be used. See `rag_embeddings.split.llm.LLMSplitter`.
    """

    llm: Any = Field(description="Any LlamaIndex LLM, or a function from a prompt to an answer.")
    chunk_overlap: int | None = Field(default=0, ge=0, le=0, description="These chunks do not overlap.")
    window_tokens: int = Field(default=2000, gt=0, description="Most tokens of text in a prompt.")
    name: str | None = Field(
        default=None, description="What the model is called in cache keys. None: what it calls itself."
    )

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this class."""
        return "LLMNodeParser"

    def _make(self, source: Any) -> Splitter:
        complete: Any = partial(_completed, self.llm) if isinstance(self.llm, LLM) else self.llm
        named = _named(self.llm, self.name)
        return LLMSplitter(
            complete,
            self.chunk_size,
            window_tokens=self.window_tokens,
            tokenizer=source,
            language=self.language,
            name=self.name or f"{named['class_name']} {named['model']}",
        )

    @field_validator("llm", mode="before")
    @classmethod
    def _restored_llm(cls, value: Any) -> Any:
        if isinstance(value, dict):
            raise cannot_rebuild(f"language model {value.get('class_name')!r}", "its name", "llm")
        if not isinstance(value, LLM) and not callable(value):
            raise ValueError(  # noqa: TRY004  # pydantic reports a ValueError with the field's name
                f"llm is a LlamaIndex LLM or a function from a prompt to an answer, got {value!r:.80}"
            )
        return value

    @field_serializer("llm")
    def _spelled_llm(self, value: Any) -> dict[str, str]:
        return _named(value, self.name)


def _named(llm: Any, name: str | None) -> dict[str, str]:
    if isinstance(llm, LLM):
        return {"class_name": llm.class_name(), "model": name or llm.metadata.model_name}
    return {"class_name": "function", "model": name or callable_name(llm)}


def _completed(llm: LLM, prompt: str) -> str:
    return llm.complete(prompt).text
