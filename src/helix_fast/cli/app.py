"""The typer app: which commands there are. Imported once typer is known to be there."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from . import bench, demo, doctor, inspect, tail, usage

app = typer.Typer(
    help="State, token streams, usage and locks of AI agents in Redis or Valkey.",
    no_args_is_help=True,
    add_completion=False,
    # A usage error is a line or two, not a box; a bug shows Python's own traceback, without values of variables.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"helix-fast {version('helix-fast')}")
        raise typer.Exit


@app.callback()
def helix_fast(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """State, token streams, usage and locks of AI agents in Redis or Valkey."""


app.command("demo")(demo.demo)
app.command("tail")(tail.tail)
app.command("inspect")(inspect.inspect)
app.command("doctor")(doctor.doctor)
app.command("usage")(usage.usage)
app.command("bench")(bench.bench)
