"""Pickling and copying of LlamaIndex components without harm to the original."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import ConfigDict, model_validator
from llama_index.core.schema import BaseComponent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

# These belong to the process they were made in: a copy elsewhere gets fresh ones.
_PROCESS_BOUND = ("callback_manager", "rate_limiter")


class PortableComponent(BaseComponent):
    """A component whose pickle holds its fields and nothing else, and which survives being pickled.

    `BaseComponent.__getstate__` deletes what it cannot pickle from the *live* object, and its ``__setstate__`` replaces
    what is missing by defaults in silence. Here pickling reads a copy, carries no private state (no weights, no
    locks), and a field that cannot be pickled is an error.
    """

    model_config = ConfigDict(extra="forbid")  # a misspelt option would be ignored in silence

    @model_validator(mode="before")
    @classmethod
    def _without_class_name(cls, data: Any) -> Any:
        """Accept what ``model_dump()`` gives: it adds the class name, which is no field."""
        if isinstance(data, dict) and data.get("class_name") == cls.class_name():
            return {name: value for name, value in data.items() if name != "class_name"}
        return data

    def __getstate__(self) -> dict[str, Any]:
        return {"__dict__": {name: value for name, value in self.__dict__.items() if name not in _PROCESS_BOUND}}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(**state["__dict__"])  # type: ignore[misc]  # pydantic's way to set every private attribute

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        fields = {
            name: value if name in _PROCESS_BOUND else deepcopy(value, memo) for name, value in self.__dict__.items()
        }
        copy = type(self)(**fields)
        # What was made from the settings is immutable and safe to share: a copy does not load a model again.
        object.__setattr__(copy, "__pydantic_private__", dict(self.__pydantic_private__ or {}))
        return copy
