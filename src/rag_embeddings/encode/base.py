"""The two protocols of this room, and the one place where vectors are checked."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from rag_embeddings.errors import VectorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from rag_embeddings.encode.profile import Profile
    from rag_embeddings.encode.token_pass import TokenText
    from rag_embeddings.encode.token_vectors import SummedTokenVectors
    from rag_embeddings.encode.windows import Windows
    from rag_embeddings.text import Span

    Vectors = NDArray[np.float32]


class Role(StrEnum):
    """What a text is for. Instruction-aware models encode the two differently."""

    QUERY = "query"
    DOCUMENT = "document"


@runtime_checkable
class Encoder(Protocol):
    """Text in, vectors out.

    Attributes:
        profile: Everything that changes a vector.
        tokenizer: What `rag_embeddings.split.tokens.token_counter` accepts to count tokens as this encoder does,
            or None where the encoder has no tokenizer of its own (most APIs).
    """

    @property
    def profile(self) -> Profile: ...  # noqa: D102

    @property
    def tokenizer(self) -> Any: ...  # noqa: D102

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        """Encode texts.

        Args:
            texts: Any number of texts, in any order; duplicates are fine.
            role: Whether they are queries or documents.

        Returns:
            float32 of shape (len(texts), dim), finite, in the order of ``texts``. No texts give (0, dim).
        """
        ...


class TokenVectors(Protocol):
    """The token vectors of one text, reduced to what pooling needs."""

    @property
    def spans(self) -> NDArray[np.int64]:
        """Character ranges of the tokens, shape (tokens, 2)."""
        ...

    def pool(self, spans: Sequence[Span]) -> Vectors:
        """Pool the tokens of each span into one vector.

        Args:
            spans: Ranges of characters of the text that was encoded.

        Returns:
            float32 of shape (len(spans), dim), after every module that follows pooling in the model.
        """
        ...


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """An encoder that can also give the vector of every token of a text."""

    def encode_tokens(self, text: str, role: Role) -> TokenVectors:
        """Encode one text, of any length, into token vectors that know the whole text."""
        ...


@runtime_checkable
class TokenBatchEncoder(TokenEncoder, Protocol):
    """A token encoder that takes several texts at a time, and keeps no more of them than what will be pooled."""

    def encode_tokens_many(
        self, texts: Sequence[TokenText], role: Role, *, windows: Windows, force: bool
    ) -> Sequence[SummedTokenVectors]:
        """Encode texts of any length into token vectors; see `TransformerEncoder.encode_tokens_many`."""
        ...


def aspect(name: str, *encoders: Encoder) -> str:
    """Return what encoders say of themselves beyond their profile, once if they agree.

    Args:
        name: ``"precision"`` (the number format), ``"too_long"`` (what becomes of a text over the limit) or
            ``"variant"`` (whatever else sets vectors apart). All three are optional, and part of a cache's keys.
        *encoders: One or more.

    Returns:
        The values joined by commas; empty where none says anything.
    """
    said = dict.fromkeys(str(getattr(encoder, name, "")) for encoder in encoders)
    return ", ".join(said) if any(said) else ""


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what is no sequence of strings: a single string, or a gap in a table among the texts.

    Raises:
        TypeError: Names the first that is none.
    """
    if isinstance(texts, str):
        raise TypeError("texts is a sequence of strings; put a single text in a list")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {index} of {len(texts)} is no string but {text!r:.60}; leave it out")


def validated(vectors: ArrayLike, texts: Sequence[str], dimensions: int | None) -> Vectors:
    """Check what an encoder returned before anything is built on it.

    Args:
        vectors: What came back; anything numpy turns into a matrix.
        texts: The texts that were sent, for the message.
        dimensions: The expected width, or None when it is not known yet.

    Returns:
        The same vectors as float32 of shape (len(texts), dim).

    Raises:
        VectorError: On a wrong count or width, on NaN or infinity, on a vector of zeros. Names the first bad text.
    """
    try:
        matrix = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise VectorError(f"the encoder returned something that is not a matrix of numbers: {error}") from error
    if len(texts) == 0:
        return np.zeros((0, dimensions or 0), dtype=np.float32)
    if matrix.ndim != 2 or len(matrix) != len(texts):  # noqa: PLR2004
        raise VectorError(f"{len(texts)} texts were sent and an array of shape {matrix.shape} came back")
    if dimensions is not None and matrix.shape[1] != dimensions:
        raise VectorError(f"vectors of {dimensions} dimensions were expected and {matrix.shape[1]} came back")
    good = np.isfinite(matrix).all(axis=1) & matrix.any(axis=1)
    if not good.all():
        index = int(np.argmin(good))
        values = "zeros only" if np.isfinite(matrix[index]).all() else "NaN or infinity"
        raise VectorError(
            f"the vector of text {index} of {len(texts)} has {values}; the text begins {texts[index][:60]!r}"
        )
    return matrix
