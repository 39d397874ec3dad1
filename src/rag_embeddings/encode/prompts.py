"""Which prompt a text gets, by role, task and title; and who decided on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rag_embeddings.encode.catalog import PromptChoice, choose_prompt
from rag_embeddings.encode.templates import named_prompt, role_of
from rag_embeddings.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_embeddings.encode.base import Role
    from rag_embeddings.encode.catalog import CatalogEntry, Source


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
    source: Source = "none"


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
        entry = self.entry
        known = entry is not None and entry.kind == "open" and entry.parameter == "task"
        concerns = task is not None and role_of(task) in (None, role)
        if not self.adapts:
            if known and entry is not None and concerns and task is not None and not self._is_prompt(task):
                raise UnsupportedModelError(
                    f"task={task!r} names an adapter of {entry.name!r}, and this copy of the model takes none"
                )
            return ""
        if not known or entry is None:
            return task if task is not None and concerns else ""
        value = entry.parameter_value(task) if task is not None and concerns else None
        return entry.arguments(role)["task"] if value is None else value

    def _is_prompt(self, task: str) -> bool:
        """Whether a task is more than the name of an adapter."""
        entry = self.entry
        return named_prompt(self.own, task) is not None or entry is None or entry.parameter_value(task) is None
