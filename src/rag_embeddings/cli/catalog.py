"""`rag-embeddings models`: the catalog, listed and filtered."""

from __future__ import annotations

import json
import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING

import click

from rag_embeddings.errors import ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from rag_embeddings.encode.base import Role
    from rag_embeddings.encode.catalog import CatalogEntry, Kind

_UNKNOWN = "?"
_NONE = "-"
_WIDTH = 200  # of a table that goes to a file or another program


@click.command(short_help="List embedding models, or show one.")
@click.argument("name", required=False)
@click.option("--family", help="Only this family: bge, e5, qwen3, ...")
@click.option("--kind", type=click.Choice(["open", "api"]), help="Open weights, or a hosted API.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="A text of at least N tokens fits.")
@click.option(
    "--dim",
    "dimensions",
    type=click.IntRange(min=1),
    metavar="N",
    help="Gives vectors of N dimensions, as they are or by the truncation the model was trained for.",
)
@click.option("--licence", "--license", help="Only this licence: apache-2.0, mit, cc-by-nc-4.0, proprietary, ...")
@click.option("--multilingual/--monolingual", default=None, help="Trained for several languages, or not.")
@click.option("--late-chunking", is_flag=True, default=None, help="Right for late chunking and worth trying.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(
    *,
    name: str | None,
    family: str | None,
    kind: Kind | None,
    max_tokens: int | None,
    dimensions: int | None,
    licence: str | None,
    multilingual: bool | None,
    late_chunking: bool | None,
    as_json: bool,
) -> None:
    """List embedding models, or show all that is known of the one called NAME.

    Filters keep the models that are known to meet them all; what is unknown (?) meets none. Prices are list prices in
    US dollars per million tokens and change: ask the provider.

    JSON: a list of objects, one per model, with every field of CatalogEntry; null is unknown. With NAME, that object.
    """
    from rag_embeddings.encode import catalog

    filters = (family, kind, max_tokens, dimensions, licence, multilingual, late_chunking)
    if name is not None:
        if any(value is not None for value in filters):
            raise click.UsageError("NAME shows one model and takes no filters.")
        entry = _named(name)
        if as_json:
            print(json.dumps(entry.to_dict(), indent=2))
        else:
            _print(_card(entry))
        return
    found = catalog.select(
        family=family,
        kind=kind,
        max_tokens=max_tokens,
        dimensions=dimensions,
        licence=licence,
        multilingual=multilingual,
        late_chunking=late_chunking,
    )
    if as_json:
        print(json.dumps([entry.to_dict() for entry in found], indent=2))
    elif found:
        _print(_listing(found))
    else:
        families = ", ".join(sorted({entry.family for entry in catalog.entries()}))
        click.echo(f"no model is known to meet all of this; the families are {families}", err=True)


def _named(name: str) -> CatalogEntry:
    from rag_embeddings.encode import catalog

    entry = catalog.find(name)
    if entry is None:
        names = {known.lower(): known for entry in catalog.entries() for known in (entry.name, *entry.aliases)}
        close = [names[match] for match in get_close_matches(name.lower(), names, n=3)]
        hint = f"did you mean {', '.join(close)}?" if close else "'rag-embeddings models' lists them"
        raise ModelNotFoundError(f"the catalog has no model {name!r}; {hint}")
    return entry


def _listing(found: Sequence[CatalogEntry]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from rag_embeddings.encode import catalog
    from rag_embeddings.encode.base import Role

    caption = f"{len(found)} of {len(catalog.entries())} models; {_UNKNOWN} unknown, {_NONE} none; "
    caption += "price in US dollars per million tokens"
    table = Table(box=SIMPLE_HEAD, caption=caption, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model and its prompts", overflow="fold")
    table.add_column("weights", justify="right", no_wrap=True)
    table.add_column("dimensions", justify="right", max_width=14)
    table.add_column("tokens", justify="right", no_wrap=True)
    table.add_column("licence", no_wrap=True)
    table.add_column("price", justify="right", no_wrap=True)
    for entry in found:
        model = Text(entry.name, "bold")
        for role in Role:
            if (template := _template(entry, role)) != _NONE:
                model.append(f"\n  {role.value}: {template}", "not bold")
        cells = (_weights(entry), _dimensions(entry), _tokens(entry), entry.licence or _UNKNOWN, _price(entry))
        table.add_row(model, *(Text(cell) for cell in cells))
    return table


def _card(entry: CatalogEntry) -> Table:
    from rich.table import Table
    from rich.text import Text

    from rag_embeddings.encode.base import Role

    table = Table(show_header=False)
    table.add_column("field", no_wrap=True)
    table.add_column("value", overflow="fold")
    values = ", ".join(f"{task}: {value}" for task, value in entry.parameter_values.items())
    facts = {
        "model": entry.name,
        "kind": entry.kind,
        "family": entry.family,
        "aliases": ", ".join(entry.aliases) or _NONE,
        "weights": _weights(entry),
        "dimensions": _dimensions(entry),
        "trained for truncation": _yes(entry.matryoshka),
        "tokens": _tokens(entry),
        "pooling": entry.pooling or _UNKNOWN,
        "similarity": entry.similarity,
        "query prompt": _quoted(entry.prompt(Role.QUERY)),
        "query template": _template(entry, Role.QUERY),
        "query suffix": _quoted(entry.query_suffix),
        "document prompt": _quoted(entry.prompt(Role.DOCUMENT)),
        "document template": _template(entry, Role.DOCUMENT),
        "other tasks": ", ".join(f"{task} {_quoted(prompt)}" for task, prompt in entry.task_prompts.items()) or _NONE,
        f"argument {entry.parameter}".strip(): values or _NONE,
        "remote code": _remote_code(entry),
        "multilingual": _yes(entry.multilingual),
        "late chunking": _late_chunking(entry),
        "licence": entry.licence or _UNKNOWN,
        "price": _price(entry),
        "notes": entry.notes or _NONE,
    }
    for fact, value in facts.items():
        table.add_row(Text(fact), Text(value))
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console = Console(file=sys.stdout, width=_WIDTH)
    console.print(table)


def _quoted(prompt: str | None) -> str:
    """Spell a prompt so that its spaces and line breaks can be seen."""
    if prompt is None:
        return _UNKNOWN
    return json.dumps(prompt, ensure_ascii=False) if prompt else _NONE


def _template(entry: CatalogEntry, role: Role) -> str:
    if role.value in entry.parameter_values and not entry.prompt(role):
        return f"{entry.parameter}={entry.parameter_values[role.value]}"
    return _quoted(entry.query_prompt if role == "query" else entry.document_prompt)


def _weights(entry: CatalogEntry) -> str:
    if entry.parameters is None:
        return _NONE if entry.kind == "api" else _UNKNOWN
    billions = entry.parameters / 1e9
    return f"{billions:.1f}B" if billions >= 1 else f"{entry.parameters / 1e6:.0f}M"


def _dimensions(entry: CatalogEntry) -> str:
    """Spell the full width first, then those by truncation."""
    full = _UNKNOWN if entry.dimensions is None else str(entry.dimensions)
    if entry.matryoshka_minimum is not None:
        return f"{full} to {entry.matryoshka_minimum}"
    others = [str(width) for width in reversed(entry.matryoshka_dimensions) if width != entry.dimensions]
    return ", ".join([full, *others])


def _tokens(entry: CatalogEntry) -> str:
    if entry.unlimited:
        return "no limit"
    return _UNKNOWN if entry.max_tokens is None else str(entry.max_tokens)


def _price(entry: CatalogEntry) -> str:
    if entry.kind == "open":
        return _NONE
    return _UNKNOWN if entry.price_per_million is None else f"{entry.price_per_million:g}"


def _remote_code(entry: CatalogEntry) -> str:
    if entry.kind == "api":
        return _NONE
    said = _yes(entry.remote_code)
    if entry.native_from is not None:
        said = f"no, native from transformers {entry.native_from}; {said} before"
    if entry.fails_from is not None:
        said += f", and fails from transformers {entry.fails_from}"
    return said


def _late_chunking(entry: CatalogEntry) -> str:
    said = entry.late_chunking or _UNKNOWN
    return f"{said}, in windows of {entry.late_chunking_window} tokens" if entry.late_chunking_window else said


def _yes(value: bool | None) -> str:
    return _UNKNOWN if value is None else "yes" if value else "no"
