"""TransformerEncoder: the strings it sends, the vectors it gives, what it does with long texts, and how it travels."""

import copy
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

import toy_models
from rag_embeddings.encode.base import Role, TokenEncoder
from rag_embeddings.encode.profile import Profile
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.errors import BudgetError, TextTooLongError, UnsupportedModelError, VectorError
from toy_models import LIMIT, TOYS

SHORT = ["the river rose", "Is it safe?\n\nyes ", " a", "a\r\nb\tc", "über", "the river rose"]
REAL = [
    "How do I reset my password?",
    "A paragraph\nwith line breaks\n\nand  double spaces.",
    "Copper melts at 1085 degrees; tin at 232. " * 15,
    "河水在春天慢慢上涨。",
    "x",
]


def repickled(thing):
    return pickle.loads(pickle.dumps(thing))  # noqa: S301  (our own bytes)


class Recorder:
    """Stands in for the tokenizer and keeps every string that reaches it."""

    def __init__(self, entry):
        self.inner = entry._backend
        self.strings = []
        entry._backend = self

    def encode_batch_fast(self, texts, **options):
        self.strings.extend(texts)
        return self.inner.encode_batch_fast(texts, **options)

    def encode(self, text, **options):
        self.strings.append(text)
        return self.inner.encode(text, **options)


def recorded(encoder, role):
    return Recorder(encoder._load()[0].inputs[role])


def reference(name):
    return SentenceTransformer(str(toy_models.folder(name)), device="cpu", local_files_only=True)


class TestStrings:
    TEXTS = ("line\nbreak", "  spaces  ", "CRLF\r\n", "tab\t", "\n", "nbsp\u00a0é e\u0301")

    @pytest.mark.parametrize(
        ("name", "query", "document"),
        [
            ("mean", "", ""),
            ("prompts", "find: ", "text: "),
            ("passage", "", "passage: "),
            ("lasttoken", "Instruct: find\nQuery:", ""),
            ("static_prompts", "find: ", "text: "),
            ("router", "find: ", "text: "),
        ],
    )
    def test_the_models_own_prompts_then_the_text_to_the_byte(self, name, query, document):
        for role, prompt in ((Role.QUERY, query), (Role.DOCUMENT, document)):
            encoder = TransformerEncoder(toy_models.folder(name))
            seen = recorded(encoder, role)
            encoder.encode(self.TEXTS, role)
            assert seen.strings == [prompt + text for text in self.TEXTS]
            assert encoder.profile.prompt(role) == prompt

    def test_the_caller_has_the_last_word_and_empty_means_none(self):
        encoder = TransformerEncoder(toy_models.folder("prompts"), query_prompt="ask:\n ", document_prompt="")
        for role, prompt in ((Role.QUERY, "ask:\n "), (Role.DOCUMENT, "")):
            seen = recorded(encoder, role)
            encoder.encode(self.TEXTS, role)
            assert seen.strings == [prompt + text for text in self.TEXTS]

    def test_every_distinct_text_is_sent_once(self):
        encoder = TransformerEncoder(toy_models.folder("mean"))
        seen = recorded(encoder, Role.QUERY)
        vectors = encoder.encode(["b", "a", "b", "a", "b"], Role.QUERY)
        assert seen.strings == ["b", "a"]
        assert np.array_equal(vectors, vectors[[0, 1, 0, 1, 0]])

    def test_lone_surrogates_become_one_replacement_character_each(self):
        encoder = TransformerEncoder(toy_models.folder("mean"))
        seen = recorded(encoder, Role.QUERY)
        encoder.encode(["a\ud800\udfffb 😀"], Role.QUERY)
        assert seen.strings == ["a\ufffd\ufffdb 😀"]

    def test_the_real_model_gets_newlines_and_prompts(self):
        encoder = TransformerEncoder(query_prompt="query: ")
        seen = recorded(encoder, Role.QUERY)
        encoder.encode(["two\nlines"], Role.QUERY)
        assert seen.strings == ["query: two\nlines"]


