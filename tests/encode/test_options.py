"""Poolings, layers, dimensions and adapters: what they do to the model, and that the profile tells."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from transformers import (
    AutoModel,
    DistilBertConfig,
    Gemma3TextConfig,
    ModernBertConfig,
    MPNetConfig,
    T5Config,
    T5EncoderModel,
)

import toy_models
from rag_embeddings.encode.base import Role
from rag_embeddings.encode.layers import keep_layers
from rag_embeddings.encode.setup import POOLINGS
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.errors import BudgetError, UnsupportedModelError

TEXTS = ["the river rose", "a", "safe?\n\nyes", "über"]
KNOWN = [pooling for pooling in POOLINGS if pooling != "mean_without_first"]


def reference(name):
    return SentenceTransformer(str(toy_models.folder(name)), device="cpu", local_files_only=True)


class TestPooling:
    @pytest.mark.parametrize("name", ["mean", "cls", "dense", "lasttoken"])
    @pytest.mark.parametrize("pooling", KNOWN)
    def test_another_one_gives_the_vectors_of_sentence_transformers_with_it(self, name, pooling):
        model = reference(name)
        model[1] = modules.Pooling(toy_models.WIDTH, pooling)
        encoder = TransformerEncoder(toy_models.folder(name), pooling=pooling)
        assert np.allclose(encoder.encode(TEXTS, "query"), model.encode_query(TEXTS), rtol=0, atol=1e-5)
        assert np.allclose(encoder.encode(TEXTS, "document"), model.encode_document(TEXTS), rtol=0, atol=1e-5)
        assert encoder.profile.pooling == pooling
        same = pooling == toy_models.encoder(name).profile.pooling
        assert (encoder.profile.space == toy_models.encoder(name).profile.space) is same

    @pytest.mark.parametrize("prompt", ["", "find: "])
    def test_the_mean_without_the_first_token_keeps_the_prompt(self, prompt):
        model = reference("mean")
        batch = model.tokenizer([prompt + text for text in TEXTS], padding=True, return_tensors="pt")
        with torch.no_grad():
            states = model[0].auto_model(**batch).last_hidden_state[:, 1:]
        mask = batch["attention_mask"][:, 1:, None]
        expected = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)).numpy()
        encoder = TransformerEncoder(toy_models.folder("mean"), pooling="mean_without_first", query_prompt=prompt)
        assert np.allclose(encoder.encode(TEXTS, "query"), expected, rtol=0, atol=1e-5)
        assert encoder.profile.pooling == "mean_without_first"

    @pytest.mark.parametrize("left", [False, True])
    def test_the_last_token_is_found_whichever_side_the_tokenizer_pads(self, tmp_path, left):
        toy = toy_models.Toy(pooling="lasttoken", tokenizer="bpe", causal=True, left=left)
        folder = toy_models.save(tmp_path, toy)
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        assert model.tokenizer.padding_side == ("left" if left else "right")
        assert np.allclose(TransformerEncoder(folder).encode(TEXTS, "query"), model.encode(TEXTS), atol=1e-5)

    def test_a_model_without_pooling_is_refused(self):
        with pytest.raises(UnsupportedModelError, match="no pooling to change"):
            _ = TransformerEncoder(toy_models.folder("static"), pooling="max").profile

    def test_an_unknown_word_is_refused_at_once(self):
        with pytest.raises(ValueError, match="pooling is one of cls, mean"):
            TransformerEncoder(pooling="average")
        with pytest.raises(ValueError, match="similarity is one of cosine"):
            TransformerEncoder(similarity="manhattan")


def hidden(size):
    return {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "vocab_size": 60} | size


ARCHITECTURES = {
    "bert": lambda layers: AutoModel.from_pretrained(toy_models.folder("roomy")),
    "mpnet": lambda layers: AutoModel.from_config(MPNetConfig(**hidden({"num_hidden_layers": layers}))),
    "distilbert": lambda layers: AutoModel.from_config(
        DistilBertConfig(dim=32, hidden_dim=48, n_heads=2, n_layers=layers, vocab_size=60)
    ),
    "modernbert": lambda layers: AutoModel.from_config(
        ModernBertConfig(**hidden({"num_hidden_layers": layers, "pad_token_id": 0}))
    ),
    "gemma": lambda layers: AutoModel.from_config(
        Gemma3TextConfig(**hidden({"num_hidden_layers": layers, "num_key_value_heads": 1, "head_dim": 16}))
    ),
    "t5": lambda layers: T5EncoderModel(
        T5Config(d_model=32, d_ff=48, d_kv=16, num_heads=2, num_layers=layers, vocab_size=60)
    ),
}


class TestLayers:
    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_only_the_lower_ones_run_and_give_what_the_whole_model_has_there(self, name):
        torch.manual_seed(0)
        model = ARCHITECTURES[name](3).eval()
        ids = torch.arange(5, 15)[None]
        whole = model(ids, output_hidden_states=True).hidden_states[2]
        assert keep_layers(model, 2) == 3
        ran = []
        for path, module in model.named_modules():
            if path.split(".")[-1].isdigit() and "layer" in path.lower() + "layer" and path.count(".") < 4:
                module.register_forward_hook(lambda *_, path=path: ran.append(path))
        result = model(ids, output_hidden_states=True)
        top = [path for path in ran if not any(path.startswith(f"{other}.") for other in ran)]
        assert len(top) == 2
        # The closing normalisation of some architectures stands behind the layers, and stays.
        found = result.last_hidden_state
        norm = {"modernbert": "final_norm", "gemma": "norm", "t5": "encoder.final_layer_norm"}.get(name)
        assert torch.allclose(found, model.get_submodule(norm)(whole) if norm else whole, atol=1e-5)

    def test_the_encoder_runs_them_alone_and_says_so(self, caplog):
        encoder = TransformerEncoder(toy_models.folder("roomy"), layers=1)
        model = reference("roomy")
        model[0].auto_model.encoder.layer = model[0].auto_model.encoder.layer[:1]
        assert np.allclose(encoder.encode(TEXTS, "query"), model.encode_query(TEXTS), rtol=0, atol=1e-5)
        inside = encoder._load()[0]._model[0].auto_model
        assert len(inside.encoder.layer) == 1
        assert encoder.profile.layers == 1
        assert encoder.profile.space != toy_models.encoder("roomy").profile.space
        assert "fewer layers" in caplog.text

    def test_all_of_them_are_the_model_itself(self, caplog):
        encoder = TransformerEncoder(toy_models.folder("roomy"), layers=3)
        assert encoder.profile == toy_models.encoder("roomy").profile
        assert not caplog.records

    def test_of_a_model_trained_for_it_nothing_is_said(self, caplog):
        folder = toy_models.folder("roomy")
        _ = TransformerEncoder(folder, layers=2, catalog_name="mixedbread-ai/mxbai-embed-2d-large-v1").profile
        assert "layers" not in caplog.text

    def test_more_than_there_are_or_none_are_refused(self):
        with pytest.raises(UnsupportedModelError, match="has 3 layers, 4 were asked for"):
            _ = TransformerEncoder(toy_models.folder("roomy"), layers=4).profile
        with pytest.raises(UnsupportedModelError, match="no transformer"):
            _ = TransformerEncoder(toy_models.folder("static"), layers=1).profile
        with pytest.raises(BudgetError, match="layers must be at least 1"):
            TransformerEncoder(layers=0)

    def test_of_both_towers_of_a_router(self):
        encoder = TransformerEncoder(toy_models.folder("router"), layers=1)
        assert encoder.profile.layers == 1
        assert encoder.encode(["a"], "document").shape == (1, toy_models.WIDTH)


class TestDimensions:
    @pytest.mark.parametrize(
        ("catalog_name", "dimensions", "said"),
        [
            (None, 16, "is not known to have been"),
            ("intfloat/e5-small-v2", 16, "was not"),
            ("Qwen/Qwen3-Embedding-0.6B", 32, ""),
            ("nomic-ai/nomic-embed-text-v1.5", 16, "was not"),
        ],
    )
    def test_a_width_that_was_not_trained_is_warned_about(self, tmp_path, caplog, catalog_name, dimensions, said):
        folder = toy_models.save(tmp_path, toy_models.Toy(dense=64, limit=200))
        encoder = TransformerEncoder(folder, dimensions=dimensions, catalog_name=catalog_name)
        with caplog.at_level(logging.WARNING, logger="rag_embeddings"):
            encoder.encode(["a"], "query")
            encoder.encode(["b"], "query")
        assert [said in record.message for record in caplog.records] == ([True] if said else [])

    def test_widths_in_the_models_own_configuration_are_believed(self, tmp_path, caplog):
        folder = shutil.copytree(toy_models.folder("mean"), tmp_path / "model")
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"matryoshka_dimensions": [8, 32]}))
        _ = TransformerEncoder(folder, dimensions=8).profile
        assert not caplog.records
        _ = TransformerEncoder(folder, dimensions=9).profile
        assert "was not trained to be truncated to 9" in caplog.text


ADAPTING = '''
import json
import os

import torch
from transformers import AutoModel, AutoTokenizer


class Adapting(torch.nn.Module):
    """Like the module that comes with jina-embeddings-v3: an adapter for each task, and no other word is known."""

    tasks = ["retrieval.query", "retrieval.passage", "separation"]

    def __init__(self, folder):
        super().__init__()
        self.auto_model = AutoModel.from_pretrained(folder, local_files_only=True)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.max_seq_length = 100

    def forward(self, features, task=None):
        shift = 0.0 if task is None else 1.0 + self.tasks.index(task)
        features.pop("prompt_length", None)
        states = self.auto_model(**features).last_hidden_state
        return features | {"token_embeddings": states + shift * torch.linspace(0, 1, states.shape[-1])}

    def get_embedding_dimension(self):
        return self.auto_model.config.hidden_size

    def save(self, *args, **kwargs):
        raise NotImplementedError

    @classmethod
    def load(cls, name_or_path, **kwargs):
        return cls(name_or_path)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = shutil.copytree(toy_models.folder("roomy"), tmp_path_factory.mktemp("adapting") / "model")
    (folder / "adapting.py").write_text(ADAPTING)
    listing = json.loads((folder / "modules.json").read_text())
    listing[0] |= {"type": "adapting.Adapting", "kwargs": ["task"]}
    (folder / "modules.json").write_text(json.dumps(listing))
    path = folder / "config_sentence_transformers.json"
    prompts = {"retrieval.query": "ask: ", "retrieval.passage": "tell: ", "separation": "apart: "}
    path.write_text(json.dumps({"prompts": prompts}))
    return folder


class TestAdapters:
    def test_each_role_and_task_runs_its_own(self, folder):
        encoder = TransformerEncoder(folder, trust_remote_code=True, catalog_name="jinaai/jina-embeddings-v3")
        model = encoder._load()[0]._model
        cases = [
            (Role.QUERY, {}, "retrieval.query", "ask: "),
            (Role.DOCUMENT, {}, "retrieval.passage", "tell: "),
            (Role.QUERY, {"task": "clustering"}, "separation", "apart: "),
            (Role.DOCUMENT, {"task": "separation"}, "separation", "apart: "),
            (Role.DOCUMENT, {"task": "separation", "prompt": ""}, "separation", ""),
        ]
        for role, options, task, prompt in cases:
            found = encoder.encode(TEXTS, role, **options)
            expected = np.stack([by_hand(model, prompt + text, task) for text in TEXTS])
            assert np.allclose(found, expected, rtol=0, atol=1e-5), (role, options)
        assert encoder.profile.query_adapter == "retrieval.query"
        assert encoder.profile.document_adapter == "retrieval.passage"
        assert "document_adapter" in encoder.profile.explain()

    def test_a_task_at_construction_is_part_of_the_space(self, folder):
        options = {"trust_remote_code": True, "catalog_name": "jinaai/jina-embeddings-v3"}
        plain = TransformerEncoder(folder, **options)
        apart = TransformerEncoder(folder, task="separation", **options)
        assert np.allclose(apart.encode(TEXTS, "query"), plain.encode(TEXTS, "query", task="separation"), atol=1e-5)
        assert apart.profile.space != plain.profile.space

    def test_a_copy_without_adapters_refuses_a_task_that_is_nothing_else(self):
        encoder = TransformerEncoder(toy_models.folder("roomy"), catalog_name="jinaai/jina-embeddings-v3")
        with pytest.raises(UnsupportedModelError, match="takes none"):
            encoder.encode(TEXTS, "query", task="clustering")


def by_hand(model, text, task):
    """Run the modules of a model over one text."""
    first, pooling, normalize = model
    features = first(dict(first.tokenizer(text, return_tensors="pt")), task=task)
    with torch.no_grad():
        return normalize(pooling(features))["sentence_embedding"][0].detach().numpy()
