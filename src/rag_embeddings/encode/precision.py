"""How a model calculates: number format, linear layers laid out for the processor, threads.

Only lazy code imports this module: it loads torch.
"""

from __future__ import annotations

import ctypes
import logging
import warnings
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from rag_embeddings.errors import UnsupportedModelError, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from rag_embeddings.encode.base import Vectors

torch = require("torch", "local")
modules = require("sentence_transformers.sentence_transformer.modules", "local")
threadpoolctl = require("threadpoolctl", "local")

_LOGGER = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16"]

FLOOR = 0.999
"""Least cosine between the vectors of a model in bf16 and in fp32."""

_SAME = 1e-5  # what fp32 may differ by
_REFUSALS = (AttributeError, RuntimeError, TypeError)  # of a model that looks into its own linear layers
_MOST_LANES = 16
_FEW = 64
# Short and long, prose, code, numbers, other scripts: what the floor is measured on.
_SENTENCES = (
    "How do I reset my password?",
    "river",
    "def mean(values: list[float]) -> float:\n    return sum(values) / len(values)",
    "Revenue rose by 12.5 % to $1,204,331 in Q3 2024; see table 7.",
    "河水在春天慢慢上涨",
    "Der Kupferdraht schmilzt bei 1085 Grad, das Zinn schon bei 232.",
    "The old mill stands where the two rivers meet. In spring the water reaches its second step, and the miller's "
    "family moves everything of value to the loft. Nobody remembers a year in which it rose higher. "
    "They announced that the bridge would be closed; they did not say for how long, and nobody asked. " * 2,
)


def expected_faster(device: str) -> bool:
    """Return whether bf16 multiplies matrices faster than fp32 on a device.

    True for GPUs with bf16 and for processors with AMX-BF16 or AVX512-BF16, which calculate in it rather than convert.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and (_processor_has("amx_bf16") or _processor_has("avx512_bf16"))


def _processor_has(feature: str) -> bool:
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get(feature))


def prepare(load: Callable[[], Any], precision: str) -> tuple[Any, Precision]:
    """Load a model and make it calculate as asked for.

    Its vectors of a few sentences are compared with those it gave as it was loaded.

    Args:
        load: Loads the SentenceTransformer in fp32; called once more if the model has to be taken back.
        precision: ``"fp32"``, ``"bf16"``, or ``"auto"`` for bf16 where it is faster and stays above `FLOOR`.

    Returns:
        The model, and the precision it runs in.

    Raises:
        UnsupportedModelError: If the precision is ``"bf16"`` and a cosine is below `FLOOR`, or the model refuses.
    """
    model = load()
    device = model.device.type
    transformers = [module for module in model.modules() if isinstance(module, modules.Transformer)]
    if not transformers:
        return model, "fp32"
    if precision == "bf16" or (precision == "auto" and expected_faster(device)):
        reason = _into_bf16(model, transformers)
        if not reason:
            return model, "bf16"
        if precision == "bf16":
            raise UnsupportedModelError(f"the model cannot run in bf16: {reason}; use precision='fp32'")
        warnings.warn(f"the model cannot run in bf16: {reason}; it runs in fp32", stacklevel=2)
        model = load()
        transformers = [module for module in model.modules() if isinstance(module, modules.Transformer)]
    if device == "cpu" and (reason := _into_packed(model, transformers)):
        _LOGGER.info("the linear layers stay as they are: %s", reason)
        model = load()
    return model, "fp32"


def _into_bf16(model: Any, transformers: list[Any]) -> str:
    """Make a model calculate in bf16 and return what is wrong with it then, or an empty string."""
    exact = _vectors(model, _SENTENCES)
    for module in transformers:
        to_bf16(module, model.device.type)
    try:
        worst = fidelity(exact, _vectors(model, _SENTENCES))
    except _REFUSALS as error:
        return str(error)
    return "" if worst >= FLOOR else f"its vectors have a cosine of {worst:.5f} to those in fp32, less than {FLOOR}"


def _into_packed(model: Any, transformers: list[Any]) -> str:
    """Pack a model's linear layers and return what is wrong with it then, or an empty string."""
    exact = _vectors(model, _SENTENCES[:1])
    for module in transformers:
        pack(module, torch.float32)
    try:
        difference = float(np.abs(exact - _vectors(model, _SENTENCES[:1])).max())
    except _REFUSALS as error:
        return str(error)
    same = difference <= _SAME * max(1.0, float(np.abs(exact).max()))
    return "" if same else f"packed ones differ by {difference:.1e}"


def fidelity(exact: Vectors, other: Vectors) -> float:
    """Return the least cosine between corresponding rows; 0 if one is not finite."""
    if not np.isfinite(other).all():
        return 0.0
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(other, axis=1)
    return float(((exact * other).sum(axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)).min())


def _vectors(model: Any, sentences: Sequence[str]) -> Vectors:
    """Encode sentences as documents, and one as a query, which may take another route."""
    with _limited(1):  # all threads would wait for whatever else runs
        documents = model.encode_document(list(sentences), show_progress_bar=False)
        query = model.encode_query(list(sentences[:1]), show_progress_bar=False)
    vectors: Vectors = np.concatenate((documents, query)).astype(np.float32)
    return vectors


