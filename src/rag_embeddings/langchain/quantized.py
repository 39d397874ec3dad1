"""A LangChain vector store whose vectors take a fraction of the memory."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from rag_embeddings.langchain.vector_store import RecordVectorStore, similarity_of, space_of
from rag_embeddings.store.quantized import QuantizedStore
from rag_embeddings.store.slot_records import FILE

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from rag_embeddings.codec.base import VectorCodec
    from rag_embeddings.encode.base import Vectors
    from rag_embeddings.encode.profile import Similarity
    from rag_embeddings.store.base import Hit
    from rag_embeddings.store.where import Where


class QuantizedVectorStore(RecordVectorStore):
    """Documents in a `QuantizedStore`: small codes are searched, float vectors on disk put the best in order.

    Setup:
        ``pip install 'rag-embeddings[langchain,local,quantized]'``

    Instantiate:
        ```python
        from rag_embeddings import BinaryCodec
        from rag_embeddings.langchain import InstructionEmbeddings, QuantizedVectorStore

        store = QuantizedVectorStore(InstructionEmbeddings(), "vectors", codec=BinaryCodec())
        ```

    Add documents:
        ```python
        from langchain_core.documents import Document

        store.add_documents([Document(page_content="...", metadata={"year": 2024})])
        ```

    Search:
        ```python
        from rag_embeddings import Where

        store.similarity_search("question", k=4, filter=Where.between("year", 2020, None))
        ```

    Use as a retriever:
        ```python
        retriever = store.as_retriever(search_type="mmr", search_kwargs={"k": 4, "fetch_k": 20})
        ```

    Every search also takes ``exact=True``, which compares all vectors. One process at a time may write to a directory,
    from its first write until `close`; reading is free to all.

    Args:
        embedding: Makes the vectors.
        directory: Where the store lives; None: in a temporary directory, until `close`.
        codec: How vectors become codes; None: as the directory was made with, for a new one `Int8Codec`.
        similarity: How vectors are compared; None: as the codec, or as the directory was made with; for a new one
            without a codec as ``embedding`` was trained for, if it is of this package, else cosine.
        oversample: How many documents are compared by their float vectors, for each one asked for.
        build_after: See `QuantizedStore`.
        space: Stamp of the embedding space, compared with that of an existing directory; see `Profile.space`. None:
            that of ``embedding``, if it is of this package.
    """

    def __init__(
        self,
        embedding: Embeddings,
        directory: str | Path | None = None,
        *,
        codec: VectorCodec | None = None,
        similarity: Similarity | None = None,
        oversample: int = 16,
        build_after: int = 20_000,
        space: str | None = None,
    ) -> None:
        temporary = TemporaryDirectory() if directory is None else None
        place = Path(temporary.name if temporary else str(directory))
        if codec is None and not (place / FILE).is_file():
            similarity = similarity_of(embedding, similarity)
        store = QuantizedStore(
            place,
            codec=codec,
            similarity=similarity,
            oversample=oversample,
            build_after=build_after,
            space=space_of(embedding, space),
        )
        super().__init__(embedding, store, similarity=store.similarity, temporary=temporary)

    def _search(
        self,
        vector: Vectors,
        k: int,
        where: Where | None,
        /,
        *,
        exact: bool = False,
        **options: Any,
    ) -> list[Hit]:
        self._refuse(options)
        return cast("QuantizedStore", self.store).search(vector, k, where=where, exact=exact)