class TestVectors:
    @pytest.mark.parametrize("name", TOYS)
    def test_equal_those_of_sentence_transformers(self, name):
        model, encoder = reference(name), toy_models.encoder(name)
        # sentence-transformers prefers an empty "document" prompt to a "passage" prompt; the model's is asked for by name.
        documents = model.encode_document(SHORT, prompt_name="passage" if name == "passage" else None)
        assert np.allclose(encoder.encode(SHORT, "query"), model.encode_query(SHORT), rtol=0, atol=1e-5)
        assert np.allclose(encoder.encode(SHORT, "document"), documents, rtol=0, atol=1e-5)

    def test_of_the_real_model_equal_those_of_sentence_transformers(self):
        encoder = toy_models.minilm()
        model = encoder._load()[0]._model
        for role, expected in (("query", model.encode_query(REAL)), ("document", model.encode_document(REAL))):
            assert np.allclose(encoder.encode(REAL, role), expected, rtol=0, atol=1e-5)

    def test_of_the_real_model_know_what_is_alike(self):
        question, right, wrong = toy_models.minilm().encode(
            ["How hot must copper be to melt?", "Copper melts at 1085 degrees.", "The teacher drank the water."],
            "query",
        )
        assert question @ right > 0.6
        assert question @ wrong < 0.3

    @pytest.mark.parametrize(("name", "normalize"), [("mean", None), ("mean", True), ("max", True), ("static", True)])
    def test_normalised_have_length_one(self, name, normalize):
        vectors = TransformerEncoder(toy_models.folder(name), normalize=normalize).encode(SHORT, "query")
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)

    @pytest.mark.parametrize("name", ["mean", "dense", "static_prompts"])
    def test_not_normalised_are_what_stands_in_front_of_the_closing_module(self, name):
        encoder = TransformerEncoder(toy_models.folder(name), normalize=False)
        model = reference(name)
        del model[len(model) - 1]
        vectors = encoder.encode(SHORT, "query")
        assert np.allclose(vectors, model.encode_query(SHORT), rtol=0, atol=1e-5)
        assert not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=0.1)
        assert not encoder.profile.normalize

    @pytest.mark.parametrize("name", ["mean", "max"])
    def test_dimensions_keep_the_first_and_normalise_again(self, name):
        full = toy_models.encoder(name).encode(SHORT, "query")
        encoder = TransformerEncoder(toy_models.folder(name), dimensions=8)
        expected = full[:, :8]
        if encoder.profile.normalize:
            expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        assert np.allclose(encoder.encode(SHORT, "query"), expected, rtol=0, atol=1e-6)
        assert encoder.encode([], "query").shape == (0, 8)

    def test_a_configured_truncation_is_followed(self, tmp_path):
        folder = shutil.copytree(toy_models.folder("mean"), tmp_path / "model")
        path = folder / "config_sentence_transformers.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"truncate_dim": 8}))
        expected = TransformerEncoder(toy_models.folder("mean"), dimensions=8)
        encoder = TransformerEncoder(folder)
        assert encoder.profile.space == expected.profile.space
        assert np.allclose(encoder.encode(SHORT, "query"), expected.encode(SHORT, "query"), atol=1e-6)
        assert TransformerEncoder(folder, dimensions=20).encode(["a"], "query").shape == (1, 20)

    def test_half_precision_checkpoints_run_in_float32(self, tmp_path):
        model = reference("mean").bfloat16()
        model.save(str(tmp_path), create_model_card=False)
        encoder = TransformerEncoder(tmp_path)
        alone = np.concatenate([encoder.encode([text], "query") for text in SHORT])
        assert np.allclose(encoder.encode(SHORT, "query"), alone, rtol=0, atol=1e-6)

    def test_a_text_without_tokens_is_named(self):
        with pytest.raises(VectorError, match=r"text 2 .*no tokens"):
            toy_models.encoder("mean_bpe").encode(["a", "a", "", "b"], "query")
        with pytest.raises(VectorError, match=r"text 1 .*no tokens"):
            toy_models.encoder("static").encode(["a", " "], "query")

    def test_nan_is_named(self, tmp_path):
        model = reference("mean")
        model[0].auto_model.embeddings.word_embeddings.weight.data[model.tokenizer.vocab["x"]] = float("nan")
        model.save(str(tmp_path), create_model_card=False)
        with pytest.raises(VectorError, match=r"text 1 of 3 .* begins 'x'"):
            TransformerEncoder(tmp_path, batch_tokens=1).encode(["a", "x", "b"], "query")

    def test_a_single_string_is_not_a_sequence_of_texts(self):
        with pytest.raises(TypeError, match="list"):
            toy_models.encoder("mean").encode("text", "query")


