"""Runs: how an agent's run begins and ends in its session, each in one script and once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helix_fast.errors import CheckpointNotFoundError, InvalidArgumentError, RunConflictError, SessionNotFoundError
from helix_fast.keys import check_id
from helix_fast.lua import Argument

from .checkpoints import Checkpoints, decode_header
from .conversation import Conversation
from .fields import Encoded, decode_run, decode_state
from .log import KnownLogs
from .requests import SessionRequests
from .schema import AgentState, BegunRun, Checkpoint, SessionRun, encode_json, encode_text, to_wire
from .states import States

# What `Encoded` makes of a new state, and `run_begin` sets itself.
_OF_SCRIPT = (b"stepCount", b"resumeCount")


class Runs:
    """The part of the state store that begins and ends runs. The contracts are in RedisStateStore."""

    def __init__(self, session: SessionRequests, logs: KnownLogs, states: States, checkpoints: Checkpoints) -> None:
        self._session = session
        self._logs = logs
        self._states = states
        self._checkpoints = checkpoints

    async def get(self, session_id: str) -> SessionRun | None:
        """The current or last run."""
        keys = self._session.keys(session_id)
        return decode_run(await self._session.read_field(session_id, "run"), keys.hash.decode())

    async def begin(
        self,
        session_id: str,
        run_id: str,
        *,
        new: AgentState,
        stream_id: str | None,
        messages: Sequence[Any],
        taken_over: SessionRun | None,
        resumes: bool,
        fencing_token: int | None,
    ) -> BegunRun:
        """Begin a run; ``new`` is the state of the session where it does not exist, without messages."""
        keys = self._session.keys(session_id)
        run = SessionRun(check_id(run_id, "run_id"), None if stream_id is None else check_id(stream_id, "stream_id"))
        wire = {name: value for name, value in to_wire(run).items() if value is not None}
        encoded = Encoded(new)
        pairs = zip(encoded.fields[::2], encoded.fields[1::2], strict=True)
        fields = [word for name, value in pairs if name not in _OF_SCRIPT for word in (name, value)]
        args: list[Argument] = [
            run.id,
            encode_json(wire, "run"),
            run.stream_id or "",
            "" if taken_over is None else taken_over.id,
            "" if taken_over is None else taken_over.stream_id or "",
            "1" if resumes else "0",
            len(fields),
            len(encoded.custom),
            *fields,
            *encoded.custom,
            *await Conversation(messages).messages(),
        ]
        reply = await self._session.write("run_begin", session_id, keys, args, fencing_token)
        if reply[0] == b"another":
            raise RunConflictError(session_id, run_id, reply[2].decode())
        if len(reply) > 4:
            state, log = await decode_state(keys.hash, *reply[4:])
            self._logs.remember(session_id, log)
            return BegunRun(reply[2] == b"1", state)
        loaded = await self._states.load(session_id)  # a retry after a lost reply: the script answers without the state
        if loaded is None:
            raise SessionNotFoundError(session_id)
        return BegunRun(reply[2] == b"1", loaded)

    async def finish(
        self,
        session_id: str,
        run_id: str,
        *,
        messages: Sequence[Any],
        output: Any,
        status: str,
        error: str | None,
        metadata: Mapping[str, Any] | None,
        fencing_token: int | None,
    ) -> Checkpoint:
        """End a run; returns the checkpoint of its end, without its state."""
        keys = self._session.keys(session_id)
        if status == "running":
            raise InvalidArgumentError("a run that has ended is not 'running'", hint="completed, failed, interrupted…")
        args: list[Argument] = [
            *self._checkpoints.making(session_id, metadata),
            check_id(run_id, "run_id"),
            encode_text(status, "status"),
            b"" if output is None else encode_json(output, "output"),
            b"" if error is None else encode_text(error, "error"),
        ]
        appended = await Conversation(messages).messages()
        args += appended
        reply = await self._session.write(
            "run_finish", session_id, keys, args, fencing_token,
            none=lambda: CheckpointNotFoundError(session_id, f"of run {run_id}"),
        )  # fmt: skip
        if reply[0] == b"another":
            raise RunConflictError(session_id, run_id, reply[2].decode())
        self._logs.remember_reply(session_id, reply[3], reply[4], appended)
        return decode_header(reply[2], keys)
