"""Who decides on a prompt, per role, per task, per title, at construction and per call."""

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest

import toy_models
from rag_embeddings.encode.base import Role
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.cached import CachedEncoder
from rag_embeddings.encode.catalog import CatalogEntry, find
from rag_embeddings.encode.prompts import Framing, Prompts
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.errors import UnsupportedModelError

Q, D = Role.QUERY, Role.DOCUMENT
INSTRUCT = find("Qwen/Qwen3-Embedding-0.6B")
GEMMA = find("google/embeddinggemma-300m")
INSTRUCTOR = find("hkunlp/instructor-large")
JINA = find("jinaai/jina-embeddings-v3")
ICL = find("BAAI/bge-en-icl")
CLAIM = "Given a claim, retrieve the documents that refute it"
OWN_JINA = {"retrieval.query": "ask: ", "retrieval.passage": "tell: ", "separation": "apart: "}


class TestDecision:
    @pytest.mark.parametrize(
        ("prompts", "query", "document"),
        [
            (Prompts(), ("", "none"), ("", "none")),
            (Prompts(entry=find("intfloat/e5-small-v2")), ("query: ", "catalog"), ("passage: ", "catalog")),
            (
                Prompts(entry=find("intfloat/e5-small-v2"), own={"query": "own: ", "document": ""}),
                ("own: ", "model"),
                ("passage: ", "catalog"),
            ),
            (
                Prompts(entry=find("intfloat/e5-small-v2"), own={"query": "own: "}, given={Q: "", D: "mine "}),
                ("", "caller"),
                ("mine ", "caller"),
            ),
            (Prompts(own={"s2p_query": "s2p ", "s2s_query": "s2s "}), ("s2p ", "model"), ("", "none")),
            (Prompts(own={"web_search_query": "web "}), ("web ", "model"), ("", "none")),
            (Prompts(own=OWN_JINA), ("ask: ", "model"), ("tell: ", "model")),
        ],
    )
    def test_the_caller_then_the_model_then_the_catalog_then_none(self, prompts, query, document):
        for role, expected in ((Q, query), (D, document)):
            framing = prompts.framing(role)
            assert (framing.prompt, framing.source) == expected

    def test_a_call_outweighs_what_was_given_before(self):
        prompts = Prompts(given={Q: "mine "}, entry=INSTRUCT, task="Find code")
        assert prompts.framing(Q).prompt == "mine "
        assert prompts.framing(Q, task=CLAIM).prompt == f"Instruct: {CLAIM}\nQuery:"
        assert prompts.framing(Q, task=CLAIM, prompt="now ").prompt == "now "
        assert prompts.framing(Q, prompt="").prompt == ""

    def test_a_task_in_words_is_for_queries_and_leaves_documents_alone(self):
        prompts = Prompts(entry=INSTRUCT, task=CLAIM)
        assert prompts.framing(Q).prompt == f"Instruct: {CLAIM}\nQuery:"
        assert prompts.framing(D).prompt == ""
        kept = Prompts(entry=INSTRUCT, given={D: "text: "})
        assert kept.framing(D, task=CLAIM) == Framing("text: ", source="caller")

    def test_a_task_by_name_is_the_models_own_prompt(self):
        own = {"query": "task: search result | query: ", "STS": "task: sentence similarity | query: "}
        prompts = Prompts(own=own, entry=GEMMA)
        for role in Role:
            assert prompts.framing(role, task="sts") == Framing("task: sentence similarity | query: ", source="model")
        assert prompts.framing(Q, task="query").prompt == "task: search result | query: "

    def test_slots_of_the_template(self):
        prompts = Prompts(entry=INSTRUCTOR, slots={"domain": "legal"})
        assert prompts.framing(Q).prompt == "Represent the legal question for retrieving supporting documents: "
        assert prompts.framing(D).prompt == "Represent the legal document for retrieval: "
        bare = Prompts(entry=INSTRUCTOR, slots={"domain": "", "task_objective": "clustering"})
        assert bare.framing(D).prompt == "Represent the document for clustering: "

    @pytest.mark.parametrize("own", [{}, {"document": "title: none | text: "}])
    def test_titles_of_documents(self, own):
        prompts = Prompts(own=own, entry=GEMMA)
        assert prompts.framing(D, title="Mills {x}").prompt == "title: Mills {x} | text: "
        assert prompts.framing(D).prompt == "title: none | text: "
        with pytest.raises(UnsupportedModelError, match="you gave the document prompt"):
            replace(prompts, given={D: "text: "}).framing(D, title="Mills")

    def test_a_suffix_comes_with_the_catalogs_template_alone(self):
        assert Prompts(entry=ICL).framing(Q).suffix == "\n<response>"
        assert Prompts(entry=ICL).framing(D).suffix == ""
        assert Prompts(entry=ICL, given={Q: ""}).framing(Q).suffix == ""
        assert Prompts(entry=ICL, own={"query": "q "}).framing(Q).suffix == ""

    @pytest.mark.parametrize(
        ("prompts", "options"),
        [
            (Prompts(), {"task": CLAIM}),
            (Prompts(own={"query": "q "}), {"task": "clustering"}),
            (Prompts(entry=find("BAAI/bge-small-en-v1.5")), {"task": CLAIM}),
            (Prompts(entry=INSTRUCT), {"title": "Mills"}),
            (Prompts(entry=INSTRUCT), {"task": "  "}),
            (Prompts(entry=JINA), {"task": "clustering"}),
        ],
    )
    def test_a_wish_that_has_no_place_is_refused(self, prompts, options):
        with pytest.raises(UnsupportedModelError):
            prompts.framing(D, **options)