class TestLongTexts:
    @pytest.mark.parametrize("name", TOYS)
    def test_that_differ_only_behind_the_limit_have_different_vectors(self, name):
        head = "the river rose " * 40
        one, other = toy_models.encoder(name).encode([head + "slowly", head + "quickly"], "document")
        assert np.abs(one - other).max() > 1e-5

    def test_of_the_real_model_too(self):
        head = "The river rose slowly in the spring. " * 100
        one, other = toy_models.minilm().encode([head + "It was copper.", head + "Nobody knew."], "document")
        assert np.abs(one - other).max() > 1e-3

    @pytest.mark.parametrize(("name", "limit"), [("mean", LIMIT), ("prompts", LIMIT), ("lasttoken", LIMIT)])
    def test_exactly_at_the_limit_is_not_split_and_one_more_is(self, name, limit):
        encoder = TransformerEncoder(toy_models.folder(name), too_long="error")
        entry = encoder._load()[0].inputs[Role.QUERY]
        words = next(n for n in range(limit) if len(entry.tokens([" a" * (n + 1)])[0]) > limit)
        fitting, longer = " a" * words, " a" * (words + 1)
        assert len(entry.tokens([fitting])[0]) == limit
        encoder.encode([fitting], "query")
        with pytest.raises(TextTooLongError, match=rf"text 1 has {limit + 1} tokens, .* takes {limit}\b"):
            encoder.encode([fitting, longer], "query")

    def test_error_names_the_index_that_the_caller_knows(self):
        encoder = TransformerEncoder(toy_models.folder("mean"), too_long="error")
        with pytest.raises(TextTooLongError, match="text 3 has"):
            encoder.encode(["a", "a", "b", "a " * 100], "query")

    @pytest.mark.parametrize("name", ["prompts", "max", "mean_bpe", "mean_unigram", "router"])
    @pytest.mark.parametrize(
        "text", ["the river rose slowly, " * 20, "xy-" * 100, "河水在春天慢慢上涨。" * 9, "\n a" * 60]
    )
    def test_parts_tile_the_text_fit_the_model_and_carry_the_prompt(self, name, text, monkeypatch):
        encoder = TransformerEncoder(toy_models.folder(name))
        seen = recorded(encoder, Role.DOCUMENT)
        sizes = []
        run = encoder._queue._forward
        monkeypatch.setattr(
            encoder._queue, "_forward", lambda batch, *how: sizes.extend(map(len, batch)) or run(batch, *how)
        )
        encoder.encode([text], "document")
        prompt = encoder.profile.document_prompt
        assert all(string.startswith(prompt) for string in seen.strings)
        assert seen.strings[0] == prompt + text
        fitting = [string for string in seen.strings if len(seen.inner.encode(string).ids) <= LIMIT]
        assert "".join(string.removeprefix(prompt) for string in fitting) == text
        assert sorted(sizes) == sorted(len(seen.inner.encode(string).ids) for string in fitting)
        assert len(sizes) > 1

    @pytest.mark.parametrize(("name", "normalize"), [("mean", None), ("max", True), ("max", False)])
    def test_parts_break_at_white_space_and_count_by_their_tokens(self, name, normalize):
        encoder = TransformerEncoder(toy_models.folder(name), normalize=normalize)
        seen = recorded(encoder, Role.QUERY)
        room = LIMIT - 2
        words = ["a b"] * 25
        vector = encoder.encode([" ".join(words)], "query")[0]
        parts = seen.strings[-2:]
        assert "".join(parts) == " ".join(words)
        assert parts[0].endswith(" ")
        counts = [len(part.split()) for part in parts]
        assert counts == [room, 50 - room]
        expected = np.average(encoder.encode(parts, "query"), axis=0, weights=counts)
        if encoder.profile.normalize:
            expected = expected / np.linalg.norm(expected)
        assert np.allclose(vector, expected, rtol=0, atol=1e-6)

    def test_one_warning_per_encoder(self, caplog):
        encoder = TransformerEncoder(toy_models.folder("mean"))
        with caplog.at_level(logging.WARNING, logger="rag_embeddings"):
            encoder.encode(["short"], "query")
            assert not caplog.records
            encoder.encode(["a " * 100, "b " * 100], "query")
            encoder.encode(["c " * 100], "query")
        (record,) = caplog.records
        assert "text 0 has 102 tokens" in record.getMessage()

    def test_a_prompt_that_leaves_no_room_is_refused(self):
        encoder = TransformerEncoder(toy_models.folder("mean"), query_prompt="a " * LIMIT)
        with pytest.raises(TextTooLongError, match="prompt and special tokens alone"):
            encoder.encode(["text"], "query")

    def test_a_character_that_cannot_be_cut_is_refused(self):
        encoder = TransformerEncoder(toy_models.folder("mean_bpe"), query_prompt="a" * (LIMIT - 2))
        with pytest.raises(TextTooLongError, match="cannot be cut"):
            encoder.encode(["👨"], "query")

    def test_static_models_have_no_limit(self, caplog):
        encoder = TransformerEncoder(toy_models.folder("static"), too_long="error")
        assert encoder.encode(["the river " * 5000], "query").any()
        assert encoder.profile.max_tokens is None
        assert not caplog.records

    def test_a_tokenizer_file_that_truncates_does_not(self, tmp_path):
        folder = shutil.copytree(toy_models.folder("static"), tmp_path / "model")
        path = folder / "tokenizer.json"
        settings = json.loads(path.read_text())
        settings["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
        path.write_text(json.dumps(settings))
        text = "the river rose slowly in the spring"
        assert np.allclose(
            TransformerEncoder(folder).encode([text], "query"), toy_models.encoder("static").encode([text], "query")
        )
        assert len(TransformerEncoder(folder).tokenizer.encode(text).ids) > 4


class TestProfile:
    @pytest.mark.parametrize(
        ("name", "pooling"),
        [
            *[(name, name) for name in ("mean", "cls", "max", "weightedmean", "lasttoken")],
            ("without_prompt", "mean without prompt"),
            ("static", "mean"),
        ],
    )
    def test_tells_pooling_normalisation_limit_and_width(self, name, pooling):
        toy, profile = TOYS[name], toy_models.encoder(name).profile
        assert profile.pooling == pooling
        assert profile.normalize is toy.normalize
        assert profile.max_tokens == (LIMIT if toy.pooling else None)
        assert profile.dimensions == (toy.dense or toy_models.WIDTH)

    def test_tells_similarity_and_takes_cosine_where_the_model_is_silent(self):
        assert toy_models.encoder("passage").profile.similarity == "dot"
        assert toy_models.minilm().profile.similarity == "cosine"

    def test_of_the_real_model(self):
        profile = toy_models.minilm().profile
        expected = Profile(
            "sentence-transformers/all-MiniLM-L6-v2",
            384,
            pooling="mean",
            weights=profile.weights,
            max_tokens=256,
            document_tokens=254,
        )
        assert profile == expected
        assert len(profile.weights) == 32

    def test_the_space_changes_with_what_changes_a_vector_and_with_nothing_else(self):
        folder = toy_models.folder("prompts")
        same = [
            {},
            {"too_long": "error"},
            {"batch_tokens": 7},
            {"progress": True},
            {"device": "cpu"},
            {"query_prompt": "find: "},
            {"normalize": True},
            {"dimensions": 32},
        ]
        other = [{"query_prompt": ""}, {"document_prompt": "find: "}, {"normalize": False}, {"dimensions": 31}]
        spaces = [TransformerEncoder(folder, **settings).profile.space for settings in same]
        assert len(set(spaces)) == 1
        assert len({spaces[0], *(TransformerEncoder(folder, **settings).profile.space for settings in other)}) == 5


class TestSettings:
    @pytest.mark.parametrize("settings", [{"batch_tokens": 0}, {"dimensions": 0}, {"dimensions": -1}])
    def test_impossible_numbers_are_refused_at_once(self, settings):
        with pytest.raises(BudgetError, match="at least 1"):
            TransformerEncoder(**settings)

    def test_an_unknown_word_is_refused_at_once(self):
        with pytest.raises(ValueError, match="one of split, error"):
            TransformerEncoder(too_long="truncate")

    def test_more_dimensions_than_the_model_has_are_refused(self):
        with pytest.raises(UnsupportedModelError, match="32 dimensions, 33 were asked for"):
            _ = TransformerEncoder(toy_models.folder("mean"), dimensions=33).profile

    def test_an_unknown_role_is_refused(self):
        with pytest.raises(ValueError, match="passage"):
            toy_models.encoder("mean").encode(["a"], "passage")

    def test_it_is_a_token_encoder_with_the_models_tokenizer(self):
        encoder = toy_models.minilm()
        assert isinstance(encoder, TokenEncoder)
        assert encoder.tokenizer.is_fast
        assert len(encoder.tokenizer("a word " * 300, verbose=False)["input_ids"]) == 602
        assert len(encoder.tokenizer.backend_tokenizer.encode("a word " * 300).ids) == 602

    def test_progress_shows_a_bar(self, capfd):
        TransformerEncoder(toy_models.folder("mean"), progress=True).encode(["a", "b"], "query")
        assert "2/2" in capfd.readouterr().err
        TransformerEncoder(toy_models.folder("mean")).encode(["a", "b"], "query")
        assert capfd.readouterr() == ("", "")


TRAVELLING = {"query_prompt": "ask ", "dimensions": 12, "too_long": "error", "batch_tokens": 99}


class TestTravel:
    @pytest.mark.parametrize("travel", [repickled, copy.deepcopy, copy.copy])
    @pytest.mark.parametrize("loaded", [False, True])
    def test_a_copy_has_the_settings_and_the_original_goes_on(self, travel, loaded):
        encoder = TransformerEncoder(toy_models.folder("prompts"), **TRAVELLING)
        if loaded:
            encoder.encode(["a"], "query")
        arrived = travel(encoder)
        assert arrived.settings() == encoder.settings()
        assert arrived._loaded is None
        assert np.array_equal(arrived.encode(SHORT, "query"), encoder.encode(SHORT, "query"))
        assert arrived.profile == encoder.profile

    def test_no_weights_travel(self):
        assert len(pickle.dumps(toy_models.minilm())) < 1000

    def test_settings_are_json_and_rebuild_the_encoder(self):
        encoder = TransformerEncoder(toy_models.folder("prompts"), device=torch.device("cpu"), **TRAVELLING)
        assert TransformerEncoder(**json.loads(json.dumps(encoder.settings()))).settings() == encoder.settings()

    def test_building_one_loads_nothing(self):
        code = (
            "import sys; from rag_embeddings.encode.transformer import TransformerEncoder; TransformerEncoder(); "
            "assert not {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)

    def test_sixteen_threads_share_a_model(self):
        encoder = TransformerEncoder(toy_models.folder("mean"), batch_tokens=64)
        texts = [f"the river rose {n} times" for n in range(60)]
        expected = encoder.encode(texts, "document")
        with ThreadPoolExecutor(16) as pool:
            futures = [pool.submit(encoder.encode, texts[n % 7 :], "document") for n in range(64)]
            for n, future in enumerate(futures):
                assert np.allclose(future.result(), expected[n % 7 :], rtol=0, atol=1e-5)

    def test_sixteen_threads_share_the_real_model(self):
        encoder = toy_models.minilm()
        texts = [REAL[0], *REAL[3:]]
        expected = encoder.encode(texts, "query")
        with ThreadPoolExecutor(16) as pool:
            for vectors in pool.map(lambda _: encoder.encode(texts, "query"), range(16)):
                assert np.allclose(vectors, expected, rtol=0, atol=1e-5)
