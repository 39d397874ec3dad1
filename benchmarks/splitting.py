"""Splitters side by side: what is found again in their chunks, and what splitting costs.

Every splitter cuts the same documents for the same model (all-MiniLM-L6-v2); every chunk is embedded once, by itself;
the same questions are asked. The data is the public set of "Evaluating Chunking Strategies for Retrieval" (Smith and
Troynikov, Chroma, 2024), or any folder with text files and a ``questions.csv`` as ``rag-embeddings evaluate`` takes
it::

    python benchmarks/splitting.py --data FOLDER

Printed for each: chunks, mean tokens (cl100k_base), recall at 5 chunks and at 1,000 tokens, tokens through the model
for splitting, per token of the documents. Chunks longer than the model are embedded in parts, whose mean is taken; if
there are some, a second line has what the frameworks' own embeddings make of them: they truncate. For SemanticSplitter
and BollingerSplitter also the paired difference, with 95 % intervals, to LangChain's RecursiveCharacterTextSplitter at
the same mean size. Last, the speed of the splitters that need no model. Peers that are not installed are skipped, with
a line: pip install langchain-experimental chonkie semchunk
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rag_embeddings.encode.base import Role, Vectors
    from rag_embeddings.evaluate import Evaluation, Question
    from rag_embeddings.retrieve.base import Match
    from rag_embeddings.text import Chunk, Document

    Split = Callable[[Document], list[Chunk]]

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "chunk_eval"
HEADLINE = ("recall@5", "recall@1000_tokens")
MEGABYTES = 2


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with text files and questions.csv")
    parser.add_argument("--questions", default="questions.csv", help="name of the file of questions in that folder")
    options = parser.parse_args()
    questions_file = options.data / options.questions
    if not questions_file.is_file():
        print(f"skipped: there is no {options.questions} in {options.data}; name the folder with --data")
        return
    warnings.simplefilter("ignore", DeprecationWarning)  # of the peers' packages

    from rag_embeddings.evaluate import load_questions
    from rag_embeddings.read.files import find_files, read_file

    documents = [read_file(path) for path in find_files([options.data])]
    bench = Bench(documents, load_questions(questions_file, documents))
    print(f"{len(bench.questions)} questions over {len(documents)} documents, {bench.encoder.profile.model}\n")
    print(f"{'splitter':44}{'chunks':>7}{'tokens':>7}{'R@5':>7}{'R@1000':>8}{'model':>7}")
    for name, split in (*ours(bench), *peers(bench)):
        bench.run(name, split)
    compared(bench)
    speeds(documents)


class Recorder:
    """An encoder that counts what goes through the model, special tokens included, and remembers vectors."""

    def __init__(self) -> None:
        from rag_embeddings.encode.transformer import TransformerEncoder
        from rag_embeddings.split.tokens import token_counter

        self._encoder = TransformerEncoder()
        self._counter = token_counter(self._encoder)
        self._known: dict[tuple[str, str], Any] = {}
        self.profile = self._encoder.profile
        self.tokenizer = self._encoder.tokenizer
        self.tokens = 0

    def count(self, texts: Sequence[str]) -> int:
        """Count the tokens of texts, without special tokens."""
        return sum(self._counter.count(texts))

    def truncated(self, text: str) -> str:
        """Cut off what the model does not see."""
        counts = self._counter.cumulative(text, np.arange(len(text) + 1))
        return text[: int(np.searchsorted(counts, self.profile.document_tokens or len(text), side="right")) - 1]

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        """Encode; a vector that is known costs no time, but its tokens count."""
        self.tokens += self.count(texts) + 2 * len(texts)
        missing = [text for text in dict.fromkeys(texts) if (text, role) not in self._known]
        if missing:
            self._known.update(
                zip(((text, role) for text in missing), self._encoder.encode(missing, role), strict=True)
            )
        return np.array([self._known[text, role] for text in texts])


class Bench:
    """Documents, questions, and what each splitter reached."""

    def __init__(self, documents: Sequence[Document], questions: Sequence[Question]) -> None:
        self.documents = documents
        self.questions = questions
        self.encoder = Recorder()
        self.size = self.encoder.count([document.text for document in documents])
        self.results: dict[str, Evaluation] = {}

    def run(self, name: str, split: Split) -> None:
        """Split, embed, ask, print a line."""
        self.encoder.tokens = 0
        chunks = [chunk for document in self.documents for chunk in split(document)]
        spent = self.encoder.tokens / self.size
        result = self.results[name] = self.evaluated(chunks)
        self.line(name, len(chunks), result, spent)
        texts = [self.encoder.truncated(chunk.embedding_text) for chunk in chunks]
        if any(len(text) < len(chunk.embedding_text) for text, chunk in zip(texts, chunks, strict=True)):
            self.line("    truncated", len(chunks), self.evaluated(chunks, texts), spent)

    def line(self, name: str, chunks: int, result: Evaluation, spent: float) -> None:
        """Print one line of the table."""
        found = "".join(
            f"{100 * result.mean(metric):>{width}.1f}" for metric, width in zip(HEADLINE, (7, 8), strict=True)
        )
        print(f"{name:44}{chunks:>7}{result.mean_tokens_live:>7.0f}{found}{spent:>7.2f}", flush=True)

    def evaluated(self, chunks: Sequence[Chunk], texts: Sequence[str] | None = None) -> Evaluation:
        """Embed each chunk once, by itself (or the text that stands for it), and ask the questions."""
        from rag_embeddings.encode.base import Role
        from rag_embeddings.evaluate import evaluate
        from rag_embeddings.retrieve.base import Match

        vectors = self.encoder.encode(texts or [chunk.embedding_text for chunk in chunks], Role.DOCUMENT)

        def retrieve(question: str, k: int) -> list[Match]:
            scores = vectors @ self.encoder.encode([question], Role.QUERY)[0]
            best = np.argsort(-scores, kind="stable")[:k].tolist()
            return [Match(chunks[index], float(scores[index]), ()) for index in best]

        return evaluate(retrieve, self.questions, self.documents, chunks=chunks)

    def recursive_of_mean(self, mean: float) -> tuple[int, Evaluation]:
        """LangChain's recursive splitter with the size whose chunks have about this mean."""
        from rag_embeddings.split.tokens import token_counter

        counter = token_counter("cl100k_base")

        def missed(size: int) -> float:
            texts = [
                text for document in self.documents for text in langchain_recursive(size).split_text(document.text)
            ]
            return abs(sum(counter.count(texts)) / len(texts) - mean)

        size = min(range(round(mean), round(2 * mean), 5), key=missed)
        splitter = langchain_recursive(size)
        return size, self.evaluated([c for d in self.documents for c in located(d, splitter.split_text(d.text))])


