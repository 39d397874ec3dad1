"""Filters as SQL over the columns ``text`` and ``metadata``. Keys and values are bound, never pasted.

Metadata is JSON, in which SQLite ends a text at its first NUL. So `dump_metadata` spells a NUL in another way.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rag_embeddings.store.where import All, Among, AnyOf, Between, Exists, Has, Not, TextContains, Where
from rag_embeddings.text import canonical_json, without_surrogates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rag_embeddings.store.where import Scalar

Clause = tuple[str, list[object]]
_INT64 = 2**63
_ESCAPE, _NUL = "\ufffe", "\ufffe0"  # a code point that is no character, and stands for itself when doubled
_SPELLED = "\\ufffe"  # in JSON


def clause(where: Where) -> Clause:  # noqa: PLR0911 - one for each kind of filter
    """Return an SQL condition and the values to bind.

    Raises:
        TypeError: If ``where`` is no filter.
    """
    match where:
        case Among(key, values):
            return _of_key(key, *_one_of(values))
        case Between(key, least, most):
            ends = [(sign, end) for sign, end in ((">=", least), ("<=", most)) if end is not None]
            sql = " AND ".join(["type IN ('integer', 'real')", *(f"value {sign} ?" for sign, _ in ends)])
            return _of_key(key, sql, [_number(end) for _, end in ends])
        case Exists(key):
            return _of_key(key, "1", [])
        case Has(key, value):
            sql, bound = _one_of((value,))
            inner = f"EXISTS (SELECT 1 FROM json_each(item.value) WHERE {sql})"  # noqa: S608 - values are bound
            return _exists(f"key = ? AND type = 'array' AND {inner}", [_asked(key), *bound])
        case TextContains(part) if without_surrogates(part) != part:
            return "0", []
        case TextContains(part):
            return "instr(CAST(text AS BLOB), CAST(? AS BLOB)) > 0", [part]
        case All(parts):
            return _joined(parts, " AND ", "1")
        case AnyOf(parts):
            return _joined(parts, " OR ", "0")
        case Not(part):
            sql, bound = clause(part)
            return f"NOT ({sql})", bound
        case _:
            raise TypeError(f"a filter is made by Where.equals(...) and the like, got {where!r}")


def dump_metadata(metadata: Mapping[str, Any]) -> str:
    """Return metadata as the JSON that filters are for."""
    return canonical_json({_escaped(key): _each(_escaped, value) for key, value in metadata.items()})


def load_metadata(text: str) -> dict[str, Any]:
    """Return the metadata that `dump_metadata` wrote."""
    if _ESCAPE not in text and _SPELLED not in text:  # as in nearly all
        return dict(json.loads(text))
    return {_unescaped(key): _each(_unescaped, value) for key, value in json.loads(text).items()}


def _each(spell: Callable[[str], str], value: Any) -> Any:
    if isinstance(value, list):
        return [_each(spell, item) for item in value]
    return spell(value) if isinstance(value, str) else value


def _escaped(text: str) -> str:
    return text.replace(_ESCAPE, _ESCAPE * 2).replace("\0", _NUL)


def _asked(text: str) -> str:
    """Spell a text as metadata has it; one that UTF-8 cannot spell as what no metadata has."""
    return _escaped(text) if without_surrogates(text) == text else f"{_ESCAPE}1"


def _unescaped(text: str) -> str:
    parts = text.split(_ESCAPE * 2)
    return _ESCAPE.join(part.replace(_NUL, "\0") for part in parts)


def _exists(sql: str, bound: list[object]) -> Clause:
    return f"EXISTS (SELECT 1 FROM json_each(metadata) AS item WHERE {sql})", bound  # noqa: S608 - values are bound


def _of_key(key: str, sql: str, bound: list[object]) -> Clause:
    return _exists(f"key = ? AND ({sql})", [_asked(key), *bound])


def _one_of(values: Sequence[Scalar]) -> Clause:
    conditions: list[str] = []
    bound: list[object] = []
    for value in values:
        if isinstance(value, bool):
            conditions.append(f"type = '{'true' if value else 'false'}'")
        elif isinstance(value, str):
            conditions.append("(type = 'text' AND value = ?)")
            bound.append(_asked(value))
        else:
            conditions.append("(type IN ('integer', 'real') AND value = ?)")
            bound.append(_number(value))
    return f"({' OR '.join(conditions) or '0'})", bound


def _number(value: float) -> float:
    """Integers beyond SQLite's 64 bits are compared as floats; no record holds one."""
    return float(value) if isinstance(value, int) and not -_INT64 <= value < _INT64 else value


def _joined(parts: Sequence[Where], word: str, empty: str) -> Clause:
    clauses = [clause(part) for part in parts]
    sql = word.join(f"({sql})" for sql, _ in clauses)
    return sql or empty, [value for _, bound in clauses for value in bound]
