"""`rag-embeddings cache`: what the vector cache holds, and emptying it."""

from __future__ import annotations

import json
from pathlib import Path

import click

_path = click.option(
    "--path", type=click.Path(path_type=Path, dir_okay=False), help="The file; by default that of this user."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def cache() -> None:
    """Show or empty the cache of vectors."""


@cache.command()
@_path
@_json
def info(path: Path | None, as_json: bool) -> None:
    """Show where the cache is and what it holds.

    JSON: path, vectors, bytes (on disk), damaged_files (set aside; `clear` deletes them).
    """
    from rag_embeddings.encode.cache import VectorCache

    with VectorCache(path) as opened:
        found = opened.info()
    if as_json:
        print(json.dumps({name: found.to_dict()[name] for name in ("path", "vectors", "bytes", "damaged_files")}))
        return
    print(f"path     {found.path}")
    print(f"vectors  {found.vectors:,}")
    print(f"on disk  {found.bytes / 1e6:,.1f} MB")
    for item in found.damaged_files:
        print(f"damaged  {item}")


@cache.command(short_help="Delete every vector in the cache.")
@_path
@_json
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(path: Path | None, as_json: bool, yes: bool) -> None:
    """Delete every vector in the cache, and damaged files that were set aside.

    JSON: path, removed (number of vectors).
    """
    from rag_embeddings.encode.cache import VectorCache

    with VectorCache(path) as opened:
        found = opened.info()
        if found.vectors and not yes:
            click.confirm(f"Delete {found.vectors:,} vectors in {found.path}?", abort=True, err=True)
        opened.clear()
    if as_json:
        print(json.dumps({"path": found.path, "removed": found.vectors}))
    else:
        print(f"{found.vectors:,} vectors removed")
