"""Any LangChain or LlamaIndex embedding as an Encoder. Known by what it can do: neither framework is imported."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from inspect import getattr_static
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.encode.base import Role, check_texts, validated
from rag_embeddings.encode.cached import CachedEncoder
from rag_embeddings.encode.catalog import known
from rag_embeddings.encode.profile import Profile
from rag_embeddings.encode.prompts import Prompts
from rag_embeddings.encode.retry import Batches, in_batches
from rag_embeddings.errors import BudgetError, UnsupportedModelError
from rag_embeddings.text import canonical_json, without_surrogates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rag_embeddings.encode.base import Encoder, Vectors
    from rag_embeddings.encode.cache import VectorCache
    from rag_embeddings.encode.prompts import Framing

_PROBE = "dimensions"
_ABSENT = object()
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_SECRET = re.compile("key|secret|token$|password|credential|header", re.IGNORECASE)
# Fields of known classes that change how requests are made, not what comes back.
_WITHOUT_EFFECT = frozenset(
    {
        "batch_size",
        "callback_manager",
        "chunk_size",
        "embed_batch_size",
        "max_retries",
        "num_workers",
        "rate_limiter",
        "request_timeout",
        "retry_max_seconds",
        "retry_min_seconds",
        "reuse_client",
        "show_progress",
        "show_progress_bar",
        "timeout",
    }
)


def wrap(
    embeddings: Any,
    *,
    cache: VectorCache | None = None,
    model: str | None = None,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    catalog_name: str | None = None,
    task: str | None = None,
    batch_inputs: int = 2048,
    batch_tokens: int = 200_000,
    retries: int | None = None,
) -> Encoder:
    """Make an Encoder of whatever a user of either framework has.

    Args:
        embeddings: An Encoder, given back as it is; an object whose ``encoder`` is one, such as this package's own
            framework classes, which gives that; a LangChain ``Embeddings``; a LlamaIndex ``BaseEmbedding``. The other
            arguments but ``cache`` are for those of the frameworks, and for an Encoder must be left out.
        cache: Where vectors are looked up before they are made, and kept; None keeps none.
        model: Name of the model; None takes what the embedding says of itself.
        query_prompt: Put in front of every query, to the byte. Prompts are for embeddings that add none themselves:
            servers of open models, such as Ollama, text-embeddings-inference or vLLM.
        document_prompt: Put in front of every document, to the byte.
        catalog_name: The published model that the embedding runs, if the catalog's prompts are to be used for it.
        task: What texts are embedded for, where the catalog's template has a place for it.
        batch_inputs: Most documents in one call.
        batch_tokens: Most tokens in one call, estimated from the length of the texts.
        retries: How often a call that failed for a reason that may pass is repeated; see
            `rag_embeddings.encode.retry.retrying`. None is 5, or 0 where the embedding has ``max_retries`` of its own.

    Returns:
        The Encoder.

    Raises:
        TypeError: If it is none of these.
        BudgetError: If a limit is less than 1, or ``retries`` less than 0.
        UnsupportedModelError: If there is a cache, and neither the embedding nor ``model`` names the model: vectors of
            different models could not be told apart. If the catalog has no ``catalog_name``, or no place for ``task``.
            If an Encoder is given together with what only the others take.
    """
    encoder = _encoder_of(embeddings)
    if encoder is not None:
        given = {
            "model": model,
            "query_prompt": query_prompt,
            "document_prompt": document_prompt,
            "catalog_name": catalog_name,
            "task": task,
        }
        if wrong := [name for name, value in given.items() if value is not None]:
            raise UnsupportedModelError(f"{embeddings!r:.80} decides on {', '.join(wrong)} itself; set it there")
        return _cached(encoder, cache)
    if _can(embeddings, "embed_documents", "embed_query"):
        methods = embeddings.embed_documents, embeddings.embed_query
    elif _can(embeddings, "get_text_embedding_batch", "get_query_embedding"):
        methods = embeddings.get_text_embedding_batch, embeddings.get_query_embedding
    else:
        raise TypeError(
            "needed is a rag_embeddings Encoder, an object whose .encoder is one, a LangChain Embeddings "
            "(embed_documents, embed_query) or a LlamaIndex BaseEmbedding (get_text_embedding_batch, "
            f"get_query_embedding); got {embeddings!r:.80} of type {type(embeddings).__name__}"
        )
    attempts = 1 + (retries if retries is not None else 0 if _retries_itself(embeddings) else 5)
    request = getattr(embeddings, "embed_batch_size", None)
    if attempts > 1 and isinstance(request, int) and request > 0:
        batch_inputs = min(batch_inputs, request)  # LlamaIndex cuts batches to it: repeat one request, not all of them
    prompts = Prompts(
        given={Role.QUERY: query_prompt, Role.DOCUMENT: document_prompt},
        entry=None if catalog_name is None else known(catalog_name),
        task=task,
    )
    batches = Batches(batch_inputs, batch_tokens)
    return _cached(
        WrappedEncoder(embeddings, *methods, model=model, prompts=prompts, batches=batches, attempts=attempts), cache
    )


class WrappedEncoder:
    """Encoder over two functions of somebody else's embedding.

    Prompts are that embedding's own affair, unless some are given here. How many dimensions it has is learnt from the
    first vectors, or from one short text when it is asked for earlier. Documents go in batches, queries one by one, as
    both frameworks send them.

    Args:
        embeddings: The object.
        documents: Texts to vectors.
        query: One text to one vector.
        model: Name of the model; None is ``model`` or ``model_name`` of the object, else its class.
        prompts: What decides on prompts; None is none.
        batches: How many documents go into one call.
        attempts: Most calls for a batch or query; see `rag_embeddings.encode.retry.retrying`.

    Raises:
        BudgetError: If ``attempts`` is less than 1.
        UnsupportedModelError: If the prompts have no place for a task.
    """

    def __init__(
        self,
        embeddings: Any,
        documents: Callable[[list[str]], Sequence[Sequence[float]]],
        query: Callable[[str], Sequence[float]],
        *,
        model: str | None = None,
        prompts: Prompts | None = None,
        batches: Batches | None = None,
        attempts: int = 1,
    ) -> None:
        if attempts < 1:
            raise BudgetError(f"retries must be at least 0, got {attempts - 1}")
        self.embeddings = embeddings
        self._documents = documents
        self._query = query
        self._model = model
        self._prompts = prompts or Prompts()
        self._framings = {role: self._prompts.framing(role) for role in Role}
        self._batches = batches or Batches()
        self._retries: dict[str, Any] = {"attempts": attempts}
        self._lock = threading.Lock()
        self._profile: Profile | None = None

    @property
    def profile(self) -> Profile:
        """What is known of the model. May encode one short text."""
        if self._profile is None:
            with self._lock:
                if self._profile is None:
                    self._profile = self._described(
                        self._sent([_PROBE], Role.DOCUMENT, self._framings[Role.DOCUMENT], None)
                    )
        return self._profile

    @property
    def tokenizer(self) -> None:
        """None: what counts tokens as the model does is not known."""

    @property
    def variant(self) -> str:
        """Every setting of the embedding that may change its vectors; part of every cache key.

        Raises:
            UnsupportedModelError: If neither the embedding nor the caller names the model.
        """
        if self._model is None and _model_name(self.embeddings) is None:
            raise UnsupportedModelError(
                f"{type(self.embeddings).__name__} does not name its model, so that a cache could not tell its vectors "
                "from those of another; give wrap() a model=..."
            )
        return _settings(self.embeddings)

    def encode(
        self, texts: Sequence[str], role: Role, *, task: str | None = None, prompt: str | None = None
    ) -> Vectors:
        """Encode texts; see `rag_embeddings.encode.base.Encoder`.

        Args:
            texts: Any number of texts.
            role: Whether they are queries or documents.
            task: What these texts are for, in place of that of all calls.
            prompt: Put in front of these texts, to the byte, in place of any other prompt.

        Returns:
            float32 of shape (len(texts), dimensions), in the order of ``texts``.

        Raises:
            UnsupportedModelError: If the prompts have no place for the task.
            VectorError: If the embedding returned another number of vectors, or vectors that must not be stored.
            RemoteEncoderError: If a service failed for good. Says which texts; what the embedding raised is its cause.
        """
        check_texts(texts)
        if len(texts) == 0:
            return np.zeros((0, self.profile.dimensions), dtype=np.float32)
        clean = [without_surrogates(text) for text in texts]
        role = Role(role)
        framing = self._prompts.framing(role, prompt=prompt, task=task)
        profile = self._profile
        vectors = self._sent(clean, role, framing, profile.dimensions if profile else None)
        if profile is None:
            with self._lock:
                self._profile = self._profile or self._described(vectors)
            return validated(vectors, clean, self._profile.dimensions)
        return vectors

    def _sent(self, texts: list[str], role: Role, framing: Framing, dimensions: int | None) -> Vectors:
        """Send texts; what stands around them is added at the last moment, so that errors show the texts."""

        def framed(some: Sequence[str]) -> list[str]:
            return [framing.prompt + text + framing.suffix for text in some]

        def send(some: list[str]) -> Sequence[Sequence[float]]:
            if role is Role.QUERY:
                return [self._query(text) for text in framed(some)]
            return self._documents(framed(some))

        limits = self._batches if role is Role.DOCUMENT else Batches(inputs=1)
        batches = replace(limits, count=lambda some: limits.count(framed(some)))
        return in_batches(send, texts, batches, dimensions, **self._retries)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "embeddings": self.embeddings,
            "model": self._model,
            "query_prompt": self._prompts.given.get(Role.QUERY),
            "document_prompt": self._prompts.given.get(Role.DOCUMENT),
            "catalog_name": self._prompts.entry.name if self._prompts.entry else None,
            "task": self._prompts.task,
            "batch_inputs": self._batches.inputs,
            "batch_tokens": self._batches.tokens,
            "retries": self._retries["attempts"] - 1,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        fresh = wrap(state.pop("embeddings"), **state)
        self.__dict__.update(fresh.__dict__)

    def __repr__(self) -> str:
        return f"WrappedEncoder({type(self.embeddings).__name__})"

    def _described(self, vectors: Vectors) -> Profile:
        name = self._model or _model_name(self.embeddings) or type(self.embeddings).__name__
        query, document = self._framings[Role.QUERY], self._framings[Role.DOCUMENT]
        return Profile(
            model=name,
            dimensions=vectors.shape[1],
            normalize=False,
            query_prompt=query.prompt,
            query_suffix=query.suffix,
            document_prompt=document.prompt,
            sources={"query_prompt": query.source, "document_prompt": document.source},
        )


def _cached(encoder: Encoder, cache: VectorCache | None) -> Encoder:
    return encoder if cache is None else CachedEncoder(encoder, cache)


def _model_name(embeddings: Any) -> str | None:
    """What an embedding calls its model, None if it does not say ("unknown" is what LlamaIndex says then)."""
    fields = ["model", "model_name", "model_id", "repo_id", "deployment"]
    if "azure" in type(embeddings).__name__.lower():  # which model a deployment runs is settled there, not by `model`
        fields = ["deployment", "azure_deployment", *fields]
    names = (getattr(embeddings, name, None) for name in fields)
    return next((name for name in names if isinstance(name, str) and name not in {"", "unknown"}), None)


def _retries_itself(embeddings: Any) -> bool:
    times = getattr(embeddings, "max_retries", 0)
    return isinstance(times, int) and times > 0


def _settings(embeddings: Any) -> str:
    """Every setting of an embedding that may change its vectors, to keep them apart in a cache; secrets left out."""
    fields = getattr(type(embeddings), "model_fields", None)
    values = (
        {name: getattr(embeddings, name, None) for name in fields} if fields else getattr(embeddings, "__dict__", {})
    )
    kept = {name: value for name, value in values.items() if not name.startswith("_") and name not in _WITHOUT_EFFECT}
    cls = type(embeddings)
    return canonical_json({"class": f"{cls.__module__}.{cls.__qualname__}", "settings": _plain(kept)})


def _plain(value: Any) -> Any:
    """Return a setting as JSON-safe values; what has an address for a name, such as a client, is None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if not _SECRET.search(str(key))}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    spelled = repr(value)  # a dtype, an enumeration, a nested model
    return None if _ADDRESS.search(spelled) else spelled


def _encoder_of(candidate: Any) -> Encoder | None:
    """Return the Encoder that something is or carries, None if it does neither."""
    if _is_encoder(candidate):
        encoder: Encoder = candidate
        return encoder
    # An attribute may be a property that loads a model; look before touching it.
    carries = not isinstance(candidate, type) and _has(candidate, "encoder")
    return candidate.encoder if carries and _is_encoder(candidate.encoder) else None


def _is_encoder(candidate: Any) -> bool:
    """Whether it has the members of an Encoder, without reading them: reading a profile may load a model."""
    return not isinstance(candidate, type) and all(_has(candidate, name) for name in ("profile", "tokenizer", "encode"))


def _has(candidate: Any, name: str) -> bool:
    return getattr_static(candidate, name, _ABSENT) is not _ABSENT or name in _extra(candidate)


def _extra(candidate: Any) -> dict[str, Any]:
    """Private attributes of a pydantic model, which live beside its fields."""
    return getattr(candidate, "__pydantic_private__", None) or {}


def _can(candidate: Any, *names: str) -> bool:
    return not isinstance(candidate, type) and all(callable(getattr(candidate, name, None)) for name in names)
