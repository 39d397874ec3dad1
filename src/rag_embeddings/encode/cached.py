"""Encoding with a cache, so that no text is encoded twice."""

from __future__ import annotations

from hashlib import blake2b
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.encode.aspects import InnerAspects
from rag_embeddings.encode.base import Role, check_texts, validated
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.cache_file import FORMAT
from rag_embeddings.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rag_embeddings.encode.base import Encoder, TokenVectors, Vectors
    from rag_embeddings.encode.profile import Profile

_SLICE = 4096  # texts encoded between two writes: what a failure can cost


class CachedEncoder(InnerAspects):
    """An encoder that looks vectors up before it encodes, and encodes each distinct missing text once.

    Same profile, same tokenizer, same vectors as the encoder inside; only vectors that passed the check are stored.
    `encode_tokens` and `encode_tokens_many` go through uncached, where the encoder inside has them.

    Args:
        encoder: Any encoder. What it says of itself beyond its profile is part of every key; see
            `rag_embeddings.encode.base.aspect`.
        cache: Where vectors are kept; None is the user's own file, `VectorCache()`.

    Raises:
        UnsupportedModelError: If the encoder inside cannot say which model it runs.
    """

    def __init__(self, encoder: Encoder, cache: VectorCache | None = None) -> None:
        self.encoder = encoder
        self.cache = VectorCache() if cache is None else cache
        _ = self.variant  # refuse at once what cannot be kept apart
        if hasattr(encoder, "encode_tokens"):  # an attribute, so that `TokenEncoder` is recognised just then
            self.encode_tokens: Callable[[str, Role], TokenVectors] = encoder.encode_tokens
        if hasattr(encoder, "encode_tokens_many"):
            self.encode_tokens_many: Callable[..., Sequence[TokenVectors]] = encoder.encode_tokens_many

    def __repr__(self) -> str:
        return f"CachedEncoder({self.encoder!r}, {self.cache!r})"

    @property
    def profile(self) -> Profile:
        """Everything that changes a vector."""
        return self.encoder.profile

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the encoder inside."""
        return self.encoder.tokenizer

    def encode(
        self, texts: Sequence[str], role: Role, *, titles: Sequence[str] | None = None, **options: Any
    ) -> Vectors:
        """Encode texts; see `rag_embeddings.encode.base.Encoder`.

        Args:
            texts: The texts.
            role: Whether they are queries or documents.
            titles: Handed to the encoder inside; see `rag_embeddings.encode.transformer.TransformerEncoder.encode`.
            **options: The same: JSON-safe values that hold for all texts, such as ``task``.

        Returns:
            As the encoder inside gives them.
        """
        check_texts(texts)
        options = {name: value for name, value in options.items() if value is not None}
        profile = self.profile
        role = Role(role)
        keys = vector_keys(
            texts,
            role,
            profile,
            precision=self.precision,
            too_long=self.too_long,
            variant=canonical_json({"variant": self.variant, **options}) if options else self.variant,
            titles=titles,
        )
        vectors = self.cache.get_many(keys, profile.dimensions)
        missing = {key: index for index, key in enumerate(keys) if key not in vectors}
        wanted = list(missing)
        for start in range(0, len(wanted), _SLICE):
            some = wanted[start : start + _SLICE]
            new = [texts[missing[key]] for key in some]
            wishes = options if titles is None else options | {"titles": [titles[missing[key]] for key in some]}
            matrix = validated(self.encoder.encode(new, role, **wishes), new, profile.dimensions)
            self.cache.put_many(some, matrix)
            vectors |= dict(zip(some, matrix, strict=True))
        result = np.empty((len(texts), profile.dimensions), dtype=np.float32)
        for index, key in enumerate(keys):
            result[index] = vectors[key]
        return result


def vector_keys(
    texts: Iterable[str],
    role: Role,
    profile: Profile,
    *,
    precision: str = "",
    too_long: str = "",
    variant: str = "",
    prompt: str | None = None,
    titles: Sequence[str] | None = None,
) -> list[bytes]:
    """Return the key of each text: blake2b-256 over everything that changes its vector, each field with its length.

    Args:
        texts: The texts, any code points.
        role: Query or document.
        profile: The profile of the encoder. Its ``max_tokens`` counts too: it decides where a long text is cut.
        precision: The number format the encoder calculates with.
        too_long: What the encoder does to a text over its limit: one that refuses it must refuse it also when another
            has cut it and stored the vector.
        variant: Whatever else sets this encoder's vectors apart.
        prompt: The prompt actually used; None is that of the profile for the role.
        titles: A title for each text, where they are encoded with one.

    Returns:
        Keys of 32 bytes, in the order of ``texts``.
    """
    start = blake2b(digest_size=32)
    fields = (
        f"rag-embeddings vectors {FORMAT}",
        profile.space,
        str(profile.max_tokens),
        precision,
        too_long,
        variant,
        role.value,
        profile.prompt(role) if prompt is None else prompt,
    )
    for value in fields:
        start.update(_prefixed(value))
    keys = []
    for text, title in zip(texts, repeat(None) if titles is None else titles, strict=titles is not None):
        digest = start.copy()
        if title is not None:
            digest.update(_prefixed(title))
        digest.update(_prefixed(text))
        keys.append(digest.digest())
    return keys


def _prefixed(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(8, "little") + data
