"""The typer app: the list of commands. Imported only after `main` has found typer."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from . import bench, demo, doctor, inspect, serve, tail, top, usage
from .common import examples

app: typer.Typer = typer.Typer(
    help="State, token streams, usage and locks of AI agents in Redis or Valkey.",
    no_args_is_help=True,
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


_SERVER = "redis://localhost:6379"
app.command(
    "demo",
    short_help="Stream a text through a server; compare every byte.",
    epilog=examples(
        "helix-fast demo",
        "helix-fast demo --sessions 20 --rate 5000",
        f"helix-fast demo --url {_SERVER} --text book.txt",
    ),
)(demo.demo)
app.command(
    "tail",
    short_help="Print a stream, and follow it until it ends.",
    epilog=examples(
        f"helix-fast tail chat-1 --url {_SERVER}",
        "helix-fast tail chat-1 --last 20            # the last 20 chunks, then live",
        "helix-fast tail chat-1 --from 41            # continue after sequence 41",
        "helix-fast tail chat-1 --no-follow --json | jq -r .chunk.type",
    ),
)(tail.tail)
app.command(
    "inspect",
    short_help="Show all stored data of an id.",
    epilog=examples(
        f"helix-fast inspect chat-1 --url {_SERVER}",
        "helix-fast inspect chat-1 --messages 20",
        "helix-fast inspect chat-1 --json | jq .sizes",
    ),
)(inspect.inspect)
app.command(
    "usage",
    short_help="Show the tokens, calls and costs of a session.",
    epilog=examples(
        f"helix-fast usage chat-1 --url {_SERVER}",
        "helix-fast usage chat-1 --include-sub-agents --json",
        "helix-fast usage chat-1 --plot tokens.png",
    ),
)(usage.usage)
app.command(
    "serve",
    short_help="Serve a live page of sessions and streams.",
    epilog=examples(
        f"helix-fast serve --url {_SERVER}",
        f"helix-fast serve --url {_SERVER} --allow-stop",
        "helix-fast serve --host 0.0.0.0 --token new",
    ),
)(serve.serve)
app.command(
    "top",
    short_help="Show live sessions and streams in the terminal.",
    epilog=examples(f"helix-fast top --url {_SERVER}", "helix-fast top --once --json | jq '.rows[].id'"),
)(top.top)
app.command(
    "doctor",
    short_help="Check the installation and the server.",
    epilog=examples(
        f"helix-fast doctor --url {_SERVER}",
        "helix-fast doctor --url rediss://app@db.example:6379 --prefix shop:",
        "helix-fast doctor --json | jq '.[] | select(.level != \"ok\")'",
        "helix-fast doctor --probe       # for Kubernetes: exit code 0 or 1",
    ),
)(doctor.doctor)
app.command(
    "bench",
    short_help="Measure throughput and latency on a server.",
    epilog=examples("helix-fast bench --quick", f"helix-fast bench --url {_SERVER} --plot bench.png"),
)(bench.bench)
