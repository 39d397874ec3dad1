"""What the files of a model say themselves, where loading it would fill in a default."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_embeddings.errors import UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Stated:
    """What a model's files state.

    Attributes:
        modules: Whether they list the model's modules, pooling among them; without, a plain transformer is pooled by
            sentence-transformers' default.
        prompt_in_pooling: Whether they say if pooling counts the prompt.
        similarity: Whether they say how vectors are compared.
        matryoshka_dimensions: The widths that the model was trained for, where its configuration lists them.
    """

    modules: bool = True
    prompt_in_pooling: bool = True
    similarity: bool = True
    matryoshka_dimensions: tuple[int, ...] = ()


def stated_by(folder: Path) -> Stated:
    """Read what the files in a model's folder state.

    Raises:
        UnsupportedModelError: If one of them cannot be read.
    """
    listing = folder / "modules.json"
    pooling = [
        _read(folder / module["path"] / "config.json")
        for module in (_read(listing) if listing.is_file() else [])
        if module.get("type", "").endswith("Pooling")
    ]
    config = _read(folder / "config.json")
    widths = config.get("matryoshka_dimensions") or config.get("matryoshka_dims") or ()
    return Stated(
        modules=listing.is_file(),
        prompt_in_pooling=any("include_prompt" in settings for settings in pooling),
        similarity=bool(_read(folder / "config_sentence_transformers.json").get("similarity_fn_name")),
        matryoshka_dimensions=tuple(sorted(width for width in widths if isinstance(width, int))),
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError as error:
        raise UnsupportedModelError(f"{path} is not JSON: {error}") from error
