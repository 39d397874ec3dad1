"""An index compares vectors as the profile of its model says, in memory and on disk."""

import numpy as np
import pytest

from rag_embeddings import Document, IndexDirectory, Indexer, Pipeline, RecursiveSplitter, SentenceParentSearch
from rag_embeddings.encode.profile import Profile

VECTORS = {"ask": (1, 0), "same way": (0.1, 0), "far out": (5, 5), "close by": (0.9, 0.3)}
NEAREST = {"cosine": "same way", "dot": "far out", "euclidean": "close by"}


class Fixed:
    tokenizer = None

    def __init__(self, similarity):
        self.profile = Profile("fixed", 2, normalize=False, similarity=similarity)

    def encode(self, texts, role):
        return np.array([VECTORS[text] for text in texts], dtype=np.float32).reshape(-1, 2)


@pytest.mark.parametrize("similarity", NEAREST)
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_the_nearest_is_that_of_the_models_own_comparison(similarity, where, tmp_path):
    encoder = Fixed(similarity)
    path = None if where == "memory" else tmp_path / "index"
    with IndexDirectory.open(path, create=path is not None) as directory:
        documents = [Document(text, id=text) for text in VECTORS if text != "ask"]
        Indexer(directory, Pipeline(encoder, RecursiveSplitter(100, tokenizer=len))).upsert(documents)
        found = SentenceParentSearch(directory, encoder).search("ask", k=3)
        assert found[0].chunk.text == NEAREST[similarity]
        assert len(found) == 3
