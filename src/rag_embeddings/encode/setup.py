"""From settings to a loaded model: each value decided by the caller, else the model's files, else the catalog."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.catalog import find, known
from rag_embeddings.encode.profile import Profile
from rag_embeddings.encode.prompts import Prompts
from rag_embeddings.encode.resolve import resolve, weights_digest
from rag_embeddings.encode.stated import stated_by
from rag_embeddings.errors import BudgetError, UnsupportedModelError, require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_embeddings.encode.catalog import CatalogEntry
    from rag_embeddings.encode.model import LocalModel
    from rag_embeddings.encode.profile import DecidedBy, Similarity
    from rag_embeddings.encode.stated import Stated

    Choice = tuple[Any, DecidedBy]

_LOGGER = logging.getLogger(__name__)
SIMILARITIES = ("cosine", "dot", "euclidean")
POOLINGS = ("cls", "mean", "max", "weightedmean", "lasttoken", "mean_sqrt_len_tokens", "mean_without_first")
_WORDS = {
    "pooling": POOLINGS,
    "similarity": SIMILARITIES,
    "too_long": ("split", "error"),
    "precision": ("auto", "fp32", "bf16"),
}
_COUNTS = ("batch_tokens", "dimensions", "layers", "max_tokens")


def check(settings: Mapping[str, Any]) -> None:
    """Refuse settings that suit no model.

    Args:
        settings: The arguments of `TransformerEncoder`.

    Raises:
        ValueError: If one is none of the known words.
        BudgetError: If a number is less than 1.
    """
    for name, words in _WORDS.items():
        if settings[name] not in (None, *words):
            raise ValueError(f"{name} is one of {', '.join(words)}, got {settings[name]!r}")
    for name in _COUNTS:
        if settings[name] is not None and settings[name] < 1:
            raise BudgetError(f"{name} must be at least 1, got {settings[name]}")


def set_up(settings: Mapping[str, Any]) -> tuple[LocalModel, Profile, Prompts]:
    """Find and load a model, and decide how it is used.

    Args:
        settings: The arguments of `TransformerEncoder`.

    Returns:
        The model with its texts framed, its profile with the source of every value, and what decides on prompts.

    Raises:
        ModelNotFoundError: If the model is nowhere to be found.
        UnsupportedModelError: If it cannot be used, or not as asked for.
    """
    require("sentence_transformers", "local")  # says which extra is missing before anything else is tried
    from rag_embeddings.encode.model import LocalModel  # noqa: PLC0415  (loads torch)

    trusted = settings["trust_remote_code"]
    source = resolve(settings["model"], revision=settings["revision"], trust_remote_code=trusted)
    stated = stated_by(source.folder)
    entry = _entry(settings["catalog_name"], source.name if source.published else None)
    pooling, pooling_from = _pooling(settings["pooling"], stated, entry)
    model = LocalModel(
        source,
        device=settings["device"],
        trust_remote_code=trusted,
        normalize=settings["normalize"],
        pooling=pooling,
        pool_prompt=entry.prompt_in_pooling if entry is not None and not stated.prompt_in_pooling else None,
        layers=settings["layers"],
        precision=settings["precision"],
    )
    prompts = Prompts(
        given={Role.QUERY: settings["query_prompt"], Role.DOCUMENT: settings["document_prompt"]},
        own=model.prompts,
        entry=entry,
        task=settings["task"],
        slots=settings["prompt_slots"] or {},
        adapts=model.adapts,
    )
    limit, limit_from = _limit(settings["max_tokens"], model, entry, source.name)
    framings = {role: prompts.framing(role) for role in Role}
    for role, framing in framings.items():
        model.inputs[role] = model.inputs[role].framed(
            framing.prompt, suffix=framing.suffix, adapter=framing.adapter, limit=limit
        )
    dimensions, dimensions_from = _dimensions(settings["dimensions"], model, source.name)
    similarity, similarity_from = _similarity(settings["similarity"], model, stated, entry, source.name)
    query, document = framings[Role.QUERY], framings[Role.DOCUMENT]
    document_input = model.inputs[Role.DOCUMENT]
    profile = Profile(
        model=source.name,
        dimensions=dimensions,
        query_prompt=query.prompt,
        document_prompt=document.prompt,
        pooling=model.pooling,
        normalize=model.normalizes if settings["normalize"] is None else settings["normalize"],
        similarity=similarity,
        weights=weights_digest(source.folder),
        revision=source.revision,
        max_tokens=min((item.limit for item in model.inputs.values() if item.limit is not None), default=None),
        document_tokens=None if document_input.limit is None else document_input.limit - document_input.overhead,
        query_suffix=query.suffix,
        query_adapter=query.adapter,
        document_adapter=document.adapter,
        layers=model.layers,
        sources={
            "query_prompt": query.source,
            "document_prompt": document.source,
            "pooling": pooling_from,
            "normalize": "caller" if settings["normalize"] is not None else "model" if stated.modules else "none",
            "similarity": similarity_from,
            "dimensions": dimensions_from,
            "layers": "model" if settings["layers"] is None else "caller",
            "max_tokens": limit_from,
        },
    )
    _warn_of_untrained(profile, model, stated, entry)
    _LOGGER.info("%s", profile.explain())
    return model, profile, prompts


def _entry(wanted: str | None, published: str | None) -> CatalogEntry | None:
    if wanted is not None:
        return known(wanted)
    return None if published is None else find(published)


def _pooling(wanted: str | None, stated: Stated, entry: CatalogEntry | None) -> Choice:
    """Return the pooling to set, None to leave it as it is loaded, and who decided."""
    if wanted is not None:
        return wanted, "caller"
    if stated.modules:
        return None, "model"
    if entry is not None and entry.pooling in POOLINGS:
        return entry.pooling, "catalog"
    return None, "none"


def _limit(wanted: int | None, model: LocalModel, entry: CatalogEntry | None, name: str) -> Choice:
    own = min((item.limit for item in model.inputs.values() if item.limit is not None), default=None)
    if wanted is not None:
        if own is not None and wanted > own:
            raise UnsupportedModelError(f"{name!r} takes {own} tokens, max_tokens={wanted} was asked for")
        return wanted, "caller"
    if own is None and entry is not None and entry.max_tokens is not None:
        return entry.max_tokens, "catalog"
    return own, "none" if own is None else "model"


def _dimensions(wanted: int | None, model: LocalModel, name: str) -> tuple[int, DecidedBy]:
    if wanted is None:
        return model.own_dimensions or model.width, "model"
    if wanted > model.width:
        raise UnsupportedModelError(f"{name!r} has {model.width} dimensions, {wanted} were asked for")
    return wanted, "caller"


def _similarity(
    wanted: str | None, model: LocalModel, stated: Stated, entry: CatalogEntry | None, name: str
) -> tuple[Similarity, DecidedBy]:
    found: tuple[str, DecidedBy]
    if wanted is not None:
        found = wanted, "caller"
    elif stated.similarity:
        found = model.similarity, "model"
    elif entry is not None:
        found = entry.similarity, "catalog"
    else:
        found = "cosine", "none"
    if found[0] not in SIMILARITIES:
        raise UnsupportedModelError(f"{name!r} compares by {found[0]!r}; known are {SIMILARITIES}")
    return cast("tuple[Similarity, DecidedBy]", found)


def _warn_of_untrained(profile: Profile, model: LocalModel, stated: Stated, entry: CatalogEntry | None) -> None:
    """Say so where dimensions or layers are left out of a model that was not, or may not have been, trained for it."""
    if profile.sources["dimensions"] == "caller" and profile.dimensions < model.width:
        known = entry.accepts_dimensions(profile.dimensions) if entry is not None else None
        if stated.matryoshka_dimensions:
            known = profile.dimensions in stated.matryoshka_dimensions
        if known is not True and profile.dimensions != model.own_dimensions:
            was = "is not known to have been" if known is None else "was not"
            _LOGGER.warning(
                "%r %s trained to be truncated to %d dimensions; measure what that costs before you rely on it",
                profile.model,
                was,
                profile.dimensions,
            )
    if profile.layers is not None and (entry is None or entry.layers is not True):
        _LOGGER.warning(
            "%r is not known to have been trained to run with fewer layers; measure what the lowest %d give before "
            "you rely on them",
            profile.model,
            profile.layers,
        )
