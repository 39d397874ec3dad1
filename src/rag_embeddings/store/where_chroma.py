"""Filters as Chroma's ``where``, as far as Chroma means the same by them.

Where it does not, `translated` gives a wider filter and says so; what comes back is then checked with `Where.matches`.
Chroma's own ways, found by trying: a record without the key fulfils ``$ne`` and ``$not_contains``, which suits us. A
number is compared with integers after its fraction is cut off, so ``{"k": 1.5}`` finds 1 as well, which is made good
here. Lists are compared type by type: ``$contains`` 1 does not find 1.0. There is no way to ask whether a key exists,
and integers beyond 2**53 meet floats rounded. One float in eight is rounded in its last digit when it is written, and
so is what it is compared with; `as_kept` compares in the same way. A text is looked through up to its first NUL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rag_embeddings.store.where import All, Among, AnyOf, Between, Exists, Has, Not, TextContains, Where
from rag_embeddings.text import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rag_embeddings.store.where import Scalar

_TEXT = "#document"  # Chroma's key for the text of a record
_LAST_DIGIT = 1e-15
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
            operator = "$not_contains" if negated else "$contains"
            return _constant(negated) if _foreign(part) else Translation({_TEXT: {operator: part}}, exact=True)
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
    if _foreign(key) or _foreign(value) or not key or key.startswith(("$", "#", "chroma:")):
        return _constant(negated)
    return Translation({key: {operator: value}}, exact=True)


def _foreign(value: Scalar) -> bool:
    return isinstance(value, str) and without_surrogates(value) != value


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


def as_kept(where: Where) -> Where:  # noqa: PLR0911 - one for each kind
    """Return a condition for what Chroma has kept: floats may differ in their last digit."""
    match where:
        case Not(part):
            return Not(as_kept(part))
        case All(parts):
            return All(tuple(map(as_kept, parts)))
        case AnyOf(parts):
            return AnyOf(tuple(map(as_kept, parts)))
        case Among(key, values):
            floats = [value for value in values if isinstance(value, float)]
            return AnyOf((where, *(_Near(key, value, listed=False) for value in floats)))
        case Has(key, value) if isinstance(value, float):
            return AnyOf((where, _Near(key, value, listed=True)))
        case Between(key, least, most):
            return Between(key, _further(least, -_LAST_DIGIT), _further(most, _LAST_DIGIT))
        case _:
            return where


@dataclass(frozen=True)
class _Near(Where):
    """Metadata under ``key`` is almost a number, or has one in its list if ``listed``."""

    key: str
    value: float
    listed: bool

    def matches(self, text: str, metadata: Mapping[str, Any]) -> bool:  # noqa: ARG002
        found = metadata.get(self.key)
        if self.listed != isinstance(found, list):
            return False
        items = found if isinstance(found, list) else [found]
        return any(isinstance(item, float) and math.isclose(item, self.value, rel_tol=_LAST_DIGIT) for item in items)


def _further(end: float | None, share: float) -> float | None:
    return end + abs(end) * share if isinstance(end, float) and math.isfinite(end) else end
