"""A progress bar over bytes of text, with rate and time left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_embeddings.encode.base import TokenBatchEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rag_embeddings.encode.base import Encoder, Role, TokenVectors, Vectors
    from rag_embeddings.encode.profile import Profile
    from rag_embeddings.encode.token_pass import TokenText
    from rag_embeddings.encode.token_vectors import SummedTokenVectors
    from rag_embeddings.encode.windows import Windows

_PASSES = 2  # every text is encoded as sentences and as passages


class Meter:
    """Counts bytes of files: those of documents that are done, and of a document under way what was encoded of it.

    A context manager: the bar is on standard error while it is open.

    Args:
        files: The files that will be read.
        visible: Whether a bar is shown.
    """

    def __init__(self, files: Sequence[Path], *, visible: bool) -> None:
        from rich import progress
        from rich.console import Console

        self._sizes = {path: path.stat().st_size if path.is_file() else 0 for path in files}
        self._drawn: list[int] = []  # sizes of the documents given to the indexer and not done yet, in order
        self._done = self._under_way = 0
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not visible,
            transient=True,
        )
        self._task = self._bar.add_task("indexing", total=sum(self._sizes.values()))
        self._documents = 0

    def __enter__(self) -> Meter:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @property
    def completed(self) -> int:
        """Bytes that are done; it never falls and never exceeds those of the files read so far."""
        return int(self._bar.tasks[0].completed)

    def add(self, path: Path) -> None:
        """Note that a file was read and handed on."""
        self._drawn.append(self._sizes[path])

    def skip(self, path: Path) -> None:
        """Note that a file could not be read."""
        self._done += self._sizes[path]
        self._show()

    def documents_done(self, documents: int, _: int | None = None) -> None:
        """Note how many documents are done; see ``progress`` of `rag_embeddings.index.indexer.Indexer.upsert`."""
        count = documents - self._documents
        self._documents = documents
        self._done += sum(self._drawn[:count])
        del self._drawn[:count]
        self._under_way = 0
        self._show()

    def encoded(self, texts: Sequence[str]) -> None:
        """Note texts of a document under way that were encoded."""
        self._under_way += sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        self._show()

    def watch(self, encoder: Encoder) -> Encoder:
        """Return the encoder, telling this meter what it has encoded."""
        return _WatchedTokens(encoder, self) if isinstance(encoder, TokenBatchEncoder) else _Watched(encoder, self)

    def _show(self) -> None:
        under_way = min(self._under_way // _PASSES, sum(self._drawn))
        self._bar.update(self._task, completed=max(self.completed, self._done + under_way))


class _Watched:
    def __init__(self, encoder: Encoder, meter: Meter) -> None:
        self._encoder = encoder
        self._meter = meter

    @property
    def profile(self) -> Profile:
        return self._encoder.profile

    @property
    def tokenizer(self) -> Any:
        return self._encoder.tokenizer

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        vectors = self._encoder.encode(texts, role)
        self._meter.encoded(texts)
        return vectors


class _WatchedTokens(_Watched):
    def __init__(self, encoder: TokenBatchEncoder, meter: Meter) -> None:
        super().__init__(encoder, meter)
        self._tokens = encoder

    def encode_tokens(self, text: str, role: Role) -> TokenVectors:
        return self._tokens.encode_tokens(text, role)

    def encode_tokens_many(
        self, texts: Sequence[TokenText], role: Role, *, windows: Windows, force: bool
    ) -> Sequence[SummedTokenVectors]:
        vectors = self._tokens.encode_tokens_many(texts, role, windows=windows, force=force)
        self._meter.encoded([text.text for text in texts] * _PASSES)
        return vectors
