"""AG-UI 1.0 over stored streams: runs that outlive their request, which clients join, and rejoin where they were.

Needs the extra ``ag-ui`` or ``starlette``. The protocol has no way of its own to resume: the events that are sent have
an ``id``, which a client sends back as ``Last-Event-ID``; one that does not gets everything from ``RUN_STARTED`` on.
"""

from __future__ import annotations

from typing import Any

from helix_fast import arguments
from helix_fast.errors import InvalidArgumentError
from helix_fast.streams.schema import StreamPosition

try:
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
except ImportError as _missing:
    raise ImportError("the integration needs Starlette: pip install 'helix-fast[ag-ui]'") from _missing

from .ag_ui_events import AGUIEvents, AGUIRecorder
from .chats import PENDING, RUN_HEADER, ChatRuns, Endpoints, Producer, answer


class AGUIStreams(Endpoints):
    """Runs for clients of AG-UI.

    ```python
    runs = AGUIStreams(helix.streams)

    @app.post("/agent")
    async def run(request: Request) -> Response:
        run_input = await request.json()
        return await runs.start(request, run_input, agent(run_input))

    @app.get("/agent/{thread}/stream")
    async def join(request: Request, thread: str) -> Response:
        return await runs.join(request, thread)

    @app.post("/agent/{thread}/stop")
    async def stop(thread: str) -> Response:
        return await runs.stop(thread)
    ```

    Whether the user may see the thread is for the app to check, for ``runs.thread_of(thread)``.

    Args:
        streams: the manager, on Redis or in memory.
        error_text, lease_ms, stop_grace_ms, wait_ms, heartbeat_ms: see ``ChatStreams``.

    Raises:
        InvalidArgumentError: an option is out of range.
    """

    @staticmethod
    def thread_of(name: str) -> str:
        """The thread of the id in a path, which is a thread's or a run's: what the user must be authorized for."""
        return ChatRuns.chat_of(name)

    async def start(self, request: Request, run_input: Any, producer: Producer, *, on_busy: str = "refuse") -> Response:
        """Answer a POST of RunAgentInput: begin a run, and send its events.

        Args:
            request: the request; the run outlives it.
            run_input: the RunAgentInput, a dict or a model: ``threadId`` and ``runId`` are taken from it.
            producer: an async iterator of events, each a dict, a model of pydantic or text of server-sent events; or a
                function that takes the Run and returns one. ``RUN_STARTED`` and ``RUN_FINISHED`` are added where it
                has none.
            on_busy: what becomes of a request while the thread's last run goes on: ``"refuse"``: 409; ``"stop"``: that
                one is stopped first.

        Returns:
            The events, with our id of the run in ``x-workflow-run-id``; 409, 400 (an invalid id), 503 (the store is
            away).
        """
        return await answer(self._start(run_input, producer, on_busy))

    async def _start(self, run_input: Any, producer: Producer, on_busy: str) -> Response:
        thread = _field(run_input, "thread_id", "threadId")
        recorder = AGUIRecorder(thread, _field(run_input, "run_id", "runId"), self._error_text)
        run = await self.runs.begin(thread, producer, recorder, message_id="", on_busy=on_busy, agent_id="agent")
        if run is None:
            return JSONResponse({"error": "this thread has a run"}, 409)
        return await self._follow(run, StreamPosition("", 0)) or Response(status_code=404)

    async def join(self, request: Request, thread: str) -> Response:
        """Answer ``GET /agent/{thread}/stream``: the events after ``Last-Event-ID``, else from ``RUN_STARTED`` on.

        Returns:
            The events; 204: there are none to come, so that an EventSource does not ask again; 404: no such run.
        """
        return await answer(self._join(request.headers.get("last-event-id", ""), thread))

    async def _join(self, last: str, name: str) -> Response:
        position = StreamPosition("", 0)
        by_run = self.runs.is_run(name)
        run = name
        if last:
            token, _, text = last.partition("/")
            if AGUIEvents.after(last, token) == AGUIEvents.END:
                return Response(status_code=204)
            position = StreamPosition.parse(text)
            run = f"{self.thread_of(name)}:run-{token}"
            if not self.runs.is_run(run):
                raise InvalidArgumentError(f"Last-Event-ID {last!r} is none of ours")
        elif not by_run:
            run = (await self.runs.pointer(name)).removeprefix(PENDING)
        nothing = Response(status_code=404 if by_run and not last else 204)
        if not run:
            return nothing
        info = await self.runs.streams.get_info(run)
        if info is None:
            if await self.runs.pointer(self.thread_of(run)) != PENDING + run:
                return nothing
        elif info.status in {"ended", "failed"} and not by_run:
            unseen = last and (position.sequence < info.last_sequence or not await self._over(run, info.last_sequence))
            if not unseen:
                return nothing
        return await self._follow(run, position) or nothing

    async def _over(self, run: str, last: int) -> bool:
        """Whether the last event that is stored is the run's end; that of a process that died is not stored."""
        codec = AGUIEvents("", self._error_text)
        position = StreamPosition("", max(0, last - 1))
        async with self.runs.streams._line_reader(run, position, on_gap="skip") as reader:
            lines = await reader.read_batch()
            if lines is not None:
                codec.chunks(lines)
        return codec.over

    async def _follow(self, run: str, position: StreamPosition) -> Response | None:
        codec = AGUIEvents(run.rpartition("-")[2], self._error_text, after=(position.sequence, 0))
        return await self.runs.follow(run, codec, position=position, headers={RUN_HEADER: run})

    async def stop(self, thread: str, *, run_id: str | None = None) -> Response:
        """Ask the current run to stop, in whatever process it is. Its end is ``RUN_FINISHED``, outcome ``cancelled``.

        Args:
            thread: the thread's id, or that of a run in ``x-workflow-run-id``.
            run_id: stop this run only, and not one that has begun meanwhile.

        Returns:
            JSON ``{"stopped": run}``, null where there is none that goes on.
        """
        return await answer(self.runs.answer_stop(thread, run_id))


def _field(run_input: Any, name: str, wire: str) -> str:
    value = run_input.get(wire) if isinstance(run_input, dict) else getattr(run_input, name, None)
    return arguments.text(value, wire)
