"""A loaded SentenceTransformer, seen as what `TransformerEncoder` needs.

Only lazy code imports this module: it loads torch.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.layers import keep_layers
from rag_embeddings.encode.precision import Threads, may_share, prepare
from rag_embeddings.encode.token_pass import TokenModel
from rag_embeddings.encode.tokens import Route, TextInput, why_not_offsets
from rag_embeddings.errors import UnsupportedModelError, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.resolve import Source
    from rag_embeddings.encode.tokens import Tokens

torch = require("torch", "local")
sentence_transformers = require("sentence_transformers", "local")
modules = require("sentence_transformers.sentence_transformer.modules", "local")

MEAN_WITHOUT_FIRST = "mean_without_first"

_LOADING = threading.Lock()


class LocalModel:
    """A SentenceTransformer on this machine.

    Args:
        source: Where its files are.
        device: Where to run; None for sentence-transformers' own choice.
        trust_remote_code: Whether Python files of the model may run.
        normalize: None as the model does it; False leaves out its closing `Normalize`.
        pooling: Another pooling than its own: a mode of sentence-transformers' `Pooling`, or ``"mean_without_first"``.
        pool_prompt: Whether pooling counts the tokens of the prompt; None as the model does it.
        layers: Run only so many of the transformer's layers, from the lowest; None for all.
        precision: ``"auto"``, ``"fp32"`` or ``"bf16"``; see `rag_embeddings.encode.precision.prepare`.

    Attributes:
        precision: The one it runs in, ``"fp32"`` or ``"bf16"``.
        lanes: How many batches may run at once.
        inputs: One `TextInput` per role, as yet without a prompt.
        prompts: The model's own prompts, by name.
        adapts: Whether the model takes the name of a task and runs an adapter for it.
        layers: Layers that run where they are not all, else None.
        normalizes: Whether the model itself gives vectors of length 1.
        width: Dimensions of what its modules give.
        own_dimensions: How many of them its configuration keeps; None for all.
        pooling: Name of its pooling.
        similarity: Name of the comparison it was trained for.
    """

    def __init__(
        self,
        source: Source,
        *,
        device: str | None,
        trust_remote_code: bool,
        normalize: bool | None,
        pooling: str | None = None,
        pool_prompt: bool | None = None,
        layers: int | None = None,
        precision: str = "fp32",
    ) -> None:
        self.layers: int | None = None

        def load() -> Any:
            model = _load(source, device=device, trust_remote_code=trust_remote_code)
            if layers is not None:
                self.layers = _keep_layers(model, layers)
            _set_pooling(model, pooling, pool_prompt=pool_prompt)
            return model

        model, self.precision = prepare(load, precision)
        self._model = model
        self.prompts: dict[str, str | None] = dict(model.prompts)
        self.adapts = any("task" in names for names in (model.module_kwargs or {}).values())
        self._threads = Threads(model.device.type, shared=not trust_remote_code and may_share(model))
        self.lanes = self._threads.lanes
        self._gate = threading.BoundedSemaphore(self.lanes)
        if normalize is False and isinstance(model[-1], modules.Normalize):
            del model[len(model) - 1]
        # Some configurations ask for truncation; the modules themselves give all dimensions.
        self.own_dimensions: int | None = model.truncate_dim
        model.truncate_dim = None
        self.width: int = model.get_embedding_dimension()
        self.similarity: str = model.similarity_fn_name
        self.normalizes = all(isinstance(self.chain(role)[-1], modules.Normalize) for role in Role)
        self.pooling = pooling if pooling == MEAN_WITHOUT_FIRST else _pooling(self.chain(Role.DOCUMENT))
        self._refusals: dict[tuple[Role, bool], str] = {}
        skip_first = pooling == MEAN_WITHOUT_FIRST
        self.inputs = {role: _text_input(self.chain(role), role, skip_first=skip_first) for role in Role}

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the model's documents."""
        return self.inputs[Role.DOCUMENT].tokenizer

    def chain(self, role: Role) -> list[Any]:
        """Return the modules that a text of this role passes, routers resolved."""
        found: list[Any] = []
        for module in self._model:
            if isinstance(module, modules.Router):
                found.extend(module.sub_modules[module._resolve_route(task=role.value, modality="text")])  # noqa: SLF001
            else:
                found.append(module)
        return found

    def vectors(self, batch: Sequence[Tokens], route: Route, alone: bool = True) -> Vectors:  # noqa: FBT001, FBT002
        """Run the whole model over one batch.

        Args:
            batch: Token ids of each text, as `TextInput.tokens` gives them.
            route: What the model is told of them.
            alone: Whether it may take all threads rather than the share of a lane.

        Returns:
            float32 of shape (len(batch), width).
        """
        with self._running(batch, alone=alone):
            features = self._features(batch, route)
            return _numpy(self._model(features, task=route.adapter or route.role.value)["sentence_embedding"])

    def states(self, batch: Sequence[Tokens], role: Role, *, alone: bool = True) -> Vectors:
        """Run only the transformer.

        Args:
            batch: Token ids, all of one length.
            role: Whose route.
            alone: Whether it may take all threads rather than the share of a lane.

        Returns:
            float32 of shape (len(batch), tokens, width of a state).
        """
        with self._running(batch, alone=alone):
            route = self.inputs[role].route
            told = {"task": route.adapter} if self.adapts and route.adapter else {}
            return _numpy(self.chain(role)[0](self._features(batch, route), **told)["token_embeddings"])

    def after_pooling(self, pooled: Vectors, role: Role) -> Vectors:
        """Run every module behind `Pooling`: they are part of the vector.

        Args:
            pooled: float32 of shape (n, width of a state).
            role: Whose route.

        Returns:
            float32 of shape (n, width).
        """
        with self._gate, torch.inference_mode():
            features = {"sentence_embedding": torch.from_numpy(pooled).to(self._model.device)}
            for module in self.chain(role)[2:]:
                features = module(features)
            return _numpy(features["sentence_embedding"])

    def token_model(self, role: Role, finished: Callable[[Vectors], Vectors]) -> TokenModel:
        """Return what a pass over whole texts needs of the model.

        Args:
            role: Whose route.
            finished: What is done to vectors behind the model's last module.
        """
        return TokenModel(
            entry=self.inputs[role],
            states=lambda batch, alone: self.states(batch, role, alone=alone),
            after_pooling=lambda means: finished(self.after_pooling(means.astype(np.float32), role)),
            averages=self.pooling.startswith("mean"),
            skips_prompt=not self.pools_prompt(role),
            by_position=self.pools_by_position(role),
            lanes=self.lanes,
        )

    @contextmanager
    def _running(self, batch: Sequence[Tokens], *, alone: bool) -> Iterator[None]:
        lane = self._threads.lane(sum(len(ids) for ids in batch), alone=alone)
        with self._gate, lane, torch.inference_mode():
            yield

    def pools_prompt(self, role: Role) -> bool:
        """Return whether the model's pooling counts the tokens of the prompt."""
        return bool(self.chain(role)[1].include_prompt)

    def pools_by_position(self, role: Role) -> bool:
        """Return whether the model's pooling weighs a token by its position."""
        return bool(self.chain(role)[1].pooling_mode == "weightedmean")

    def why_not_tokens(self, role: Role, *, force: bool = False) -> str:
        """Return why vectors of this model's tokens may not be averaged span by span, or an empty string.

        Args:
            role: Whose route.
            force: Whether a pooling that is no mean, and tokens that look back only, are no reasons.
        """
        if (role, force) not in self._refusals:
            self._refusals[role, force] = self._why_not_tokens(role, force=force)
        return self._refusals[role, force]

    def _why_not_tokens(self, role: Role, *, force: bool) -> str:
        first, *rest = self.chain(role)
        if not isinstance(first, modules.Transformer) or not rest or not isinstance(rest[0], modules.Pooling):
            return "it has no transformer with pooling right behind it"
        if not isinstance(rest[0].pooling_mode, str):
            return f"it joins several poolings, {'+'.join(rest[0].pooling_mode)}"
        if not force and rest[0].pooling_mode not in {"mean", "weightedmean"}:
            return f"it pools by {rest[0].pooling_mode!r}, and only a mean over tokens can be taken span by span"
        if not force and self._looks_back_only(role):
            return "it is causal: a token knows nothing of the text behind it"
        if lie := why_not_offsets(self.inputs[role]):
            return f"the offsets of its tokenizer cannot be trusted: {lie}"
        return ""

    def _looks_back_only(self, role: Role) -> bool:
        """Try it out: do the tokens in front notice that the last one changed?"""
        (ids,) = self.inputs[role].tokens(["a b c d"])
        other = ids.copy()
        other[-1] = 0 if ids[-1] else 1
        before, after = self.states([ids, other], role)[:, :-1]
        return bool(np.abs(before - after).max(initial=0.0) <= 1e-6 * np.abs(before).max(initial=0.0))

    def _features(self, batch: Sequence[Tokens], route: Route) -> dict[str, Any]:
        """Turn token ids into what the model's first module reads."""
        entry = self.inputs[route.role]
        first = self.chain(route.role)[0]
        device = self._model.device
        lengths = np.array([len(ids) for ids in batch])
        if isinstance(first, modules.StaticEmbedding):
            starts = np.cumsum(lengths) - lengths
            flat = torch.from_numpy(np.concatenate(batch))
            return {"input_ids": flat.to(device), "offsets": torch.from_numpy(starts).to(device)}
        # Padding stands behind the text whatever the model's habit: positions then start at 0, as without padding.
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, entry.pad, dtype=np.int64)
        ids[mask] = np.concatenate(batch)
        features = {
            "input_ids": torch.from_numpy(ids).to(device),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)).to(device),
        }
        if isinstance(first, modules.Transformer):  # a module that comes with the model may not know the word
            features["modality"] = "text"
        if entry.typed:
            features["token_type_ids"] = torch.zeros_like(features["input_ids"])
        if route.skipped:
            features["prompt_length"] = route.skipped
        return features


