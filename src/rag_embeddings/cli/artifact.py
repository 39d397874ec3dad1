"""`rag-embeddings export` and `import`: an index as one file, and back."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_db = click.option("--db", required=True, type=click.Path(path_type=Path), help="Directory of the index.")


@click.command("export", short_help="Save an index, or its vectors, in one file.")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@_db
@click.option(
    "--kinds",
    type=click.Choice(["all", "chunks", "sentences"]),
    default="all",
    show_default=True,
    help="What to save; only all of it can become an index again.",
)
@click.option("--npy", type=click.Path(path_type=Path, dir_okay=False), help="Write the matrix to a .npy file, too.")
@_json
def export(out: Path, db: Path, kinds: str, npy: Path | None, as_json: bool) -> None:
    """Save the vectors of an index, with texts, places and documents, in one file.

    OUT is a safetensors file; one that is there is replaced when the new one is whole. `import` makes an index of it,
    and the Python API writes it into other stores, without embedding again.

    JSON: path, vectors, chunks, sentences, documents, dimensions, model, space, bytes, seconds.
    """
    from rag_embeddings.index.artifact import export_index
    from rag_embeddings.store.directory import IndexDirectory

    began = time.perf_counter()
    with IndexDirectory.open(db) as directory, export_index(directory, out, kinds=kinds) as artifact:  # type: ignore[arg-type]  # click checked it
        if npy is not None:
            artifact.write_npy(npy)
        found = {
            "path": out.resolve().as_posix(),
            "vectors": len(artifact),
            "chunks": artifact.kinds.get("chunk", 0),
            "sentences": artifact.kinds.get("sentence", 0),
            "documents": artifact.document_count,
            "dimensions": artifact.dimensions,
            "model": artifact.profile.model,
            "space": artifact.profile.space,
        }
    size, seconds = out.stat().st_size, round(time.perf_counter() - began, 3)
    if as_json:
        print(json.dumps(found | {"bytes": size, "seconds": seconds}, indent=2))
        return
    print(
        f"{found['chunks']:,} chunks and {found['sentences']:,} sentences of {found['documents']:,} documents, "
        f"{size / 1e6:,.1f} MB, in {seconds:.1f} s"
    )


@click.command("import", short_help="Make an index of what `export` saved.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_db
@_json
def import_(file: Path, db: Path, as_json: bool) -> None:
    """Write what `export` saved into an index; it is made if needed. Nothing is embedded.

    Documents of the same ids are replaced, others stay. Run it again if it was interrupted.

    JSON: added, unchanged, replaced (lists of document ids), chunks and sentences (of added and replaced documents),
    seconds.
    """
    from rag_embeddings.index.artifact import import_artifact
    from rag_embeddings.store.artifact import EmbeddingArtifact
    from rag_embeddings.store.directory import IndexDirectory

    began = time.perf_counter()
    with EmbeddingArtifact(file) as artifact, IndexDirectory.open(db, create=True) as directory:
        summary = import_artifact(artifact, directory)
    found = {
        "added": list(summary.added),
        "unchanged": list(summary.unchanged),
        "replaced": list(summary.replaced),
        "chunks": summary.chunks,
        "sentences": summary.sentences,
        "seconds": round(time.perf_counter() - began, 3),
    }
    if as_json:
        print(json.dumps(found, indent=2))
        return
    counts = ", ".join(f"{len(getattr(summary, name)):,} {name}" for name in ("added", "unchanged", "replaced"))
    print(f"{counts}\n{summary.chunks:,} chunks and {summary.sentences:,} sentences in {found['seconds']:.1f} s")
