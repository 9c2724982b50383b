"""The endpoints of an executor's runs, in each protocol: begin a run, follow it, stop it.

The session is the chat, its ``run`` the pointer to the stream. What is stored are our chunks; what is sent is mapped.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, Protocol, cast

import msgspec

from helix_fast import arguments
from helix_fast.agents import AgentExecutor, RunHandle
from helix_fast.errors import InvalidArgumentError, LockNotAcquiredError
from helix_fast.keys import check_id
from helix_fast.streams.manager import RedisStreamManager

try:
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
except ImportError as _missing:
    raise ImportError("the integration needs Starlette: pip install 'helix-fast[starlette]'") from _missing

from .ag_ui_events import AGUIEvents
from .ag_ui_mapping import AGUIMapping
from .chats import RUN_HEADER, ErrorText, alive, answer, follow, plain_text
from .sse import EventCodec
from .vercel_chunks import HEADERS, TYPES, VercelEvents, start_index
from .vercel_mapping import MAPPING, VercelMapping

Authorize = Callable[[Request, str], "bool | Awaitable[bool]"]
"""Whether a request may see, continue and stop a chat. It may also raise an HTTPException of its own."""
AgentFor = Callable[[Request, dict[str, Any]], Any]
"""The agent that answers: a function, sync or async, of the request and its body."""
_RUN_NAME: Final = re.compile(r"((.+):[0-9a-f]{16})@(\d+)\.(\d+)")
_STOP_WAIT_MS: Final = 15_000


class Asked(NamedTuple):
    """What a POST asks for."""

    chat: str
    message: Any
    run_id: str | None = None


class Speaker(Protocol):
    """One protocol: how it asks, and how it is answered."""

    path: str

    def asked(self, body: dict[str, Any]) -> Asked:
        """Read the body of a POST. Raises InvalidArgumentError."""

    def named(self, name: str) -> tuple[str, str]:
        """The chat of the id in a path, and the stream where the id is that of a run."""

    async def started(self, request: Request, streams: RedisStreamManager, handle: RunHandle) -> Response:
        """The response to a POST that has begun a run."""

    async def followed(
        self, request: Request, streams: RedisStreamManager, name: str, handle: RunHandle | None, stream_id: str
    ) -> Response | None:
        """The response to a GET; None: there is no such stream."""


class RunRoutes:
    """The three endpoints of an executor in one protocol."""

    def __init__(
        self,
        executor: AgentExecutor,
        speaker: Speaker,
        agent_for: AgentFor,
        authorize: Authorize,
        on_busy: str,
        max_body_bytes: int,
    ) -> None:
        if on_busy not in {"refuse", "stop"}:
            raise InvalidArgumentError(f"on_busy must be 'refuse' or 'stop', not {on_busy!r}")
        self._executor = executor
        self._streams = cast("RedisStreamManager", executor._settings.streams)
        self._speaker = speaker
        self._agent_for = agent_for
        self._authorize = authorize
        self._on_busy = on_busy
        self._max_body_bytes = arguments.integer(max_body_bytes, "max_body_bytes", 1)

    def routes(self, path: str | None) -> list[Route]:
        """To begin a run, to follow it, to stop it."""
        base = (self._speaker.path if path is None else path).rstrip("/")
        return [
            Route(base or "/", self.post, methods=["POST"]),
            Route(base + "/{chat:path}/stream", self.get),
            Route(base + "/{chat:path}/stop", self.stop, methods=["POST"]),
        ]

    async def post(self, request: Request) -> Response:
        """Begin a run."""
        return await answer(self._post(request))

    async def _post(self, request: Request) -> Response:
        try:
            body = msgspec.json.decode(await self._body(request), type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HTTPException(400, "the body is no JSON object") from error
        asked = self._speaker.asked(body)
        await self._allow(request, asked.chat)
        agent = self._agent_for(request, body)
        if inspect.isawaitable(agent):
            agent = await agent
        try:
            handle = await self._execute(agent, asked, 0)
        except LockNotAcquiredError:
            busy = await self._executor.get_handle(asked.chat) if self._on_busy == "stop" else None
            if busy is None:
                return JSONResponse({"error": "this chat is being answered"}, 409)
            await busy.stop("another message was sent")
            try:
                handle = await self._execute(agent, asked, _STOP_WAIT_MS)
            except LockNotAcquiredError:
                return JSONResponse({"error": "this chat is being answered"}, 409)
        return await self._speaker.started(request, self._streams, handle)

    async def _body(self, request: Request) -> bytes:
        """The body; anybody may send one, so no more than the limit is ever in memory."""
        parts, size = [], 0
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size > self._max_body_bytes:
                raise HTTPException(413, f"the body has more than {self._max_body_bytes} bytes")
        return b"".join(parts)

    async def _execute(self, agent: Any, asked: Asked, wait_ms: float) -> RunHandle:
        return await self._executor.execute(
            agent, asked.message, session_id=asked.chat, run_id=asked.run_id, wait_ms=wait_ms
        )

    async def get(self, request: Request) -> Response:
        """Follow a run."""
        return await answer(self._get(request))

    async def _get(self, request: Request) -> Response:
        name = request.path_params["chat"]
        chat, stream_id = self._speaker.named(name)
        await self._allow(request, chat)
        nothing = Response(status_code=404 if stream_id else 204)
        handle = None
        if not stream_id:
            handle = await self._executor.get_handle(chat)
            if handle is None:
                return nothing
            stream_id = handle.stream_id
        return await self._speaker.followed(request, self._streams, name, handle, stream_id) or nothing

    async def stop(self, request: Request) -> Response:
        """Stop a run, in whatever process it is."""
        return await answer(self._stop(request))

    async def _stop(self, request: Request) -> Response:
        chat, stream_id = self._speaker.named(request.path_params["chat"])
        await self._allow(request, chat)
        handle = await self._executor.get_handle(chat)
        if handle is None or (stream_id and handle.stream_id != stream_id):
            return JSONResponse({"stopped": None})
        info = await self._streams.get_info(handle.stream_id)
        if info is None or not alive(info):
            return JSONResponse({"stopped": None})
        await handle.stop("stopped by the user")
        return JSONResponse({"stopped": handle.run_id})

    async def _allow(self, request: Request, chat: str) -> None:
        check_id(chat, "chat")
        allowed = self._authorize(request, chat)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        if not allowed:
            raise HTTPException(403, "not allowed")


class HelixSpeaker:
    """Our own protocol: a POST of ``{"session", "message"}``, and an event stream that resumes by ``Last-Event-ID``."""

    path: str = "/runs"

    def __init__(self, events: Callable[[Request, RedisStreamManager, str], Awaitable[Response]]) -> None:
        self._events = events

    def asked(self, body: dict[str, Any]) -> Asked:
        """The session and the message."""
        return Asked(arguments.text(body.get("session"), "session"), body.get("message"))

    def named(self, name: str) -> tuple[str, str]:
        """Always a session."""
        return name, ""

    async def started(self, _request: Request, _streams: RedisStreamManager, handle: RunHandle) -> Response:
        """202; the events come by a GET, as an EventSource asks for them."""
        return JSONResponse({"session": handle.session_id, "run": handle.run_id}, 202, {RUN_HEADER: handle.run_id})

    async def followed(
        self, request: Request, streams: RedisStreamManager, _name: str, _handle: RunHandle | None, stream_id: str
    ) -> Response | None:
        """The events of the session's last run, whether it goes on or not."""
        return await self._events(request, streams, stream_id)