def _keep_layers(model: Any, count: int) -> int | None:
    """Cut every transformer of a model down to its lowest layers; return None where those were all."""
    transformers = [inner for module in model.modules() if (inner := getattr(module, "auto_model", None)) is not None]
    if not transformers:
        raise UnsupportedModelError(f"layers={count} was asked for, and the model has no transformer")
    totals = {keep_layers(transformer, count) for transformer in transformers}
    return None if totals == {count} else count


def _set_pooling(model: Any, pooling: str | None, *, pool_prompt: bool | None) -> None:
    """Make a model pool as asked for; what follows pooling stays."""
    found = [module for module in model.modules() if isinstance(module, modules.Pooling)]
    if pooling is not None and not found:
        raise UnsupportedModelError(f"pooling={pooling!r} was asked for, and the model has no pooling to change")
    for module in found:
        if pooling is not None:
            if not isinstance(module.pooling_mode, str):
                joined = "+".join(module.pooling_mode)
                raise UnsupportedModelError(f"the model joins several poolings, {joined}, which cannot be changed")
            module.pooling_mode = "mean" if pooling == MEAN_WITHOUT_FIRST else pooling
        if pool_prompt is not None:
            module.include_prompt = pool_prompt
        if pooling == MEAN_WITHOUT_FIRST:
            module.include_prompt = False  # what it leaves out is then the first token: `TextInput.skip_first`


