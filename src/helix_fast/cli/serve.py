"""`helix-fast serve`: the live page, on this machine alone unless a token is set."""

from __future__ import annotations

import secrets
import socket
import sys
from typing import Annotated

import typer

from helix_fast import connect

from .common import DEFAULT_URL, NOTHING_THERE, PrefixOption, UrlOption, fail, run
from .diagnosis import look_at_server
from .doctor import look_at_installation
from .findings import Finding

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    url: UrlOption = DEFAULT_URL,
    prefix: PrefixOption = "helix:",
    host: Annotated[
        str, typer.Option(help="Address to listen on; all but this machine's own need --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any free port.", min=0, max=65535)] = 8700,
    token: Annotated[
        str,
        typer.Option(
            envvar="HELIX_TOKEN", help="Secret that browsers must present; 'new' makes one.", show_default=False
        ),
    ] = "",
    allow_stop: Annotated[
        bool, typer.Option("--allow-stop", help="Let the page stop runs. Without it the page is read-only.")
    ] = False,
) -> None:
    """Serve a live page: sessions and streams, usage, locks, the server.

    It reads the stores' indexes and never scans the server's keys.
    """
    try:
        import uvicorn

        from helix_fast.web.app import live_page
    except ImportError as error:
        fail(str(error), "pip install 'helix-fast[web]'")
    if token == "new":  # noqa: S105
        token = secrets.token_urlsafe(18)
    if not token and host not in LOOPBACK:
        fail(f"{host} can be reached by others", "set --token, or HELIX_TOKEN; 'new' makes one")

    async def work() -> int:
        async with connect(url, key_prefix=prefix) as helix:

            async def health() -> list[Finding]:
                found = list(look_at_installation())
                return found + [finding async for finding in look_at_server(helix, prefix)]

            app = live_page(helix, token=token or None, allow_stop=allow_stop, health=health)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                listening = socket.create_server((host, port), family=family)
            except OSError as error:
                fail(f"cannot listen on {host}:{port}: {error.strerror}", "choose another --port")
            shown = f"[{host}]" if ":" in host else host
            address = f"http://{shown}:{listening.getsockname()[1]}/" + (f"?token={token}" if token else "")
            sys.stdout.write(f"{address}\n")
            if url == DEFAULT_URL:
                sys.stderr.write(f"helix-fast: {NOTHING_THERE}\n")
            sys.stdout.flush()
            settings = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=3)
            await uvicorn.Server(settings).serve(sockets=[listening])
        return 0

    run(work)
