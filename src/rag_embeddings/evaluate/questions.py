"""A user's own questions, from CSV or JSONL, with their reference excerpts found in the documents."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from rag_embeddings.errors import QuestionError
from rag_embeddings.evaluate.intervals import Range
from rag_embeddings.evaluate.metrics import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rag_embeddings.text import Document

_DOCUMENT_FIELDS = ("document", "corpus_id")


@dataclass(frozen=True)
class Question:
    """A question and the excerpts that answer it.

    Attributes:
        text: What is asked.
        references: At least one.
    """

    text: str
    references: tuple[Reference, ...]

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise QuestionError("a question has no text")
        if not self.references:
            raise QuestionError(f"the question {self.text!r} has no references")


def load_questions(path: str | Path, documents: Iterable[Document]) -> list[Question]:
    """Read questions from a file and find their excerpts in the documents.

    A CSV file has a header; a JSONL file (by its suffix ``.jsonl`` or ``.ndjson``) has one object per line. Fields:

    - ``question``: what is asked.
    - ``references``: a list (in CSV: spelled as JSON) of excerpts. Each is a string, or an object with ``content`` (the
      excerpt) or ``start_index`` and ``end_index`` (half-open, in characters of the document), or all three.
    - ``document`` or ``corpus_id`` (optional; also inside a reference): id, file name, or file name without suffix of
      the document. Without it, every document is searched.

    Other fields are ignored. An excerpt without offsets is found exactly, to the character, at its first place; every
    other place where the same text stands is kept as a copy (see `rag_embeddings.evaluate.metrics`).

    Args:
        path: The file, UTF-8 with or without a byte order mark.
        documents: The collection that is searched.

    Returns:
        Questions in the order of the file.

    Raises:
        QuestionError: If the file cannot be read or a row cannot be used: a field is missing, an excerpt is not found,
            offsets and content disagree, a document is unknown or its name fits several. The message names the row:
            the line of a JSONL file, or the line on which a CSV record ends.
    """
    collection = _Collection(documents)
    questions = []
    for row, fields in _rows(Path(path)):
        try:
            questions.append(_question(fields, collection))
        except QuestionError as error:
            raise QuestionError(f"{path}, line {row}: {error}") from error
    if not questions:
        raise QuestionError(f"{path} has no questions")
    return questions


class _Collection:
    """Documents, found by id, file name or stem."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self.texts = {document.id: document.text for document in documents}
        self._copies: dict[str, tuple[Range, ...]] = {}
        self._names: dict[str, list[str]] = {}
        for document_id in self.texts:
            name = PurePosixPath(document_id.replace("\\", "/"))
            for spelling in {name.name, name.stem} - {document_id}:
                self._names.setdefault(spelling, []).append(document_id)

    def named(self, name: str) -> str:
        """Return the id of the document that a name means."""
        if name in self.texts:
            return name
        ids = self._names.get(name, [])
        if len(ids) == 1:
            return ids[0]
        if ids:
            raise QuestionError(f"document {name!r} could be any of {', '.join(map(repr, ids))}; give its full id")
        raise QuestionError(f"there is no document {name!r} among the {len(self.texts)} documents searched")

    def find(self, content: str, document_id: str | None) -> Range | None:
        """Return the first place of a text, in one document or in all."""
        for candidate in [document_id] if document_id is not None else self.texts:
            start = self.texts[candidate].find(content)
            if start >= 0:
                return Range(candidate, start, start + len(content))
        return None

    def copies(self, content: str) -> tuple[Range, ...]:
        """Return every place of a text (of places that overlap each other, the first)."""
        if content not in self._copies:
            self._copies[content] = tuple(
                Range(document_id, start, start + len(content))
                for document_id, text in self.texts.items()
                for start in _occurrences(text, content)
            )
        return self._copies[content]


def _occurrences(text: str, content: str) -> Iterator[int]:
    start = text.find(content)
    while start >= 0:
        yield start
        start = text.find(content, start + len(content))