def ours(bench: Bench) -> Iterator[tuple[str, Split]]:
    """This package's splitters, at their defaults."""
    from rag_embeddings import BollingerSplitter, RecursiveSplitter, RegexSplitter, SemanticSplitter, TopicSplitter

    encoder = bench.encoder
    yield "RecursiveSplitter", RecursiveSplitter(tokenizer=encoder).split
    yield "RegexSplitter", RegexSplitter(tokenizer=encoder).split
    yield "SemanticSplitter", SemanticSplitter(encoder).split
    yield "SemanticSplitter percentile", SemanticSplitter(encoder, breakpoint_threshold_type="percentile").split
    yield "BollingerSplitter", BollingerSplitter(encoder).split
    yield "TopicSplitter", TopicSplitter(encoder).split


def peers(bench: Bench) -> Iterator[tuple[str, Split]]:
    """What others have, as their documentation shows it."""
    if installed("langchain_text_splitters"):
        for size in (100, 200, 400):
            yield f"LangChain Recursive {size}", through(langchain_recursive(size).split_text)
    if installed("langchain_experimental"):
        yield from langchain_semantic(bench)
    if installed("llama_index.core"):
        yield from llama_index(bench)
    if installed("chonkie"):
        yield from chonkie(bench)
    if installed("semchunk"):
        import semchunk

        chunker = semchunk.chunkerify(lambda text: bench.encoder.count([text]), 200)
        yield "semchunk 200", through(chunker)


