"""A replica of an MCP server, in a process of its own that a test kills: ``replica.py URL``; prints its address."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.subscriptions import ResourceUpdated
from starlette.applications import Starlette
from starlette.routing import Mount

from helix_fast import Helix, connect
from helix_fast.integrations.mcp import HelixEventStore, HelixSubscriptionBus, session_manager


def application(helix: Helix) -> Starlette:
    """The tools of the tests, for clients of both protocols."""
    bus = HelixSubscriptionBus(helix)
    server = MCPServer("notes", subscriptions=bus)

    @server.tool()
    async def work(ctx: Context) -> str:
        """Report progress; answer once the stream ``go`` has a chunk."""
        await ctx.report_progress(1)
        async for _chunk in helix.streams.read("go", wait_ms=60_000):
            break
        return "done"

    @server.tool()
    async def change(uri: str) -> str:
        """Say that a resource has changed."""
        await bus.publish(ResourceUpdated(uri))
        return uri

    manager = session_manager(server, HelixEventStore(helix), retry_interval=0)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with bus, manager.run():
            yield

    return Starlette(routes=[Mount("/mcp", app=manager.handle_request)], lifespan=lifespan)


async def main(url: str) -> None:
    """Serve until killed."""
    listening = socket.create_server(("127.0.0.1", 0))
    async with connect(url, retry_timeout=60) as helix:
        config = uvicorn.Config(application(helix), log_level="error", lifespan="on")
        print(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp/", flush=True)
        await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