def _text_input(chain: list[Any], role: Role, *, skip_first: bool) -> TextInput:
    module = chain[0]
    tokenizer = getattr(module, "tokenizer", None)
    static = isinstance(module, modules.StaticEmbedding)
    backend = None
    if static:
        backend = tokenizer
    elif _reads_text(module):
        backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UnsupportedModelError(
            f"the model begins with {type(module).__name__} and the tokenizer {type(tokenizer).__name__}; needed is a "
            "Transformer or StaticEmbedding that reads plain text through a fast tokenizer"
        )
    # Files of tokenizers carry a truncation of their own; nobody who counts with this one wants it.
    backend.no_truncation()
    backend.no_padding()
    skip_prompt = any(isinstance(part, modules.Pooling) and not part.include_prompt for part in chain)
    return TextInput(
        tokenizer,
        backend,
        "",
        getattr(module, "max_seq_length", None),
        special_tokens=not static,
        role=role,
        skip_prompt=skip_prompt,
        skip_first=skip_first,
    )


def _reads_text(module: Any) -> bool:
    """Whether the first module of a model reads plain text: a Transformer, or one of the model's own in its place."""
    if isinstance(module, modules.Transformer):
        return "message" not in module.modality_config
    return not type(module).__module__.startswith("sentence_transformers.")


def _pooling(chain: list[Any]) -> str:
    if isinstance(chain[0], modules.StaticEmbedding):
        return "mean"
    for module in chain:
        if isinstance(module, modules.Pooling):
            mode = module.pooling_mode if isinstance(module.pooling_mode, str) else "+".join(module.pooling_mode)
            return mode if module.include_prompt else f"{mode} without prompt"
    return "unknown"


def _numpy(tensor: Any) -> Vectors:
    array: Vectors = tensor.float().cpu().numpy()
    return array


def _load(source: Source, *, device: str | None, trust_remote_code: bool) -> Any:
    """Load from the folder alone; code of other repositories is fetched only where the caller trusts it."""
    try:
        with _LOADING, _without_progress_bars():
            model = sentence_transformers.SentenceTransformer(
                str(source.folder),
                device=device,
                trust_remote_code=trust_remote_code,
                local_files_only=not trust_remote_code,
                # Checkpoints in half precision run in float32 too: vectors must not depend on their batch.
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            )
    except (OSError, ValueError, ImportError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UnsupportedModelError(f"{source.name!r} could not be loaded from {source.folder}: {reason}") from error
    return model.eval()


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Silence transformers' bar over weights; it is drawn on every load and cannot be turned off per call."""
    logging = require("transformers", "local").utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
