"""Typed filters over metadata and text.

A filter is a value, never a dictionary with operators in it: what a user typed can end up as a value to compare with,
and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Scalar = str | int | float | bool


class Where:
    """A condition on a record. Conditions are made by the class methods and joined by ``&``, ``|`` and ``~``.

    A record without the key does not fulfil a condition on it; its negation it does. Values of different types are
    never equal, except that an integer may equal a float.

    Example:
        ``Where.equals("language", "en") & Where.between("year", 2020, None) & ~Where.text_contains("draft")``
    """

    @staticmethod
    def equals(key: str, value: Scalar) -> Where:
        """Metadata under ``key`` is this value."""
        return Among(key, (_scalar(value),))

    @staticmethod
    def among(key: str, values: Iterable[Scalar]) -> Where:
        """Metadata under ``key`` is one of these values."""
        return Among(key, tuple(_scalar(value) for value in values))

    @staticmethod
    def between(key: str, least: float | None, most: float | None) -> Where:
        """Metadata under ``key`` is a number from ``least`` to ``most``, both included; None leaves an end open."""
        for end in (least, most):
            if end is not None and (isinstance(end, bool) or not isinstance(end, int | float)):
                raise TypeError(f"the ends of a range are numbers or None, got {end!r}")
        return Between(key, least, most)

    @staticmethod
    def exists(key: str) -> Where:
        """There is metadata under ``key``."""
        return Exists(key)

    @staticmethod
    def has(key: str, value: Scalar) -> Where:
        """Metadata under ``key`` is a list with this value in it."""
        return Has(key, _scalar(value))

    @staticmethod
    def text_contains(part: str) -> Where:
        """The text has this part, letter for letter."""
        return TextContains(part)

    def matches(self, text: str, metadata: Mapping[str, Any]) -> bool:
        """Whether a record with this text and metadata fulfils the condition."""
        raise NotImplementedError

    def __and__(self, other: Where) -> Where:
        return All((self, other))

    def __or__(self, other: Where) -> Where:
        return AnyOf((self, other))

    def __invert__(self) -> Where:
        return Not(self)


@dataclass(frozen=True)
class Among(Where):
    """Metadata under ``key`` is one of ``values``."""

    key: str
    values: tuple[Scalar, ...]

    def matches(self, text: str, metadata: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """See `Where.matches`."""
        return self.key in metadata and any(same(metadata[self.key], value) for value in self.values)


@dataclass(frozen=True)
class Between(Where):
    """Metadata under ``key`` is a number between two."""

    key: str
    least: float | None
    most: float | None

    def matches(self, text: str, metadata: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """See `Where.matches`."""
        found = metadata.get(self.key)
        if isinstance(found, bool) or not isinstance(found, int | float):
            return False
        return (self.least is None or found >= self.least) and (self.most is None or found <= self.most)


@dataclass(frozen=True)
class Exists(Where):
    """There is metadata under ``key``."""

    key: str

    def matches(self, text: str, metadata: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """See `Where.matches`."""
        return self.key in metadata


@dataclass(frozen=True)
class Has(Where):
    """Metadata under ``key`` is a list with ``value`` in it."""

    key: str
    value: Scalar

    def matches(self, text: str, metadata: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """See `Where.matches`."""
        found = metadata.get(self.key)
        return isinstance(found, list | tuple) and any(same(item, self.value) for item in found)


@dataclass(frozen=True)
class TextContains(Where):
    """The text has ``part`` in it."""

    part: str

    def matches(self, text: str, metadata: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """See `Where.matches`."""
        return self.part in text


@dataclass(frozen=True)
class All(Where):
    """Every one of ``parts`` holds; none at all hold."""

    parts: tuple[Where, ...]

    def matches(self, text: str, metadata: Mapping[str, Any]) -> bool:
        """See `Where.matches`."""
        return all(part.matches(text, metadata) for part in self.parts)


@dataclass(frozen=True)
class AnyOf(Where):
    """At least one of ``parts`` holds."""

    parts: tuple[Where, ...]

    def matches(self, text: str, metadata: Mapping[str, Any]) -> bool:
        """See `Where.matches`."""
        return any(part.matches(text, metadata) for part in self.parts)


@dataclass(frozen=True)
class Not(Where):
    """``part`` does not hold."""

    part: Where

    def matches(self, text: str, metadata: Mapping[str, Any]) -> bool:
        """See `Where.matches`."""
        return not self.part.matches(text, metadata)


def checked_filter(where: Where | None) -> Where | None:
    """Return a filter, or say that it is none.

    Raises:
        TypeError: If it is something else than a `Where` or None.
    """
    if where is not None and not isinstance(where, Where):
        raise TypeError(f"a filter is made by Where.equals(...) and the like, got {where!r}")
    return where


def reads_text(where: Where) -> bool:
    """Whether a condition asks for the text of a record; one of the caller's own making may."""
    match where:
        case All(parts) | AnyOf(parts):
            return any(map(reads_text, parts))
        case Not(part):
            return reads_text(part)
        case _:
            return not isinstance(where, Among | Between | Exists | Has)


def same(found: Any, value: Scalar) -> bool:
    """Whether two values are equal and of one type, integers and floats being one."""
    if isinstance(found, bool) or isinstance(value, bool):
        return found is value
    if isinstance(value, str):
        return isinstance(found, str) and found == value
    return isinstance(found, int | float) and found == value


def _scalar(value: Scalar) -> Scalar:
    if not isinstance(value, str | int | float | bool):
        raise TypeError(f"metadata is compared with texts, numbers and booleans, got {value!r}")
    return value
