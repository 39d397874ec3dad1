"""Chunks of sentences that stand apart and belong together."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rag_embeddings.encode.base import Role
from rag_embeddings.errors import BudgetError, UnsupportedModelError, require
from rag_embeddings.split.atoms import Atoms
from rag_embeddings.split.base import DEFAULT_MAX_TOKENS, Cut
from rag_embeddings.split.fit import fit, trim
from rag_embeddings.split.meaning import UnitPacker, check_vectors
from rag_embeddings.split.pack import Pack, pack
from rag_embeddings.split.series import ROUNDING, unit_length
from rag_embeddings.split.tokens import spelling
from rag_embeddings.text import Chunk, Document, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.split.units import Units

    Labels = NDArray[np.integer]

_BREAK = 0.1  # what it costs to cut a topic between two sentences that stand apart; between neighbours five times that


class TopicSplitter(UnitPacker):
    """Gathers the sentences of each topic, wherever they stand, into chunks of several spans.

    Sentences are clustered by meaning, blended with their neighbours' (a sentence alone is a poor witness of its
    topic); topics below ``min_tokens`` dissolve into those of the sentences around them; each topic is then packed into
    chunks under the budget. Sentences keep their order in a chunk, and chunks are in the order of their first sentence.

    ``chunk.spans`` tells where each part stands; ``chunk.text`` has the parts on lines of their own. Sentences farther
    apart than ``reach`` are not brought together: clustering compares all with all, and long documents would take
    quadratic time.

    Args:
        encoder: What gives sentences their vectors: any `Encoder`; see `rag_embeddings.encode.wrap.wrap` for others.
        max_tokens: Most tokens of a chunk.
        min_tokens: Tokens that a topic should at least have. A quarter of ``max_tokens`` by default.
        distance: Mean cosine distance up to which groups of sentences are one topic, for scikit-learn's agglomerative
            clustering with average linkage; in (0, 2].
        blend: What each neighbour's vector counts for beside a sentence's own; 0 for sentences alone.
        reach: Sentences that are clustered together; longer documents are taken in stretches of this length.
        cluster: Another clustering, from vectors of length 1, shape (n, dim), to n labels, such as
            sentence-transformers' community detection. Replaces ``distance``.
        tokenizer: What counts tokens; by default the encoder's own. See `rag_embeddings.split.tokens.token_counter`.
        language: ISO 639-1 code, for sentence boundaries.

    Raises:
        BudgetError: If max_tokens < 1, min_tokens is not within 0..max_tokens // 2, distance is not within (0, 2],
            blend is negative or reach < 2.
    """

    kind: ClassVar[str] = "topics"

    def __init__(
        self,
        encoder: Encoder,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        min_tokens: int | None = None,
        *,
        distance: float = 0.6,
        blend: float = 0.5,
        reach: int = 512,
        cluster: Callable[[NDArray[np.float64]], Sequence[int] | Labels] | None = None,
        tokenizer: Any = None,
        language: str = "en",
    ) -> None:
        super().__init__(encoder, max_tokens, min_tokens, tokenizer, language)
        if not 0 < distance <= 2 or not 0 <= blend < np.inf or reach < 2:  # noqa: PLR2004
            raise BudgetError(
                "a topic splitter needs 0 < distance <= 2, blend >= 0 and reach >= 2, "
                f"got {distance}, {blend} and {reach}"
            )
        self.distance = distance
        self.blend = blend
        self.reach = reach
        self.cluster = cluster

    def split(self, document: Document) -> list[Chunk]:
        """Split a document; see `rag_embeddings.split.base.Splitter`.

        Raises:
            MissingExtraError: If scikit-learn is needed and not installed; the extra ``local`` brings it.
            UnsupportedModelError: If ``cluster`` does not give one label per vector.
            VectorError: As for `split_vectors`.
        """
        units = self.units(document)
        vectors = self.encoder.encode(units.texts, Role.DOCUMENT) if len(units.texts) > 1 else np.ones((1, 1))
        return self.split_vectors(document, units, vectors)

    def split_vectors(self, document: Document, units: Units, vectors: NDArray[np.floating]) -> list[Chunk]:
        """Split a document whose units have vectors already.

        Args:
            document: The document.
            units: Its `units`.
            vectors: Of ``units.texts``, shape (len(units.texts), dim), of any length but 0.

        Returns:
            The chunks that `split` gives if these are the encoder's vectors.

        Raises:
            VectorError: If there are not as many vectors as texts, or one is not finite.
            UnsupportedModelError: As for `split`.
        """
        if not units.texts:
            return []
        check_vectors(units, vectors)
        topics = self.topics(units.spread(vectors), units.tokens)
        chunks = [chunk for members in self._packed(units, topics) for chunk in self._made(document, units, members)]
        return sorted(chunks, key=lambda chunk: chunk.spans)

    def topics(self, vectors: NDArray[np.float64], tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tell which units belong together: a pure function of vectors, whatever they come from.

        Args:
            vectors: Vectors of length 1 of the units, shape (units, dim).
            tokens: Tokens of each unit, shape (units,).

        Returns:
            A topic for each unit, shape (units,).
        """
        blended = vectors.copy()
        blended[1:] += self.blend * vectors[:-1]
        blended[:-1] += self.blend * vectors[1:]
        blended = unit_length(np.where(np.linalg.norm(blended, axis=1, keepdims=True) < ROUNDING, vectors, blended))
        found = np.zeros(len(vectors), dtype=np.int64)
        stretches = -(-len(vectors) // self.reach)  # of equal length, so that none is a single sentence
        marks = np.linspace(0, len(vectors), stretches + 1).astype(np.int64).tolist()
        for start, end in pairwise(marks):
            labels = self._clustered(blended[start:end])
            found[start:end] = _without_small(labels, tokens[start:end], self.min_tokens) + start
        return found

    def settings(self) -> dict[str, Any]:
        """Return everything that changes the result; see `rag_embeddings.split.base.Splitter`. Loads the model."""
        how = self.distance if self.cluster is None else spelling(self.cluster)
        return {**super().settings(), "cluster": how, "blend": self.blend, "reach": self.reach}

    def _clustered(self, vectors: NDArray[np.float64]) -> NDArray[np.int64]:
        if len(vectors) == 1:
            return np.zeros(1, dtype=np.int64)
        if self.cluster is None:
            model = require("sklearn.cluster", "local").AgglomerativeClustering(
                n_clusters=None, distance_threshold=self.distance, metric="cosine", linkage="average"
            )
            labels = model.fit_predict(vectors)
        else:
            labels = np.asarray(self.cluster(vectors))
        if labels.shape != (len(vectors),):
            raise UnsupportedModelError(f"{len(vectors)} vectors need as many labels, got shape {labels.shape}")
        # By first appearance, so that the same topics have the same labels whatever the clustering calls them.
        _, firsts, inverse = np.unique(labels, return_index=True, return_inverse=True)
        topics: NDArray[np.int64] = firsts[inverse].astype(np.int64)
        return topics

    def _packed(self, units: Units, topics: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Pack the atoms of each topic, brought together, under the budget; return the atoms of each chunk."""
        sizes = np.diff(np.append(units.firsts, len(units.atoms)))
        labels = np.repeat(topics, sizes)
        order = np.argsort(labels, kind="stable")
        atoms = units.atoms
        apart = np.ones(len(order), dtype=np.bool_)
        apart[1:] = np.diff(order) != 1
        costs = np.where(apart, _BREAK, np.maximum(atoms.costs[order], 5 * _BREAK))
        places = np.arange(len(order) + 1, dtype=np.int64)
        begins = np.flatnonzero(np.diff(labels[order])) + 1
        packs = pack(
            Atoms(places, atoms.tokens[order], costs),
            self.max_tokens,
            cuts=[Cut(int(place), forced=True) for place in begins],
        )
        return [order[choice.own : choice.end] for choice in packs]

    def _made(self, document: Document, units: Units, members: NDArray[np.int64]) -> list[Chunk]:
        """Make the chunk of some atoms, or several if it is over budget when it is counted as it will be embedded."""
        fitting: list[Chunk] = []
        todo = [members]
        while todo:
            atoms = todo.pop()
            spans = _spans(document.text, units, atoms)
            if not spans:
                continue
            chunk = Chunk(document, spans)
            if self.counter.count([chunk.embedding_text])[0] <= self.max_tokens:
                fitting.append(chunk)
            elif len(atoms) > 1:
                todo.extend(np.array_split(atoms, 2))
            else:
                place = int(atoms[0])
                alone = [Pack(place, place, place + 1)]
                fitting.extend(fit(document, units.measure, units.atoms, alone, self.max_tokens))
        return fitting


def _without_small(topics: NDArray[np.int64], tokens: NDArray[np.int64], minimum: int) -> NDArray[np.int64]:
    """Give the units of topics below the minimum to the topic of the unit before, or behind for the first ones."""
    sizes = np.bincount(topics, weights=np.maximum(tokens, 1))
    large = sizes[topics] >= minimum
    if not large.any():
        return np.zeros(len(topics), dtype=np.int64)
    last = np.maximum.accumulate(np.where(large, np.arange(len(topics)), -1))
    joined: NDArray[np.int64] = topics[np.where(last < 0, int(np.argmax(large)), last)]
    return joined


def _spans(text: str, units: Units, atoms: NDArray[np.int64]) -> tuple[Span, ...]:
    """Return the stretches that atoms in ascending order cover, without outer white space."""
    breaks = np.flatnonzero(np.diff(atoms) != 1) + 1
    marks, graphemes = units.atoms.marks, units.measure.graphemes
    runs = np.split(atoms, breaks)
    found = (trim(text, int(marks[run[0]]), int(marks[run[-1] + 1]), graphemes) for run in runs)
    return tuple(span for span in found if len(span))
