"""What turns a document into vectors: an encoder and a splitter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_embeddings.encode.late import units
from rag_embeddings.store.version import Sentence, Version
from rag_embeddings.text import canonical_json, content_id, span_id

if TYPE_CHECKING:
    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.encode.late import LatePass
    from rag_embeddings.split.base import Splitter
    from rag_embeddings.text import Document

_UNITS = 1  # grows when sentences are cut in another way


@dataclass(frozen=True)
class Pipeline:
    """An encoder and a splitter.

    Attributes:
        encoder: Text to vectors.
        splitter: Document to chunks. If it has a ``language``, sentences are cut in that language.
        late: Makes the vectors from whole documents. None: each chunk and sentence is encoded by itself. Queries and
            the embedding space are the same either way.

    Raises:
        ValueError: If the late pass is over another encoder.
    """

    encoder: Encoder
    splitter: Splitter
    late: LatePass | None = None

    def __post_init__(self) -> None:
        if self.late is not None and self.late.encoder is not self.encoder:
            raise ValueError(f"the late pass is over another encoder, {self.late.encoder!r}, than {self.encoder!r}")

    def settings(self) -> dict[str, Any]:
        """Return encoder, splitter and late pass as JSON-safe values."""
        late = None if self.late is None else self.late.settings()
        return {"encoder": self.encoder.profile.to_dict(), "splitter": self.splitter.settings(), "late": late}

    @property
    def fingerprint(self) -> str:
        """Stamp of everything that changes what is stored for a document."""
        settings = canonical_json(self.splitter.settings())
        space = self.encoder.profile.space
        return content_id("pipeline", space, settings, self.language, str(_UNITS), self.vector_stamp)

    @property
    def vector_stamp(self) -> str:
        """Stamp of what a vector depends on beside its own text; empty where that is nothing."""
        return "" if self.late is None else content_id("late", canonical_json(self.late.settings()))

    @property
    def language(self) -> str:
        """ISO 639-1 code that sentences are cut by: the splitter's, English where it has none."""
        return str(getattr(self.splitter, "language", "en"))

    def version_name(self, document: Document, fingerprint: str) -> str:
        """Name the version of a document that this pipeline makes.

        Args:
            document: The document.
            fingerprint: `fingerprint`, which takes a while to compute.

        Returns:
            A stamp of text, metadata, blocks and pipeline; behind a slash the `vector_stamp`, where there is one.

        Raises:
            DocumentError: If the metadata has a value without a stable spelling.
        """
        blocks = [[block.span.start, block.span.end, block.kind, block.level, block.page] for block in document.blocks]
        stamp = content_id(
            "version", document.digest, canonical_json(document.metadata), canonical_json(blocks), fingerprint
        )
        return f"{stamp}/{self.vector_stamp}" if self.late else stamp

    def version(self, document: Document, name: str) -> Version:
        """Split a document into chunks and sentences.

        Args:
            document: The document.
            name: Its `version_name`.

        Returns:
            What the ledger writes down. A sentence that a chunk's edge cuts is two units, one in each chunk.
        """
        cut = units(document, self.splitter)
        sentences = [
            [Sentence(span_id(cut.document, "sentence", (span,)), span) for span in spans] for spans in cut.sentences
        ]
        return Version(cut.document, name, cut.chunks, sentences)


def stamped(name: str) -> str:
    """Return the `Pipeline.vector_stamp` in a `Pipeline.version_name`."""
    return name.partition("/")[2]
