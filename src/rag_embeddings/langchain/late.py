"""Late chunking as LangChain embeddings: chunks in any vector store that know their document."""

from collections.abc import Iterable, Iterator
from functools import cached_property

from langchain_core.documents import Document
from langchain_text_splitters import TextSplitter
from pydantic import Field

from rag_embeddings.encode.late import LatePass, units
from rag_embeddings.encode.windows import Windows
from rag_embeddings.langchain.convert import from_chunk, to_core
from rag_embeddings.langchain.embeddings import InstructionEmbeddings
from rag_embeddings.langchain.splitters import core_splitter
from rag_embeddings.split.base import Splitter


class LateChunkingEmbeddings(InstructionEmbeddings):
    """Embeds whole documents and pools each chunk's tokens, so that a chunk's vector knows what stands around it.

    `embed_query` and `embed_documents` are those of `InstructionEmbeddings`: a list of texts says nothing of their
    documents. What is late is `split_and_embed`, and `add_documents`, which writes such vectors into any vector store
    that was made with this object. `langchain_core.indexing.index` splits and adds by itself, without documents: use
    ``SentenceParentIndex(late=True)`` there.

    Setup:
        ``pip install 'rag-embeddings[langchain,local]'``

    Instantiate:
        ```python
        from rag_embeddings.langchain import LateChunkingEmbeddings, RecursiveTextSplitter

        embeddings = LateChunkingEmbeddings(model="sentence-transformers/all-MiniLM-L6-v2")
        splitter = RecursiveTextSplitter(chunk_size=256, embeddings=embeddings)
        ```

    Use:
        ```python
        from langchain_core.vectorstores import InMemoryVectorStore

        store = InMemoryVectorStore(embeddings)
        ids = embeddings.add_documents(store, documents, splitter)
        found = store.similarity_search("Who was its mayor?")
        chunks, vectors = embeddings.split_and_embed(documents, splitter)
        ```

    Async:
        ```python
        ids = await embeddings.aadd_documents(store, documents, splitter)
        ```

    A chunk's own context (``metadata["context"]``) is in its vector as far as ``mix`` lets it. Needs a model that takes
    the mean over tokens that see both sides; others are refused unless ``force``.
    """

    window: int | None = Field(default=None, ge=1)
    """Tokens that the model sees at once, prompt and special tokens included. None: as many as it takes."""
    overlap: float = Field(default=0.25, ge=0, lt=1)
    """Least share of a window that the next one repeats."""
    mix: float = Field(default=0.0, ge=0, lt=1)
    """Share of a vector that a chunk has by itself, without its document; 0.5 is the mean of both."""
    paper_compat: bool = False
    """Lay windows as the paper does; see `rag_embeddings.encode.windows.Windows`."""
    force: bool = False
    """Pool the tokens of models that were not trained for it all the same."""

    @cached_property
    def late_pass(self) -> LatePass:
        """The core's late pass, with these settings."""
        windows = Windows(self.window, self.overlap, self.paper_compat)
        return LatePass(self.encoder, windows=windows, mix=self.mix, force=self.force)

    def _embedded(
        self, documents: Iterable[Document], splitter: TextSplitter | Splitter
    ) -> Iterator[tuple[Document, list[float]]]:
        core = core_splitter(splitter)
        cut = (units(to_core(document), core, sentences=False) for document in documents)
        for late in self.late_pass.encode_many(cut):
            yield from zip(map(from_chunk, late.chunks), late.vectors.tolist(), strict=True)
