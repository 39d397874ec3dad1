"""How long `import rag_embeddings` and `rag-embeddings --help` take, and what they load.

    python benchmarks/import_time.py

Each command runs in a process of its own, in turn with an interpreter that does nothing; the medians are printed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

REPEATS = 15
COMMANDS = {
    "python, nothing imported": [sys.executable, "-c", "pass"],
    "import rag_embeddings": [sys.executable, "-c", "import rag_embeddings"],
    "rag-embeddings --help": [str(Path(sys.executable).with_name("rag-embeddings")), "--help"],
}
HEAVY = ("torch", "transformers", "sentence_transformers", "chromadb", "langchain_core", "llama_index", "numpy")


def seconds(command: list[str]) -> float:
    """Run a command and return how long it took."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - the commands above
    return time.perf_counter() - began


def main() -> None:
    """Run the benchmark."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(REPEATS):
        for name, command in COMMANDS.items():
            taken[name].append(seconds(command))
    for name, values in taken.items():
        print(f"{name:<28}{statistics.median(values):7.3f} s")
    bare = statistics.median(taken["python, nothing imported"])
    print(f"{'the import itself':<28}{statistics.median(taken['import rag_embeddings']) - bare:7.3f} s")
    script = f"import sys, rag_embeddings; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603
    print(f"heavy libraries loaded by the import: {loaded or 'none'}")


if __name__ == "__main__":
    main()
