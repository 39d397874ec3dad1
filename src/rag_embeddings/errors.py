"""Every error this package raises on purpose, and the message for a missing extra.

::

    RagEmbeddingsError
    ├── DocumentError          a document, span or its metadata cannot be used as given
    ├── BudgetError            an impossible token budget (max_tokens < 1, overlap >= max_tokens, ...)
    ├── ModelNotFoundError     a model is neither bundled, nor a local folder, nor reachable on the hub
    ├── UnsupportedModelError  a model cannot do what was asked (no token vectors, lying offsets, ...)
    ├── TextTooLongError       a text exceeds the model's limit and may not be split
    ├── PatternError           a regular expression that RE2 cannot run
    ├── QuestionError          evaluation questions or results that cannot be used as given
    ├── VectorError            an encoder returned vectors that must not be stored (NaN, wrong shape, zero)
    ├── CodecError             a codec that is not fitted, does not fit the vectors, or whose saved state is damaged
    ├── RemoteEncoderError     a service that encodes failed, after the attempts that were worth making
    ├── StoreError             a store could not do what was asked
    │   ├── SpaceMismatchError     vectors of another embedding space
    │   ├── StoreLockedError       another process is writing to this directory
    │   ├── IndexNotFoundError     there is no index in this directory
    │   ├── ArtifactError          a file that is no artifact, or a damaged one
    │   ├── ChromaDamagedError     Chroma cannot read its own files
    │   └── CacheUnavailableError  the vector cache cannot be read or written at the moment
    └── MissingExtraError      an optional dependency is not installed (also an ImportError)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


class RagEmbeddingsError(Exception):
    """Base of every error this package raises on purpose."""


class DocumentError(RagEmbeddingsError, ValueError):
    """A document, span or its metadata cannot be used as given."""


class BudgetError(RagEmbeddingsError, ValueError):
    """A token budget that no chunk could satisfy."""


class ModelNotFoundError(RagEmbeddingsError, OSError):
    """A model is neither bundled, nor a local folder, nor reachable on the hub."""


class UnsupportedModelError(RagEmbeddingsError, ValueError):
    """A model cannot do what was asked of it."""


class TextTooLongError(RagEmbeddingsError, ValueError):
    """A text exceeds the model's limit and the caller forbade splitting it."""


class PatternError(RagEmbeddingsError, ValueError):
    """A regular expression to filter by that is wrong, or that cannot be run in linear time."""


class QuestionError(RagEmbeddingsError, ValueError):
    """Evaluation questions, or a saved evaluation, that cannot be used as given."""


class VectorError(RagEmbeddingsError, ValueError):
    """An encoder returned vectors that must not be stored."""


class CodecError(RagEmbeddingsError, ValueError):
    """A codec that is not fitted, does not fit the vectors, or whose saved state is damaged."""


class RemoteEncoderError(RagEmbeddingsError):
    """A service that encodes failed, after the attempts that were worth making."""


class StoreError(RagEmbeddingsError):
    """A store could not do what was asked."""


class SpaceMismatchError(StoreError, ValueError):
    """Vectors of one embedding space were offered to a store of another."""


class StoreLockedError(StoreError):
    """Another process is writing to this index directory."""


class IndexNotFoundError(StoreError, FileNotFoundError):
    """There is no index in this directory."""


class ArtifactError(StoreError, ValueError):
    """A file that is no artifact, a damaged one, or one of a newer version."""


class ChromaDamagedError(StoreError):
    """Chroma cannot read its own files, as after a kill while it wrote them."""


class CacheUnavailableError(StoreError):
    """The cache cannot be read or written at the moment: the disk is full, another process holds it for too long."""


class MissingExtraError(RagEmbeddingsError, ImportError):
    """An optional dependency is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it.

    Args:
        module: Name of the module to import, for example ``"chromadb"``.
        extra: The extra of this package that installs it, for example ``"chroma"``.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: If the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        message = f"'{module}' is needed here and not installed. Run: pip install 'rag-embeddings[{extra}]'"
        raise MissingExtraError(message) from error
