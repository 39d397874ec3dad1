"""Better retrieval for LangChain and LlamaIndex, as classes that drop into existing chains and query engines.

Importing the package loads neither torch nor a framework: each public name is imported when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from rag_embeddings._version import __version__

_HOME = {
    "ArtifactError": "errors",
    "ArtifactRecord": "store.artifact_save",
    "BatchedEncoder": "encode.retry",
    "BinaryCodec": "codec.binary",
    "Block": "text",
    "BollingerSplitter": "split.bollinger",
    "Boundary": "split.boundaries",
    "BudgetError": "errors",
    "CacheInfo": "encode.cache",
    "CacheUnavailableError": "errors",
    "CachedEncoder": "encode.cached",
    "CatalogEntry": "encode.catalog",
    "ChromaDamagedError": "errors",
    "ChromaServer": "store.chroma_client",
    "ChromaStore": "store.chroma",
    "Chunk": "text",
    "CodecError": "errors",
    "Comparison": "evaluate",
    "CrossEncoderReranker": "retrieve.rerank",
    "Cut": "split.base",
    "Document": "text",
    "DocumentError": "errors",
    "DualEncoder": "encode.dual",
    "EmbeddingArtifact": "store.artifact",
    "Encoder": "encode.base",
    "Evaluation": "evaluate",
    "Explanation": "split.explain",
    "Highlighter": "retrieve.highlight",
    "Hit": "store.base",
    "Homogeneity": "encode.late",
    "HybridSearch": "retrieve.hybrid",
    "IndexDirectory": "store.directory",
    "IndexNotFoundError": "errors",
    "Indexer": "index.indexer",
    "Int8Codec": "codec.int8",
    "Interval": "evaluate",
    "KeptStore": "store.kept",
    "LLMSplitter": "split.llm",
    "LateDocument": "encode.late",
    "LatePass": "encode.late",
    "LayoutSplitter": "split.layout",
    "LinkRule": "store.links",
    "Match": "retrieve.base",
    "MemoryStore": "store.memory",
    "Merge": "retrieve.merge",
    "MissingExtraError": "errors",
    "ModelNotFoundError": "errors",
    "Note": "text",
    "PatternError": "errors",
    "Pipeline": "index.pipeline",
    "ProductCodec": "codec.product",
    "Profile": "encode.profile",
    "QuantizedStore": "store.quantized",
    "Question": "evaluate",
    "QuestionError": "errors",
    "RagEmbeddingsError": "errors",
    "Record": "store.base",
    "RecursiveSplitter": "split.recursive",
    "RegexSplitter": "split.regex",
    "RemoteEncoderError": "errors",
    "Reranker": "retrieve.rerank",
    "Retrieval": "retrieve.search",
    "Role": "encode.base",
    "ScopeNotes": "read.scope",
    "SemanticSplitter": "split.semantic",
    "SentenceParentSearch": "retrieve.sentence_parent",
    "SlidingWindowSplitter": "split.sliding",
    "SpaceMismatchError": "errors",
    "Span": "text",
    "Splitter": "split.base",
    "SqliteStore": "store.sqlite",
    "Store": "store.base",
    "StoreError": "errors",
    "StoreLockedError": "errors",
    "Summary": "index.indexer",
    "SummedTokenVectors": "encode.token_vectors",
    "TextTooLongError": "errors",
    "TokenBatchEncoder": "encode.base",
    "TokenCounter": "split.tokens",
    "TokenEncoder": "encode.base",
    "TokenText": "encode.token_pass",
    "TokenVectors": "encode.base",
    "TopicSplitter": "split.topics",
    "TransformerEncoder": "encode.transformer",
    "TruncateCodec": "codec.truncate",
    "Units": "encode.late",
    "UnsupportedModelError": "errors",
    "VectorCache": "encode.cache",
    "VectorCodec": "codec.base",
    "VectorError": "errors",
    "Where": "store.where",
    "Window": "retrieve.window",
    "Windows": "encode.windows",
    "WrappedEncoder": "encode.wrap",
    "explain": "split.explain",
    "export_index": "index.artifact",
    "find_files": "read.files",
    "from_docling": "read.bridges",
    "from_unstructured": "read.bridges",
    "heading_text": "text",
    "import_artifact": "index.artifact",
    "load_codec": "codec.saved",
    "read_docx": "read.docx",
    "read_file": "read.files",
    "read_html": "read.html",
    "read_markdown": "read.markdown",
    "read_pdf": "read.pdf",
    "save_codec": "codec.saved",
    "sentence_spans": "split.sentences",
    "token_counter": "split.tokens",
    "wrap": "encode.wrap",
}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
