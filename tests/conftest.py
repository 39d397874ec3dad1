"""Settings that every test shares. No test reaches the network."""

import importlib.util
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["ANONYMIZED_TELEMETRY"] = "False"
# llama-index-core ships tiktoken's tables, so that counting needs no download.
_core = importlib.util.find_spec("llama_index.core")
if _core and _core.origin:
    os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(Path(_core.origin).parent / "_static" / "tiktoken_cache"))
