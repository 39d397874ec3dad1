"""LlamaIndex's metadata filters as the core's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from rag_embeddings.store.where import All, AnyOf, Not, Where

if TYPE_CHECKING:
    from collections.abc import Callable

_OPERATORS: dict[FilterOperator, Callable[[str, Any], Where]] = {
    FilterOperator.EQ: Where.equals,
    FilterOperator.NE: lambda key, value: ~Where.equals(key, value),
    FilterOperator.GT: lambda key, value: Where.between(key, value, None) & ~Where.equals(key, value),
    FilterOperator.GTE: lambda key, value: Where.between(key, value, None),
    FilterOperator.LT: lambda key, value: Where.between(key, None, value) & ~Where.equals(key, value),
    FilterOperator.LTE: lambda key, value: Where.between(key, None, value),
    FilterOperator.IN: Where.among,
    FilterOperator.NIN: lambda key, values: ~Where.among(key, values),
    FilterOperator.CONTAINS: Where.has,
    FilterOperator.ANY: lambda key, values: AnyOf(tuple(Where.has(key, value) for value in values)),
    FilterOperator.ALL: lambda key, values: All(tuple(Where.has(key, value) for value in values)),
    FilterOperator.IS_EMPTY: lambda key, _: ~Where.exists(key) | Where.equals(key, ""),
}


def where_of(filters: MetadataFilters) -> Where:
    """Return the condition that LlamaIndex's filters stand for, nested ones included.

    Raises:
        ValueError: On an operator that stores of this package do not have.
        TypeError: On a value that metadata cannot be compared with.
    """
    parts = tuple(where_of(item) if isinstance(item, MetadataFilters) else _one(item) for item in filters.filters)
    if not parts or filters.condition in {None, FilterCondition.AND}:
        return All(parts)
    return AnyOf(parts) if filters.condition == FilterCondition.OR else Not(AnyOf(parts))


def _one(item: MetadataFilter) -> Where:
    if item.operator not in _OPERATORS:
        known = ", ".join(operator.value for operator in _OPERATORS)
        raise ValueError(f"the filter operator {item.operator.value!r} is not known here; known are {known}")
    return _OPERATORS[item.operator](item.key, item.value)
