"""A retriever that brings along what other documents say about the same thing."""

from pydantic import Field

from rag_embeddings.langchain.sentence_parent import SentenceParentIndex
from rag_embeddings.store.links import LinkRule


class LinkedChunkRetriever(SentenceParentIndex):
    """Returns the passages that match, and behind them passages of other documents that are linked to these.

    Similar passages of different documents are linked when documents are written, from the vectors that are stored
    anyway. A document that is replaced or deleted takes its links with it; the others' are not computed again.

    It is a `SentenceParentIndex` that writes links and follows them by default; over a directory that has links
    already, any `SentenceParentIndex` follows them with ``links=600``. A linked passage has ``linked_from`` (the id of
    the passage that led there) in its metadata, the similarity to that passage as ``score``, and no ``matches``.

    Setup:
        ``pip install 'rag-embeddings[langchain,local,chroma]'``

    Use:
        ```python
        from rag_embeddings.langchain import InstructionEmbeddings, LinkedChunkRetriever

        retriever = LinkedChunkRetriever.from_documents(documents, InstructionEmbeddings(), k=3, links=800)
        for passage in retriever.invoke("Which rules apply to travel?"):
            print(passage.metadata["source_id"], passage.metadata.get("linked_from", "found"))
        ```
    """

    links: int = Field(default=600, ge=0)
    """Tokens of linked passages to fetch along, on top of ``k`` or ``token_budget``."""
    link_rule: LinkRule | bool | None = Field(default=True, frozen=True)
    """Which passages are linked: True for the rule the directory has, for a new one `LinkRule` with its defaults; or a
    rule of your own."""
