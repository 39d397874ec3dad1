"""`rag-embeddings index`: files into an index."""

from __future__ import annotations

import json
import sys
import time
from fnmatch import fnmatchcase
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rag_embeddings.cli.models import models
from rag_embeddings.encode.resolve import DEFAULT_MODEL
from rag_embeddings.errors import DocumentError, IndexNotFoundError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rag_embeddings.cli.models import Models
    from rag_embeddings.cli.progress import Meter
    from rag_embeddings.encode.base import Encoder
    from rag_embeddings.split.base import Splitter
    from rag_embeddings.text import Document

_FAILED = 1


@click.command(short_help="Add files to an index, or update them.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--db", required=True, type=click.Path(path_type=Path), help="Directory of the index; made if needed.")
@click.option("--model", metavar="NAME", help=f"Name or folder of a model. [default: the index's, or {DEFAULT_MODEL}]")
@click.option(
    "--splitter",
    type=click.Choice(["recursive", "layout"]),
    help="How documents are cut: by paragraphs and sentences, or by headings, tables, lists and pages as well. "
    "[default: the index's, or recursive]",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    help="Most tokens of a passage. [default: the index's, or the splitter's]",
)
@click.option(
    "--overlap",
    type=click.IntRange(min=0),
    help="Most tokens that a passage repeats of the one before. [default: the index's, or 0]",
)
@click.option(
    "--late/--no-late",
    default=None,
    help="Make vectors that know the whole document, or of each text by itself. [default: the index's, or --no-late]",
)
@click.option(
    "--keywords",
    metavar="LANGUAGE",
    help='Language of the words that ask --hybrid finds ("en", "de", ...), "plain" for words as they stand, or "none". '
    "[default: the index's, or en]",
)
@click.option(
    "--glob", "globs", multiple=True, metavar="PATTERN", help="Take these files of a folder; may be repeated."
)
@click.option("--prune", is_flag=True, help="Remove documents below the given paths whose files are gone.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.pass_context
def index(
    context: click.Context,
    *,
    paths: tuple[str, ...],
    db: Path,
    model: str | None,
    splitter: str | None,
    max_tokens: int | None,
    overlap: int | None,
    late: bool | None,
    keywords: str | None,
    globs: tuple[str, ...],
    prune: bool,
    as_json: bool,
) -> None:
    """Add files to an index, or update them: what has not changed is not embedded again.

    PATH is a file (UTF-8 text, Markdown, HTML, PDF or DOCX), a folder, or a glob pattern. Of a folder, with all folders
    below, files that end in .txt, .text, .rst, .md, .markdown, .mdown, .mkd, .qmd, .html, .htm, .xhtml, .pdf or .docx
    are taken, or those that match a --glob: "*.log" by name, "logs/**/*.txt" by path from the folder. Names that begin
    with a dot are left out. A document's id is the absolute path of its file.

    Files that cannot be read are reported, and the exit code is 1 after the rest is done. What an interrupted
    run has finished is kept; run it again to go on. Options that are left out stay as they were when the index was last
    written.

    JSON: added, unchanged, replaced, removed (lists of document ids), failed (a list of path and reason), chunks and
    sentences (of added and replaced documents), encoded (texts sent to the model; with --late whole
    documents), seconds.
    """
    from rag_embeddings.cli.progress import Meter
    from rag_embeddings.index.indexer import Indexer
    from rag_embeddings.index.late import index_late
    from rag_embeddings.index.pipeline import Pipeline
    from rag_embeddings.read.files import find_files
    from rag_embeddings.store.directory import IndexDirectory

    began = time.perf_counter()
    gone = _gone_paths(paths, db) if prune else []
    files = find_files([path for path in paths if path not in gone], globs)
    if not files and not prune:
        wanted = " ".join(globs) or "text, Markdown, HTML, PDF or DOCX (choose other files with --glob)"
        raise DocumentError(f"no files to index in {', '.join(paths)}: none is {wanted}")
    with Meter(files, visible=sys.stderr.isatty()) as meter:
        encoder, cutter = _pipeline(models(context), db, model, kind=splitter, max_tokens=max_tokens, overlap=overlap)
        with IndexDirectory.open(db, create=True) as directory:
            watched = meter.watch(encoder)
            late_pass = index_late(watched, directory.settings, late=late)
            indexer = Indexer(directory, Pipeline(watched, cutter, late_pass), keywords=_language(keywords))
            failed: dict[str, str] = {}
            summary = indexer.upsert(_documents(files, failed, meter), progress=meter.documents_done)
            removed = indexer.delete(_gone_documents(directory.ledger.document_ids(), paths)) if prune else []
    result = {
        "added": list(summary.added),
        "unchanged": list(summary.unchanged),
        "replaced": list(summary.replaced),
        "removed": [*summary.removed, *removed],
        "failed": [{"path": path, "reason": reason} for path, reason in failed.items()],
        "chunks": summary.chunks,
        "sentences": summary.sentences,
        "encoded": summary.encoded,
        "seconds": round(time.perf_counter() - began, 3),
    }
    for reason in failed.values():
        click.echo(f"failed: {reason}", err=True)
    print(json.dumps(result, indent=2) if as_json else _summary(result))
    if failed:
        context.exit(_FAILED)


def _language(keywords: str | None) -> str | bool | None:
    """Return the language of keywords, as the indexer takes it."""
    from rag_embeddings.store.words import language_of

    if keywords is None or keywords == "none":
        return None if keywords is None else False
    language = "" if keywords == "plain" else keywords
    if language_of(language) != language:
        raise click.BadParameter(f"there is no stemmer for {keywords!r}; 'plain' takes words as they stand")
    return language


def _documents(files: Sequence[Path], failed: dict[str, str], meter: Meter) -> Iterator[Document]:
    """Read files one by one as they are needed; note those that cannot be read."""
    from rag_embeddings.read.files import read_file

    for path in files:
        try:
            document = read_file(path)
        except (DocumentError, MissingExtraError) as error:
            failed[str(path)] = str(error)
            meter.skip(path)
            continue
        meter.add(path)
        yield document


def _pipeline(models: Models, db: Path, model: str | None, **options: Any) -> tuple[Encoder, Splitter]:
    """Build encoder and splitter from the options, and what the index was made with where they are left out."""
    from rag_embeddings.index.splitter import index_splitter
    from rag_embeddings.store.directory import IndexDirectory

    try:
        with IndexDirectory.open(db) as directory:
            profile, settings = directory.profile, directory.settings
    except IndexNotFoundError:
        profile, settings = None, {}
    encoder = models.of_profile(profile) if model is None and profile else models.by_name(model or DEFAULT_MODEL)
    return encoder, index_splitter(encoder, settings, **options)


def _gone_paths(paths: Sequence[str], db: Path) -> list[str]:
    """Return the paths at which nothing is any more, but something was when it was indexed.

    One whose folder is gone too is left to be an error: it is more likely misspelt, or on a disk that is not mounted.
    """
    from rag_embeddings.store.directory import IndexDirectory

    try:
        with IndexDirectory.open(db) as directory:
            ids = directory.ledger.document_ids()
    except IndexNotFoundError:
        return []
    return [
        path
        for path in paths
        if not glob(str(Path(path).expanduser()), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        and (has_magic(path) or Path(path).expanduser().parent.is_dir())
        and _gone_documents(ids, [path])
    ]


def _gone_documents(ids: Iterable[str], paths: Sequence[str]) -> list[str]:
    """Return the ids of documents at or below the paths, or matching them as patterns, whose files are gone."""
    roots = [Path(path).expanduser().resolve() for path in paths]
    patterns = [root.as_posix().replace("**/", "*") for root in roots if has_magic(str(root))]
    return [
        document_id
        for document_id in ids
        if (path := Path(document_id)).is_absolute()
        and (any(map(path.is_relative_to, roots)) or any(fnmatchcase(document_id, pattern) for pattern in patterns))
        and not path.exists()
    ]


def _summary(result: Mapping[str, Any]) -> str:
    counts = ", ".join(
        f"{len(result[name])} {name}" for name in ("added", "unchanged", "replaced", "removed", "failed")
    )
    return (
        f"{counts}\n{result['chunks']} passages and {result['sentences']} sentences written, "
        f"{result['encoded']} texts encoded in {result['seconds']:.1f} s"
    )
