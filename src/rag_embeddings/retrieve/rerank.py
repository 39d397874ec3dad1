"""A second look at what was found, by a model that reads question and passage together."""

from __future__ import annotations

import math
from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol

from rag_embeddings.errors import UnsupportedModelError, VectorError, require
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.split.tokens import token_counter
from rag_embeddings.text import Document

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from sentence_transformers import CrossEncoder

    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.split.tokens import TokenCounter

_SHARE = 0.5  # of the model's window that a question may take before passages get too little


class Reranker(Protocol):
    """Any callable that scores texts for a query: a cross-encoder, a service, a rule of the caller's own."""

    def __call__(self, query: str, texts: Sequence[str], /) -> Sequence[float]:
        """Return one finite number per text; larger is better."""
        ...


class CrossEncoderReranker:
    """Scores passages with a cross-encoder of sentence-transformers. Thread-safe; needs the extra ``local``.

    A passage that is too long for the model is scored by the best of its parts (MaxP: Dai and Callan, SIGIR 2019);
    nothing is cut off in silence.

    Args:
        model: Name or folder of a model with one score, such as ``"cross-encoder/ms-marco-MiniLM-L6-v2"``; or a
            ``CrossEncoder`` that is loaded already. Loaded at the first use.
        batch_size: Pairs given to the model at a time.
        max_tokens: Longest pair; None: as the model says.
        **options: For sentence-transformers' ``CrossEncoder``: ``device``, ``revision``, ``local_files_only``,
            ``trust_remote_code``, ...
    """

    def __init__(
        self,
        model: str | PathLike[str] | CrossEncoder,
        *,
        batch_size: int = 32,
        max_tokens: int | None = None,
        **options: Any,
    ) -> None:
        self._given = model
        self._options = options
        self._max_tokens = max_tokens
        self._batch_size = batch_size
        self._loaded: Any = None
        self._lock = RLock()

    def __call__(self, query: str, texts: Sequence[str]) -> list[float]:
        """Score texts for a query.

        Args:
            query: The question.
            texts: Passages of any length.

        Returns:
            One score per text.

        Raises:
            UnsupportedModelError: If the model gives several scores, or the query leaves no room for a passage.
            MissingExtraError: If sentence-transformers is not installed.
        """
        with self._lock:  # one batch at a time: PyTorch uses all cores for it
            model = self._model()
            splitter = self._splitter(model, query)
            pairs, owners = [], []
            for number, text in enumerate(texts):
                for piece in _pieces(text, splitter):
                    pairs.append((query, piece))
                    owners.append(number)
            found = model.predict(pairs, batch_size=self._batch_size, show_progress_bar=False) if pairs else []
        scores = [-math.inf] * len(texts)
        for number, score in zip(owners, found, strict=True):
            scores[number] = max(scores[number], float(score))
        return scores

    def _model(self) -> Any:
        if self._loaded is None:
            library = require("sentence_transformers", "local")
            given: Any = self._given
            model = given if hasattr(given, "predict") else library.CrossEncoder(str(given), **self._options)
            if model.num_labels != 1:
                raise UnsupportedModelError(
                    f"this cross-encoder gives {model.num_labels} scores for a pair; give one with a single score"
                )
            self._loaded = model
        return self._loaded

    def _splitter(self, model: Any, query: str) -> RecursiveSplitter | None:
        """Return what cuts passages to the room that the model has beside the query; None where it has no limit."""
        limit = self._max_tokens or model.max_seq_length
        if limit is None or limit > 2**20:  # what tokenizers say that know of no limit
            return None
        counter: TokenCounter = token_counter(model.tokenizer)
        asked = counter.count([query])[0]
        special = model.tokenizer.num_special_tokens_to_add(pair=True)
        if asked > _SHARE * limit:
            raise UnsupportedModelError(
                f"the query has {asked} tokens, and the cross-encoder takes {limit} for query and passage together"
            )
        return RecursiveSplitter(limit - asked - special, tokenizer=counter)


def reranked(query: str, matches: Sequence[Match], reranker: Reranker, known: dict[str, float]) -> list[Match]:
    """Sort matches by a reranker's scores, equal ones in the order given.

    Args:
        query: The question.
        matches: What was found. A passage is read with its context.
        reranker: Scores the passages.
        known: Scores by chunk id, asked for once and added to.

    Returns:
        The matches with the reranker's scores, best first.

    Raises:
        VectorError: If the reranker returned something other than one finite number per passage.
    """
    unknown = [match for match in matches if match.chunk.id not in known]
    if unknown:
        scores = [float(score) for score in reranker(query, [match.chunk.embedding_text for match in unknown])]
        if len(scores) != len(unknown) or not all(map(math.isfinite, scores)):
            raise VectorError(
                f"the reranker was given {len(unknown)} passages and returned {len(scores)} scores, "
                f"{sum(map(math.isfinite, scores))} of them finite"
            )
        known.update((match.chunk.id, score) for match, score in zip(unknown, scores, strict=True))
    scored = [replace(match, score=known[match.chunk.id]) for match in matches]
    return sorted(scored, key=lambda match: -match.score)


def _pieces(text: str, splitter: RecursiveSplitter | None) -> list[str]:
    if splitter is None:
        return [text]
    return [chunk.text for chunk in splitter.split(Document(text))] or [text]
