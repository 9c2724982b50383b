"""Vercel's UI message stream (SDK 5, 6 and 7) over stored streams: chats that survive reloads, and can be stopped.

Needs the extra ``starlette``. ``useChat`` asks as its ``DefaultChatTransport`` does, by chat; the transport of
``@ai-sdk/workflow`` asks by run, with ``startIndex``.
"""

from __future__ import annotations

import secrets
from typing import Final

from helix_fast import arguments
from helix_fast.errors import InvalidArgumentError
from helix_fast.streams.manager import RedisStreamManager
from helix_fast.streams.schema import StreamPosition

try:
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
except ImportError as _missing:
    raise ImportError("the integration needs Starlette: pip install 'helix-fast[starlette]'") from _missing

from .chats import PENDING, RUN_HEADER, ChatRuns, Endpoints, ErrorText, Producer, answer
from .vercel_chunks import HEADERS, TYPES, UIRecorder, VercelEvents, start_index

TAIL_HEADER: Final = "x-workflow-stream-tail-index"


class ChatStreams(Endpoints):
    """Chats for ``useChat``: an answer goes on when its page is closed, and is there in full when the page is back.

    ```python
    chats = ChatStreams(helix.streams, sdk_version=7)

    @app.post("/api/chat")
    async def post(request: Request) -> Response:
        body = await request.json()
        return await chats.start(request, body["id"], model(body["messages"]))

    @app.get("/api/chat/{chat}/stream")
    async def resume(request: Request, chat: str) -> Response:
        return await chats.resume(request, chat)

    @app.post("/api/chat/{chat}/stop")
    async def stop(chat: str) -> Response:
        return await chats.stop(chat)
    ```

    Whether the user may see the chat is for the app to check, for ``chats.chat_of(chat)``: ids in paths may be of runs.

    Args:
        streams: the manager, on Redis or in memory.
        sdk_version: major version of the npm package ``ai`` that the pages use: 5, 6 or 7.
        error_text: what the page is told of an exception of the producer, or of a run that failed; by default no more
            than that there was one, since texts of exceptions may hold secrets.
        lease_ms, stop_grace_ms, wait_ms, heartbeat_ms: see ``ChatRuns``.

    Raises:
        InvalidArgumentError: another version, or an option out of range.
    """

    def __init__(
        self,
        streams: RedisStreamManager,
        sdk_version: int = 7,
        *,
        error_text: ErrorText | None = None,
        lease_ms: int = 15_000,
        stop_grace_ms: float = 5_000,
        wait_ms: float = 15_000,
        heartbeat_ms: float = 15_000,
    ) -> None:
        if sdk_version not in TYPES:
            raise InvalidArgumentError(f"sdk_version must be 5, 6 or 7, not {arguments.shown(sdk_version)}")
        self.sdk_version: int = sdk_version
        super().__init__(
            streams,
            error_text=error_text,
            lease_ms=lease_ms,
            stop_grace_ms=stop_grace_ms,
            wait_ms=wait_ms,
            heartbeat_ms=heartbeat_ms,
        )

    @staticmethod
    def new_message_id() -> str:
        """An id for the message of a run, to be given to ``start`` and to be stored with the message."""
        return f"msg-{secrets.token_hex(8)}"

    @staticmethod
    def chat_of(name: str) -> str:
        """The chat of the id in a path, which is a chat's or a run's: what the user must be authorized for."""
        return ChatRuns.chat_of(name)

    async def start(
        self,
        request: Request,
        chat: str,
        producer: Producer,
        *,
        message_id: str | None = None,
        on_busy: str = "refuse",
    ) -> Response:
        """Answer ``POST /api/chat``: begin a run, and send its stream.

        Args:
            request: the request; the run outlives it.
            chat: the chat's id, ``body["id"]`` of a ``DefaultChatTransport``.
            producer: an async iterator of UI message chunks, each a dict, a model of pydantic or text of server-sent
                events; or a function that takes the Run and returns one. What it does at its end (save the message)
                is done before the stream ends.
            message_id: of the assistant's message; default: that of the producer's ``start``, or a new one.
            on_busy: what becomes of a message while the chat's last one is being answered: ``"refuse"``: 409;
                ``"stop"``: that answer is stopped first.

        Returns:
            The stream, with the run's id in ``x-workflow-run-id``; 409, 400 (an invalid id) or 503 (the store is away).
        """
        return await answer(self._start(chat, producer, message_id, on_busy))

    async def _start(self, chat: str, producer: Producer, message_id: str | None, on_busy: str) -> Response:
        message = self.new_message_id() if message_id is None else arguments.text(message_id, "message_id")
        recorder = UIRecorder(self.sdk_version, message, self._error_text, fixed=message_id is not None)
        run = await self.runs.begin(chat, producer, recorder, message_id=message, on_busy=on_busy, agent_id="assistant")
        if run is None:
            return JSONResponse({"error": "this chat is being answered"}, 409)
        return await self._follow(run, VercelEvents(self.sdk_version, self._error_text)) or Response(status_code=404)

    async def resume(self, request: Request, chat: str) -> Response:
        """Answer ``GET /api/chat/{chat}/stream``: the current run from its first chunk on, then live.

        With ``?startIndex=N`` (WorkflowChatTransport) it begins with the chunk of that index, counted from 0, or from
        the end where it is negative. By the id of a run, runs that are over are sent as well.

        Returns:
            The stream; 204: nothing is being answered; 404: no such run; 400, 503 as ``start``.
        """
        return await answer(self._resume(request.query_params.get("startIndex"), chat))

    async def _resume(self, index: str | None, name: str) -> Response:
        start = start_index(index)
        by_run = self.runs.is_run(name)
        nothing = Response(status_code=404 if by_run else 204)
        last = name if by_run else await self.runs.pointer(name)
        run = last.removeprefix(PENDING)
        if not run:
            return nothing
        info = await self.runs.streams.get_info(run)
        if info is None:
            pointer = await self.runs.pointer(self.chat_of(run))
            if pointer != PENDING + run:
                return nothing
        elif not by_run and info.status in {"ended", "failed"}:
            return nothing
        headers = {}
        if start < 0:
            tail = await self._count(run) - 1
            headers[TAIL_HEADER] = str(tail)
            start = max(0, tail + 1 + start)
        codec = VercelEvents(self.sdk_version, self._error_text, skip=start, coalesce=index is None)
        return await self._follow(run, codec, headers) or nothing

    async def _count(self, run: str) -> int:
        """The UI chunks of a run that are stored."""
        codec = VercelEvents(self.sdk_version, self._error_text)
        info = await self.runs.streams.get_info(run)
        async with self.runs.streams._line_reader(run, StreamPosition("", 0)) as reader:
            while info is not None and reader.position.sequence < info.last_sequence:
                lines = await reader.read_batch()
                if lines is None:
                    break
                codec.chunks(lines)
        return codec.count

    async def _follow(self, run: str, codec: VercelEvents, headers: dict[str, str] | None = None) -> Response | None:
        return await self.runs.follow(run, codec, headers={**HEADERS, RUN_HEADER: run, **(headers or {})})

    async def stop(self, chat: str, *, run_id: str | None = None) -> Response:
        """Answer ``POST /api/chat/{chat}/stop``: ask the current run to stop, in whatever process it is.

        Args:
            chat: the chat's id, or a run's.
            run_id: stop this run only, and not one that has begun meanwhile.

        Returns:
            JSON ``{"stopped": run}``, null where nothing is being answered.
        """
        return await answer(self.runs.answer_stop(chat, run_id))
