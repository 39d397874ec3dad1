"""Whether an index is late where the caller does not say: as it was when it was last written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_embeddings.encode.late import LatePass
from rag_embeddings.encode.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_embeddings.encode.base import Encoder


def index_late(encoder: Encoder, settings: Mapping[str, Any], *, late: bool | None = None) -> LatePass | None:
    """Make the late pass of an index, so that every door makes its vectors alike.

    Args:
        encoder: The encoder of the index.
        settings: `IndexDirectory.settings`; empty for a new index.
        late: Whether vectors are late; None for what the index was written with.

    Returns:
        The pass with the settings the index was written with, where it was late; None if vectors are not to be late.

    Raises:
        UnsupportedModelError: If the encoder gives no token vectors.
    """
    stored = settings.get("late")
    if late is False or (late is None and stored is None):
        return None
    if stored is None:
        return LatePass(encoder)
    windows = Windows(stored["size"], stored["overlap"], stored["paper_compat"])
    return LatePass(encoder, windows=windows, mix=stored["mix"], force=stored["force"])
