"""A retriever by vectors and keywords at once."""

from typing import Literal

from rag_embeddings.langchain.sentence_parent import SentenceParentIndex


class HybridRetriever(SentenceParentIndex):
    """Returns the passages that match by meaning, by words, or both.

    It is a `SentenceParentIndex` with ``search_type="hybrid"``: every candidate of either side is scored on both, so
    that a name or a code that vectors blur is found, and a question in other words than the text is answered as
    without keywords. Results are told apart by id, never by text; each has its ``score``. Over a directory that another
    `SentenceParentIndex` writes, give that ``directory`` and the same embeddings.

    Setup:
        ``pip install 'rag-embeddings[langchain,local,chroma,keywords]'``

    Use:
        ```python
        from rag_embeddings.langchain import HybridRetriever, InstructionEmbeddings

        retriever = HybridRetriever(embeddings=InstructionEmbeddings(), directory="rag-index", k=4)
        passages = retriever.invoke("error E1047", filter={"product": "router"}, k=2)
        ```
    """

    search_type: Literal["similarity", "hybrid", "mmr"] = "hybrid"
    """By vectors and keywords; the other two in a single call."""
