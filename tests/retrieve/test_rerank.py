"""Cross-encoders: a tiny one with random weights, loaded by sentence-transformers as any other."""

import itertools
import threading

import pytest
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

import toy_tokenizers
from rag_embeddings.errors import UnsupportedModelError
from rag_embeddings.index.indexer import Indexer
from rag_embeddings.index.pipeline import Pipeline
from rag_embeddings.retrieve.rerank import CrossEncoderReranker
from rag_embeddings.retrieve.search import Retrieval
from rag_embeddings.retrieve.sentence_parent import SentenceParentSearch
from rag_embeddings.split.recursive import RecursiveSplitter
from rag_embeddings.store.directory import IndexDirectory
from rag_embeddings.testing.encoder import DeterministicEncoder
from rag_embeddings.text import Document

LIMIT = 48
QUERY = "the river"
SHORT = ["the river rose slowly", "copper melts", "the old bridge", "write short sentences"]


def save(folder, labels=1):
    backend = toy_tokenizers.wordpiece()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=LIMIT, **names).save_pretrained(str(folder))
    config = BertConfig(
        vocab_size=backend.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.5,
        max_position_embeddings=64,
        num_labels=labels,
    )
    BertForSequenceClassification(config).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import torch

    torch.manual_seed(1)
    return save(tmp_path_factory.mktemp("cross"))


@pytest.fixture(scope="module")
def reranker(folder):
    return CrossEncoderReranker(folder, device="cpu")


def direct(reranker, pairs):
    return reranker._model().predict(pairs, show_progress_bar=False).tolist()


def test_scores_are_the_models(reranker):
    scores = reranker(QUERY, SHORT)
    assert scores == pytest.approx(direct(reranker, [(QUERY, text) for text in SHORT]), abs=1e-6)
    assert len(set(scores)) == len(scores)
    assert reranker(QUERY, []) == []
    assert len(reranker(QUERY, ["", "x"])) == 2


def test_a_loaded_model_is_taken_as_it_is(reranker):
    again = CrossEncoderReranker(reranker._model(), batch_size=1)
    assert again(QUERY, SHORT) == pytest.approx(reranker(QUERY, SHORT), abs=1e-5)


def test_no_text_is_cut_off_in_silence(reranker):
    """A long passage is scored by the best of its parts, which together are all of it."""
    seen = []
    model = reranker._model()
    predict = model.predict
    long = " ".join(toy_tokenizers.SENTENCES[:4])
    of_any_length = ["a " * number for number in range(36, 56)]
    try:
        model.predict = lambda pairs, **options: seen.extend(pairs) or predict(pairs, **options)
        (score,) = reranker(QUERY, [long])
        pieces = list(seen)
        reranker(QUERY, of_any_length)
    finally:
        del model.predict
    assert len(pieces) > 3
    assert LIMIT - 1 <= max(len(model.tokenizer(*pair)["input_ids"]) for pair in seen) <= LIMIT
    assert "".join(piece for _, piece in pieces).replace(" ", "") == long.replace(" ", "")
    assert score == pytest.approx(max(direct(reranker, pieces)), abs=1e-6)
    with pytest.raises(UnsupportedModelError, match="takes 48 for query and passage"):
        reranker("the river " * 30, ["x"])


def test_a_model_with_several_scores_is_refused(tmp_path):
    with pytest.raises(UnsupportedModelError, match="3 scores"):
        CrossEncoderReranker(save(tmp_path, labels=3), device="cpu")(QUERY, SHORT)


def test_threads_share_a_model(reranker):
    expected, found = reranker(QUERY, SHORT), []
    threads = [threading.Thread(target=lambda: found.append(reranker(QUERY, SHORT))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(scores == pytest.approx(expected, abs=1e-6) for scores in found)
    assert len(found) == 6


def test_passages_come_in_the_cross_encoders_order(reranker):
    encoder = DeterministicEncoder(64)
    with IndexDirectory.open(None) as directory:
        documents = [Document(text, str(number)) for number, text in enumerate(toy_tokenizers.SENTENCES)]
        Indexer(directory, Pipeline(encoder, RecursiveSplitter(60, tokenizer=len)), keywords=False).upsert(documents)
        candidates = SentenceParentSearch(directory, encoder).search(QUERY, 10)
        found = Retrieval(directory, encoder, k=4, fetch_k=10, reranker=reranker).search(QUERY)
    scores = dict(
        zip((one.chunk.id for one in candidates), reranker(QUERY, [one.chunk.text for one in candidates]), strict=True)
    )
    assert [one.chunk.id for one in found] == sorted(scores, key=lambda one: -scores[one])[:4]
    assert all(one.score == pytest.approx(scores[one.chunk.id], abs=1e-5) for one in found)
    assert all(before.score >= after.score for before, after in itertools.pairwise(found))
