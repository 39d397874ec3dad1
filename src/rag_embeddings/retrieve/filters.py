"""Which chunks may be found at all: a condition on metadata and text, a regular expression over the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag_embeddings.errors import PatternError, require
from rag_embeddings.store.records import filterable
from rag_embeddings.store.version import Place
from rag_embeddings.store.where import checked_filter, reads_text
from rag_embeddings.text import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rag_embeddings.store.ledger import Ledger
    from rag_embeddings.store.where import Where

_PATTERN_MEMORY = 64 * 2**20  # bytes that RE2 may use for one expression


class ChunkFilter:
    """Decides on chunks, once on each. Used for one query.

    Args:
        ledger: Where the chunks are read.
        where: A condition on the chunk's text and on its metadata: the document's, the chunk's own and ``source_id``.
            None: every chunk fulfils it.
        pattern: A regular expression that has to match somewhere in the chunk's text, in the syntax of RE2, which
            matches in linear time and so has neither look-around nor back-references. None: every chunk does.

    Raises:
        TypeError: If ``where`` is no filter.
        PatternError: If ``pattern`` is no regular expression that RE2 can run.
        MissingExtraError: If there is a pattern and google-re2 is not installed.
    """

    def __init__(self, ledger: Ledger, where: Where | None, pattern: str | None) -> None:
        self._ledger = ledger
        self._where = checked_filter(where)
        self._pattern = None if pattern is None else _compiled(pattern)
        self._reads_text = pattern is not None or (where is not None and reads_text(where))
        self._decided: dict[Place, bool] = {}
        self._shared: dict[int, dict[str, Any]] = {}  # of the chunks of a version, by its number

    @property
    def is_open(self) -> bool:
        """Whether every chunk passes."""
        return self._where is None and self._pattern is None

    def passes(self, place: Place) -> bool:
        """Whether the chunk at a place may be found."""
        if self.is_open:
            return True
        if place not in self._decided:
            if self._reads_text:
                chunk = self._ledger.chunk(place)
                self._decided[place] = self._fulfils(place.version, chunk.metadata, chunk.text)
            else:
                self._decide(place.version)
        return self._decided[place]

    def all(self) -> Iterator[Place]:
        """Yield where every live chunk stands that passes, document by document."""
        for version in self._ledger.live_versions():
            for place in self._decide(version):
                if self._decided[place]:
                    yield place

    def _decide(self, version: int) -> list[Place]:
        """Decide on all chunks of a version, and return where they stand."""
        if self._reads_text:
            units = [(chunk.metadata, chunk.text) for chunk in self._ledger.chunks(version)]
        else:
            units = [(metadata, "") for metadata in self._ledger.chunk_metadata(version)]
        places = [Place(version, ordinal) for ordinal in range(len(units))]
        self._decided.update((place, self._fulfils(version, *unit)) for place, unit in zip(places, units, strict=True))
        return places

    def _fulfils(self, version: int, metadata: Mapping[str, Any], text: str) -> bool:
        if self._where is not None and not self._where.matches(text, self._filterable(version, metadata)):
            return False
        return self._pattern is None or self._pattern.search(without_surrogates(text)) is not None

    def _filterable(self, version: int, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return what can be filtered by: the document's metadata and, in place of what they share, the chunk's."""
        if version not in self._shared:
            identity, shared = self._ledger.document_metadata(version)
            self._shared[version] = filterable({**shared, "source_id": identity})
        shared = self._shared[version]
        if not metadata:
            return shared
        rest = {key: value for key, value in shared.items() if key not in metadata}
        return {**rest, **filterable(metadata), "source_id": shared["source_id"]}


def _compiled(pattern: str) -> Any:
    re2 = require("re2", "patterns")
    options = re2.Options()
    options.max_mem = _PATTERN_MEMORY
    options.log_errors = False
    try:
        return re2.compile(without_surrogates(pattern), options=options)
    except re2.error as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise PatternError(
            f"{pattern!r} is no regular expression that RE2 can run: {reason}. Its syntax is Python's without "
            "look-around and back-references"
        ) from error