def langchain_semantic(bench: Bench) -> Iterator[tuple[str, Split]]:
    """LangChain's SemanticChunker at its defaults."""
    from langchain_core.embeddings import Embeddings
    from langchain_experimental.text_splitter import SemanticChunker

    from rag_embeddings.encode.base import Role

    class Shared(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return bench.encoder.encode(texts, Role.DOCUMENT).tolist()

        def embed_query(self, text: str) -> list[float]:
            return bench.encoder.encode([text], Role.QUERY)[0].tolist()

    yield "LangChain SemanticChunker", through(SemanticChunker(Shared()).split_text)


def llama_index(bench: Bench) -> Iterator[tuple[str, Split]]:
    """LlamaIndex's splitters, the semantic one at its defaults."""
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.node_parser import SemanticSplitterNodeParser, SentenceSplitter
    from llama_index.core.schema import Document as Source

    from rag_embeddings.encode.base import Role

    class Model(BaseEmbedding):
        def _get_text_embedding(self, text: str) -> list[float]:
            return bench.encoder.encode([text], Role.DOCUMENT)[0].tolist()

        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            return bench.encoder.encode(texts, Role.DOCUMENT).tolist()

        def _get_query_embedding(self, query: str) -> list[float]:
            return bench.encoder.encode([query], Role.QUERY)[0].tolist()

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_query_embedding(query)

    parser = SemanticSplitterNodeParser(embed_model=Model())
    yield "LlamaIndex SentenceSplitter 200", through(SentenceSplitter(chunk_size=200, chunk_overlap=0).split_text)
    yield (
        "LlamaIndex SemanticSplitter",
        through(lambda text: [n.text for n in parser.build_semantic_nodes_from_documents([Source(text=text)])]),
    )


def chonkie(bench: Bench) -> Iterator[tuple[str, Split]]:
    """Chonkie's splitters, over the same model."""
    from chonkie import RecursiveChunker, SemanticChunker
    from chonkie.embeddings import BaseEmbeddings

    from rag_embeddings.encode.base import Role

    class Wrapped(BaseEmbeddings):
        """Chonkie's door to any model."""

        def embed(self, text: str) -> Any:
            return bench.encoder.encode([text], Role.DOCUMENT)[0]

        def embed_batch(self, texts: list[str]) -> list[Any]:
            return list(bench.encoder.encode(texts, Role.DOCUMENT))

        def similarity(self, u: Any, v: Any) -> Any:
            return np.float32(u @ v / np.linalg.norm(u) / np.linalg.norm(v))

        @property
        def dimension(self) -> int:
            return bench.encoder.profile.dimensions

        def get_tokenizer(self) -> Any:
            return bench.encoder.tokenizer

        @property
        def _is_available(self) -> bool:
            return True

    semantic = SemanticChunker(embedding_model=Wrapped(), chunk_size=256)
    recursive = RecursiveChunker(tokenizer=bench.encoder.tokenizer, chunk_size=200)
    yield "chonkie Recursive 200", through(lambda text: [chunk.text for chunk in recursive.chunk(text)])
    yield "chonkie Semantic 256", through(lambda text: [chunk.text for chunk in semantic.chunk(text)])


def compared(bench: Bench) -> None:
    """Print paired differences at the same mean size."""
    from rag_embeddings.evaluate import compare

    print()
    for name in ("SemanticSplitter", "BollingerSplitter"):
        result = bench.results[name]
        size, other = bench.recursive_of_mean(result.mean_tokens_live)
        print(f"{name}, minus LangChain Recursive {size} (mean {other.mean_tokens_live:.0f} tokens):")
        for metric in HEADLINE:
            difference = compare(result, other).differences[metric].scaled(100)
            print(f"  {metric:<20} {difference.mean:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]")


def speeds(documents: Sequence[Document]) -> None:
    """Print megabytes a second of the splitters that need no model; all count tokens with cl100k_base."""
    from rag_embeddings import RecursiveSplitter, RegexSplitter
    from rag_embeddings.text import Document

    text = "\n\n".join(document.text for document in documents)
    text = (text * (MEGABYTES * 1_000_000 // len(text) + 1))[: MEGABYTES * 1_000_000]
    timed: dict[str, Callable[[], object]] = {
        "RecursiveSplitter 200": lambda: RecursiveSplitter(200).split(Document(text)),
        "RegexSplitter 200": lambda: RegexSplitter(200).split(Document(text)),
    }
    if installed("langchain_text_splitters"):
        timed["LangChain Recursive 200"] = lambda: langchain_recursive(200).split_text(text)
    if installed("semchunk"):
        import semchunk
        import tiktoken

        chunker = semchunk.chunkerify(tiktoken.get_encoding("cl100k_base"), 200, memoize=False)  # the text repeats
        timed["semchunk 200"] = lambda: chunker(text)
    best = dict.fromkeys(timed, float("inf"))
    for _ in range(3):  # in turns, so that a busy moment hits all
        for name, function in timed.items():
            began = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - began)
    print(f"\nwithout a model, {len(text) / 1e6:.0f} MB of text:")
    for name, seconds in best.items():
        print(f"  {name:<26} {len(text) / 1e6 / seconds:6.2f} MB/s")


@cache
def langchain_recursive(size: int) -> Any:
    """LangChain's recursive splitter, sizes in cl100k_base tokens."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    return RecursiveCharacterTextSplitter.from_tiktoken_encoder("cl100k_base", chunk_size=size, chunk_overlap=0)


@cache
def installed(module: str) -> bool:
    """Tell whether a peer is there, and say so if not."""
    root = module.split(".", maxsplit=1)[0]
    there = find_spec(root) is not None and find_spec(module) is not None
    if not there:
        print(f"{root}: skipped, not installed")
    return there


def through(split_text: Callable[[str], Sequence[str]]) -> Split:
    """Make a splitter of a function that gives texts."""
    return lambda document: located(document, split_text(document.text))


def located(document: Document, texts: Sequence[str]) -> list[Chunk]:
    """Find texts in their document, white space aside: not every peer keeps it."""
    from rag_embeddings.text import Chunk, Span

    kept = [index for index, character in enumerate(document.text) if not character.isspace()]
    bare = "".join(document.text[index] for index in kept)
    chunks, position = [], 0
    for text in texts:
        wanted = "".join(text.split())
        if not wanted:
            continue
        at = bare.find(wanted, position)
        if at < 0:
            raise ValueError(f"a chunk is no part of its document: {text[:60]!r}")
        chunks.append(Chunk(document, (Span(kept[at], kept[at + len(wanted) - 1] + 1),)))
        position = at + len(wanted)
    return chunks


if __name__ == "__main__":
    main()
