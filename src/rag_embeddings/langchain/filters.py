"""LangChain's ``filter`` as the core's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rag_embeddings.store.where import All, Where

Filter = Where | Mapping[str, Any] | None


def where_of(chosen: Filter) -> Where | None:
    """Return the condition that a filter stands for: a `Where`, or a dictionary of metadata that all has to equal.

    Raises:
        TypeError: If it is neither, or a value is one that metadata cannot be compared with.
    """
    if chosen is None or isinstance(chosen, Where):
        return chosen
    if not isinstance(chosen, Mapping) or any(str(key).startswith("$") for key in chosen):
        raise TypeError(f"filter is a Where or a dictionary of values that metadata must equal, got {chosen!r:.80}")
    return All(tuple(Where.equals(key, value) for key, value in chosen.items()))