class TestAdapters:
    PROMPTS = Prompts(own=OWN_JINA, entry=JINA, adapts=True)

    def test_of_the_roles(self):
        assert self.PROMPTS.framing(Q) == Framing("ask: ", "", "retrieval.query", "model")
        assert self.PROMPTS.framing(D) == Framing("tell: ", "", "retrieval.passage", "model")

    @pytest.mark.parametrize("name", ["clustering", "separation", "Separation"])
    def test_of_a_task_by_our_name_or_the_models_with_its_own_prompt(self, name):
        for role in Role:
            assert self.PROMPTS.framing(role, task=name) == Framing("apart: ", "", "separation", "model")

    def test_a_task_of_one_role_leaves_the_other(self):
        assert self.PROMPTS.framing(D, task="retrieval.query") == self.PROMPTS.framing(D)
        assert self.PROMPTS.framing(Q, task="retrieval.query") == self.PROMPTS.framing(Q)

    def test_a_model_that_is_not_in_the_catalog_gets_the_callers_word(self):
        prompts = Prompts(own={"alpha": "a: "}, adapts=True)
        assert prompts.framing(Q, task="alpha").adapter == "alpha"
        assert prompts.framing(Q).adapter == ""

    def test_a_model_without_adapters_gets_none(self):
        entry = CatalogEntry("x/y", "open", "x", "cosine", query_prompt="q ", document_prompt="d ")
        assert Prompts(entry=entry, adapts=True).framing(Q).adapter == ""
        assert Prompts(own=OWN_JINA, entry=JINA).framing(Q).adapter == ""


class Recorder:
    """Stands in for the tokenizer and keeps every string that reaches it."""

    def __init__(self, encoder, role):
        entry = encoder._load()[0].inputs[role]
        self.inner, self.strings = entry._backend, []
        entry._backend = self

    def encode_batch_fast(self, texts, **options):
        self.strings.extend(texts)
        return self.inner.encode_batch_fast(texts, **options)

    def encode(self, text, **options):
        return self.inner.encode(text, **options)


TEXTS = ["the river", "a mill\n", "the river", "the gates"]


@pytest.fixture(scope="module")
def encoder():
    return TransformerEncoder(toy_models.folder("roomy"), catalog_name="google/embeddinggemma-300m")