class VercelSpeaker:
    """Vercel's UI message stream."""

    path: str = "/api/chat"

    def __init__(self, sdk_version: int, error_text: ErrorText | None) -> None:
        if sdk_version not in TYPES:
            raise InvalidArgumentError(f"sdk_version must be 5, 6 or 7, not {arguments.shown(sdk_version)}")
        self._version = sdk_version
        self._error_text = error_text or plain_text

    def asked(self, body: dict[str, Any]) -> Asked:
        """The last message of the page; its text, where it has nothing else."""
        messages = body.get("messages")
        if body.get("trigger") == "regenerate-message":
            raise InvalidArgumentError("an answer cannot be written anew: the session has it already")
        if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
            raise InvalidArgumentError("messages must be a list of UI messages, not empty")
        chat = body.get("id", body.get("chatId"))
        return Asked(arguments.text(chat, "id"), _message(messages[-1], messages[-1].get("parts")))

    def named(self, name: str) -> tuple[str, str]:
        """Runs have the version of the mapping in their id: clients count what it makes."""
        found = _RUN_NAME.fullmatch(name)
        return (found[2], found[1]) if found else (name, "")

    async def started(self, _request: Request, streams: RedisStreamManager, handle: RunHandle) -> Response:
        """The stream."""
        codec = self._codec(handle.stream_id, self._version)
        return await self._follow(streams, handle.stream_id, codec, self._version) or Response(status_code=404)

    async def followed(
        self, request: Request, streams: RedisStreamManager, name: str, handle: RunHandle | None, stream_id: str
    ) -> Response | None:
        """The stream of a run that goes on; by the id of a run, also of one that is over."""
        index = request.query_params.get("startIndex")
        start, version = start_index(index), self._version
        found = _RUN_NAME.fullmatch(name)
        if found:
            version = int(found[4])
            if int(found[3]) != MAPPING or version not in TYPES:
                return None
        if start < 0:
            raise InvalidArgumentError("startIndex must not be negative for runs of an executor")
        info = await streams.get_info(stream_id)
        if info is None or (handle is not None and info.status in {"ended", "failed"}):
            return None
        codec = self._codec(stream_id, version, skip=start, coalesce=index is None)
        return await self._follow(streams, stream_id, codec, version)

    def _codec(self, stream_id: str, version: int, *, skip: int = 0, coalesce: bool = False) -> VercelEvents:
        mapping = VercelMapping(version, f"msg-{_token(stream_id)}")
        return VercelEvents(version, self._error_text, skip=skip, coalesce=coalesce, mapping=mapping)

    async def _follow(
        self, streams: RedisStreamManager, stream_id: str, codec: EventCodec, version: int
    ) -> Response | None:
        headers = {**HEADERS, RUN_HEADER: f"{stream_id}@{MAPPING}.{version}"}
        return await follow(streams, stream_id, codec, headers=headers)


