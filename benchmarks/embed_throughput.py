"""How fast texts become vectors, side by side with what LangChain and LlamaIndex users run today.

all-MiniLM-L6-v2 on two threads, in one process: `TransformerEncoder` in each precision, langchain-huggingface's
HuggingFaceEmbeddings and llama-index-embeddings-huggingface's HuggingFaceEmbedding at their defaults, on the same texts
of 100 tokens and of 8 to 256 tokens::

    pip install langchain-huggingface llama-index-embeddings-huggingface
    python benchmarks/embed_throughput.py

Everybody takes turns, so that whatever else the machine does hits all alike; a ratio is the median over the rounds of
the faster peer's time by ours in the same round. Beside it: the bare model (torch, no padding, nothing around it), and
the rate of our linear layers' products as a share of what torch reaches on large square matrices in the same round.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rag_embeddings.encode.base import Role
from rag_embeddings.encode.transformer import TransformerEncoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Encode = Callable[[list[str]], Any]

WORDS = (
    "the of and a to in is river bridge copper engine because through market between contract measured "
    "temperature vessel harbour quarterly revenue announced patient treatment protein algorithm compile network "
    "photosynthesis constitutional 1085 2024 3.5 % ( ) , . ; city mountain teacher question morning silver"
)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=256, help="texts in a round (default 256)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default 7)")
    parser.add_argument("--threads", type=int, default=2, help="threads that torch may use (default 2)")
    parser.add_argument("--callers", type=int, default=16, help="threads that ask one text each (default 16)")
    parser.add_argument("--only", choices=("even", "mixed", "callers", "profile"), help="run one part (default all)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    ours = {precision: TransformerEncoder(precision=precision) for precision in ("fp32", "bf16")}
    print(f"{machine()}, {options.threads} threads; torch {torch.__version__}; precision='auto' takes ", end="")
    print(TransformerEncoder(precision="auto").precision)
    others = peers()
    bare = bare_model()

    encoders: dict[str, Encode] = {f"ours {name}": documents(encoder) for name, encoder in ours.items()}
    tokenizer = ours["fp32"].tokenizer
    for part, title, lengths in (("even", "100 tokens", (100, 100)), ("mixed", "8 to 256 tokens", (8, 256))):
        if options.only not in (None, part):
            continue
        texts = make_texts(tokenizer, options.texts, *lengths)
        tokens = sum(len(ids) for ids in tokenizer(texts)["input_ids"])
        runs = {**others, "bare model": lambda texts: bare(tokenizer, texts), **encoders}
        times, vectors = race({**runs, **PRODUCTS}, texts, options.rounds)
        exact = vectors["bare model"]
        rates = {name.split()[-1]: [PRODUCT / spent for spent in times.pop(name)] for name in PRODUCTS}
        print(f"\n{len(texts)} texts of {title}, {tokens:,} tokens, {options.rounds} rounds")
        print(f"{'':28}{'tokens/s':>10}{'best':>8}{'ratio':>7}{'min cosine':>12}{'share of product':>18}")
        fastest = [min(times[name][turn] for name in others) for turn in range(options.rounds)] if others else None
        for name, spent in times.items():
            ratio = f"{median(a / b for a, b in zip(fastest, spent, strict=True)):.2f}" if fastest else "-"
            share = ""
            if name in encoders:
                rate = [flops_per_token() * tokens / seconds for seconds in spent]
                share = f"{median(a / b for a, b in zip(rate, rates[name.split()[-1]], strict=True)):.0%}"
            print(
                f"{name:28}{tokens / median(spent):10,.0f}{tokens / min(spent):8,.0f}{ratio:>7}"
                f"{least_cosine(exact, vectors[name]):12.6f}{share:>18}"
            )
        print("matrix product: " + ", ".join(f"{median(r) / 1e9:.0f} GFLOP/s in {name}" for name, r in rates.items()))
    if options.only in (None, "callers"):
        coalescing(ours, others, tokenizer, options)
    if options.only in (None, "profile"):
        for name, encoder in ours.items():
            profile(name, encoder, options.rounds)


def documents(encoder: TransformerEncoder) -> Encode:
    """Our encoder as a function of texts."""
    return lambda texts: encoder.encode(texts, Role.DOCUMENT)


def peers() -> dict[str, Encode]:
    """What is installed of what others use, on the same files."""
    from rag_embeddings.encode.resolve import resolve

    folder = str(resolve("sentence-transformers/all-MiniLM-L6-v2").folder)
    found: dict[str, Encode] = {}
    if find_spec("langchain_huggingface"):
        from langchain_huggingface import HuggingFaceEmbeddings

        found["langchain-huggingface"] = HuggingFaceEmbeddings(
            model_name=folder, model_kwargs={"device": "cpu"}
        ).embed_documents
    else:
        print("langchain-huggingface: skipped, it is not installed")
    if installed("llama_index.embeddings.huggingface"):
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding

        found["llama-index-huggingface"] = HuggingFaceEmbedding(folder, device="cpu").get_text_embedding_batch
    else:
        print("llama-index-embeddings-huggingface: skipped, it is not installed")
    return found


def bare_model() -> Callable[[Any, list[str]], NDArray[np.float32]]:
    """The model alone: texts of one length in batches of about 2,000 tokens, nothing padded, torch's own layers."""
    from transformers import AutoModel

    from rag_embeddings.encode.resolve import resolve

    model = AutoModel.from_pretrained(str(resolve("sentence-transformers/all-MiniLM-L6-v2").folder)).eval()

    def run(tokenizer: Any, texts: list[str]) -> NDArray[np.float32]:
        ids = tokenizer(texts)["input_ids"]
        vectors = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
        by_length: dict[int, list[int]] = {}
        for index, row in enumerate(ids):
            by_length.setdefault(len(row), []).append(index)
        with torch.inference_mode():
            for length, rows in by_length.items():
                for start in range(0, len(rows), 2048 // length):
                    some = rows[start : start + 2048 // length]
                    states = model(torch.tensor([ids[row] for row in some])).last_hidden_state
                    vectors[some] = torch.nn.functional.normalize(states.mean(dim=1)).numpy()
        return vectors

    return run


def race(runs: dict[str, Encode], texts: list[str], rounds: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Let everybody encode the texts, in turns; the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    vectors = {name: np.asarray(run(texts), dtype=np.float32) for name, run in runs.items()}
    for turn in range(rounds):
        order = list(runs)
        random.Random(turn).shuffle(order)  # noqa: S311  (no secret)
        for name in order:
            began = time.perf_counter()
            runs[name](texts)
            times[name].append(time.perf_counter() - began)
    return times, vectors


def coalescing(
    ours: dict[str, TransformerEncoder], others: dict[str, Encode], tokenizer: Any, options: argparse.Namespace
) -> None:
    """Many threads that ask for one text at a time, as the requests of a server do."""
    texts = make_texts(tokenizer, options.callers * 8, 8, 24)
    runs = {**others, **{f"ours {name}": documents(encoder) for name, encoder in ours.items()}}

    def crowd(run: Encode) -> Encode:
        def all_at_once(texts: list[str]) -> list[Any]:
            found: list[Any] = [None] * len(texts)

            def caller(number: int) -> None:
                for index in range(number, len(texts), options.callers):
                    found[index] = run([texts[index]])[0]

            threads = [threading.Thread(target=caller, args=(number,)) for number in range(options.callers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return found

        return all_at_once

    times, vectors = race({name: crowd(run) for name, run in runs.items()}, texts, options.rounds)
    print(f"\n{options.callers} threads that ask for one text of 8 to 24 tokens at a time, {len(texts)} texts")
    print(f"{'':28}{'texts/s':>10}{'best':>8}")
    for name, spent in times.items():
        print(f"{name:28}{len(texts) / median(spent):10,.0f}{len(texts) / min(spent):8,.0f}")
    alone = documents(ours["fp32"])(texts)
    print(f"min cosine of shared to separate batches, fp32: {least_cosine(alone, vectors['ours fp32']):.7f}")


def profile(name: str, encoder: TransformerEncoder, rounds: int) -> None:
    """Print what the model spends its time on: eight windows of 256 tokens, one thread, the least of the rounds."""
    model = encoder._load()[0]  # noqa: SLF001
    windows = [np.arange(1000 + 256 * number, 1256 + 256 * number) for number in range(8)]
    least: dict[str, float] = {}
    for _ in range(rounds + 1):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            model.states(windows, Role.DOCUMENT, alone=False)
        for found in seen.key_averages():
            least[found.key] = min(least.get(found.key, np.inf), found.self_cpu_time_total)
    total = sum(least.values())
    linear = sum(spent for key, spent in least.items() if "linear" in key or "addmm" in key)
    attention = sum(spent for key, spent in least.items() if "attention" in key)
    print(
        f"{name}, windows of 256 tokens: linear layers {linear / total:.0%}, attention {attention / total:.0%}, "
        f"everything else {1 - (linear + attention) / total:.0%}"
    )


def make_texts(tokenizer: Any, count: int, low: int, high: int) -> list[str]:
    """Make texts of so many tokens each, special ones included, all different."""
    choose = random.Random(0)  # noqa: S311  (no secret)
    texts = []
    for _ in range(count):
        wanted = choose.randint(low, high)
        words = choose.choices(WORDS.split(), k=wanted)
        while len(tokenizer(" ".join(words))["input_ids"]) > wanted:
            words.pop()
        while len(tokenizer(" ".join(words))["input_ids"]) < wanted:
            words.append("a")
        texts.append(" ".join(words))
    return texts


def flops_per_token(layers: int = 6, width: int = 384, inner: int = 1536) -> float:
    """Operations of the linear layers of all-MiniLM-L6-v2 for one token; attention and the rest do not count."""
    return 2.0 * layers * (4 * width * width + 2 * width * inner)


def product(dtype: torch.dtype, size: int = 2048) -> Encode:
    """Products of two large square matrices, a shape that suits a machine, as something that takes a turn."""
    left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)

    def run(_: list[str]) -> list[float]:
        torch.nn.functional.linear(left, right)
        return []

    return run


PRODUCTS: dict[str, Encode] = {"product fp32": product(torch.float32), "product bf16": product(torch.bfloat16)}
PRODUCT = 2.0 * 2048**3  # operations in a turn


def least_cosine(left: Any, right: Any) -> float:
    """The least cosine between rows."""
    left, right = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(((left * right).sum(axis=1) / lengths).min())


def installed(module: str) -> bool:
    """Return whether a module of a peer is installed, and what it is part of."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def machine() -> str:
    """Name of the processor, and what it has for bf16."""
    has = torch.cpu.get_capabilities()
    name = str(has.get("cpu_name", sys.platform)).strip()
    return (
        f"{name}, AMX {'yes' if has.get('amx_bf16') else 'no'}, AVX512-BF16 {'yes' if has.get('avx512_bf16') else 'no'}"
    )


if __name__ == "__main__":
    main()
