"""The splitters that look at meaning, structure or topics, as LangChain text splitters."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable

from rag_embeddings.encode.wrap import wrap
from rag_embeddings.langchain.splitters import SpanTextSplitter
from rag_embeddings.split.base import DEFAULT_MAX_TOKENS, Splitter
from rag_embeddings.split.bollinger import BollingerSplitter
from rag_embeddings.split.llm import LLMSplitter
from rag_embeddings.split.regex import RegexSplitter
from rag_embeddings.split.semantic import SemanticSplitter
from rag_embeddings.split.topics import TopicSplitter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_core.embeddings import Embeddings

    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.split.thresholds import ThresholdType


class _MeaningTextSplitter(SpanTextSplitter):
    """What the text splitters that encode sentences share."""

    def __init__(
        self,
        make: Callable[..., Splitter],
        embeddings: Embeddings | Encoder,
        chunk_size: int,
        tokenizer: Any,
        language: str,
    ) -> None:
        self._make = make
        counted = {"embeddings": embeddings} if tokenizer is None else {"tokenizer": tokenizer}
        super().__init__(chunk_size, 0, language=language, **counted)

    def _make_core(self, language: str) -> Splitter:
        return self._make(tokenizer=self._counter, language=language)


class SemanticTextSplitter(_MeaningTextSplitter):
    """Splits between sentences where the meaning shifts, under a hard maximum of tokens.

    Takes the place of langchain-experimental's ``SemanticChunker``: ``breakpoint_threshold_type``,
    ``breakpoint_threshold_amount`` and ``buffer_size`` mean the same. Chunks are slices, none is over ``chunk_size``,
    and each sentence is embedded once. Without a threshold, all cuts are chosen together by a dynamic programme; see
    `rag_embeddings.split.semantic.SemanticSplitter`.

    Args:
        embeddings: What gives sentences their vectors: any LangChain embeddings, or an `Encoder`.
        chunk_size: Most tokens in a chunk.
        min_chunk_size: Tokens that a chunk should at least have, a soft limit; a quarter of ``chunk_size`` by default.
        target: Tokens that a chunk should have, for the dynamic programme; 55 % of ``chunk_size`` by default.
        weight: How much meaning counts against size and structure, for the dynamic programme.
        breakpoint_threshold_type: None, ``"percentile"``, ``"standard_deviation"``, ``"interquartile"`` or
            ``"gradient"``.
        breakpoint_threshold_amount: Percentage or factor; LangChain's defaults if None.
        buffer_size: Sentences on each side whose meaning is taken along, for the thresholds.
        tokenizer: Count tokens with a tiktoken encoding (by name), a Hugging Face tokenizer, or a function from text to
            its number of tokens. By default the embeddings' own tokenizer; embeddings over an API have none.
        language: ISO 639-1 code of the language, for sentence boundaries.

    Raises:
        ValueError: If the embeddings have no tokenizer and none is given, or a size or threshold is impossible.

    ```python
    splitter = SemanticTextSplitter(embeddings, chunk_size=200)
    like_langchain = SemanticTextSplitter(embeddings, breakpoint_threshold_type="percentile")
    ```
    """

    def __init__(
        self,
        embeddings: Embeddings | Encoder,
        *,
        chunk_size: int = DEFAULT_MAX_TOKENS,
        min_chunk_size: int | None = None,
        target: int | None = None,
        weight: float = 2.0,
        breakpoint_threshold_type: ThresholdType | None = None,
        breakpoint_threshold_amount: float | None = None,
        buffer_size: int = 1,
        tokenizer: Any = None,
        language: str = "en",
    ) -> None:
        make = partial(
            SemanticSplitter,
            wrap(embeddings),
            chunk_size,
            min_chunk_size,
            target=target,
            weight=weight,
            breakpoint_threshold_type=breakpoint_threshold_type,
            breakpoint_threshold_amount=breakpoint_threshold_amount,
            buffer_size=buffer_size,
        )
        super().__init__(make, embeddings, chunk_size, tokenizer, language)


class BollingerTextSplitter(_MeaningTextSplitter):
    """Splits where the similarity of neighbouring sentences drops below its lower Bollinger band.

    See `rag_embeddings.split.bollinger.BollingerSplitter` for the formula.

    Args:
        embeddings: As in `SemanticTextSplitter`.
        chunk_size: Most tokens in a chunk.
        min_chunk_size: Tokens that a chunk should at least have, a soft limit; a quarter of ``chunk_size`` by default.
        window: Similarities in the band.
        k: Standard deviations between their mean and the lower band.
        glue: Standard deviations up to the upper band, above which a boundary is kept whole if there is another; None
            for no upper band.
        group: Sentences on each side of a boundary.
        tokenizer: As in `SemanticTextSplitter`.
        language: ISO 639-1 code of the language, for sentence boundaries.

    Raises:
        ValueError: As in `SemanticTextSplitter`.
    """

    def __init__(
        self,
        embeddings: Embeddings | Encoder,
        *,
        chunk_size: int = DEFAULT_MAX_TOKENS,
        min_chunk_size: int | None = None,
        window: int = 12,
        k: float = 1.5,
        glue: float | None = None,
        group: int = 3,
        tokenizer: Any = None,
        language: str = "en",
    ) -> None:
        make = partial(
            BollingerSplitter, wrap(embeddings), chunk_size, min_chunk_size, window=window, k=k, glue=glue, group=group
        )
        super().__init__(make, embeddings, chunk_size, tokenizer, language)


class TopicTextSplitter(_MeaningTextSplitter):
    """Gathers the sentences of each topic, wherever they stand, into chunks of several slices.

    The slices of a chunk stand on lines of their own; ``metadata["spans"]`` says where they are (``"0-57,120-188"``),
    and ``start_index`` and ``end_index`` enclose them all. See `rag_embeddings.split.topics.TopicSplitter`.

    Args:
        embeddings: As in `SemanticTextSplitter`.
        chunk_size: Most tokens in a chunk.
        min_chunk_size: Tokens that a topic should at least have; a quarter of ``chunk_size`` by default.
        distance: Mean cosine distance up to which groups of sentences are one topic.
        blend: What each neighbour's vector counts for beside a sentence's own.
        reach: Sentences that are clustered together.
        cluster: Another clustering, from vectors to labels.
        tokenizer: As in `SemanticTextSplitter`.
        language: ISO 639-1 code of the language, for sentence boundaries.

    Raises:
        ValueError: As in `SemanticTextSplitter`.
    """

    def __init__(
        self,
        embeddings: Embeddings | Encoder,
        *,
        chunk_size: int = DEFAULT_MAX_TOKENS,
        min_chunk_size: int | None = None,
        distance: float = 0.6,
        blend: float = 0.5,
        reach: int = 512,
        cluster: Callable[[Any], Any] | None = None,
        tokenizer: Any = None,
        language: str = "en",
    ) -> None:
        make = partial(
            TopicSplitter,
            wrap(embeddings),
            chunk_size,
            min_chunk_size,
            distance=distance,
            blend=blend,
            reach=reach,
            cluster=cluster,
        )
        super().__init__(make, embeddings, chunk_size, tokenizer, language)


class RegexTextSplitter(SpanTextSplitter):
    """Splits by what lines look like: headings, lists, quotations, tables, code, sentences.

    See `rag_embeddings.split.regex.RegexSplitter`.

    Args:
        chunk_size: Most tokens in a chunk.
        chunk_overlap: Most tokens that a chunk repeats of the one before.
        rules: Your own, from a regular expression to what it costs to cut in front of a line that begins with it.
        embeddings: As in `RecursiveTextSplitter`.
        tokenizer: As in `RecursiveTextSplitter`.
        language: ISO 639-1 code of the language, for sentence boundaries.
        target: Tokens that a chunk should have; ``chunk_size`` by default.

    Raises:
        ValueError: As in `RecursiveTextSplitter`, or if a rule is impossible.
    """

    def __init__(
        self,
        chunk_size: int = DEFAULT_MAX_TOKENS,
        chunk_overlap: int = 0,
        *,
        rules: Mapping[str, float] | None = None,
        embeddings: Embeddings | Encoder | None = None,
        tokenizer: Any = None,
        language: str = "en",
        target: int | None = None,
    ) -> None:
        self._target = target
        self._rules = rules
        super().__init__(chunk_size, chunk_overlap, embeddings=embeddings, tokenizer=tokenizer, language=language)

    def _make_core(self, language: str) -> Splitter:
        return RegexSplitter(
            self._chunk_size,
            self._chunk_overlap,
            tokenizer=self._counter,
            language=language,
            target=self._target,
            rules=self._rules,
        )


class LLMTextSplitter(SpanTextSplitter):
    """Splits where a language model says that a new topic begins.

    The model answers with numbers of sentences and cannot change the text. ``metadata["boundaries"]`` of a chunk is
    ``"llm"``, or ``"recursive"`` where its answers could not be used. See `rag_embeddings.split.llm.LLMSplitter`.

    Args:
        llm: Any LangChain chat model or language model, a runnable made of one (``llm.with_retry()``), or a function
            from a prompt to an answer.
        chunk_size: Most tokens in a chunk.
        window_tokens: Most tokens of text in a prompt.
        embeddings: As in `RecursiveTextSplitter`.
        tokenizer: As in `RecursiveTextSplitter`.
        language: ISO 639-1 code of the language, for sentence boundaries.
        name: What the model is called in fingerprints; by default its class and what it calls its model. Name a chain.

    Raises:
        ValueError: As in `RecursiveTextSplitter`, if ``llm`` is none of these, or if ``window_tokens`` is impossible.
    """

    def __init__(
        self,
        llm: Runnable[Any, Any] | Callable[[str], str],
        *,
        chunk_size: int = DEFAULT_MAX_TOKENS,
        window_tokens: int = 2000,
        embeddings: Embeddings | Encoder | None = None,
        tokenizer: Any = None,
        language: str = "en",
        name: str | None = None,
    ) -> None:
        if not isinstance(llm, Runnable) and not callable(llm):
            raise ValueError(  # noqa: TRY004  # as of every argument that is impossible
                f"llm is a LangChain model or a function from a prompt to an answer, got {llm!r:.80}"
            )
        self._llm = llm
        self._name = name
        self._window_tokens = window_tokens
        super().__init__(chunk_size, 0, embeddings=embeddings, tokenizer=tokenizer, language=language)

    def _make_core(self, language: str) -> Splitter:
        complete: Any = self._llm
        name = self._name
        if isinstance(self._llm, Runnable):
            complete = partial(_completed, self._llm)
            name = name or _model_name(self._llm)
        return LLMSplitter(
            complete,
            self._chunk_size,
            window_tokens=self._window_tokens,
            tokenizer=self._counter,
            language=language,
            name=name,
        )


def _model_name(llm: Any) -> str:
    while hasattr(llm, "bound"):  # with_retry(), with_config() and bind() wrap the model
        llm = llm.bound
    return f"{type(llm).__name__} {getattr(llm, 'model_name', getattr(llm, 'model', ''))}"


def _completed(llm: Runnable[Any, Any], prompt: str) -> Any:
    answer = llm.invoke(prompt)
    return getattr(answer, "text", answer)  # of a message, or a text itself