class AGUISpeaker:
    """AG-UI."""

    path: str = "/agent"

    def __init__(self, error_text: ErrorText | None) -> None:
        self._error_text = error_text or plain_text

    def asked(self, body: dict[str, Any]) -> Asked:
        """The thread, the last message and the run, of a RunAgentInput: one that is sent again begins no other run."""
        messages = body.get("messages")
        message = None
        if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
            message = _message(messages[-1], messages[-1].get("content"))
        run_id = arguments.text(body.get("runId"), "runId")
        return Asked(arguments.text(body.get("threadId"), "threadId"), message, check_id(run_id, "runId"))

    def named(self, name: str) -> tuple[str, str]:
        """Always a thread."""
        return name, ""

    async def started(self, _request: Request, streams: RedisStreamManager, handle: RunHandle) -> Response:
        """The events."""
        return await self._follow(streams, handle, (0, 0)) or Response(status_code=404)

    async def followed(
        self, request: Request, streams: RedisStreamManager, _name: str, handle: RunHandle | None, stream_id: str
    ) -> Response | None:
        """The events of the run that goes on; after ``Last-Event-ID``, where that is one of this run, also its end."""
        if handle is None:
            return None
        info = await streams.get_info(stream_id)
        after = AGUIEvents.after(request.headers.get("last-event-id", ""), _token(stream_id))
        if info is None or (info.status in {"ended", "failed"} and after in {None, AGUIEvents.END}):
            return None
        return await self._follow(streams, handle, after or (0, 0))

    async def _follow(self, streams: RedisStreamManager, handle: RunHandle, after: tuple[int, int]) -> Response | None:
        mapping = AGUIMapping(handle.session_id, handle.run_id)
        codec = AGUIEvents(_token(handle.stream_id), self._error_text, after=after, mapping=mapping)
        return await follow(streams, handle.stream_id, codec, headers={RUN_HEADER: handle.run_id})


def _message(message: dict[str, Any], parts: Any) -> Any:
    """What the session keeps of a message: its text, or the whole of one that has more."""
    if isinstance(parts, str):
        return parts
    if isinstance(parts, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in parts):
        return "".join(str(part.get("text", "")) for part in parts)
    return message


def _token(stream_id: str) -> str:
    """Tells the ids of a stream's events from others', and says nothing of the stream."""
    return hashlib.sha256(stream_id.encode()).hexdigest()[:16]
