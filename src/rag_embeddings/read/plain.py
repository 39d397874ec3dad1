"""Text files to documents. The text is what the file holds, to the character: line endings stay as they are."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING

from rag_embeddings.errors import DocumentError
from rag_embeddings.text import Document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SUFFIXES = frozenset({".txt", ".text", ".md", ".markdown", ".rst"})
"""Suffixes that are read when a folder is given, in lower case."""

_SNIFFED = 8192  # bytes searched for NUL, which text does not have


def read_file(path: str | Path) -> Document:
    """Read a text file.

    Args:
        path: A file in UTF-8, with or without a byte order mark (which is no part of the text).

    Returns:
        A document whose id is the resolved path with forward slashes, and whose metadata has it as ``source``.

    Raises:
        DocumentError: If the file cannot be opened, is binary (NUL among its first 8 KiB) or not UTF-8, or its name
            is not Unicode.
    """
    resolved = Path(path).resolve()
    name = resolved.as_posix()
    try:
        name.encode()
        data = resolved.read_bytes()
    except UnicodeEncodeError as error:
        raise DocumentError(f"{str(path)!r} has a name that is not Unicode; rename it") from error
    except OSError as error:
        raise DocumentError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DocumentError(f"{str(path)!r} is UTF-16, not UTF-8; convert it")
    if b"\0" in data[:_SNIFFED]:
        raise DocumentError(f"{str(path)!r} is a binary file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{str(path)!r} is not UTF-8: {error.reason} at byte {error.start}") from error
    return Document(text, id=name, metadata={"source": name})


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