class TestPerCall:
    def test_titles_stand_in_front_of_their_documents(self, encoder):
        titles = ["Mills", "", "Rivers", "Mills"]
        prompts = [f"title: {title or 'none'} | text: " for title in titles]
        recorder = Recorder(encoder, D)
        found = encoder.encode(TEXTS, D, titles=titles)
        assert sorted(recorder.strings) == sorted(prompt + text for prompt, text in zip(prompts, TEXTS, strict=True))
        whole = [prompt + text for prompt, text in zip(prompts, TEXTS, strict=True)]
        assert np.allclose(found, encoder.encode(whole, D, prompt=""), rtol=0, atol=1e-5)
        assert np.allclose(encoder.encode(TEXTS, D, titles=[""] * 4), encoder.encode(TEXTS, D), rtol=0, atol=1e-6)
        assert encoder.encode([], D, titles=[]).shape == (0, toy_models.WIDTH)

    def test_a_task_changes_this_call_and_no_other(self, encoder):
        before = encoder.encode(TEXTS, Q)
        other = encoder.encode(TEXTS, Q, task="clustering")
        assert np.abs(other - before).max() > 1e-3
        assert np.allclose(encoder.encode(TEXTS, Q, prompt="task: clustering | query: "), other, rtol=0, atol=1e-6)
        assert np.array_equal(encoder.encode(TEXTS, Q), before)
        always = TransformerEncoder(
            toy_models.folder("roomy"), catalog_name="google/embeddinggemma-300m", task="clustering"
        )
        assert np.allclose(always.encode(TEXTS, Q), other, rtol=0, atol=1e-6)
        assert always.profile.space != encoder.profile.space

    @pytest.mark.parametrize("titles", [["one"], "text", ["a"] * 5])
    def test_titles_are_one_for_each_text(self, encoder, titles):
        with pytest.raises(ValueError, match="titles"):
            encoder.encode(TEXTS, D, titles=titles)

    def test_queries_have_no_titles(self, encoder):
        with pytest.raises(ValueError, match="documents"):
            encoder.encode(TEXTS, Q, titles=[""] * 4)

    def test_instructions_that_are_not_pooled_still_count_per_text(self):
        encoder = TransformerEncoder(toy_models.folder("without_prompt"))
        for prompt in ("", "find: ", "the river rose: "):
            own = TransformerEncoder(toy_models.folder("without_prompt"), query_prompt=prompt)
            found = encoder.encode(TEXTS, Q, prompt=prompt)
            assert np.allclose(found, own.encode(TEXTS, Q), rtol=0, atol=1e-5)

    def test_long_texts_are_cut_to_fit_their_own_prompt_and_suffix(self):
        folder = toy_models.folder("roomy")
        encoder = TransformerEncoder(folder, catalog_name="BAAI/bge-en-icl", too_long="split")
        assert encoder.profile.query_suffix == "\n<response>"
        recorder = Recorder(encoder, Q)
        text = "the river rose " * 90
        encoder.encode([text], Q, task="Find rivers")
        parts = [part for part in recorder.strings if len(recorder.inner.encode(part).ids) <= toy_models.ROOMY]
        start, end = "<instruct>Find rivers\n<query>", "\n<response>"
        assert len(parts) > 1
        assert all(part.startswith(start) and part.endswith(end) for part in parts)
        assert "".join(part[len(start) : -len(end)] for part in parts) == text

    def test_a_cache_keeps_them_apart(self, encoder, tmp_path):
        cached = CachedEncoder(encoder, VectorCache(tmp_path / "vectors.sqlite"))
        calls = [
            (Q, {}),
            (Q, {"task": "clustering"}),
            (Q, {"prompt": ""}),
            (D, {}),
            (D, {"titles": ["Mills", "", "Rivers", "Mills"]}),
            (D, {"titles": ["", "Mills", "Rivers", "M"]}),
        ]
        for _ in range(2):
            for role, options in calls:
                found = cached.encode(TEXTS, role, **options)
                assert np.allclose(found, encoder.encode(TEXTS, role, **options), rtol=0, atol=1e-6)
        assert cached.cache.info().hits > cached.cache.info().misses


