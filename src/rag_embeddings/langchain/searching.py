"""The settings of a search as LangChain users spell them, at construction and at each call."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SkipValidation

from rag_embeddings.encode.base import Encoder
from rag_embeddings.langchain.filters import Filter, where_of
from rag_embeddings.retrieve.merge import Merge
from rag_embeddings.retrieve.rerank import Reranker
from rag_embeddings.retrieve.search import Retrieval
from rag_embeddings.retrieve.window import Window
from rag_embeddings.store.directory import IndexDirectory

_Settings = TypeVar("_Settings", bound="SearchSettings")


class SearchSettings(BaseModel):
    """Fields of every retriever over an index. Each is also an argument of ``invoke`` and ``ainvoke``, for one call."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    k: int = Field(default=4, ge=1)
    """Number of passages to return. Linked ones come on top."""
    token_budget: int | None = Field(default=None, ge=1)
    """Instead of ``k``: how many tokens the passages may have together, contexts included. The first passage is
    returned even if it alone has more. In a call, ``k`` and ``token_budget`` each put the other out of force."""
    tokenizer: Annotated[Any, SkipValidation] = None
    """Counts tokens: the name of a tiktoken encoding, a tokenizer, a function. None: the embeddings' own tokenizer, or
    tiktoken's ``"cl100k_base"`` if they have none."""
    search_type: Literal["similarity", "hybrid", "mmr"] = "similarity"
    """By vectors; by vectors and keywords; or by vectors, each next passage unlike those before it (maximal marginal
    relevance)."""
    score: Literal["best", "mean", "sum"] | None = None
    """What ranks a passage: its best sentence, the mean of that and the passage itself, or the sum of its three best
    sentences. None: the mean with ``"hybrid"``, the best sentence otherwise."""
    filter: Annotated[Filter, SkipValidation] = None
    """Only passages whose metadata fulfil this: a `Where`, or a dictionary of values that all have to equal."""
    pattern: str | None = None
    """Only passages in whose text this regular expression matches; it runs in linear time."""
    fusion: Literal["calibrated", "minmax", "rrf"] | None = None
    """How ``"hybrid"`` joins similarity and keywords; None: calibrated. See `HybridSearch`."""
    beta: float | None = None
    """Weight of the keywords with ``"hybrid"``; None: the usual one of the fusion."""
    fetch_k: int = Field(default=20, ge=1)
    """Passages that ``"mmr"`` or the ``reranker`` choose from."""
    lambda_mult: float = Field(default=0.5, ge=0, le=1)
    """Relevance against difference with ``"mmr"``: 1 is relevance alone."""
    reranker: Annotated[Reranker | None, SkipValidation] = None
    """Scores the passages anew: `CrossEncoderReranker`, or any callable from a query and texts to scores."""
    window: int | Window = 0
    """Sentences added on both sides of each passage, or a `Window`. Passages that touch become one."""
    merge: bool | Merge = False
    """Whether passages that stand side by side become one, and sections of which most was found come back whole. True:
    more than half; or a `Merge`."""
    links: int = Field(default=0, ge=0)
    """Tokens of linked passages (similar ones of other documents) to fetch along. ``metadata["linked_from"]`` names the
    passage that led there, ``score`` is the similarity to it, and ``matches`` is empty. Needs an index with links."""

    def retrieval(
        self, directory: IndexDirectory | None, encoder: Encoder | None, changes: Mapping[str, Any]
    ) -> Retrieval:
        """Make the core's search of these settings.

        Args:
            directory: The index; None to check the settings only.
            encoder: Encodes the queries; None likewise.
            changes: Settings for one call.

        Raises:
            TypeError: If there is no setting of that name.
            ValueError: If a setting is impossible, or two cannot both be met.
        """
        names = set(SearchSettings.model_fields)
        if unknown := sorted(set(changes) - names):
            raise TypeError(f"{type(self).__name__} has no settings {unknown} for a search; there are {sorted(names)}")
        if changes.get("k") is not None and changes.get("token_budget") is not None:
            raise ValueError("give k or token_budget for a call, not both")
        # None stands for what the object has, except where it says something.
        given = {name: value for name, value in changes.items() if value is not None or name in _CAN_BE_NONE}
        if "k" in given and "token_budget" not in given:
            given["token_budget"] = None
        chosen = {name: getattr(self, name) for name in names} | given
        return Retrieval(
            directory,  # type: ignore[arg-type]  # None where only settings are checked
            encoder,  # type: ignore[arg-type]
            where=where_of(chosen.pop("filter")),
            balance=chosen.pop("lambda_mult"),
            link_tokens=chosen.pop("links"),
            **chosen,
        )

    # Copies and pickles are made of the fields: an open handle belongs to one object.
    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self._with({})

    __copy__ = __deepcopy__

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002
        """Copy, with other settings if ``update`` names some, which are checked. Deep or not, the index is shared."""
        return self._with(update or {})

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self._fields())

    def _with(self, changes: Mapping[str, Any]) -> Self:
        return _rebuilt(type(self), {**self._fields(), **changes})

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields}


def _rebuilt(kind: type[_Settings], fields: Mapping[str, Any]) -> _Settings:
    return kind(**fields)


_CAN_BE_NONE = {name for name, field in SearchSettings.model_fields.items() if field.default is None}
