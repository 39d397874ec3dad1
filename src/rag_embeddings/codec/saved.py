"""Codecs to files and back: safetensors, which cannot run code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_embeddings.codec.binary import BinaryCodec
from rag_embeddings.codec.int8 import Int8Codec
from rag_embeddings.codec.product import ProductCodec
from rag_embeddings.codec.truncate import TruncateCodec
from rag_embeddings.errors import CodecError, require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_embeddings.codec.base import VectorCodec

_FORMAT = "1"
_KINDS: dict[str, type[VectorCodec]] = {
    kind.kind: kind for kind in (TruncateCodec, Int8Codec, BinaryCodec, ProductCodec)
}
_LARGEST = 64 * 2**20  # of a file; the state of a codec is a few hundred kilobytes


def codec_of(kind: str, settings: Mapping[str, Any]) -> VectorCodec:
    """Return a codec, not fitted.

    Args:
        kind: `VectorCodec.kind`.
        settings: `VectorCodec.settings`.

    Raises:
        CodecError: If there is no such kind, or it has other settings.
    """
    if kind not in _KINDS:
        raise CodecError(f"there is no codec of the kind {kind!r}; this version knows {', '.join(_KINDS)}")
    try:
        return _KINDS[kind](**settings)
    except TypeError as error:
        raise CodecError(f"a codec of the kind {kind!r} cannot have the settings {settings!r}: {error}") from error


def dump_codec(codec: VectorCodec) -> bytes:
    """Return a fitted codec as the content of a safetensors file.

    Raises:
        CodecError: If it is not fitted.
    """
    metadata = {
        "format": _FORMAT,
        "kind": codec.kind,
        "settings": json.dumps(codec.settings()),
        "fingerprint": codec.fingerprint,
    }
    content: bytes = require("safetensors.numpy", "quantized").save(dict(codec.state()), metadata)
    return content


def save_codec(codec: VectorCodec, path: str | Path) -> None:
    """Save a fitted codec as a safetensors file.

    Raises:
        CodecError: If it is not fitted.
    """
    Path(path).write_bytes(dump_codec(codec))


def load_codec(path: str | Path) -> VectorCodec:
    """Load a codec that `save_codec` saved.

    Raises:
        FileNotFoundError: If there is no such file.
        CodecError: If the file is something else, was written by a newer version, or is damaged.
    """
    file = Path(path)
    size = file.stat().st_size
    if size > _LARGEST:
        raise CodecError(f"{str(path)!r} is no codec: it has {size:,} bytes")
    safetensors = require("safetensors", "quantized")
    content = file.read_bytes()
    try:
        tensors = require("safetensors.numpy", "quantized").load(content)
        metadata = _metadata(content)
        if metadata["format"] != _FORMAT:
            raise CodecError(f"it has format {metadata['format']!r}, not {_FORMAT!r}")
        codec = codec_of(metadata["kind"], json.loads(metadata["settings"])).with_state(tensors)
        expected = metadata["fingerprint"]
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CodecError(f"{str(path)!r} is no codec that this version reads: {error}") from error
    if codec.fingerprint != expected:
        raise CodecError(f"{str(path)!r} is damaged: its state is not what was saved; fit and save the codec again")
    return codec


def _metadata(content: bytes) -> dict[str, Any]:
    """Read the text fields of a safetensors file that was parsed without complaint: 8 bytes of length, then JSON."""
    length = int.from_bytes(content[:8], "little")
    fields = json.loads(content[8 : 8 + length]).get("__metadata__")
    if not isinstance(fields, dict):
        raise CodecError("the file has no metadata")
    return fields
