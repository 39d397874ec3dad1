"""The settings of a search as LlamaIndex users spell them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQueryMode

from rag_embeddings.llama_index.filters import where_of

if TYPE_CHECKING:
    from rag_embeddings.retrieve.search import SearchType

_MODES: dict[VectorStoreQueryMode, SearchType] = {
    VectorStoreQueryMode.DEFAULT: "similarity",
    VectorStoreQueryMode.HYBRID: "hybrid",
    VectorStoreQueryMode.MMR: "mmr",
}
_WORDS = {
    "similarity_top_k": "k",
    "vector_store_query_mode": "search_type",
    "filters": "where",
    "mmr_threshold": "balance",
}


def search_settings(**settings: Any) -> dict[str, Any]:
    """Turn LlamaIndex's words for the settings of a search into those of the core's `Retrieval`.

    Args:
        **settings: Any settings; those that are called the same stay as they are.

    Raises:
        ValueError: If a query mode is unknown, an operator of a filter too, or ``similarity_top_k`` below 1.
    """
    found = {_WORDS.get(name, name): value for name, value in settings.items()}
    if found.get("k", 1) < 1:
        raise ValueError(f"similarity_top_k must be at least 1, got {found['k']}")
    if "search_type" in found:
        found["search_type"] = _search_type(found["search_type"])
    if isinstance(found.get("where"), MetadataFilters):
        found["where"] = where_of(found["where"])
    return found


def _search_type(mode: VectorStoreQueryMode | str) -> SearchType:
    try:
        return _MODES[VectorStoreQueryMode(mode)]
    except (KeyError, ValueError):
        known = ", ".join(repr(known.value) for known in _MODES)
        given = getattr(mode, "value", mode)
        raise ValueError(f"vector_store_query_mode {given!r} is not known here; known are {known}") from None
