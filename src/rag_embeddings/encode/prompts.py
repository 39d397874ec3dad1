"""Which prompt a text gets, by role, task and title; and who decided on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rag_embeddings.encode.templates import named_prompt, role_of, role_prompts
from rag_embeddings.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_embeddings.encode.base import Role
    from rag_embeddings.encode.catalog import CatalogEntry
    from rag_embeddings.encode.profile import DecidedBy


@dataclass(frozen=True)
class Framing:
    """What a text of one kind gets around it.

    Attributes:
        prompt: Put in front, to the byte.
        suffix: Put behind, to the byte.
        adapter: The task that the model itself is told; empty if it is told none.
        source: Who decided on the prompt.
    """

    prompt: str = ""
    suffix: str = ""
    adapter: str = ""
    source: DecidedBy = "none"


@dataclass(frozen=True)
class Prompts:
    """Everything that decides on the prompts of a model.

    Attributes:
        given: The caller's own prompt per role; a role that is missing, or None, is no wish.
        own: The prompts of the model's configuration, by name.
        entry: The catalog's entry, if there is one.
        task: As in `CatalogEntry.prompt`; for all calls that name no other.
        slots: What fills slots of the catalog's templates: ``domain``, ``text_type``, ``task_objective``.
        adapts: Whether the model takes the name of a task and runs an adapter for it.
    """

    given: Mapping[Role, str | None] = field(default_factory=dict)
    own: Mapping[str, str | None] = field(default_factory=dict)
    entry: CatalogEntry | None = None
    task: str | None = None
    slots: Mapping[str, str] = field(default_factory=dict)
    adapts: bool = False

    def framing(self, role: Role, *, prompt: str | None = None, task: str | None = None, title: str = "") -> Framing:
        """Decide on what stands around a text: this call's wish, else the caller's, else as `choose_prompt` does.

        Args:
            role: Whether it is a query or a document.
            prompt: This call's own prompt.
            task: This call's task, in place of that of all calls.
            title: The document's title.

        Returns:
            The framing. A suffix belongs to the catalog's template and comes with it alone.

        Raises:
            UnsupportedModelError: If neither the model nor the catalog has a place for the task, title or slots.
        """
        choice = self._choice(role, prompt, task, title)
        suffix = self.entry.suffix(role) if self.entry is not None and choice.source == "catalog" else ""
        return Framing(choice.prompt, suffix, self._adapter(role, self.task if task is None else task), choice.source)

    def _choice(self, role: Role, prompt: str | None, task: str | None, title: str) -> PromptChoice:
        if prompt is not None:
            return PromptChoice(prompt, "caller")
        given = self.given.get(role)
        if title and given is not None:
            raise UnsupportedModelError(
                f"title={title!r} has no place: you gave the {role.value} prompt {given!r}. Leave it out, so that the "
                "catalog's template is used, or write titles into the texts"
            )
        if given is not None and (task is None or self._chosen(role, task, "") == self._chosen(role, None, "")):
            return PromptChoice(given, "caller")
        return self._chosen(role, self.task if task is None else task, title)

    def _chosen(self, role: Role, task: str | None, title: str) -> PromptChoice:
        value = self.entry.parameter_value(task) if self.entry is not None and task is not None else None
        if task is not None and value is not None and named_prompt(self.own, task) is None:
            # The task's name in the catalog, and that of the adapter, by which the model's own prompt goes.
            task = value if named_prompt(self.own, value) is not None else task
        return choose_prompt(role, own=self.own, entry=self.entry, task=task, title=title or None, **self.slots)

    def _adapter(self, role: Role, task: str | None) -> str:
        entry = self.entry if self.entry is not None and self.entry.runs_adapters else None
        wish = task if task is not None and role_of(task) in (None, role) else None
        value = entry.parameter_value(wish) if entry is not None and wish is not None else None
        if self.adapts:
            return value or (wish or "" if entry is None else entry.arguments(role)["task"])
        if entry is not None and value is not None and named_prompt(self.own, str(wish)) is None:
            raise UnsupportedModelError(
                f"task={wish!r} names an adapter of {entry.name!r}, and this copy of the model takes none"
            )
        return ""


@dataclass(frozen=True)
class PromptChoice:
    """A prompt and who decided it.

    Attributes:
        prompt: The prompt, to the byte.
        source: ``"caller"``, ``"model"`` (its own configuration), ``"catalog"``, or ``"none"``: nobody knows of one.
    """

    prompt: str
    source: DecidedBy


def choose_prompt(
    role: Role,
    *,
    given: str | None = None,
    own: Mapping[str, str | None] | None = None,
    entry: CatalogEntry | None = None,
    task: str | None = None,
    **values: str | None,
) -> PromptChoice:
    """Decide on a prompt: the caller, else the model's own non-empty configuration, else the catalog, else none.

    A task, title or other value goes into the catalog's template, since a model's own prompts have it filled in
    already; a task that the model's own prompts know by name is taken from there. A value that does not concern the
    role changes nothing.

    Args:
        role: Whose prompt.
        given: The caller's own prompt; None for no wish, ``""`` to switch prompts off.
        own: The ``prompts`` of the model's configuration.
        entry: The catalog's entry, if there is one.
        task: As in `CatalogEntry.prompt`.
        **values: ``title``, ``domain``, ``text_type``, ``task_objective``, as in `CatalogEntry.prompt`.

    Returns:
        The prompt and its source.

    Raises:
        UnsupportedModelError: If a task or value was asked for that neither the model nor the catalog has a place for.
    """
    if given is not None:
        return PromptChoice(given, "caller")
    own = own or {}
    wishes = {name: value for name, value in {"task": task, **values}.items() if value is not None}
    if task is not None and (named := named_prompt(own, task)) is not None:
        if role_of(task) in (None, role):
            return PromptChoice(named, "model")
        del wishes["task"]
    if wishes:
        if entry is None:
            spelt = ", ".join(f"{name}={value!r}" for name, value in wishes.items())
            known = ", ".join(sorted(own)) or "none"
            raise UnsupportedModelError(
                f"{spelt} has no place: the model is not in the catalog and its own prompts are: {known}. "
                "Write the whole prompt instead (query_prompt=, document_prompt=)"
            )
        wished = entry.prompt(role, **wishes)
        if wished is not None and wished != entry.prompt(role):
            return PromptChoice(wished, "catalog")
    if (prompt := role_prompts(own).get(role)) is not None:
        return PromptChoice(prompt, "model")
    prompt = entry.prompt(role) if entry is not None else None
    return PromptChoice("", "none") if prompt is None else PromptChoice(prompt, "catalog")
