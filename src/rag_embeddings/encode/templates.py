"""Names and templates of prompts.

A prompt stands in front of a text, to the byte: nothing here adds or removes a space that the template does not spell.
"""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING

from rag_embeddings.encode.base import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

# Earlier names win. Document names follow sentence-transformers: document, passage, corpus.
# A prompt for short texts against short texts ("s2s") serves queries only where a model has nothing better.
_NAMES: dict[Role, tuple[str, ...]] = {
    Role.QUERY: (
        "query",
        "retrieval_query",
        "search_query",
        "web_search_query",
        "s2p_query",
        "queries",
        "question",
        "s2s_query",
    ),
    Role.DOCUMENT: (
        "document",
        "passage",
        "corpus",
        "retrieval_document",
        "retrieval_passage",
        "search_document",
        "documents",
        "passages",
    ),
}


def plain_name(name: str) -> str:
    """Spell a prompt's name in the one way names are compared: ``"Retrieval.query"`` is ``"retrieval_query"``."""
    return name.strip().lower().replace(".", "_").replace("-", "_").replace(" ", "_")


def role_of(name: str) -> Role | None:
    """Return the role a prompt of this name is for, or None if the name belongs to some other task.

    Args:
        name: Name of a prompt in a model's configuration: ``"s2p_query"``, ``"retrieval.passage"``, ``"clustering"``.
    """
    plain = plain_name(name)
    return next((role for role, names in _NAMES.items() if plain in names), None)


def role_prompts(prompts: Mapping[str, str | None]) -> dict[Role, str]:
    """Find the prompts for queries and for documents among a model's own, whatever it calls them.

    Where several names fit, ``query`` wins over ``retrieval.query``, ``search_query``, ``web_search_query``,
    ``s2p_query``, ``queries``, ``question`` and ``s2s_query``, in this order; ``document`` over ``passage``,
    ``corpus``, ``retrieval.document``, ``retrieval.passage``, ``search_document``, ``documents`` and ``passages``.
    Case, dots, dashes and spaces in names do not matter.

    Args:
        prompts: The ``prompts`` of a ``config_sentence_transformers.json``. Empty ones and None count as absent.

    Returns:
        At most one prompt per role; a role without one is missing.
    """
    plain = {plain_name(name): prompt for name, prompt in prompts.items() if prompt}
    found: dict[Role, str] = {}
    for role, names in _NAMES.items():
        prompt = next((plain[name] for name in names if name in plain), None)
        if prompt:
            found[role] = prompt
    return found


def named_prompt(prompts: Mapping[str, str | None], name: str) -> str | None:
    """Return the non-empty prompt of this name, or None; names are compared as `role_prompts` does."""
    plain = plain_name(name)
    return next((prompt for key, prompt in prompts.items() if prompt and plain_name(key) == plain), None)


def slots(template: str) -> frozenset[str]:
    """Return the names of a template's slots: ``{"task"}`` for ``"task: {task} | query: "``."""
    return frozenset(name for _, name, _, _ in Formatter().parse(template) if name is not None)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put values into a template's slots.

    A slot filled with ``""`` takes the space after it along, so that
    ``"Represent the {domain} {text_type}"`` without a domain is ``"Represent the question"``.

    Args:
        template: Text with slots in braces.
        values: A text for every slot; those for other slots are left unused. Braces in them stay as they are.

    Returns:
        The prompt.

    Raises:
        KeyError: If a slot has no value.
    """
    prompt = ""
    dropped = False
    for literal, name, _, _ in Formatter().parse(template):
        prompt += literal.removeprefix(" ") if dropped else literal
        if name is not None:
            prompt += values[name]
            dropped = values[name] == ""
    return prompt
