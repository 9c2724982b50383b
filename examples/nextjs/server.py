"""The server of a page with useChat: three lines, around an agent that stands in for a model."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette

from helix_fast import connect
from helix_fast.agents import AgentExecutor, FunctionAdapter, RunContext
from helix_fast.integrations.starlette import allow_all, routes


async def agent(message: Any, _context: RunContext) -> AsyncIterator[str]:
    """Stands in for a model."""
    for word in f"You said: {message} Reload this page while I am talking. ".split() * 5:
        yield word + " "
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """The three lines. Whoever guesses a chat's id may read it here: say who may, by ``authorize``."""
    async with (
        connect(os.environ.get("HELIX_URL", "embedded://")) as helix,
        AgentExecutor(helix, FunctionAdapter()) as executor,
    ):
        app.routes.extend(
            routes(executor, protocol="vercel", agent_for=lambda _request, _body: agent, authorize=allow_all)
        )
        yield


app = Starlette(lifespan=lifespan)
