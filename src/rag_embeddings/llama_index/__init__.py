"""Classes for LlamaIndex: an embedding model, node parsers, a retriever.

They plug into existing ingestion pipelines, indices and query engines. Needs the extra ``llama-index``; the embedding
model needs ``local`` too, and a retriever over a directory needs ``chroma``.
"""

from __future__ import annotations

from rag_embeddings.errors import require

require("llama_index.core", "llama-index")

from rag_embeddings.llama_index.dual import DualEncoderEmbedding  # noqa: E402  # after the clear error
from rag_embeddings.llama_index.embedding import InstructionEmbedding  # noqa: E402
from rag_embeddings.llama_index.highlight import SentenceHighlightPostprocessor  # noqa: E402
from rag_embeddings.llama_index.hybrid import HybridRetriever  # noqa: E402
from rag_embeddings.llama_index.late import LateChunkingNodeParser  # noqa: E402
from rag_embeddings.llama_index.layout import LayoutNodeParser  # noqa: E402
from rag_embeddings.llama_index.linked import LinkedChunkRetriever  # noqa: E402
from rag_embeddings.llama_index.meaning_parsers import (  # noqa: E402
    BollingerNodeParser,
    LLMNodeParser,
    RegexNodeParser,
    SemanticNodeParser,
    TopicNodeParser,
)
from rag_embeddings.llama_index.node_parsers import RecursiveNodeParser, SlidingWindowNodeParser  # noqa: E402
from rag_embeddings.llama_index.quantized import QuantizedVectorStore  # noqa: E402
from rag_embeddings.llama_index.retriever import SentenceParentRetriever  # noqa: E402

__all__ = [
    "BollingerNodeParser",
    "DualEncoderEmbedding",
    "HybridRetriever",
    "InstructionEmbedding",
    "LLMNodeParser",
    "LateChunkingNodeParser",
    "LayoutNodeParser",
    "LinkedChunkRetriever",
    "QuantizedVectorStore",
    "RecursiveNodeParser",
    "RegexNodeParser",
    "SemanticNodeParser",
    "SentenceHighlightPostprocessor",
    "SentenceParentRetriever",
    "SlidingWindowNodeParser",
    "TopicNodeParser",
]
