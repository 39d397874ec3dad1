"""`rag-embeddings info`: what is in an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rag_embeddings._version import __version__

if TYPE_CHECKING:
    from rag_embeddings.store.directory import IndexDirectory


@click.command()
@click.option("--db", required=True, type=click.Path(path_type=Path), help="Directory of the index.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(db: Path, as_json: bool) -> None:
    """Show what an index holds and how it was made.

    JSON: path, version (of this package), model, dimensions, space (stamp of the embedding space), profile (everything
    that changes a vector), splitter (its settings), documents, chunks, sentences, bytes (on disk). The fields on the
    model are null while nothing has been indexed.
    """
    from rag_embeddings.store.directory import IndexDirectory

    with IndexDirectory.open(db) as directory:
        facts = _facts(directory, db)
    # Once it is closed: while it is open, SQLite keeps files of its own there.
    facts["bytes"] = sum(path.stat().st_size for path in db.rglob("*") if path.is_file())
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    splitter = facts["splitter"] or {}
    rows = {
        "path": facts["path"],
        "model": facts["model"] or "nothing indexed yet",
        "dimensions": facts["dimensions"],
        "space": facts["space"],
        "splitter": ", ".join(f"{name} {value}" for name, value in splitter.items() if name != "splitter"),
        "documents": f"{facts['documents']:,}",
        "chunks": f"{facts['chunks']:,}",
        "sentences": f"{facts['sentences']:,}",
        "on disk": f"{facts['bytes'] / 1e6:,.1f} MB",
        "version": facts["version"],
    }
    if "splitter" in splitter:
        rows["splitter"] = f"{splitter['splitter']}: {rows['splitter']}"
    for name, value in rows.items():
        print(f"{name:<11} {'' if value is None else value}".rstrip())


def _facts(directory: IndexDirectory, db: Path) -> dict[str, Any]:
    profile = directory.profile
    return {
        "path": db.resolve().as_posix(),
        "version": __version__,
        "model": profile.model if profile else None,
        "dimensions": profile.dimensions if profile else None,
        "space": profile.space if profile else None,
        "profile": profile.to_dict() if profile else None,
        "splitter": directory.settings.get("splitter"),
        **directory.counts(),
    }
