"""Two encoders as one: routes, profile, space, what is refused, and description-based retrieval from end to end."""

import pickle
from copy import deepcopy

import numpy as np
import pytest

import toy_models
from rag_embeddings.encode.base import Encoder, Role, TokenEncoder
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.cached import CachedEncoder
from rag_embeddings.encode.dual import DualEncoder
from rag_embeddings.encode.profile import Profile
from rag_embeddings.encode.transformer import TransformerEncoder
from rag_embeddings.errors import SpaceMismatchError, UnsupportedModelError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.testing.encoder_laws import check_encoder
from rag_embeddings.text import Document

TEXTS = ["the river rose", "a mill", "the gates"]


def pair(**options) -> DualEncoder:
    """Two toy models of one width, pooled as abstract-sim is."""
    query = TransformerEncoder(toy_models.folder("mean_unigram"), pooling="mean_without_first")
    document = TransformerEncoder(toy_models.folder("mean"), pooling="mean_without_first")
    return DualEncoder(query, document, **options)


def test_each_role_has_its_encoder():
    dual = pair()
    assert isinstance(dual, Encoder)
    assert isinstance(dual, TokenEncoder)
    assert np.array_equal(dual.encode(TEXTS, "query"), dual.query_encoder.encode(TEXTS, Role.QUERY))
    assert np.array_equal(dual.encode(TEXTS, "document"), dual.document_encoder.encode(TEXTS, Role.DOCUMENT))
    assert np.allclose(
        dual.encode(TEXTS, Role.QUERY, prompt="find: "),
        dual.query_encoder.encode(["find: " + text for text in TEXTS], Role.QUERY),
        atol=1e-6,
    )
    assert dual.tokenizer is dual.document_encoder.tokenizer
    tokens = dual.encode_tokens(TEXTS[0], Role.DOCUMENT)
    assert np.array_equal(tokens.spans, dual.document_encoder.encode_tokens(TEXTS[0], Role.DOCUMENT).spans)


def test_it_obeys_the_laws_of_encoders():
    check_encoder(pair(), TEXTS)


def test_its_space_is_that_of_both():
    query, document = toy_models.encoder("mean"), toy_models.encoder("mean_unigram")
    spaces = {
        encoder.profile.space
        for encoder in (
            DualEncoder(query, document),
            DualEncoder(document, query),
            DualEncoder(query, query),
            DualEncoder(query, document, similarity="dot"),
            DualEncoder(TransformerEncoder(toy_models.folder("mean"), layers=1), document),
            query,
            document,
        )
    }
    assert len(spaces) == 7
    profile = DualEncoder(query, document).profile
    assert profile == Profile.from_dict(profile.to_dict())
    assert profile.space == DualEncoder(query, document).profile.space
    assert (profile.model, profile.query_model) == (document.profile.model, query.profile.model)
    assert "query_model" in profile.explain()


def test_models_that_do_not_match_are_refused():
    narrow = TransformerEncoder(toy_models.folder("dense"))
    with pytest.raises(UnsupportedModelError, match=r"32 dimensions .* 16"):
        DualEncoder(toy_models.encoder("mean"), narrow).encode(["a"], Role.QUERY)
    dot = toy_models.encoder("passage")
    with pytest.raises(UnsupportedModelError, match=r"'cosine'.*'dot'.*similarity="):
        _ = DualEncoder(toy_models.encoder("mean"), dot).profile
    assert DualEncoder(toy_models.encoder("mean"), dot, similarity="dot").profile.similarity == "dot"


@pytest.mark.parametrize("travel", [deepcopy, lambda dual: pickle.loads(pickle.dumps(dual))])  # noqa: S301
def test_a_copy_encodes_alike(travel):
    dual = pair()
    copied = travel(dual)
    for role in Role:
        assert np.allclose(copied.encode(TEXTS, role), dual.encode(TEXTS, role), rtol=0, atol=1e-6)
    assert copied.profile == dual.profile


def test_a_cache_keeps_pairs_apart(tmp_path):
    cache = VectorCache(tmp_path / "vectors.sqlite")
    one, other = pair(), DualEncoder(pair().document_encoder, pair().query_encoder)
    for encoder in (one, other, one):
        for role in Role:
            found = CachedEncoder(encoder, cache).encode(TEXTS, role)
            assert np.allclose(found, encoder.encode(TEXTS, role), rtol=0, atol=1e-6)
    assert cache.info().hits == 2 * len(TEXTS)


MEANING = {"somebody opens a gate": "miller opened both gates", "prices": "paid within thirty days"}


class Describing(DeterministicEncoder):
    """Encodes descriptions as the words that they describe, as a trained query tower does."""

    def encode(self, texts, role):
        return super().encode([MEANING[text] for text in texts], role)


def test_descriptions_find_what_they_describe(tmp_path):
    texts = ["The miller opened both gates. Water ran over the weir.", "Invoices are paid within thirty days."]
    dual = DualEncoder(Describing(), DeterministicEncoder())
    pipeline = Pipeline(dual, RecursiveSplitter(100, tokenizer=len))
    with IndexDirectory.open(tmp_path / "index", create=True) as directory:
        Indexer(directory, pipeline).upsert([Document(text, str(number)) for number, text in enumerate(texts)])
        search = SentenceParentSearch(directory, dual)
        assert search.search("somebody opens a gate", k=1)[0].chunk.document.id == "0"
        assert search.search("prices", k=1)[0].chunk.document.id == "1"
        with pytest.raises(SpaceMismatchError):
            SentenceParentSearch(directory, DeterministicEncoder()).search("prices", k=1)
