"""Facts about embedding models, shipped as data: how each wants to be used, and what it can do.

The data is ``catalog.json`` beside this file, one model per line. What no source states, or where sources disagree, is
unknown (None), never guessed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.templates import fill, named_prompt, plain_name, role_of, slots
from rag_embeddings.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rag_embeddings.encode.profile import Similarity

Kind = Literal["open", "api"]
LateChunking = Literal["yes", "trained", "server", "short", "no"]


@dataclass(frozen=True)
class CatalogEntry:
    """One model. None stands for unknown.

    Attributes:
        name: Its id: on the Hugging Face hub for open models, ``provider/model`` for APIs.
        kind: ``"open"`` (weights to download) or ``"api"``.
        family: Models of one family are prompted alike.
        similarity: The comparison it was trained for.
        aliases: Other names `find` knows it by.
        parameters: Number of weights.
        dimensions: Width of a vector.
        matryoshka: Whether it was trained to be truncated.
        matryoshka_dimensions: The widths it was trained for, ascending; empty where no list is known.
        matryoshka_minimum: Where every width down to a least one was trained: that one.
        layers: Whether it was trained to run with fewer layers.
        max_tokens: Longest input in tokens.
        unlimited: Whether it has no longest input (static word vectors).
        pooling: ``"mean"``, ``"cls"``, ``"lasttoken"``, ``"static"``, ``"mean_without_first"`` or
            ``"latent_attention"``.
        prompt_in_pooling: Whether the prompt's tokens are pooled along with the text's.
        query_prompt: Template of the prompt for queries; ``""`` if it takes none.
        query_defaults: What fills the slots of ``query_prompt`` unless the caller says otherwise.
        query_suffix: What follows a query.
        document_prompt: Template of the prompt for documents; ``""`` if it takes none.
        document_defaults: What fills the slots of ``document_prompt`` unless the caller says otherwise.
        task_prompts: Prompts for named tasks other than retrieval.
        parameter: The argument by which the model or its API is told the task, instead of or besides a prompt.
        parameter_values: Its value per role (``"query"``, ``"document"``) and named task.
        query_model: The model that encodes the queries for this model's documents, where it is another one.
        remote_code: Whether transformers had to run Python code from the model's repository when it was published.
        native_from: Major version of transformers that has the architecture itself, so that the remote code must be
            left alone.
        fails_from: Major version of transformers with which the remote code is known to fail.
        multilingual: Whether it was trained for several languages.
        late_chunking: ``"yes"``, ``"trained"`` for it, done by the ``"server"``; ``"short"``: possible, but its
            input is too short to gain by it; ``"no"``.
        late_chunking_window: Longest window to trust, in tokens, where it is shorter than ``max_tokens``.
        licence: SPDX id in lower case where there is one; ``"proprietary"`` for APIs.
        price_per_million: List price in US dollars per million tokens.
        notes: What else to know.
    """

    name: str
    kind: Kind
    family: str
    similarity: Similarity
    aliases: tuple[str, ...] = ()
    parameters: int | None = None
    dimensions: int | None = None
    matryoshka: bool | None = None
    matryoshka_dimensions: tuple[int, ...] = ()
    matryoshka_minimum: int | None = None
    layers: bool | None = None
    max_tokens: int | None = None
    unlimited: bool = False
    pooling: str | None = None
    prompt_in_pooling: bool = True
    query_prompt: str | None = None
    query_defaults: Mapping[str, str] = field(default_factory=dict, hash=False)
    query_suffix: str = ""
    document_prompt: str | None = None
    document_defaults: Mapping[str, str] = field(default_factory=dict, hash=False)
    task_prompts: Mapping[str, str] = field(default_factory=dict, hash=False)
    parameter: str = ""
    parameter_values: Mapping[str, str] = field(default_factory=dict, hash=False)
    query_model: str = ""
    remote_code: bool | None = None
    native_from: int | None = None
    fails_from: int | None = None
    multilingual: bool | None = None
    late_chunking: LateChunking | None = None
    late_chunking_window: int | None = None
    licence: str | None = None
    price_per_million: float | None = None
    notes: str = ""

    def prompt(
        self,
        role: Role,
        *,
        task: str | None = None,
        title: str | None = None,
        domain: str | None = None,
        text_type: str | None = None,
        task_objective: str | None = None,
    ) -> str | None:
        r"""Return what to put in front of a text, to the byte.

        Args:
            role: Whether the text is a query or a document.
            task: The name of one of the model's tasks, or, where its template has the slot, the task in words
                (``"Given a web search query, retrieve relevant passages that answer the query"``). It changes the
                roles it concerns and leaves the other as it is: instruct models take no instruction on documents.
            title: Title of the document, where the template has the slot; ``""`` is no title.
            domain: What the text is about (Instructor); ``""`` leaves it out.
            text_type: What the text is, for example ``"question"`` (Instructor).
            task_objective: What it is embedded for, for example ``"retrieving supporting documents"`` (Instructor).

        Returns:
            The prompt; ``""`` if the model takes none; None if it is unknown here (the model's own configuration may
            have it).

        Raises:
            UnsupportedModelError: If the model has no such task or slot in any role. Names those it has.
        """
        given = {
            name: value
            for name, value in {
                "title": title or None,
                "domain": domain,
                "text_type": text_type,
                "task_objective": task_objective,
            }.items()
            if value is not None
        }
        if task is not None:
            named = named_prompt(self.task_prompts, task)
            if named is not None and role_of(task) in (None, role):
                return named
            if named is None and self.parameter_value(task) is None:
                given["task"] = task
        self._check(given)
        template = self._template(role)
        if template is None:
            return None
        defaults = self.query_defaults if role == Role.QUERY else self.document_defaults
        return fill(template, {**defaults, **given})

    def suffix(self, role: Role) -> str:
        """Return what to put after a text."""
        return self.query_suffix if role == Role.QUERY else ""

    def arguments(self, role: Role, *, task: str | None = None) -> dict[str, str]:
        """Return the keyword arguments that tell the model, or its API, what a text is for.

        Args:
            role: Whether the text is a query or a document.
            task: The name of one of the model's tasks; None for retrieval.

        Returns:
            For example ``{"input_type": "search_query"}`` or ``{"task": "retrieval.query"}``; empty if it takes none.

        Raises:
            UnsupportedModelError: If the model takes such an argument and has no such task.
        """
        if not self.parameter:
            return {}
        value = self.parameter_values.get(role.value) if task is None else self.parameter_value(task)
        if value is None:
            raise UnsupportedModelError(f"{self.name!r} has no task {task!r}; it has {self._tasks()}")
        return {self.parameter: value}

    def parameter_value(self, task: str) -> str | None:
        """Return what the model's own argument is called for a task, by our name or its own; None if it has no such."""
        names = {*self.parameter_values.items(), *((value, value) for value in self.parameter_values.values())}
        return next((value for name, value in names if plain_name(name) == plain_name(task)), None)

    def accepts_dimensions(self, dimensions: int) -> bool | None:
        """Say whether vectors of this width are what the model was trained to give, as they are or truncated.

        Args:
            dimensions: A width.

        Returns:
            True, False, or None where nobody knows: the model is not known to be trained for truncation, or its widths
            are not.
        """
        if dimensions == self.dimensions or dimensions in self.matryoshka_dimensions:
            return True
        too_wide = self.dimensions is not None and dimensions > self.dimensions
        if too_wide or dimensions < 1 or self.matryoshka is False or self.matryoshka_dimensions:
            return False
        if self.matryoshka_minimum is not None:
            return dimensions >= self.matryoshka_minimum
        return None

    def accepts_tokens(self, tokens: int) -> bool | None:
        """Say whether a text of so many tokens fits; None if the limit is unknown."""
        if self.unlimited:
            return True
        return None if self.max_tokens is None else tokens <= self.max_tokens

    def needs_remote_code(self, transformers: str) -> bool | None:
        """Say whether the model needs ``trust_remote_code=True``.

        Args:
            transformers: A version of transformers, for example ``"5.23.0"``.

        Returns:
            True, False, or None if unknown. Where it is False, leave the option off: some repositories still carry old
            code that then runs, and fails, in place of transformers' own.
        """
        if self.native_from is not None and _major(transformers) >= self.native_from:
            return False
        return self.remote_code

    def fails_on(self, transformers: str) -> bool:
        """Say whether the model is known not to work with this version of transformers."""
        return self.fails_from is not None and _major(transformers) >= self.fails_from

    @property
    def runs_adapters(self) -> bool:
        """Whether the model itself is told the task, and runs an adapter for it."""
        return self.kind == "open" and self.parameter == "task"

    @property
    def late_chunking_friendly(self) -> bool | None:
        """Whether late chunking is right for the model and worth trying; None if unknown."""
        return None if self.late_chunking is None else self.late_chunking in {"yes", "trained", "server"}

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-safe values."""
        values = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def _template(self, role: Role) -> str | None:
        return self.query_prompt if role == Role.QUERY else self.document_prompt

    def _check(self, given: Mapping[str, str]) -> None:
        """Refuse a value that no template of the model has a slot for, or an empty task."""
        available = slots(self.query_prompt or "") | slots(self.document_prompt or "")
        for name, value in given.items():
            if name not in available:
                takes = ", ".join(sorted(available)) or "none"
                extra = f"; its tasks are {self._tasks()}" if name == "task" else ""
                raise UnsupportedModelError(f"{self.name!r} has no slot for {name}={value!r} (slots: {takes}){extra}")
            if name == "task" and not value.strip():
                raise UnsupportedModelError("task is empty; leave it out for the default, or set the prompt to ''")

    def _tasks(self) -> str:
        names = sorted({*self.task_prompts, *self.parameter_values} - {role.value for role in Role})
        return ", ".join(names) or "retrieval only"


@cache
def entries() -> tuple[CatalogEntry, ...]:
    """Return every model of the catalog, in its order. Read once, when first asked for."""
    rows: list[dict[str, Any]] = json.loads(files("rag_embeddings.encode").joinpath("catalog.json").read_text("utf-8"))
    for row in rows:
        row.update({name: tuple(value) for name, value in row.items() if isinstance(value, list)})
    return tuple(CatalogEntry(**row) for row in rows)


def find(name: str) -> CatalogEntry | None:
    """Find a model by its exact name or an alias; case does not matter.

    It compares names and nothing else. The path of a folder is never looked into, nor is its last part matched: a local
    copy may be fine-tuned with other prompts. Whoever loads a folder, even one called like a model on the hub, does not
    ask here.

    Args:
        name: ``"BAAI/bge-small-en-v1.5"``, ``"all-MiniLM-L6-v2"``, ``"text-embedding-3-small"``.

    Returns:
        The entry, or None if the catalog does not have the model.
    """
    return _by_name().get(name.lower())


def known(name: str) -> CatalogEntry:
    """Find a model that must be there; see `find`.

    Raises:
        UnsupportedModelError: If the catalog does not have it.
    """
    entry = find(name)
    if entry is None:
        raise UnsupportedModelError(
            f"catalog_name={name!r} is not in the catalog; `rag-embeddings models` lists what is. Or give "
            "query_prompt= and document_prompt="
        )
    return entry


def select(
    *,
    family: str | None = None,
    kind: Kind | None = None,
    max_tokens: int | None = None,
    dimensions: int | None = None,
    licence: str | None = None,
    multilingual: bool | None = None,
    late_chunking: bool | None = None,
) -> list[CatalogEntry]:
    """List the models that are known to meet every condition given; what is unknown does not meet one.

    Args:
        family: The family, in any case.
        kind: ``"open"`` or ``"api"``.
        max_tokens: A text of at least so many tokens fits.
        dimensions: Gives vectors of this width, as they are or by the truncation it was trained for.
        licence: The licence, in any case.
        multilingual: Trained for several languages, or not.
        late_chunking: Right for late chunking and worth trying, or known not to be.

    Returns:
        The entries, in the catalog's order.
    """
    return [
        entry
        for entry in entries()
        if (family is None or entry.family == family.lower())
        and (kind is None or entry.kind == kind)
        and (max_tokens is None or entry.accepts_tokens(max_tokens) is True)
        and (dimensions is None or entry.accepts_dimensions(dimensions) is True)
        and (licence is None or entry.licence == licence.lower())
        and (multilingual is None or entry.multilingual is multilingual)
        and (late_chunking is None or entry.late_chunking_friendly is late_chunking)
    ]


@cache
def _by_name() -> dict[str, CatalogEntry]:
    return {name.lower(): entry for entry in entries() for name in (entry.name, *entry.aliases)}


def _major(version: str) -> int:
    return int(version.partition(".")[0])
