"""A web server whose answers survive their readers: server-sent events that resume by `Last-Event-ID`.

    pip install 'helix-fast[starlette,embedded]' uvicorn
    uvicorn sse:app                                     # HELIX_URL=redis://... for a server of yours
    curl -X POST localhost:8000/chats/c1 -d 'Why are there two tides a day?'
    curl -N localhost:8000/chats/c1/events              # stop it, and go on behind the last id that you saw:
    curl -N localhost:8000/chats/c1/events -H 'Last-Event-ID: <id>'

A separate task writes the answer, independent of the number of readers and of when they connect. With Redis between
them, writer and readers may be different processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from helix_fast import Helix, HelixError, InvalidArgumentError, SessionExistsError, connect
from helix_fast.integrations.starlette import event_stream


async def model(question: str) -> AsyncIterator[str]:
    """Stands in for a model: a token now and then."""
    for word in f"You asked: {question} I would have to think about that for a while.".split():
        await asyncio.sleep(0.02)
        yield word + " "


async def answer(helix: Helix, chat: str, question: str) -> None:
    """The agent: writes its answer into the chat's stream, and always an end."""
    try:
        async with await helix.streams.create_writer(chat, agent_id="assistant", lease_ms=10_000) as writer:
            async for token in writer.until_stopped(model(question)):
                writer.send_text(token)
            await writer.end()
    except asyncio.CancelledError:
        raise  # the process is ending: readers get ProducerLostError when the lease expires
    except Exception as error:
        with contextlib.suppress(HelixError):
            await helix.streams.fail_stream(chat, error)
        raise


async def ask(request: Request) -> Response:
    """`POST /chats/{chat}`: the body is the question. It responds at once; the answer comes as events."""
    helix: Helix = request.app.state.helix
    running: set[asyncio.Task[None]] = request.app.state.running
    chat = request.path_params["chat"]
    question = (await request.body()).decode(errors="replace")
    try:
        # Of two concurrent requests one creates the session: a chat has one answer.
        await helix.state.create_session(chat, agent_type="assistant", initial_state={"question": question})
    except SessionExistsError:
        return JSONResponse({"error": "this chat has its question"}, status_code=409)
    except InvalidArgumentError as error:
        return JSONResponse({"error": str(error), "hint": error.hint}, status_code=400)
    task = asyncio.get_running_loop().create_task(answer(helix, chat, question))
    running.add(task)  # a task without a reference may be garbage-collected
    task.add_done_callback(running.discard)
    return JSONResponse({"events": f"/chats/{chat}/events"}, status_code=202)


async def events(request: Request) -> Response:
    """`GET /chats/{chat}/events`: everything after `Last-Event-ID`, then live. It may come before the question."""
    return await event_stream(request, request.app.state.helix.streams, request.path_params["chat"])


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """One Helix for the process: all requests share its connections."""
    async with connect(os.environ.get("HELIX_URL", "embedded://")) as helix:
        app.state.helix = helix
        app.state.running = set()
        yield
        for task in app.state.running:
            task.cancel()
        await asyncio.gather(*app.state.running, return_exceptions=True)


app = Starlette(
    routes=[Route("/chats/{chat}", ask, methods=["POST"]), Route("/chats/{chat}/events", events)],
    lifespan=lifespan,
)
