"""Encoder over a local sentence-transformers model."""

from __future__ import annotations

import inspect
import logging
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from rag_embeddings.encode.base import Role, check_texts, validated
from rag_embeddings.encode.batch_queue import BatchQueue
from rag_embeddings.encode.pieces import finish, fitting_pieces, tokens_of, too_long, weighted_means
from rag_embeddings.encode.resolve import DEFAULT_MODEL
from rag_embeddings.encode.setup import POOLINGS, check, set_up
from rag_embeddings.encode.token_pass import TokenText, token_vectors
from rag_embeddings.encode.windows import Windows
from rag_embeddings.errors import UnsupportedModelError, VectorError, require
from rag_embeddings.text import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.model import LocalModel
    from rag_embeddings.encode.profile import Profile, Similarity
    from rag_embeddings.encode.prompts import Prompts
    from rag_embeddings.encode.token_vectors import SummedTokenVectors
    from rag_embeddings.encode.tokens import TextInput, Tokens

_LOGGER = logging.getLogger(__name__)
_SLICE = 1024  # texts tokenized at once
DEFAULT_WINDOWS = Windows()


class TransformerEncoder:
    """Encode with a sentence-transformers model, transformer or static, on this machine.

    Text reaches the tokenizer as it is, behind its prompt. Nothing is ever truncated in silence. The constructor is
    cheap: the model is found and loaded at first use, once, whatever the number of threads. It runs in float32
    unless ``precision`` says otherwise.

    Pickling and copying take the settings along, not the weights.

    Args:
        model: A name or the path of a folder; see `rag_embeddings.encode.resolve.resolve`.
        device: ``"cpu"``, ``"cuda"``, ...; None for sentence-transformers' own choice.
        revision: Branch, tag or commit on the hub.
        query_prompt: Put in front of every query, to the byte. None is the model's own, else the catalog's; "" is none.
        document_prompt: Put in front of every document, to the byte. None is the model's own, else the catalog's; ""
            is none.
        task: What texts are embedded for: the name of one of the model's prompts or adapters (``"clustering"``,
            ``"s2p_query"``, ``"retrieval.query"``), or, for models that are told, one English sentence
            (``"Given a claim, retrieve the documents that refute it"``).
        prompt_slots: What fills other slots of the model's template: ``{"domain": "legal"}`` for Instructor.
        catalog_name: The published model that a folder holds a copy of, if the catalog's prompts are to be used for it.
            A folder is never matched by its own name.
        pooling: ``"cls"``, ``"mean"``, ``"max"``, ``"weightedmean"`` (by position), ``"lasttoken"``,
            ``"mean_sqrt_len_tokens"`` or ``"mean_without_first"`` in place of the model's own. What follows pooling
            in the model stays.
        normalize: Whether vectors have length 1. None leaves it to the model; False also leaves out its own closing
            `Normalize`.
        similarity: ``"cosine"``, ``"dot"`` or ``"euclidean"`` in place of what the model was trained for; stores
            compare vectors by it.
        dimensions: Keep so many leading dimensions, then normalise again if vectors are normalised. For models trained
            for it (Matryoshka); for others a warning is logged.
        layers: Run only so many of the transformer's layers, from the lowest. For models trained for it (2D Matryoshka,
            Espresso); for others a warning is logged.
        max_tokens: Take texts of so many tokens, prompt and special tokens included, rather than as many as the model
            takes.
        too_long: What happens to a text of more tokens than the model takes: ``"split"`` encodes it in parts, takes the
            mean weighted by their tokens, normalises again if vectors are normalised, and warns once;
            ``"error"`` refuses it.
        batch_tokens: Most tokens in a batch, padding included. The default suits a CPU; a GPU wants 16,384 and more.
        trust_remote_code: Whether Python code that comes with the model may run. Only for models you trust.
        progress: Whether a progress bar is shown.
        precision: ``"fp32"``; ``"bf16"``, about twice as fast where the processor calculates in it, with vectors at a
            cosine of 0.9999 to those of fp32; or ``"auto"``: bf16 on processors with AMX or AVX512-BF16 and on GPUs
            that have it, else fp32. A cosine below 0.999, measured at load, makes ``"auto"`` warn and take fp32, and
            ``"bf16"`` fail.

    Raises:
        BudgetError: If ``dimensions``, ``layers``, ``max_tokens`` or ``batch_tokens`` is less than 1.
        ValueError: If ``too_long``, ``precision``, ``pooling`` or ``similarity`` is none of the known words.
    """

    def __init__(
        self,
        model: str | PathLike[str] = DEFAULT_MODEL,
        *,
        device: str | None = None,
        revision: str | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        task: str | None = None,
        prompt_slots: Mapping[str, str] | None = None,
        catalog_name: str | None = None,
        pooling: str | None = None,
        normalize: bool | None = None,
        similarity: Similarity | None = None,
        dimensions: int | None = None,
        layers: int | None = None,
        max_tokens: int | None = None,
        too_long: Literal["split", "error"] = "split",
        batch_tokens: int = 2048,
        trust_remote_code: bool = False,
        progress: bool = False,
        precision: Literal["auto", "fp32", "bf16"] = "fp32",
    ) -> None:
        self._settings: dict[str, Any] = {
            "model": str(model),
            "device": None if device is None else str(device),
            "revision": revision,
            "query_prompt": query_prompt,
            "document_prompt": document_prompt,
            "task": task,
            "prompt_slots": None if prompt_slots is None else dict(prompt_slots),
            "catalog_name": catalog_name,
            "pooling": pooling,
            "normalize": normalize,
            "similarity": similarity,
            "dimensions": dimensions,
            "layers": layers,
            "max_tokens": max_tokens,
            "too_long": too_long,
            "batch_tokens": batch_tokens,
            "trust_remote_code": trust_remote_code,
            "progress": progress,
            "precision": precision,
        }
        check(self._settings)
        self._loading = threading.Lock()
        self._loaded: tuple[LocalModel, Profile] | None = None
        self._prompts: Prompts | None = None
        self._warned = False

    @classmethod
    def from_profile(cls, profile: Profile) -> TransformerEncoder:
        """Return an encoder of the space that a profile describes. Loads the model.

        Args:
            profile: The profile of a local model.

        Returns:
            The encoder; of another space, if the model's files have changed since.

        Raises:
            UnsupportedModelError: If the profile is not that of one local model.
            ModelNotFoundError: If the model is gone.
        """
        if not profile.weights or profile.query_model:  # only of local models are the weights at hand
            raise UnsupportedModelError(f"{profile.model!r} is not one local model that could be loaded by its name")
        known: dict[str, Any] = {
            "revision": profile.revision or None,
            "normalize": profile.normalize,
            "similarity": profile.similarity,
            "dimensions": profile.dimensions,
            "layers": profile.layers,
        }
        plain = cls(profile.model, **known)
        if plain.profile.space == profile.space:
            return plain
        pooling = profile.pooling if profile.pooling != plain.profile.pooling and profile.pooling in POOLINGS else None
        return cls(
            profile.model,
            query_prompt=profile.query_prompt,
            document_prompt=profile.document_prompt,
            pooling=pooling,
            **known,
        )

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the constructor as JSON-safe values."""
        return dict(self._settings)

    def __repr__(self) -> str:
        return f"TransformerEncoder({self._settings['model']!r})"

    def __getstate__(self) -> dict[str, Any]:
        return self.settings()

    def __setstate__(self, settings: dict[str, Any]) -> None:
        self.__init__(**settings)  # type: ignore[misc]

    @property
    def profile(self) -> Profile:
        """Everything that changes a vector. Loads the model."""
        return self._load()[1]

    @property
    def precision(self) -> str:
        """What the model runs in, ``"fp32"`` or ``"bf16"``; part of every cache key. Loads the model."""
        return self._load()[0].precision

    @property
    def too_long(self) -> str:
        """What becomes of a text longer than the model takes; part of every cache key."""
        return str(self._settings["too_long"])

    @property
    def tokenizer(self) -> Any:
        """The model's own fast tokenizer. Loads the model."""
        return self._load()[0].tokenizer

    def encode(
        self,
        texts: Sequence[str],
        role: Role,
        *,
        task: str | None = None,
        prompt: str | None = None,
        titles: Sequence[str] | None = None,
    ) -> Vectors:
        """Encode texts.

        Args:
            texts: Any number of texts. Equal ones are encoded once.
            role: Whether they are queries or documents.
            task: What these texts are for, in place of the encoder's own task. Where the model takes instructions on
                queries alone, documents encoded without one stay good for every task.
            prompt: Put in front of these texts, to the byte, in place of any other prompt.
            titles: A title for each document, ``""`` for none, where the model's template has a place for it
                (EmbeddingGemma).

        Returns:
            float32 of shape (len(texts), dimensions), in the order of ``texts``, the same within 1e-5 whatever the
            order, the company and the number of threads.

        Raises:
            ModelNotFoundError: If the model is nowhere to be found.
            UnsupportedModelError: If the model cannot be used, or knows no such task, or has no place for titles.
            TextTooLongError: If a text is too long and ``too_long="error"``, or cannot be cut.
            VectorError: If a text has no tokens at all, or the model returns NaN, infinity or zeros.
        """
        check_texts(texts)
        model, profile = self._load()
        role = Role(role)
        headings = _headings(texts, role, titles)
        inputs = self._inputs(role, headings, task=task, prompt=prompt)
        distinct: dict[tuple[str, str], int] = {}
        rows = [
            distinct.setdefault((without_surrogates(text), heading), len(distinct))
            for text, heading in zip(texts, headings, strict=True)
        ]
        if not rows:
            return np.zeros((0, profile.dimensions), dtype=np.float32)
        _, firsts = np.unique(rows, return_index=True)
        vectors = np.empty((len(distinct), model.width), dtype=np.float32)
        clean = [text for text, _ in distinct]
        entries = [inputs[heading] for _, heading in distinct]
        for route in dict.fromkeys(entry.route for entry in entries):
            chosen = [index for index, entry in enumerate(entries) if entry.route == route]
            vectors[chosen] = self._encode_distinct(
                model,
                [clean[index] for index in chosen],
                [entries[index] for index in chosen],
                firsts[chosen],
                normalize=profile.normalize,
            )
        finished = finish(vectors, profile.dimensions, normalize=profile.normalize)
        return validated(finished[rows], texts, profile.dimensions)

    def encode_tokens(self, text: str, role: Role) -> SummedTokenVectors:
        """Encode one text, of any length, into token vectors that know the whole text.

        Args:
            text: The text.
            role: Whose prompt stands in front.

        Returns:
            Token vectors, ready to be pooled span by span; see `rag_embeddings.encode.token_vectors`.

        Raises:
            UnsupportedModelError: If the model does not pool by the mean, is causal, or has a tokenizer whose offsets
                cannot be trusted.
        """
        return self.encode_tokens_many([TokenText(text)], role)[0]

    def encode_tokens_many(
        self, texts: Sequence[TokenText], role: Role, *, windows: Windows = DEFAULT_WINDOWS, force: bool = False
    ) -> list[SummedTokenVectors]:
        """Encode texts of any length into token vectors; see `rag_embeddings.encode.token_pass.token_vectors`.

        Args:
            texts: The texts. Their windows share batches.
            role: Whose prompt stands in front.
            windows: How texts longer than the model are laid out.
            force: Average the tokens of models that pool otherwise or are causal, too.

        Returns:
            The token vectors of each text.

        Raises:
            UnsupportedModelError: If the model does not pool by the mean or is causal, unless forced; if it has no
                transformer, or a tokenizer whose offsets cannot be trusted.
            BudgetError: If a window is larger than what the model takes.
            TextTooLongError: If prompt, context and special tokens leave no room to a long text.
            VectorError: If a text has no tokens, special ones included.
        """
        model, profile = self._load()
        role = Role(role)
        if reason := model.why_not_tokens(role, force=force):
            raise UnsupportedModelError(
                f"token vectors of this model must not be averaged span by span: {reason}. Encode each span's text "
                "instead, or take a model that pools by the mean over tokens that see both sides"
            )

        clean = [
            replace(text, text=without_surrogates(text.text), context=without_surrogates(text.context))
            for text in texts
        ]
        finished = partial(finish, dimensions=profile.dimensions, normalize=profile.normalize)
        token_model = model.token_model(role, finished)
        return token_vectors(token_model, clean, windows, self._settings["batch_tokens"])

    def _load(self) -> tuple[LocalModel, Profile]:
        if self._loaded is None:
            with self._loading:
                if self._loaded is None:
                    self._loaded = self._load_now()
        return self._loaded

    def _load_now(self) -> tuple[LocalModel, Profile]:
        model, profile, self._prompts = set_up(self._settings)
        self._queue = BatchQueue(
            model.vectors, width=model.width, lanes=model.lanes, budget=self._settings["batch_tokens"]
        )
        return model, profile

    def _inputs(
        self, role: Role, titles: Sequence[str], *, task: str | None, prompt: str | None
    ) -> dict[str, TextInput]:
        """Return how the texts of a call enter, by title."""
        entry = self._load()[0].inputs[role]
        if task is None and prompt is None and not any(titles):
            return {"": entry}
        prompts = cast("Prompts", self._prompts)  # set before the model
        return {
            title: entry.framed(framing.prompt, suffix=framing.suffix, adapter=framing.adapter)
            for title in dict.fromkeys(titles)
            for framing in [prompts.framing(role, prompt=prompt, task=task, title=title)]
        }

    def _encode_distinct(
        self, model: LocalModel, texts: list[str], entries: list[TextInput], names: Tokens, *, normalize: bool
    ) -> Vectors:
        """Encode texts of one route, each in as many pieces as it takes; the caller knows them by ``names``."""
        owners: list[int] = []
        lengths: list[int] = []

        def slices() -> Iterator[list[Tokens]]:
            for start in range(0, len(texts), _SLICE):
                pieces: list[Tokens] = []
                stop = start + _SLICE
                for index, tokens in enumerate(tokens_of(entries[start:stop], texts[start:stop]), start):
                    entry = entries[index]
                    if len(tokens) == 0:
                        raise VectorError(f"text {names[index]} has no tokens for this model: {texts[index][:60]!r}")
                    fits = entry.limit is None or len(tokens) <= entry.limit
                    found = [tokens] if fits else self._pieces(entry, texts[index], names[index], len(tokens))
                    pieces.extend(found)
                    owners.extend([index] * len(found))
                lengths.extend(len(piece) for piece in pieces)
                yield pieces

        def done(pieces: list[int]) -> None:
            bar.update(sum(piece == 0 or owners[piece] != owners[piece - 1] for piece in pieces))

        tqdm = require("tqdm", "local").tqdm
        with tqdm(total=len(texts), desc="encode", unit="text", disable=not self._settings["progress"]) as bar:
            vectors = self._queue.run(slices(), entries[0].route, done)
        if len(owners) == len(texts):
            return vectors
        # The share of a piece is its tokens without prompt and special tokens, which stand in every piece. A token of
        # the text may have merged with one of the prompt, hence at least one.
        weights = np.array(
            [max(length - entries[owner].overhead, 1) for owner, length in zip(owners, lengths, strict=True)],
            dtype=np.float64,
        )
        vectors = finish(vectors, model.width, normalize=normalize)
        return weighted_means(vectors, np.array(owners), weights, len(texts))

    def _pieces(self, entry: TextInput, text: str, index: int, tokens: int) -> list[Tokens]:
        """Cut one text into pieces that fit, or refuse it."""
        message = too_long(entry, text, index, tokens, refuse=self.too_long == "error")
        if not self._warned:
            self._warned = True
            _LOGGER.warning(
                "%s. It is encoded in parts and their mean is taken; this is said once per encoder", message
            )
        return fitting_pieces(entry, text, message)


OPTIONS = tuple(name for name in inspect.signature(TransformerEncoder).parameters if name not in {"model", "progress"})
"""Names of the arguments that change how a model is loaded or used; the framework classes have a field for each."""


def _headings(texts: Sequence[str], role: Role, titles: Sequence[str] | None) -> list[str]:
    """Return a title for each text, empty where it has none."""
    if titles is None:
        return [""] * len(texts)
    if isinstance(titles, str) or len(titles) != len(texts):
        raise ValueError(f"{len(texts)} texts need as many titles, got {titles!r:.60}")
    if role is Role.QUERY:
        raise ValueError("titles belong to documents; queries have none")
    return [without_surrogates(title) for title in titles]
