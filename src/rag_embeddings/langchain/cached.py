"""Any LangChain embeddings behind a cache on disk that knows queries from documents."""

from functools import cached_property

from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict, Field

from rag_embeddings.encode.base import Encoder
from rag_embeddings.encode.cache import VectorCache
from rag_embeddings.encode.wrap import wrap
from rag_embeddings.langchain.encoded import EncodedEmbeddings


class CachedEmbeddings(EncodedEmbeddings):
    """Looks vectors up before it embeds, and embeds each distinct missing text once.

    A vector's key is everything that changes it: model, settings, prompt, number format, text, and whether the text is
    a query or a document. The file may be shared by threads and processes, is bounded in size, and is checked row by
    row; see `rag_embeddings.encode.cache.VectorCache`. Documents go to services in batches, and failures that may pass
    are retried; see `rag_embeddings.encode.wrap.wrap`.

    Setup:
        ``pip install 'rag-embeddings[langchain]'``, and the package of the embeddings inside.

    Instantiate:
        ```python
        from langchain_openai import OpenAIEmbeddings

        from rag_embeddings.langchain import CachedEmbeddings

        embeddings = CachedEmbeddings(embeddings=OpenAIEmbeddings(model="text-embedding-3-small"))
        ```

    Use:
        ```python
        vectors = embeddings.embed_documents(["Paris is in France."])  # the second time from the cache
        vector = embeddings.embed_query("Where is Paris?")
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    embeddings: Embeddings
    """What embeds: any LangChain embeddings."""
    cache_path: str | None = None
    """The file. None: ``rag-embeddings/vectors.sqlite`` in your cache directory."""
    cache_bytes: int = Field(default=4 << 30, ge=1 << 20)
    """Bound on the size of the file."""
    model_name: str | None = Field(default=None, alias="model")
    """Name of the model, where the embeddings inside do not say it. Their vectors are kept under it."""
    query_prompt: str | None = None
    """Put in front of queries, to the byte. Prompts are for embeddings that add none themselves: servers of open models
    such as Ollama, text-embeddings-inference or vLLM."""
    document_prompt: str | None = None
    """Put in front of documents, to the byte."""
    catalog_name: str | None = None
    """The published model that the embeddings inside run, if the catalog's prompts are to be used for it."""
    task: str | None = None
    """What texts are embedded for, in one sentence, where the catalog's template has a place for it."""

    @cached_property
    def encoder(self) -> Encoder:
        """The core's encoder, which splitters and indexes of this package use directly. Cheap until it encodes."""
        cache = VectorCache(self.cache_path, max_bytes=self.cache_bytes)
        return wrap(
            self.embeddings,
            cache=cache,
            model=self.model_name,
            query_prompt=self.query_prompt,
            document_prompt=self.document_prompt,
            catalog_name=self.catalog_name,
            task=self.task,
        )
