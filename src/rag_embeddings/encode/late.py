"""Late chunking: vectors of chunks and sentences that know their document, from one pass over all of it.

After "Late Chunking: Contextual Chunk Embeddings Using Long-Context Embedding Models" (Günther et al., 2024, arXiv
2409.04701), with windows that have context on both sides, and sentences beside chunks.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from rag_embeddings.encode.base import Role, validated
from rag_embeddings.encode.token_pass import TokenText
from rag_embeddings.encode.windows import Windows
from rag_embeddings.errors import BudgetError, UnsupportedModelError
from rag_embeddings.split.sentences import sentence_spans, sentences_of
from rag_embeddings.text import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rag_embeddings.encode.base import Encoder, TokenBatchEncoder, Vectors
    from rag_embeddings.split.base import Splitter
    from rag_embeddings.text import Chunk, Document

_GROUP = 100_000  # characters of documents whose windows share batches
_BLURRED, _BLURRING = 0.9, 0.15


@dataclass(frozen=True)
class Units:
    """What is to get a vector of one document.

    Attributes:
        document: The document.
        chunks: Its chunks.
        sentences: For each chunk its sentences.
        context: What else the model should know of the document (a title, metadata): stands in front of the text in
            every window, and is pooled into no vector.
    """

    document: Document
    chunks: Sequence[Chunk]
    sentences: Sequence[Sequence[Span]]
    context: str = ""


@dataclass(frozen=True)
class LateDocument:
    """A document, cut and encoded.

    Attributes:
        document: The document.
        chunks: Its chunks, in order.
        vectors: float32 of shape (chunks, dim).
        sentences: For each chunk its sentences, in order. One that a chunk's edge cuts is two, one in each chunk.
        sentence_vectors: float32 of shape (sentences of all chunks, dim), in order.
    """

    document: Document
    chunks: tuple[Chunk, ...]
    vectors: Vectors
    sentences: tuple[tuple[Span, ...], ...]
    sentence_vectors: Vectors


class Homogeneity(NamedTuple):
    """How alike neighbouring chunks of one document are.

    Attributes:
        late: Mean cosine of late vectors.
        plain: Mean cosine of the vectors of the chunks by themselves.
    """

    late: float
    plain: float


class LatePass:
    """Encodes whole documents and pools what each chunk and each sentence covers. Thread-safe.

    The price, in tokens of the model per token of the document: at most 1.4 with a splitter that needs no model
    (recursive, layout, sliding), at most 2.5 with one that encodes sentences or short windows first (semantic,
    Bollinger). Special tokens and the prompt, in every window, come on top.

    A chunk's own context (`Chunk.context`) is not in a late vector; with ``mix`` it is in the other part.

    Args:
        encoder: A `TransformerEncoder` whose model takes the mean over tokens that see both sides, or a cache around
            one.
        windows: How documents longer than the model are laid out.
        mix: Share of the vector that a unit has by itself, without its document: 0 is late chunking, 0.5 the mean of
            both. Anything above 0 encodes every unit once more.
        force: Pool the tokens of models that were not trained for it (CLS, last token, causal) all the same.

    Raises:
        UnsupportedModelError: If the encoder gives no token vectors.
        BudgetError: If ``mix`` is not within 0 and 1.
    """

    def __init__(
        self, encoder: Encoder, *, windows: Windows | None = None, mix: float = 0.0, force: bool = False
    ) -> None:
        # Not isinstance(): before Python 3.12 that reads every property of the protocol, which loads the model.
        if not hasattr(encoder, "encode_tokens_many"):
            raise UnsupportedModelError(
                f"{type(encoder).__name__} gives no token vectors, and late chunking pools them; use TransformerEncoder"
            )
        if not 0 <= mix < 1:
            raise BudgetError(f"mix is a share, at least 0 and less than 1, got {mix}")
        self.encoder = cast("TokenBatchEncoder", encoder)
        self.windows = Windows() if windows is None else windows
        self.mix = mix
        self.force = force

    def __repr__(self) -> str:
        return f"LatePass({self.encoder!r}, windows={self.windows}, mix={self.mix})"

    def settings(self) -> dict[str, Any]:
        """Return everything that changes a vector and is not in the encoder's profile, as JSON-safe values."""
        size = self.windows.size or self.encoder.profile.max_tokens
        return {**self.windows.settings(), "size": size, "mix": self.mix, "force": self.force}

    def run(self, document: Document, splitter: Splitter, *, context: str = "") -> LateDocument:
        """Cut a document and encode its chunks and sentences.

        Args:
            document: The document.
            splitter: Cuts it into chunks. If it has a ``language``, sentences are cut in that language.
            context: See `Units`.

        Returns:
            Chunks and sentences with their vectors.

        Raises:
            UnsupportedModelError: If the model is not one for late chunking; see `TransformerEncoder.encode_tokens`.
        """
        return self.encode([units(document, splitter, context)])[0]

    def run_many(self, documents: Iterable[Document], splitter: Splitter) -> Iterator[LateDocument]:
        """Cut and encode any number of documents; short ones share batches. See `run`.

        Args:
            documents: Drawn as needed.
            splitter: Cuts them.

        Returns:
            Each document, in order.
        """
        return self.encode_many(units(document, splitter) for document in documents)

    def encode_many(self, cut: Iterable[Units]) -> Iterator[LateDocument]:
        """Encode any number of documents that are cut already; see `encode`.

        Args:
            cut: Drawn as needed.

        Yields:
            Each document, in order.
        """
        group: list[Units] = []
        for one in cut:
            group.append(one)
            if sum(len(item.document.text) for item in group) >= _GROUP:
                yield from self.encode(group)
                group = []
        yield from self.encode(group)

    def encode(self, group: Sequence[Units]) -> list[LateDocument]:
        """Encode documents that are cut already; their windows share batches.

        Args:
            group: What is to get a vector. Memory grows with their number of units.

        Returns:
            Each document, in order.

        Raises:
            UnsupportedModelError: If the model is not one for late chunking.
            VectorError: If a vector cannot be used.
        """
        filled = [(index, item) for index, item in enumerate(group) if item.chunks]
        laid = {index: _tiles(item) for index, item in filled}
        texts = [
            TokenText(item.document.text, sorted({mark for tile in _flat(laid[index]) for mark in tile}), item.context)
            for index, item in filled
        ]
        found = {}
        if texts:
            vectors = self.encoder.encode_tokens_many(texts, Role.DOCUMENT, windows=self.windows, force=self.force)
            found = {index: token_vectors for (index, _), token_vectors in zip(filled, vectors, strict=True)}
        results = []
        for index, item in enumerate(group):
            if index in found:
                groups = [[Span(*tile) for tile in tiles] for tiles in laid[index]]
                results.append(self._finished(item, found[index].pool_groups(groups)))
            else:
                none = np.zeros((0, self.encoder.profile.dimensions), dtype=np.float32)
                results.append(LateDocument(item.document, (), none, (), none))
        return results

    def homogeneity(self, document: Document, splitter: Splitter) -> Homogeneity:
        """Compare neighbouring chunks of a document, late and by themselves. Encodes the document twice.

        Late vectors of chunks that differ should differ. Where the model says of every token mostly which document it
        stands in, they blur, and search within a document suffers: a warning says so. Shorter windows or ``mix`` help.

        Args:
            document: A document of several chunks.
            splitter: Cuts it.

        Returns:
            The mean cosine of neighbours, late and plain; 0 for a document of one chunk.
        """
        late = LatePass(self.encoder, windows=self.windows, force=self.force).run(document, splitter)
        texts = [chunk.embedding_text for chunk in late.chunks]
        found = Homogeneity(_neighbours(late.vectors), _neighbours(self.encoder.encode(texts, Role.DOCUMENT)))
        if found.late > _BLURRED and found.late - found.plain > _BLURRING:
            warnings.warn(
                f"late vectors of neighbouring chunks have a mean cosine of {found.late:.2f}, those of the chunks by "
                f"themselves one of {found.plain:.2f}: they say more of the document than of the chunk. Use shorter "
                "windows, mix=0.5, or no late chunking with this model",
                stacklevel=2,
            )
        return found

    def _finished(self, item: Units, vectors: Vectors) -> LateDocument:
        sentences = tuple(tuple(spans) for spans in item.sentences)
        texts = [chunk.embedding_text for chunk in item.chunks]
        texts += [
            f"{chunk.context}\n\n{span.of(item.document.text)}" if chunk.context else span.of(item.document.text)
            for chunk, spans in zip(item.chunks, sentences, strict=True)
            for span in spans
        ]
        profile = self.encoder.profile
        if self.mix:
            vectors = (1 - self.mix) * vectors + self.mix * self.encoder.encode(texts, Role.DOCUMENT)
            if profile.normalize:
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = validated(vectors, texts, profile.dimensions)
        count = len(item.chunks)
        return LateDocument(item.document, tuple(item.chunks), vectors[:count], sentences, vectors[count:])


