"""Stable spellings of functions, for LlamaIndex's cache keys, and what is said where a spelling is not enough."""

from __future__ import annotations

import marshal
import pickle
from hashlib import blake2b
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def callable_name(function: Callable[..., object]) -> str:
    """Spell a callable so that different ones have different spellings.

    Args:
        function: Any callable.

    Returns:
        ``module.qualified_name`` for a function that can be imported by it. Anything else has a digest behind that: of
        its code and the values it closes over (a lambda, a function within a function), or of its pickled state (a
        bound method, a partial, an object). Their names alone would be alike.

    Raises:
        ValueError: If it has a state that cannot be pickled.
    """
    named = function if hasattr(function, "__qualname__") else type(function)
    name = f"{named.__module__}.{named.__qualname__}"
    if isinstance(function, FunctionType | BuiltinFunctionType) and "<" not in name:
        return name
    try:
        state = _state(function)
    except (pickle.PicklingError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{name} has a state that cannot be spelled ({error}), so a cache could not tell it from others; "
            "use a function defined at the top of a module"
        ) from error
    return f"{name}#{blake2b(state, digest_size=8).hexdigest()}"


def cannot_rebuild(thing: str, form: str, field: str) -> ValueError:
    """Return the error for a setting that was serialised as less than it takes to make it again.

    Args:
        thing: What it is, such as ``"tokenizer 'numpy.char'"``.
        form: What there is of it, such as ``"its name"``.
        field: The setting's name.
    """
    return ValueError(f"the {thing} cannot be rebuilt from {form}; pass it along: from_dict(data, {field}=...)")


def _state(function: Callable[..., object]) -> bytes:
    if not isinstance(function, FunctionType):
        return pickle.dumps(function)
    cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
    return marshal.dumps(function.__code__) + pickle.dumps((function.__defaults__, function.__kwdefaults__, cells))