def _question(fields: Mapping[str, Any], collection: _Collection) -> Question:
    text = fields.get("question")
    if not isinstance(text, str) or not text.strip():
        raise QuestionError("the field 'question' is missing or empty")
    references = fields.get("references")
    if isinstance(references, str):
        try:
            references = json.loads(references)
        except ValueError as error:
            raise QuestionError(f"'references' is not JSON ({error}): {references[:80]!r}") from error
    if not isinstance(references, list) or not references:
        raise QuestionError("'references' has to be a list with at least one excerpt")
    name = _document_name(fields)
    return Question(text, tuple(_reference(item, name, collection) for item in references))


def _reference(item: object, name: str | None, collection: _Collection) -> Reference:
    fields = {"content": item} if isinstance(item, str) else item
    if not isinstance(fields, dict):
        raise QuestionError(f"a reference is neither an excerpt nor an object: {item!r}")
    name = _document_name(fields) or name
    document_id = None if name is None else collection.named(name)
    content, start, end = (fields.get(key) for key in ("content", "start_index", "end_index"))
    if content is not None and (not isinstance(content, str) or not content.strip()):
        raise QuestionError(f"'content' has to be a text that is not blank, got {content!r}")
    if (start is None) != (end is None):
        raise QuestionError("'start_index' and 'end_index' belong together; one is missing")
    if start is not None:
        place = _place(content, start, end, document_id, collection)
    elif content is None:
        raise QuestionError("a reference needs 'content', or 'start_index' and 'end_index'")
    else:
        where = "any document" if document_id is None else f"document {document_id!r}"
        found = collection.find(content, document_id)
        if found is None:
            raise QuestionError(f"the excerpt {_short(content)} does not stand in {where}")
        place = found
    excerpt = collection.texts[place.document][place.start : place.end]
    return Reference(place, collection.copies(excerpt))


def _place(content: str | None, start: object, end: object, document_id: str | None, collection: _Collection) -> Range:
    """Check offsets against the text, and the content if there is one."""
    if type(start) is not int or type(end) is not int:
        raise QuestionError(f"'start_index' and 'end_index' have to be whole numbers, got {start!r} and {end!r}")
    if document_id is None:
        ids = [
            candidate for candidate, text in collection.texts.items() if content is None or text[start:end] == content
        ]
        if len(collection.texts) == 1:
            ids = list(collection.texts)
        if len(ids) != 1:
            what = (
                "without content need" if content is None else f"of {_short(content)} fit {len(ids)} documents and need"
            )
            raise QuestionError(f"the offsets {start} to {end} {what} a 'document'")
        document_id = ids[0]
    text = collection.texts[document_id]
    if not 0 <= start < end <= len(text):
        raise QuestionError(
            f"the offsets {start} to {end} do not lie in document {document_id!r}, which has {len(text)} characters"
        )
    if content is not None and text[start:end] != content:
        raise QuestionError(
            f"document {document_id!r} has {_short(text[start:end])} at {start} to {end}, not {_short(content)}"
        )
    return Range(document_id, start, end)


def _document_name(fields: Mapping[str, Any]) -> str | None:
    for field in _DOCUMENT_FIELDS:
        value = fields.get(field)
        if value is not None and value != "":
            return str(value)
    return None


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise QuestionError(f"cannot read the questions in {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise QuestionError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    return _json_rows(path, text) if path.suffix.lower() in {".jsonl", ".ndjson"} else _csv_rows(path, text)


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise QuestionError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(fields, dict):
            raise QuestionError(f"{path}, line {number}: an object is needed, got {line[:80]!r}")
        yield number, fields


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # A field may hold a whole page of references; the csv module stops at 128 KiB unless told otherwise.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    reader = csv.DictReader(io.StringIO(text, newline=""))
    _require_columns(path, reader.fieldnames or ())
    try:
        for fields in reader:
            yield reader.line_num, fields
    except csv.Error as error:
        raise QuestionError(f"{path}, line {reader.line_num}: not CSV ({error})") from error


def _require_columns(path: Path, names: Sequence[str]) -> None:
    missing = [name for name in ("question", "references") if name not in names]
    if missing:
        raise QuestionError(
            f"{path} has no column {' and no column '.join(map(repr, missing))}; "
            f"its columns are {', '.join(map(repr, names))}"
        )


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")  # noqa: PLR2004
