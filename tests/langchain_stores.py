"""Vector stores of others, made with given embeddings, and how to read a vector back from each."""

import warnings
from itertools import count

import pytest
from langchain_core.vectorstores import InMemoryVectorStore

_numbers = count()


def in_memory(embeddings, dimensions):
    store = InMemoryVectorStore(embeddings)
    return store, lambda id_: store.store[id_]["vector"]


def chroma(embeddings, dimensions):
    langchain_chroma = pytest.importorskip("langchain_chroma")
    from chromadb import EphemeralClient

    settings = {"hnsw": {"space": "cosine"}}
    name = f"collection-{next(_numbers)}"
    store = langchain_chroma.Chroma(name, embeddings, client=EphemeralClient(), collection_configuration=settings)
    return store, lambda id_: store.get(ids=[id_], include=["embeddings"])["embeddings"][0]


def faiss(embeddings, dimensions):
    library = pytest.importorskip("faiss")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # langchain-community says that it is being sunset
        docstore = pytest.importorskip("langchain_community.docstore.in_memory")
        vectorstores = pytest.importorskip("langchain_community.vectorstores.faiss")
    index = library.IndexFlatL2(dimensions)
    store = vectorstores.FAISS(embeddings, index, docstore.InMemoryDocstore(), {})

    def vector(id_):
        row = next(row for row, found in store.index_to_docstore_id.items() if found == id_)
        return index.reconstruct(row)

    return store, vector


def qdrant(embeddings, dimensions):
    langchain_qdrant = pytest.importorskip("langchain_qdrant")
    from qdrant_client import QdrantClient
    from qdrant_client.models import Distance, VectorParams

    client = QdrantClient(":memory:")
    client.create_collection("one", vectors_config=VectorParams(size=dimensions, distance=Distance.COSINE))
    store = langchain_qdrant.QdrantVectorStore(client, "one", embeddings)
    return store, lambda id_: client.retrieve("one", [id_], with_vectors=True)[0].vector


STORES = [in_memory, chroma, faiss, qdrant]
