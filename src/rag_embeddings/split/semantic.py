"""Chunks whose sentences mean alike, under a hard maximum of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rag_embeddings.errors import BudgetError
from rag_embeddings.split.base import DEFAULT_MAX_TOKENS
from rag_embeddings.split.dynamic import segment
from rag_embeddings.split.meaning import MeaningPacker, Proposal
from rag_embeddings.split.pack import check_budget
from rag_embeddings.split.series import buffered_distances, neighbour_similarity
from rag_embeddings.split.sized import sized_starts
from rag_embeddings.split.thresholds import DEFAULT_AMOUNTS, ThresholdType, breakpoints, check_threshold

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rag_embeddings.encode.base import Encoder

_SHOWN_GROUP = 2  # units on each side in the similarities that `explain` shows


class SemanticSplitter(MeaningPacker):
    """Splits between sentences where the meaning shifts.

    By default all cuts of a document are chosen together, by a dynamic programme: chunks whose sentences are near their
    mean, of about the target size, that end where the text does; see `rag_embeddings.split.dynamic.segment`.

    With ``breakpoint_threshold_type``, boundaries are where neighbouring sentences are less alike than a threshold of
    the whole document, by the four rules of LangChain's SemanticChunker and under its names. Here, too, the soft
    minimum drops the shallowest boundaries, and what is over the maximum is cut where neighbours are least alike; and
    each sentence goes through the model once, not three times.

    Args:
        encoder: What gives sentences their vectors: any `Encoder`; see `rag_embeddings.encode.wrap.wrap` for others.
        max_tokens: Most tokens of a chunk.
        min_tokens: Tokens that a chunk should at least have: a soft limit. A quarter of ``max_tokens`` by default.
        target: Tokens that a chunk should have, for the dynamic programme; 55 % of ``max_tokens`` by default.
        weight: How much meaning counts against size and structure, for the dynamic programme; at least 0.
        breakpoint_threshold_type: None for the dynamic programme; ``"percentile"``, ``"standard_deviation"``,
            ``"interquartile"`` or ``"gradient"``.
        breakpoint_threshold_amount: Percentage or factor; by default 95, 3, 1.5 and 95, as in LangChain.
        buffer_size: Sentences on each side whose meaning is taken along, for the thresholds.
        tokenizer: What counts tokens; by default the encoder's own. See `rag_embeddings.split.tokens.token_counter`.
        language: ISO 639-1 code, for sentence boundaries.

    Raises:
        BudgetError: If max_tokens < 1, min_tokens is not within 0..max_tokens // 2, target not within 1..max_tokens,
            the weight or the buffer is negative, or there is no such threshold.
    """

    kind: ClassVar[str] = "semantic"

    def __init__(
        self,
        encoder: Encoder,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        min_tokens: int | None = None,
        *,
        target: int | None = None,
        weight: float = 2.0,
        breakpoint_threshold_type: ThresholdType | None = None,
        breakpoint_threshold_amount: float | None = None,
        buffer_size: int = 1,
        tokenizer: Any = None,
        language: str = "en",
    ) -> None:
        super().__init__(encoder, max_tokens, min_tokens, tokenizer, language)
        check_budget(max_tokens, target=target)
        if not 0 <= weight < np.inf or buffer_size < 0:
            raise BudgetError(f"weight and buffer_size must be at least 0, got {weight} and {buffer_size}")
        self.target = max(1, round(0.55 * max_tokens)) if target is None else target
        self.weight = weight
        self.buffer_size = buffer_size
        self.breakpoint_threshold_type = breakpoint_threshold_type
        self.breakpoint_threshold_amount = breakpoint_threshold_amount
        if breakpoint_threshold_type is not None:
            if breakpoint_threshold_amount is None:
                self.breakpoint_threshold_amount = DEFAULT_AMOUNTS.get(breakpoint_threshold_type, 0.0)
            check_threshold(breakpoint_threshold_type, self.breakpoint_threshold_amount or 0.0)
        elif breakpoint_threshold_amount is not None:
            raise BudgetError("breakpoint_threshold_amount needs a breakpoint_threshold_type")

    def propose(self, vectors: NDArray[np.float64], tokens: NDArray[np.int64], costs: NDArray[np.float64]) -> Proposal:
        """Choose where chunks begin; see `MeaningPacker.propose`."""
        if self.breakpoint_threshold_type is not None:
            return self._by_threshold(self.breakpoint_threshold_type, vectors, tokens)
        similarity = neighbour_similarity(vectors, tokens, _SHOWN_GROUP)
        none = np.full(len(similarity), np.nan)
        starts = segment(
            vectors,
            tokens,
            costs,
            maximum=self.max_tokens,
            target=self.target,
            minimum=self.min_tokens,
            weight=self.weight,
        )
        return Proposal(starts, similarity, none, none, none)

    def _by_threshold(self, kind: ThresholdType, vectors: NDArray[np.float64], tokens: NDArray[np.int64]) -> Proposal:
        distances = buffered_distances(vectors, tokens, self.buffer_size)
        found, values, threshold = breakpoints(distances, kind, self.breakpoint_threshold_amount or 0.0)
        starts = sized_starts(
            [index + 1 for index in found],
            -values,
            tokens,
            minimum=self.min_tokens,
            maximum=self.max_tokens,
        )
        none = np.full(len(distances), np.nan)
        lower = none if kind == "gradient" else np.full(len(distances), 1 - threshold)
        return Proposal(starts, 1 - distances, none, lower, none)

    def settings(self) -> dict[str, Any]:
        """Return everything that changes the result; see `rag_embeddings.split.base.Splitter`. Loads the model."""
        if self.breakpoint_threshold_type is None:
            return {**super().settings(), "target": self.target, "weight": self.weight}
        return {
            **super().settings(),
            "breakpoint_threshold_type": self.breakpoint_threshold_type,
            "breakpoint_threshold_amount": self.breakpoint_threshold_amount,
            "buffer_size": self.buffer_size,
        }
