"""The package's classes as LangChain's own: embeddings, text splitters, and a document index that is a retriever.

Needs the extra ``langchain``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rag_embeddings.errors import require

require("langchain_core", "langchain")
require("langchain_text_splitters", "langchain")

if TYPE_CHECKING:
    from rag_embeddings.langchain.cached import CachedEmbeddings
    from rag_embeddings.langchain.chroma import ChromaVectorStore
    from rag_embeddings.langchain.dual import DualEncoderEmbeddings
    from rag_embeddings.langchain.embeddings import InstructionEmbeddings
    from rag_embeddings.langchain.highlight import SentenceHighlighter
    from rag_embeddings.langchain.hybrid import HybridRetriever
    from rag_embeddings.langchain.late import LateChunkingEmbeddings
    from rag_embeddings.langchain.layout import LayoutTextSplitter
    from rag_embeddings.langchain.linked import LinkedChunkRetriever
    from rag_embeddings.langchain.meaning_splitters import (
        BollingerTextSplitter,
        LLMTextSplitter,
        RegexTextSplitter,
        SemanticTextSplitter,
        TopicTextSplitter,
    )
    from rag_embeddings.langchain.parent_store import SentenceParentRetriever
    from rag_embeddings.langchain.quantized import QuantizedVectorStore
    from rag_embeddings.langchain.sentence_parent import SentenceParentIndex
    from rag_embeddings.langchain.splitters import RecursiveTextSplitter, SlidingWindowTextSplitter

__all__ = [
    "BollingerTextSplitter",
    "CachedEmbeddings",
    "ChromaVectorStore",
    "DualEncoderEmbeddings",
    "HybridRetriever",
    "InstructionEmbeddings",
    "LLMTextSplitter",
    "LateChunkingEmbeddings",
    "LayoutTextSplitter",
    "LinkedChunkRetriever",
    "QuantizedVectorStore",
    "RecursiveTextSplitter",
    "RegexTextSplitter",
    "SemanticTextSplitter",
    "SentenceHighlighter",
    "SentenceParentIndex",
    "SentenceParentRetriever",
    "SlidingWindowTextSplitter",
    "TopicTextSplitter",
]

_HOME = {
    "BollingerTextSplitter": "meaning_splitters",
    "CachedEmbeddings": "cached",
    "ChromaVectorStore": "chroma",
    "DualEncoderEmbeddings": "dual",
    "HybridRetriever": "hybrid",
    "InstructionEmbeddings": "embeddings",
    "LLMTextSplitter": "meaning_splitters",
    "LateChunkingEmbeddings": "late",
    "LayoutTextSplitter": "layout",
    "LinkedChunkRetriever": "linked",
    "QuantizedVectorStore": "quantized",
    "RecursiveTextSplitter": "splitters",
    "RegexTextSplitter": "meaning_splitters",
    "SemanticTextSplitter": "meaning_splitters",
    "SentenceHighlighter": "highlight",
    "SentenceParentIndex": "sentence_parent",
    "SentenceParentRetriever": "parent_store",
    "SlidingWindowTextSplitter": "splitters",
    "TopicTextSplitter": "meaning_splitters",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
