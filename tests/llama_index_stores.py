"""Vector stores of others, and how to read a vector back from each."""

import warnings
from itertools import count

import pytest
from llama_index.core.vector_stores import SimpleVectorStore

_numbers = count()


def simple():
    store = SimpleVectorStore()
    return store, store.get


def chroma():
    module = pytest.importorskip("llama_index.vector_stores.chroma")
    from chromadb import EphemeralClient

    name = f"li-collection-{next(_numbers)}"
    collection = EphemeralClient().create_collection(name, metadata={"hnsw:space": "cosine"})
    return (
        module.ChromaVectorStore(chroma_collection=collection),
        lambda id_: collection.get(ids=[id_], include=["embeddings"])["embeddings"][0],
    )


def qdrant():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("llama_index.vector_stores.qdrant")
        from qdrant_client import QdrantClient

        client = QdrantClient(":memory:")
        store = module.QdrantVectorStore("one", client=client)

    return store, lambda id_: client.retrieve("one", [id_], with_vectors=True)[0].vector


STORES = [simple, chroma, qdrant]