def units(document: Document, splitter: Splitter, context: str = "", *, sentences: bool = True) -> Units:
    """Cut a document into chunks, and these into sentences, in the splitter's language if it has one.

    A splitter may read the document's layout first: what its chunks point into is what counts.

    Args:
        document: The document.
        splitter: Cuts it into chunks.
        context: See `Units`.
        sentences: Whether sentences are wanted; otherwise each chunk has none.
    """
    chunks = splitter.split(document)
    document = chunks[0].document if chunks else document
    language = str(getattr(splitter, "language", "en"))
    tiles = sentence_spans(document.text, language) if chunks and sentences else []
    return Units(document, chunks, [sentences_of(chunk, tiles) for chunk in chunks], context)


def _tiles(item: Units) -> list[list[tuple[int, int]]]:
    """Return what is pooled for each chunk, then for each sentence: its spans, with the white space behind them.

    Tokens of white space then belong to the unit in front of them, and to the first one where they begin the text.
    """
    text = item.document.text
    first = len(text) - len(text.lstrip())

    def tile(span: Span, limit: int) -> tuple[int, int]:
        end = span.end
        while end < limit and text[end].isspace():
            end += 1
        return (0 if span.start <= first else span.start), end

    found = []
    for chunk in item.chunks:
        limits = [*(span.start for span in chunk.spans[1:]), len(text)]
        found.append([tile(span, limit) for span, limit in zip(chunk.spans, limits, strict=True)])
    found.extend([tile(span, len(text))] for spans in item.sentences for span in spans)
    return found


def _flat(groups: Iterable[Iterable[tuple[int, int]]]) -> Iterator[tuple[int, int]]:
    return (tile for tiles in groups for tile in tiles)


def _neighbours(vectors: Vectors) -> float:
    """Return the mean cosine of each vector and the next; 0 if there is no next."""
    if len(vectors) < 2:  # noqa: PLR2004
        return 0.0
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return float((units[:-1] * units[1:]).sum(axis=1).mean())
