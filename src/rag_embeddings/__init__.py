"""Better retrieval for LangChain and LlamaIndex, as classes that drop into existing chains and query engines.

Importing the package loads neither torch nor a framework: each public name is imported when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from rag_embeddings._version import __version__

_HOME = {
    "BatchedEncoder": "encode.retry",
    "Block": "text",
    "BudgetError": "errors",
    "CachedEncoder": "encode.cache",
    "Chunk": "text",
    "Document": "text",
    "RemoteEncoderError": "errors",
    "Role": "encode.base",
    "Span": "text",
    "VectorCache": "encode.cache",
}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
