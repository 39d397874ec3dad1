"""Filters as Chroma's ``where``, as far as Chroma means the same by them.

Where it does not, `translated` gives a wider filter and says so; what comes back is then checked with `Where.matches`.
Chroma's own ways, found by trying: a record without the key fulfils ``$ne`` and ``$not_contains``, which suits us. A
number is compared with integers after its fraction is cut off, so ``{"k": 1.5}`` finds 1 as well, which is made good
here. Lists are compared type by type: ``$contains`` 1 does not find 1.0. There is no way to ask whether a key exists,
and integers beyond 2**53 meet floats rounded.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rag_embeddings.store.where import All, Among, AnyOf, Between, Exists, Has, Not, TextContains, Where
from rag_embeddings.text import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag_embeddings.store.where import Scalar

_TEXT = "#document"  # Chroma's key for the text of a record
_EXACT = 2**53  # whole numbers up to here are the same as integers and as floats


class Translation(NamedTuple):
    """What Chroma can be asked.

    Attributes:
        where: Chroma's filter, which every record that fulfils the condition passes; None passes all, False none.
        exact: Whether only these pass.
    """

    where: dict[str, Any] | Literal[False] | None
    exact: bool


_ALL = Translation(None, exact=True)
_NONE = Translation(False, exact=True)  # noqa: FBT003 - a value, not a flag
_UNKNOWN = Translation(None, exact=False)


def translated(where: Where | None, *, negated: bool = False) -> Translation:  # noqa: C901, PLR0911 - one for each kind
    """Return the narrowest filter of Chroma's that lets through whatever fulfils a condition.

    Args:
        where: The condition.
        negated: Translate its opposite.

    Raises:
        TypeError: If ``where`` is no filter.
    """
    match where:
        case None:
            return _ALL
        case Not(part):
            return translated(part, negated=not negated)
        case All(parts) | AnyOf(parts):
            found = [translated(part, negated=negated) for part in parts]
            return _any(found) if isinstance(where, AnyOf) != negated else _all(found)
        case Among(key, values):
            found = [_equal(key, value, negated=negated) for value in values]
            return _all(found) if negated else _any(found)
        case Between(key, least, most):
            return _UNKNOWN if negated else _between(key, least, most)
        case Has(key, value):
            return _has(key, value, negated=negated)
        case Exists():
            return _UNKNOWN
        case TextContains(part):
            if "\0" in part:  # which ends a text for some of Chroma's comparisons
                return _UNKNOWN
            if not part:
                return _constant(not negated)
            return _leaf(_TEXT, "$not_contains" if negated else "$contains", part, negated=negated)
        case _:
            raise TypeError(f"a filter is made by Where.equals(...) and the like, got {where!r}")


def _all(parts: Sequence[Translation]) -> Translation:
    exact = all(part.exact for part in parts)
    if any(part.where is False for part in parts):
        return _NONE
    return Translation(_joined("$and", [part.where for part in parts if part.where is not None]), exact)


def _any(parts: Sequence[Translation]) -> Translation:
    some = [part for part in parts if part.where is not False]
    exact = all(part.exact for part in some)
    if not some:
        return _NONE
    if any(part.where is None for part in some):
        # One part that all records fulfil settles the matter.
        return Translation(None, exact or any(part == _ALL for part in some))
    return Translation(_joined("$or", [part.where for part in some]), exact)


def _joined(word: str, parts: Sequence[Any]) -> Any:
    if len(parts) > 1:
        return {word: list(parts)}
    return parts[0] if parts else None


def _constant(value: bool) -> Translation:  # noqa: FBT001
    return _ALL if value else _NONE


def _leaf(key: str, operator: str, value: Scalar, *, negated: bool) -> Translation:
    """A comparison; with what no record can hold it is never true."""
    if any(isinstance(item, str) and without_surrogates(item) != item for item in (key, value)):
        return _constant(negated)
    if not key or (key != _TEXT and key.startswith(("$", "#", "chroma:"))):  # no record has such a key
        return _constant(negated)
    return Translation({key: {operator: value}}, exact=True)


def _equal(key: str, value: Scalar, *, negated: bool) -> Translation:
    operator, opposite = ("$ne", "$eq") if negated else ("$eq", "$ne")
    if isinstance(value, bool | str):
        return _leaf(key, operator, value, negated=negated)
    if not math.isfinite(value):
        return _constant(negated)
    if abs(value) > _EXACT:
        return _UNKNOWN
    found = _leaf(key, operator, value, negated=negated)
    if value == int(value):
        return found
    whole = _leaf(key, opposite, int(value), negated=negated)
    return _any([found, whole]) if negated else _all([found, whole])


def _has(key: str, value: Scalar, *, negated: bool) -> Translation:
    operator = "$not_contains" if negated else "$contains"
    values: list[Scalar] = [value]
    if not isinstance(value, bool | str):
        if not math.isfinite(value):
            return _constant(negated)
        if abs(value) > _EXACT:
            return _UNKNOWN
        values = [int(value), float(value)] if value == int(value) else [value]
    found = [_leaf(key, operator, item, negated=negated) for item in values]
    return _all(found) if negated else _any(found)


def _between(key: str, least: float | None, most: float | None) -> Translation:
    ends = [end for end in (least, most) if end is not None]
    if any(math.isnan(end) for end in ends) or least == math.inf or most == -math.inf:
        return _NONE
    if any(abs(end) > _EXACT and math.isfinite(end) for end in ends):
        return _UNKNOWN
    parts = []
    for operator, end in (("$gte", least), ("$lte", most)):
        if end is None or math.isinf(end):
            continue
        parts.append(_leaf(key, operator, end, negated=False))
        if int(end) < end if operator == "$gte" else int(end) > end:  # the whole number beyond the end
            parts.append(_leaf(key, "$ne", int(end), negated=False))
    # A number is what lies on one side of 0 or on the other.
    is_number = _any([_leaf(key, operator, 0, negated=False) for operator in ("$gte", "$lte")])
    return _all(parts or [is_number])
