"""Files to documents: one door for every format, chosen by a file's suffix, or by what it holds."""

from __future__ import annotations

import codecs
import os
import re
from fnmatch import fnmatchcase
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING

from rag_embeddings.errors import DocumentError
from rag_embeddings.read.docx import read_docx
from rag_embeddings.read.html import HTML_SUFFIXES, read_html
from rag_embeddings.read.markdown import MARKDOWN_SUFFIXES, read_markdown
from rag_embeddings.read.pdf import read_pdf
from rag_embeddings.text import Document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_FORMATS = {
    **dict.fromkeys((".txt", ".text", ".rst"), "plain"),
    **dict.fromkeys(MARKDOWN_SUFFIXES, "markdown"),
    **dict.fromkeys(HTML_SUFFIXES, "html"),
    ".pdf": "pdf",
    ".docx": "docx",
}

SUFFIXES = frozenset(_FORMATS)
"""Suffixes that are read when a folder is given, in lower case."""

_SNIFFED = 8192  # bytes searched for NUL, which text does not have, and for what a file says of itself
_HTML = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.{0,2000}?-->\s*)?<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL
)
# Codecs of Python that no browser has, some of which run over text in more than linear time.
_UNFIT = {"utf-7", "unicode-escape", "raw-unicode-escape", "idna", "punycode", "undefined"}
_CHARSET = re.compile(rb"""(?:charset|encoding)\s{0,9}=\s{0,9}["']?([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)


def read_file(path: str | Path) -> Document:
    """Read a file: text, Markdown, HTML, PDF or DOCX.

    Args:
        path: A file. Its suffix says what it is; without one that is known, its first bytes do, and else it is text.
            Text is UTF-8, with or without a byte order mark (which is no part of it). HTML may name another encoding.

    Returns:
        A document whose id is the resolved path with forward slashes, and whose metadata has it as ``source``. The text
        of text and Markdown is what the file holds, to the character, line ends included. See `read_markdown`,
        `read_html`, `read_pdf` and `read_docx` for what the others give, and for the blocks.

    Raises:
        DocumentError: If the file cannot be opened, is none of these (NUL among its first 8 KiB), is not in the
            encoding it should be in, is broken, encrypted or larger than a reader's limits, or its name is not Unicode.
        MissingExtraError: If the format's parser is not installed; all come with the extra ``read``.
    """
    resolved = Path(path).resolve()
    name = resolved.as_posix()
    try:
        name.encode()
        with resolved.open("rb") as file:
            head = file.read(_SNIFFED)
    except UnicodeEncodeError as error:
        raise DocumentError(f"{str(path)!r} has a name that is not Unicode; rename it") from error
    except OSError as error:
        raise DocumentError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    try:
        return _read(resolved, _FORMATS.get(resolved.suffix.lower()) or _sniff(head), name)
    except DocumentError as error:
        raise DocumentError(f"{str(path)!r}: {error}") from error


def _read(path: Path, kind: str, name: str) -> Document:
    metadata = {"source": name}
    if kind == "pdf":
        return read_pdf(path, id=name, metadata=metadata)
    if kind == "docx":
        return read_docx(path, id=name, metadata=metadata)
    data = path.read_bytes()
    if kind == "html":
        return read_html(_decode(data, _charset(data)), id=name, metadata=metadata)
    text = _decode(data)
    if kind == "markdown":
        return read_markdown(text, id=name, metadata=metadata)
    return Document(text, id=name, metadata=metadata)


def _sniff(head: bytes) -> str:
    """Tell the format of a file from its first bytes."""
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(b"PK\x03\x04") and (b"word/" in head or b"[Content_Types].xml" in head):
        return "docx"
    return "html" if _HTML.match(head.removeprefix(codecs.BOM_UTF8)) else "plain"


def _charset(data: bytes) -> str:
    """Return the encoding that a page names, if Python knows it."""
    found = _CHARSET.search(data[:1024])
    if found is None or data.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    try:
        known = codecs.lookup(found[1].decode("ascii"))
    except LookupError as error:
        raise DocumentError(f"names an encoding that is not known: {found[1].decode('ascii')}") from error
    # What Python calls text encodings, and not its transforms of bytes; browsers read Latin-1 as Windows-1252.
    names = {"utf-8": "utf-8-sig", "iso8859-1": "cp1252", "ascii": "cp1252"}
    if known.name.replace("_", "-") in _UNFIT:
        raise DocumentError(f"names an encoding that pages must not have: {known.name}")
    return names.get(known.name, known.name)


def _decode(data: bytes, encoding: str = "utf-8-sig") -> str:
    if encoding == "utf-8-sig":
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DocumentError("it is UTF-16, not UTF-8; convert it")
        if b"\0" in data[:_SNIFFED]:
            raise DocumentError("it is a binary file")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding == "utf-8-sig" else encoding
        raise DocumentError(f"it is not {name}: {error.reason} at byte {error.start}") from error
    except LookupError as error:  # a codec that is none of text
        raise DocumentError(f"names an encoding that is not one of text: {encoding}") from error


def find_files(paths: Iterable[str | Path], globs: Sequence[str] = ()) -> list[Path]:
    """Find the files that some paths mean.

    Args:
        paths: Files (of any suffix), folders (searched with all folders below; names that begin with a dot are left
            out) and glob patterns such as ``"notes/**/*.md"``, which may match either.
        globs: Which files of a folder are taken, instead of those with one of `SUFFIXES`. A pattern without a slash is
            compared with the file's name, one with a slash with its path from the folder (``**`` is any depth).

    Returns:
        Resolved paths, each once: in the order of ``paths``, and by name within a folder.

    Raises:
        DocumentError: If a path is not there, a pattern matches nothing or is none for files below a folder, or a
            folder cannot be read.
    """
    found: dict[Path, None] = {}
    for path in paths:
        for place in _expand(path):
            files = _walk(place, globs) if place.is_dir() else [place]
            found.update((file.resolve(), None) for file in files)
    return list(found)


def _expand(path: str | Path) -> list[Path]:
    place = Path(path).expanduser()
    if place.is_dir() or place.is_file():
        return [place]
    if place.exists():
        raise DocumentError(f"{str(path)!r} is neither a file nor a folder")
    if has_magic(str(path)):
        matches = [Path(match) for match in sorted(glob(str(place), recursive=True))]  # noqa: PTH207 - it may be absolute
        # A pattern that ends in ** matches folders too; their files are matched beside them, or found below them.
        if usable := [match for match in matches if match.is_file() or match.is_dir()]:
            return usable
        raise DocumentError(f"nothing matches {str(path)!r}")
    raise DocumentError(f"there is no file or folder {str(path)!r}")


def _walk(folder: Path, globs: Sequence[str]) -> Iterator[Path]:
    names = [pattern for pattern in globs if "/" not in pattern]
    matched = {path for pattern in globs if "/" in pattern for path in _matching(folder, pattern)}
    for where, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(where, name)
            if name.startswith(".") or not path.is_file():
                continue
            wanted = any(fnmatchcase(name, pattern) for pattern in names) or path in matched
            if wanted if globs else path.suffix.lower() in SUFFIXES:
                yield path


def _matching(folder: Path, pattern: str) -> list[Path]:
    try:
        return list(folder.glob(pattern))
    except (NotImplementedError, ValueError) as error:
        raise DocumentError(f"{pattern!r} is no pattern for files below a folder: {error}") from error


def _refuse(error: OSError) -> None:
    """Left alone, `os.walk` passes by a folder that it cannot read."""
    raise DocumentError(f"the folder {error.filename!r} cannot be read: {error.strerror}") from error
