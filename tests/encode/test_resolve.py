"""From a name to a folder: bundled, local, hub; and what is refused on the way."""

import json
import shutil
import socket
import subprocess
import sys
import threading
from importlib.machinery import ModuleSpec
from pathlib import Path

import huggingface_hub
import pytest

import toy_models
from rag_embeddings.encode import resolve as room
from rag_embeddings.encode.resolve import bundled_folder, resolve, weight_files, weights_digest
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.errors import ModelNotFoundError, UnsupportedModelError

NAME = "sentence-transformers/all-MiniLM-L6-v2"


def fake_package(monkeypatch, folder: Path | None) -> None:
    """Pretend that the bundled package is absent, or stands in ``folder``."""
    spec = None
    if folder is not None:
        spec = ModuleSpec(room.BUNDLED_PACKAGE, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(room, "find_spec", lambda name: spec)


@pytest.mark.parametrize("name", [NAME, "all-MiniLM-L6-v2"])
def test_the_bundled_model_goes_by_its_name_with_and_without_organisation(name):
    source = resolve(name)
    assert source.folder == bundled_folder()
    assert source.name == NAME
    assert source.revision == ""


def test_looking_for_the_bundled_model_runs_none_of_its_code():
    code = f"""
import sys
from rag_embeddings.encode.resolve import resolve
resolve({NAME!r})
assert not [name for name in sys.modules if name.startswith({room.BUNDLED_PACKAGE!r})]
assert "torch" not in sys.modules and "huggingface_hub" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_weights_in_the_bundled_package_are_a_loud_error(monkeypatch, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other weights")
    fake_package(monkeypatch, tmp_path)
    with pytest.raises(UnsupportedModelError, match=room.BUNDLED_SHA256) as caught:
        resolve(NAME)
    assert "reinstall" in str(caught.value)
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(UnsupportedModelError, match="reinstall"):
        resolve(NAME)


def test_offline_and_absent_names_the_three_ways_out(monkeypatch):
    fake_package(monkeypatch, None)
    with pytest.raises(ModelNotFoundError) as caught:
        TransformerEncoder().encode(["text"], "query")
    message = str(caught.value)
    for way in (NAME, "rag-embeddings[bundled-model]", "folder", "HF_HUB_OFFLINE"):
        assert way in message
    assert "\n" not in message
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("name", ["./no/such/folder", "no/such/folder", "~/no-such-folder-here", "", "a b c", "x/."])
def test_a_path_that_does_not_exist_never_reaches_the_hub(monkeypatch, name):
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda *a, **k: pytest.fail("asked the hub"))
    with pytest.raises(ModelNotFoundError, match="folder"):
        resolve(name)


def test_a_folder_has_no_revision():
    with pytest.raises(UnsupportedModelError, match="no revision 'main'"):
        resolve(toy_models.folder("mean"), revision="main")


def test_a_folder_of_this_machine_is_taken_as_it_is(monkeypatch, tmp_path):
    place = shutil.copytree(toy_models.folder("mean"), tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert resolve("mine").folder == Path("mine")
    assert resolve(place).name == str(place)


@pytest.mark.parametrize("trusted", [False, True])
def test_the_hub_is_asked_for_safetensors_and_never_for_pickles(monkeypatch, tmp_path, trusted):
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = shutil.copytree(toy_models.folder("mean"), tmp_path / commit)
    asked = {}

    def download(repository, **options):
        asked.update(options, repository=repository)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    source = resolve("a-model", revision="main", trust_remote_code=trusted)
    assert source == room.Source("sentence-transformers/a-model", folder, commit)
    assert asked["repository"] == "sentence-transformers/a-model"
    assert asked["revision"] == "main"
    assert "*.safetensors" in asked["allow_patterns"]
    assert not [pattern for pattern in asked["allow_patterns"] if "bin" in pattern or pattern == "*"]
    assert ("*.py" in asked["allow_patterns"]) is trusted
    encoder = TransformerEncoder("organisation/a-model")
    assert encoder.profile.revision == commit
    assert encoder.profile.model == "organisation/a-model"
    assert encoder.profile.space == toy_models.encoder("mean").profile.space


def test_a_revision_of_the_bundled_name_means_the_hub(monkeypatch):
    with pytest.raises(ModelNotFoundError):
        resolve(NAME, revision="main")


def test_a_repository_without_safetensors_is_refused(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: str(tmp_path))
    with pytest.raises(UnsupportedModelError, match="'organisation/old' has no safetensors"):
        resolve("organisation/old")


@pytest.mark.parametrize("part", ["", "2_Dense"])
def test_pickled_weights_of_any_part_are_refused_unopened(tmp_path, part):
    folder = shutil.copytree(toy_models.folder("dense"), tmp_path / "model")
    weights = folder / part / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(UnsupportedModelError, match=r"pickle \(.*pytorch_model\.bin\)"):
        TransformerEncoder(folder).encode(["text"], "query")


def test_pickles_beside_safetensors_are_left_alone(tmp_path):
    folder = shutil.copytree(toy_models.folder("mean"), tmp_path / "model")
    canary = tmp_path / "canary"
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR.")
    assert TransformerEncoder(folder).profile.space == toy_models.encoder("mean").profile.space
    assert not canary.exists()


@pytest.mark.parametrize("attack", ["modules", "auto_map"])
def test_code_in_a_model_folder_never_runs_by_default(tmp_path, attack, monkeypatch):
    folder = shutil.copytree(toy_models.folder("mean"), tmp_path / "model")
    canary = tmp_path / "canary"
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(canary)!r}).touch()\n")
    if attack == "modules":
        listing = json.loads((folder / "modules.json").read_text())
        listing[0]["type"] = "evil.Evil"
        (folder / "modules.json").write_text(json.dumps(listing))
    else:
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}}
        (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(folder)
    with pytest.raises(UnsupportedModelError, match="could not be loaded"):
        TransformerEncoder(folder).encode(["text"], "query")
    assert not canary.exists()


@pytest.mark.parametrize("name", ["mean", "dense", "static", "router"])
def test_the_digest_covers_the_weights_of_every_part_and_nothing_else(tmp_path, name):
    folder = shutil.copytree(toy_models.folder(name), tmp_path / "model")
    before = weights_digest(folder)
    files = weight_files(folder)
    assert len(files) == {"mean": 1, "dense": 2, "static": 1, "router": 2}[name]
    (folder / "README.md").write_text("a note")
    (folder / "checkpoint-10").mkdir()
    assert weights_digest(folder) == before
    for file in files:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        assert weights_digest(folder) != before
        data[-1] ^= 1
        file.write_bytes(data)
    assert weights_digest(folder) == before


def test_bundled_and_copied_folder_are_one_space(tmp_path):
    copied = shutil.copytree(bundled_folder(), tmp_path / "copied")
    copy = TransformerEncoder(copied)
    bundled = toy_models.minilm()
    assert copy.profile.space == bundled.profile.space
    assert copy.profile.model != bundled.profile.model


def test_loading_and_encoding_locally_opens_no_socket(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was touched")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    # The client reads the variable once, at import; put it back to "online" so that this test could fail.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for model in (NAME, toy_models.folder("dense"), toy_models.folder("static")):
        assert TransformerEncoder(model).encode(["text"], "query").any()


def test_many_threads_load_a_model_once(monkeypatch):
    calls = []
    real = room.resolve
    monkeypatch.setattr(
        "rag_embeddings.encode.setup.resolve",
        lambda *a, **k: calls.append(threading.get_ident()) or real(*a, **k),
    )
    encoder = TransformerEncoder(toy_models.folder("mean"))
    assert calls == []
    barrier = threading.Barrier(16)
    spaces = []

    def use():
        barrier.wait()
        spaces.append(encoder.profile.space)

    threads = [threading.Thread(target=use) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(spaces) == 16
    assert len(set(spaces)) == 1


def test_a_failed_load_can_be_tried_again(tmp_path):
    encoder = TransformerEncoder(tmp_path / "later")
    with pytest.raises(ModelNotFoundError):
        _ = encoder.profile
    shutil.copytree(toy_models.folder("mean"), tmp_path / "later")
    assert encoder.profile.space == toy_models.encoder("mean").profile.space


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(UnsupportedModelError, match=tmp_path.name):
        _ = TransformerEncoder(tmp_path).profile


@pytest.mark.parametrize(
    "listing", ["{", "[1]", '[{"path": 7}]', "3", '[{"path": "../other"}]', '[{"path": "/etc"}]', "\ufeff\x00"]
)
def test_a_damaged_list_of_parts_is_named(tmp_path, listing):
    folder = shutil.copytree(toy_models.folder("mean"), tmp_path / "model")
    (folder / "modules.json").write_text(listing)
    with pytest.raises(UnsupportedModelError, match=r"modules\.json"):
        resolve(folder)
