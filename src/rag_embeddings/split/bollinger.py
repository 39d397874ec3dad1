"""Cuts where the similarity of neighbours falls out of its own recent range: Bollinger bands, as traders draw them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rag_embeddings.errors import BudgetError
from rag_embeddings.split.base import DEFAULT_MAX_TOKENS
from rag_embeddings.split.meaning import MeaningPacker, Proposal
from rag_embeddings.split.series import ROUNDING, neighbour_similarity, trailing_bands
from rag_embeddings.split.sized import sized_starts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rag_embeddings.encode.base import Encoder

_LEAST = 3  # values from which a mean and a deviation are worth something


class BollingerSplitter(MeaningPacker):
    """Splits where the similarity of neighbouring sentences drops below its lower Bollinger band.

    The idea is named in Suhas Pai, "Designing Large Language Model Applications" (O'Reilly, 2025), which gives no
    formula that we could find; what follows is our reading. Let s be the cosine of the mean of the ``group`` sentences
    before a boundary and the mean of the ``group`` sentences behind it. With the mean and the population standard
    deviation of the ``window`` similarities *before* s, there is a breakpoint if ``s < mean - k * deviation``. With s
    itself inside the window, as in trading, a drop would widen its own band, and at k = 2 and a window of 5 no drop
    could ever cross it. Unlike a threshold of the whole document, the band follows the text: it is low where sentences
    differ anyway.

    Near the beginning the window is what there is; a boundary with fewer than three similarities before it (fewer than
    ``window``, if that is less) has no band and no breakpoint. Where all similarities are equal, none is a breakpoint.
    Breakpoints that would leave a chunk below ``min_tokens`` are dropped, the shallowest first; what is over
    ``max_tokens`` is cut at the deepest valley in reach.

    Args:
        encoder: What gives sentences their vectors: any `Encoder`; see `rag_embeddings.encode.wrap.wrap` for others.
        max_tokens: Most tokens of a chunk.
        min_tokens: Tokens that a chunk should at least have: a soft limit. A quarter of ``max_tokens`` by default.
        window: Similarities in the band. Traders take 20; 20 sentences are a page, so the default is shorter.
        k: Standard deviations between the mean and the lower band, at least 0.
        glue: Standard deviations between the mean and an upper band, above which a boundary is not cut for want of room
            either, unless there is no other in reach. None for no upper band.
        group: Sentences on each side of a boundary.
        tokenizer: What counts tokens; by default the encoder's own. See `rag_embeddings.split.tokens.token_counter`.
        language: ISO 639-1 code, for sentence boundaries.

    Raises:
        BudgetError: If max_tokens < 1, min_tokens is not within 0..max_tokens // 2, window or group < 1, k < 0 or
            glue < 0.
    """

    kind: ClassVar[str] = "bollinger"

    def __init__(
        self,
        encoder: Encoder,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        min_tokens: int | None = None,
        *,
        window: int = 12,
        k: float = 1.5,
        glue: float | None = None,
        group: int = 3,
        tokenizer: Any = None,
        language: str = "en",
    ) -> None:
        super().__init__(encoder, max_tokens, min_tokens, tokenizer, language)
        if window < 1 or group < 1:
            raise BudgetError(f"window and group must be at least 1, got {window} and {group}")
        if not 0 <= k < np.inf or not (glue is None or 0 <= glue < np.inf):
            raise BudgetError(f"k and glue must be at least 0, got {k} and {glue}")
        self.window = window
        self.k = k
        self.glue = glue
        self.group = group

    def propose(self, vectors: NDArray[np.float64], tokens: NDArray[np.int64], costs: NDArray[np.float64]) -> Proposal:  # noqa: ARG002  # only meaning counts here
        """Choose where chunks begin; see `MeaningPacker.propose`."""
        similarity = neighbour_similarity(vectors, tokens, self.group)
        middle, deviation = trailing_bands(similarity, self.window, min(_LEAST, self.window))
        lower = middle - self.k * deviation
        upper = np.full(len(similarity), np.nan) if self.glue is None else middle + self.glue * deviation
        # Comparisons with NaN are false: no band, no breakpoint.
        starts = sized_starts(
            (np.flatnonzero(similarity < lower - ROUNDING) + 1).tolist(),
            similarity,
            tokens,
            minimum=self.min_tokens,
            maximum=self.max_tokens,
            glued=similarity > upper + ROUNDING,
        )
        return Proposal(starts, similarity, middle, lower, upper)

    def settings(self) -> dict[str, Any]:
        """Return everything that changes the result; see `rag_embeddings.split.base.Splitter`. Loads the model."""
        own = {"window": self.window, "k": self.k, "glue": self.glue, "group": self.group}
        return {**super().settings(), **own}
