"""A loaded SentenceTransformer, seen as what `TransformerEncoder` needs.

Only lazy code imports this module: it loads torch.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.tokens import TextInput, why_not_offsets
from rag_embeddings.errors import UnsupportedModelError, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.resolve import Source
    from rag_embeddings.encode.tokens import Tokens

torch = require("torch", "local")
sentence_transformers = require("sentence_transformers", "local")
modules = require("sentence_transformers.sentence_transformer.modules", "local")

_LOADING = threading.Lock()


class LocalModel:
    """A SentenceTransformer on this machine.

    Args:
        source: Where its files are.
        device: Where to run; None for sentence-transformers' own choice.
        trust_remote_code: Whether Python files of the model may run.
        prompts: Prompt per role; None stands for the model's own.
        normalize: None as the model does it; False leaves out its closing `Normalize`.

    Attributes:
        inputs: One `TextInput` per role.
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
        prompts: dict[Role, str | None],
        normalize: bool | None,
    ) -> None:
        self._lock = threading.Lock()
        self._model = model = _load(source, device=device, trust_remote_code=trust_remote_code)
        if normalize is False and isinstance(model[-1], modules.Normalize):
            del model[len(model) - 1]
        # Some configurations ask for truncation; the modules themselves give all dimensions.
        self.own_dimensions: int | None = model.truncate_dim
        model.truncate_dim = None
        self.width: int = model.get_embedding_dimension()
        self.similarity: str = model.similarity_fn_name
        self.normalizes = all(isinstance(self.chain(role)[-1], modules.Normalize) for role in Role)
        self.pooling = _pooling(self.chain(Role.DOCUMENT))
        self._refusals: dict[tuple[Role, bool], str] = {}
        self.inputs: dict[Role, TextInput] = {}
        for role in Role:
            prompt = prompts[role]
            self.inputs[role] = _text_input(
                self.chain(role)[0], own_prompt(model.prompts, role) if prompt is None else prompt
            )

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

    def vectors(self, batch: Sequence[Tokens], role: Role) -> Vectors:
        """Run the whole model over one batch.

        Args:
            batch: Token ids of each text, as `TextInput.tokens` gives them.
            role: Whose prompt and route.

        Returns:
            float32 of shape (len(batch), width).
        """
        with self._lock, torch.inference_mode():
            features = self._features(batch, role)
            return _numpy(self._model(features, task=role.value)["sentence_embedding"])

    def states(self, batch: Sequence[Tokens], role: Role) -> Vectors:
        """Run only the transformer.

        Args:
            batch: Token ids, all of one length.
            role: Whose route.

        Returns:
            float32 of shape (len(batch), tokens, width of a state).
        """
        with self._lock, torch.inference_mode():
            features = self._features(batch, role)
            return _numpy(self.chain(role)[0](features)["token_embeddings"])

    def after_pooling(self, pooled: Vectors, role: Role) -> Vectors:
        """Run every module behind `Pooling`: they are part of the vector.

        Args:
            pooled: float32 of shape (n, width of a state).
            role: Whose route.

        Returns:
            float32 of shape (n, width).
        """
        with self._lock, torch.inference_mode():
            features = {"sentence_embedding": torch.from_numpy(pooled).to(self._model.device, self._model.dtype)}
            for module in self.chain(role)[2:]:
                features = module(features)
            return _numpy(features["sentence_embedding"])

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

    def _features(self, batch: Sequence[Tokens], role: Role) -> dict[str, Any]:
        """Turn token ids into what the model's first module reads."""
        entry = self.inputs[role]
        device = self._model.device
        lengths = np.array([len(ids) for ids in batch])
        if isinstance(self.chain(role)[0], modules.StaticEmbedding):
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
            "modality": "text",
        }
        if entry.typed:
            features["token_type_ids"] = torch.zeros_like(features["input_ids"])
        if entry.prompt_length:
            features["prompt_length"] = entry.prompt_length
        return features


def own_prompt(prompts: dict[str, str | None], role: Role) -> str:
    """Return a model's own prompt for a role: the first that is not empty, as sentence-transformers looks for it."""
    names = ("query",) if role is Role.QUERY else ("document", "passage", "corpus")
    return next((prompt for name in names if (prompt := prompts.get(name))), "")


def _text_input(module: Any, prompt: str) -> TextInput:
    tokenizer = getattr(module, "tokenizer", None)
    static = isinstance(module, modules.StaticEmbedding)
    backend = None
    if static:
        backend = tokenizer
    elif isinstance(module, modules.Transformer) and "message" not in module.modality_config:
        backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UnsupportedModelError(
            f"the model begins with {type(module).__name__} and the tokenizer {type(tokenizer).__name__}; needed is a "
            "Transformer or StaticEmbedding that reads plain text through a fast tokenizer"
        )
    # Files of tokenizers carry a truncation of their own; nobody who counts with this one wants it.
    backend.no_truncation()
    backend.no_padding()
    return TextInput(tokenizer, backend, prompt, getattr(module, "max_seq_length", None), special_tokens=not static)


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
