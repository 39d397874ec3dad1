"""The laws of encoders as a function: call it on your own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from rag_embeddings.encode.base import Encoder, Role
from rag_embeddings.encode.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_embeddings.encode.base import Vectors

TEXTS = (
    "The river rose slowly in the spring.",
    "a",
    "Copper melts at 1085 degrees;\ntin at 232.\n\n",
    "  two spaces, in front and behind  ",
    "河水在春天慢慢上涨。",
    "Der Müller öffnete beide Tore, bevor das Dorf erwachte.",
    "emoji 😀 👨‍👩‍👧‍👦 and a lone surrogate \ud800 here",
    "The river rose slowly in the spring. " * 12,
)
_THREADS = 16


def check_encoder(encoder: Encoder, texts: Sequence[str] | None = None, *, tolerance: float = 1e-5) -> None:
    """Check an encoder against everything that the rest of the package relies on.

    Args:
        encoder: The encoder.
        texts: Texts that it must be able to encode, at least two that differ; a varied handful by default.
        tolerance: Largest difference between two vectors of the same text, as a share of the largest value (or of 1).

    Raises:
        AssertionError: If a law is broken. Says which.
    """
    texts = list(TEXTS if texts is None else texts)
    _law(isinstance(encoder, Encoder), "it has the members of an Encoder")
    profile = encoder.profile
    _law(Profile.from_dict(profile.to_dict()) == profile, "its profile survives to_dict and from_dict")
    found = {role: _check_role(encoder, texts, role, tolerance) for role in Role}
    if profile.query_prompt != profile.document_prompt:
        differs = not np.allclose(found[Role.QUERY], found[Role.DOCUMENT], rtol=0, atol=tolerance)
        _law(differs, "queries and documents differ where their prompts do")


def _check_role(encoder: Encoder, texts: list[str], role: Role, tolerance: float) -> Vectors:
    profile = encoder.profile
    vectors = encoder.encode(texts, role)
    limit = tolerance * max(1.0, float(np.abs(vectors).max()))

    def same(found: Vectors, expected: Vectors, law: str) -> None:
        _law(found.shape == expected.shape, f"{role}: {law} (shape {found.shape}, expected {expected.shape})")
        gap = float(np.abs(found - expected).max(initial=0.0))
        _law(gap <= limit, f"{role}: {law} (largest difference {gap:.2g}, allowed {limit:.2g})")

    _law(vectors.dtype == np.float32, f"{role}: vectors are float32, not {vectors.dtype}")
    _law(vectors.shape == (len(texts), profile.dimensions), f"{role}: a row per text, profile.dimensions wide")
    _law(bool(np.isfinite(vectors).all()), f"{role}: every value is finite")
    _law(bool(vectors.any(axis=1).all()), f"{role}: no vector is zeros only")
    if profile.normalize:
        lengths = np.linalg.norm(vectors, axis=1)
        _law(bool(np.allclose(lengths, 1, atol=1e-5)), f"{role}: vectors have length 1 where the profile says so")
    empty = encoder.encode([], role)
    _law(empty.shape == (0, profile.dimensions), f"{role}: no texts give (0, dimensions), not {empty.shape}")
    _law(empty.dtype == np.float32, f"{role}: no texts give float32")

    same(encoder.encode(tuple(texts), role), vectors, "the same again gives the same")
    same(encoder.encode(texts[::-1], role)[::-1], vectors, "the order of the texts does not matter")
    singles = np.concatenate([encoder.encode([text], role) for text in texts])
    same(singles, vectors, "the company of a text does not matter")
    same(encoder.encode(texts + texts, role), np.concatenate((vectors, vectors)), "duplicates are fine")
    with ThreadPoolExecutor(_THREADS) as pool:
        turns = [np.roll(np.arange(len(texts)), turn) for turn in range(_THREADS)]
        results = pool.map(lambda turn: encoder.encode([texts[index] for index in turn], role), turns)
        for turn, result in zip(turns, results, strict=True):
            same(result, vectors[turn], "threads do not disturb each other")
    return vectors


def _law(holds: bool, law: str) -> None:  # noqa: FBT001
    if not holds:
        raise AssertionError(law)
