"""A LangChain vector store over Chroma that keeps what it is given."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rag_embeddings.langchain.vector_store import RecordVectorStore, similarity_of, space_of
from rag_embeddings.store.chroma import ChromaStore

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_core.embeddings import Embeddings

    from rag_embeddings.encode.profile import Similarity
    from rag_embeddings.store.chroma_client import ChromaServer


class ChromaVectorStore(RecordVectorStore):
    """Documents in a `ChromaStore`: a Chroma directory, or a server.

    Setup:
        ``pip install 'rag-embeddings[langchain,local,chroma]'``

    Instantiate:
        ```python
        from rag_embeddings.langchain import ChromaVectorStore, InstructionEmbeddings

        store = ChromaVectorStore(InstructionEmbeddings(), "chroma")
        ```

    On a server started by ``chroma run --path chroma --port 8000``:
        ```python
        from rag_embeddings import ChromaServer

        store = ChromaVectorStore(InstructionEmbeddings(), ChromaServer(port=8000))
        ```

    Add documents, or documents with ready vectors:
        ```python
        from langchain_core.documents import Document

        documents = [Document(page_content="...", metadata={"year": 2024, "tags": ["a", "b"]})]
        store.add_documents(documents)
        store.add_vectors(documents, vectors)
        ```

    Search:
        ```python
        from rag_embeddings import Where

        store.similarity_search("question", k=4, filter=Where.between("year", 2020, None) & Where.has("tags", "a"))
        ```

    Use as a retriever:
        ```python
        retriever = store.as_retriever(search_type="mmr", search_kwargs={"k": 4, "fetch_k": 20})
        ```

    Unlike ``langchain_chroma.Chroma`` it takes any number of documents at once, drops metadata that an update no longer
    has, returns MMR results in the order of their choice, has relevance scores from 0 to 1 for every similarity, and
    lets one process at a time write to a directory, from its first write until `close`.

    Args:
        embedding: Makes the vectors.
        directory: Where Chroma's files lie, or a `ChromaServer`; None: in a temporary directory, until `close`.
        collection: Name of the collection; made if absent.
        similarity: How vectors are compared; an existing collection must agree. None: as ``embedding`` was trained for,
            if it is of this package, else cosine.
        space: Stamp of the embedding space, compared with that of an existing collection; see `Profile.space`. None:
            that of ``embedding``, if it is of this package.
    """

    def __init__(
        self,
        embedding: Embeddings,
        directory: str | Path | ChromaServer | None = None,
        *,
        collection: str = "documents",
        similarity: Similarity | None = None,
        space: str | None = None,
    ) -> None:
        temporary = TemporaryDirectory() if directory is None else None
        place = temporary.name if temporary else directory
        if place is None:
            raise TypeError("there is no directory")
        chosen = similarity_of(embedding, similarity) or "cosine"
        store = ChromaStore(place, collection, similarity=chosen, space=space_of(embedding, space))
        super().__init__(embedding, store, similarity=chosen, temporary=temporary)