def to_bf16(module: Any, device: str) -> None:
    """Make a Transformer module calculate in bf16; what follows it goes on in fp32.

    On a CPU, attention does so only where there is AMX: without it, attention in bf16 takes longer than in fp32.
    """
    if not (device == "cpu" and pack(module, torch.bfloat16)):
        module.to(torch.bfloat16)
    elif _processor_has("amx_bf16"):
        module.forward = _attending_in_bf16(module.forward)

    def as_float(_module: Any, _inputs: Any, features: dict[str, Any]) -> dict[str, Any]:
        return {name: value.float() if _is_half(value) else value for name, value in features.items()}

    module.register_forward_hook(as_float)


def _attending_in_bf16(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the forward pass of packed layers, whose products autocast does not know: it is left with attention."""

    def run(*inputs: Any, **options: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
            return forward(*inputs, **options)

    return run


def _is_half(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16


class PackedLinear(torch.nn.Module):  # type: ignore[misc,name-defined]  # torch is loaded lazily
    """A linear layer whose weights are laid out for oneDNN once, rather than at every call.

    Takes float32. On processors with AVX-512 it is 10 to 20 % faster than torch's own in fp32.

    Args:
        linear: The layer.
        dtype: Number format of weights and products; the sums are float32.
        gelu: Whether the exact GELU follows; done in the same pass, its result stays in ``dtype``.
    """

    def __init__(self, linear: Any, dtype: Any, *, gelu: bool = False) -> None:
        super().__init__()
        self._dtype = dtype
        self._result = dtype if gelu else torch.float32
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().to(dtype), 1024)  # noqa: SLF001
        self._bias = None if linear.bias is None else linear.bias.detach().to(dtype)
        self._then: tuple[Any, ...] = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, inputs: Any) -> Any:
        """Multiply, add, and apply what follows."""
        run = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001
        return run(inputs.to(self._dtype), self._weight, self._bias, *self._then).to(self._result)


def pack(module: Any, dtype: Any) -> bool:
    """Replace every linear layer inside a module by a `PackedLinear`; return False if this torch cannot."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    for name, child in list(module.named_children()):
        if type(child) is torch.nn.Linear:
            gelu = name == "dense" and _is_gelu(getattr(module, "intermediate_act_fn", None))
            setattr(module, name, PackedLinear(child, dtype, gelu=gelu))
            if gelu:
                module.intermediate_act_fn = torch.nn.Identity()
        else:
            pack(child, dtype)
    return True


def _is_gelu(module: Any) -> bool:
    return type(module).__name__ == "GELUActivation" or (
        isinstance(module, torch.nn.GELU) and module.approximate == "none"
    )


class Threads:
    """How batches share the processor.

    Several batches at once with one thread each take less time than one after the other with all threads, which wait
    for one another in every layer; the more so on a machine that has something else to do.

    Args:
        device: Type of the device.
        shared: Whether the model may run in several threads at once.

    Attributes:
        lanes: Batches that run at once.
    """

    def __init__(self, device: str, *, shared: bool) -> None:
        threads: int = torch.get_num_threads()
        several = shared and device == "cpu" and torch.backends.openmp.is_available() and _openmp().lib_controllers
        self.lanes = min(threads, _MOST_LANES) if several else 1
        self._each = threads // self.lanes

    def lane(self, tokens: int, *, alone: bool) -> AbstractContextManager[None]:
        """Return a context in which this thread takes its share of the processor, or all of it if it is alone.

        So few tokens as a query has never take more than the share: they would gain a millisecond or two, and where
        something else runs on the machine lose far more to threads that wait.
        """
        return nullcontext() if self.lanes == 1 or (alone and tokens >= _FEW) else _limited(self._each)


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    """Let whatever torch calls take so many threads for the calling thread."""
    torch.get_num_threads()  # a new thread takes torch's own number first
    limit_mkl = _mkl_limit()
    # After torch.set_num_threads(), MKL, which attention multiplies with, no longer asks OpenMP.
    before = limit_mkl(threads)
    try:
        with _openmp().limit(limits=threads):
            yield
    finally:
        limit_mkl(before)


@cache
def _openmp() -> Any:
    """Return what sets the number of threads of every OpenMP that torch brought along."""
    return threadpoolctl.ThreadpoolController().select(user_api="openmp")


@cache
def _mkl_limit() -> Callable[[int], int]:
    """Return what sets the number of threads that MKL takes in the calling thread, and returns the number before.

    0 stands for MKL's own choice. A torch without MKL has nothing to set.
    """
    for library in (Path(*torch.__path__) / "lib").glob("*torch_cpu.*"):
        limit = getattr(ctypes.CDLL(str(library)), "MKL_Set_Num_Threads_Local", None)
        if limit is not None:
            return cast("Callable[[int], int]", limit)
    return lambda _: 0


def may_share(model: Any) -> bool:
    """Return whether a model may run in several threads: not if it recomputes rotary frequencies as texts come."""
    return not any(getattr(module, "rope_type", None) in ("dynamic", "longrope") for module in model.modules())
