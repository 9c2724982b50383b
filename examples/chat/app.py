"""A chat with FastAPI and a page without a build step: its answers survive reloads, restarts of this server, and stop.

uvicorn app:app        # then open http://127.0.0.1:8000
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse

from helix_fast import connect
from helix_fast.agents import AgentExecutor, FunctionAdapter, Messages, RunContext
from helix_fast.integrations.starlette import routes

PAGE = Path(__file__).parent / "static" / "index.html"


async def agent(message: Any, context: RunContext) -> AsyncIterator[Any]:
    """Stands in for a model that takes its time, and looks something up on the way."""
    answer = f"You said: {message} That was message {len(context.history) // 2 + 1} of this chat. "
    yield {"type": "tool_start", "toolCallId": "1", "toolName": "think", "arguments": {"about": message}}
    await asyncio.sleep(0.3)
    yield {"type": "tool_end", "toolCallId": "1", "success": True, "result": "done"}
    for word in (answer + "Reload this page, open it twice, or press Stop: nothing is lost. " * 4).split():
        yield word + " "
        await asyncio.sleep(0.08)
    yield Messages([{"role": "assistant", "content": answer}])


def owns(request: Request, chat: str) -> bool:
    """Whether the chat is the visitor's: its id begins with the one in the visitor's cookie."""
    visitor = request.cookies.get("visitor")
    return bool(visitor) and chat.startswith(f"{visitor}-")


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One Helix and one executor for the process. Runs that do not end in time say so in their streams."""
    async with (
        connect(os.environ.get("HELIX_URL", "embedded://")) as helix,
        AgentExecutor(helix, FunctionAdapter()) as executor,
    ):
        app.state.helix = helix
        app.router.routes.extend(
            routes(executor, agent_for=lambda _request, _body: agent, authorize=owns, path="/chats")
        )
        yield
        await executor.drain(5)


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def page(request: Request) -> Response:
    """The page, and a cookie that says whose chats these are."""
    response = FileResponse(PAGE)
    if "visitor" not in request.cookies:
        response.set_cookie("visitor", secrets.token_hex(8), samesite="strict")
    return response


@app.get("/chats/{chat}")
async def history(request: Request, chat: str) -> Any:
    """What was said so far, and whether an answer is being written."""
    if not owns(request, chat):
        return Response(status_code=403)
    state = await request.app.state.helix.state.load_state(chat)
    if state is None:
        return {"messages": [], "running": False}
    return {"messages": state.messages, "running": state.status == "running"}
