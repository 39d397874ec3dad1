"""The group of commands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import traceback
from typing import Any

import click

from rag_embeddings._version import __version__
from rag_embeddings.cli.artifact import export, import_
from rag_embeddings.cli.ask import ask
from rag_embeddings.cli.cache import cache
from rag_embeddings.cli.catalog import models
from rag_embeddings.cli.evaluate import evaluate
from rag_embeddings.cli.index import index
from rag_embeddings.cli.info import info
from rag_embeddings.cli.split import split
from rag_embeddings.errors import RagEmbeddingsError

_ERROR, _INTERRUPTED = 1, 130


class _Commands(click.Group):
    """Ends with one line on standard error and exit code 1 where a command fails, 130 where it is interrupted."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        # --debug may stand before or behind the name of the command.
        if not any(option.name == "debug" for option in cmd.params):
            cmd.params.append(
                click.Option(["--debug"], is_flag=True, expose_value=False, callback=_debug, help="Show tracebacks.")
            )
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted; what was finished is kept, run the same command to go on", err=True)
            ctx.exit(_INTERRUPTED)
        except (click.exceptions.Exit, click.Abort, click.ClickException, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001 - the outermost handler of a program
            if ctx.params["debug"]:
                click.echo(traceback.format_exc().rstrip(), err=True)
            click.echo(f"error: {_one_line(error)}", err=True)
            if not isinstance(error, RagEmbeddingsError | OSError) and not ctx.params["debug"]:
                click.echo("this was not expected; --debug shows where it happened", err=True)
            ctx.exit(_ERROR)


def _debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.find_root().params["debug"] = True


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, RagEmbeddingsError) and text:
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rag-embeddings")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Index text, ask for the passages that answer, and measure how good they are.

    Exit codes: 0 success, 1 an error, 2 wrong usage, 130 interrupted.
    """


for command in (index, ask, info, split, evaluate, models, cache, export, import_):
    cli.add_command(command)
