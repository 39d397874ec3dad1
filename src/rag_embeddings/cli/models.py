"""Which models a command uses. Tests and programs hand in others through click's ``obj``."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_embeddings.errors import MissingExtraError, ModelNotFoundError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    import click

    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.encode.profile import Profile


def encoder_by_name(name: str) -> Encoder:
    """Return the encoder of a model, with its own prompts."""
    from rag_embeddings.encode.transformer import TransformerEncoder

    return TransformerEncoder(name)


def encoder_of(profile: Profile) -> Encoder:
    """Return an encoder that encodes as the profile of an index says.

    Raises:
        UnsupportedModelError: If the index was not made with a local model.
    """
    from rag_embeddings.encode.transformer import TransformerEncoder

    if not profile.weights or profile.query_model:
        raise UnsupportedModelError(
            f"this index was made with {profile.model!r}, which is not one local model that the command line could "
            "load; use the index from Python, with the same embedding object"
        )
    return TransformerEncoder.from_profile(profile)


def chat_model(name: str) -> Any:
    """Return LangChain's chat model of a name such as ``"openai:gpt-4o-mini"``.

    Raises:
        MissingExtraError: If langchain, or its package for the provider, is not installed.
        ModelNotFoundError: If LangChain cannot tell the provider.
    """
    try:
        models = importlib.import_module("langchain.chat_models")
    except ModuleNotFoundError as error:
        raise MissingExtraError("--llm needs LangChain. Run: pip install langchain") from error
    try:
        return models.init_chat_model(name)
    except ImportError as error:
        raise MissingExtraError(f"--llm {name}: {error}") from error
    except ValueError as error:
        raise ModelNotFoundError(f"--llm {name}: {error}") from error


@dataclass(frozen=True)
class Models:
    """Where a command gets its models from.

    Attributes:
        by_name: Name of a model to its encoder.
        of_profile: Profile of an index to the encoder it was made with.
        chat: Name of a language model to a LangChain chat model.
    """

    by_name: Callable[[str], Encoder] = encoder_by_name
    of_profile: Callable[[Profile], Encoder] = encoder_of
    chat: Callable[[str], Any] = chat_model


def models(context: click.Context) -> Models:
    """Return the models a command was given, or the real ones."""
    return context.obj if isinstance(context.obj, Models) else Models()
