"""Running only the lower layers of a transformer: less compute, for models trained for it (2D Matryoshka, Espresso)."""

from __future__ import annotations

from typing import Any

from rag_embeddings.errors import UnsupportedModelError


def keep_layers(transformer: Any, count: int) -> int:
    """Drop every layer of a transformer above the lowest ones, so that neither compute nor memory goes into them.

    What stands behind the layers (a closing normalisation, where an architecture has one) stays.

    Args:
        transformer: A model of the transformers library.
        count: How many layers to keep.

    Returns:
        How many layers it had.

    Raises:
        UnsupportedModelError: If it has fewer, or its layers cannot be told.
    """
    parent, name, stack = _stack(transformer)
    total = len(stack)
    if count > total:
        raise UnsupportedModelError(f"the model has {total} layers, {count} were asked for")
    if count < total:
        setattr(parent, name, type(stack)(list(stack)[:count]))
        _shorten(transformer.config, total, count)
    return total


def _stack(transformer: Any) -> tuple[Any, str, Any]:
    """Return the list of layers with the module and name it is kept under: the outermost list of the known length."""
    total = getattr(transformer.config, "num_hidden_layers", None)
    found: list[tuple[str, Any, str, Any]] = []
    for path, module in transformer.named_modules():  # outer modules come first
        if type(module).__name__ == "ModuleList" and len(module) == total and len({type(item) for item in module}) == 1:
            above, _, name = path.rpartition(".")
            inside = any(path.startswith(f"{earlier}.") for earlier, _, _, _ in found)
            if not inside:
                found.append((path, transformer.get_submodule(above), name, module))
    if len(found) != 1:
        raise UnsupportedModelError(
            f"{type(transformer).__name__} has {len(found)} lists of {total} layers; layers= needs exactly one"
        )
    _, parent, name, stack = found[0]
    return parent, name, stack


def _shorten(config: Any, total: int, count: int) -> None:
    """Tell the configuration as well: some architectures count and look up their layers there."""
    config.num_hidden_layers = count
    for name in ("layer_types", "mlp_layer_types"):
        kinds = getattr(config, name, None)
        if isinstance(kinds, list) and len(kinds) == total:
            setattr(config, name, kinds[:count])