class TestProfile:
    def test_explain_says_what_and_who(self, caplog):
        encoder = TransformerEncoder(
            toy_models.folder("dense"), query_prompt="ask: ", dimensions=8, catalog_name="intfloat/e5-small-v2"
        )
        with caplog.at_level(logging.INFO, logger="rag_embeddings"):
            told = encoder.profile.explain()
            encoder.encode(["a"], Q)
        lines = dict(line.split(maxsplit=1) for line in told.splitlines()[1:])
        assert lines["query_prompt"] == "'ask: '  (you)"
        assert lines["document_prompt"] == "'text: '  (the model's own files)"
        assert lines["pooling"] == "mean  (the model's own files)"
        assert lines["dimensions"] == "8  (you)"
        assert lines["similarity"] == "cosine  (the model's own files)"
        assert lines["max_tokens"] == f"{toy_models.LIMIT}  (the model's own files)"
        assert lines["space"] == encoder.profile.space
        assert [record.message for record in caplog.records if record.levelno == logging.INFO].count(told) == 1
        (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert "was not trained to be truncated to 8 dimensions" in warning

    def test_sources_change_nothing(self):
        by_hand = TransformerEncoder(toy_models.folder("prompts"), query_prompt="find: ", normalize=True).profile
        own = toy_models.encoder("prompts").profile
        assert by_hand == own
        assert by_hand.space == own.space
        assert by_hand.sources["query_prompt"] == "caller"
        assert own.sources["query_prompt"] == "model"
        assert "sources" not in own.to_dict()

    def test_a_folder_is_never_matched_by_its_name(self, tmp_path, monkeypatch):
        shutil.copytree(toy_models.folder("mean"), tmp_path / "intfloat" / "e5-small-v2")
        monkeypatch.chdir(tmp_path)
        assert TransformerEncoder("intfloat/e5-small-v2").profile.query_prompt == ""
        named = TransformerEncoder("intfloat/e5-small-v2", catalog_name="intfloat/e5-small-v2").profile
        assert (named.query_prompt, named.document_prompt) == ("query: ", "passage: ")
        with pytest.raises(UnsupportedModelError, match="not in the catalog"):
            _ = TransformerEncoder("intfloat/e5-small-v2", catalog_name="intfloat/e5").profile

    def test_similarity_and_limit(self, tmp_path):
        folder = toy_models.folder("mean")
        encoder = TransformerEncoder(folder, similarity="euclidean", max_tokens=20)
        assert encoder.profile.similarity == "euclidean"
        assert encoder.profile.max_tokens == 20
        assert encoder.profile.space != toy_models.encoder("mean").profile.space
        with pytest.raises(UnsupportedModelError, match=f"takes {toy_models.LIMIT} tokens, max_tokens=41"):
            _ = TransformerEncoder(folder, max_tokens=41).profile
        silent = shutil.copytree(folder, tmp_path / "silent")
        path = silent / "config_sentence_transformers.json"
        settings = json.loads(path.read_text())
        settings["similarity_fn_name"] = None
        path.write_text(json.dumps(settings))
        assert TransformerEncoder(silent).profile.sources["similarity"] == "none"
        dot = TransformerEncoder(silent, catalog_name="sentence-transformers/multi-qa-mpnet-base-dot-v1").profile
        assert (dot.similarity, dot.sources["similarity"]) == ("dot", "catalog")

    def test_spaces_of_models_without_the_new_values_are_what_they_were(self):
        profile = toy_models.encoder("prompts").profile
        assert set(profile.identity()) == {
            "dimensions", "query_prompt", "document_prompt", "pooling", "normalize", "similarity", "weights"
        }  # fmt: skip
