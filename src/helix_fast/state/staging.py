"""Staging: the changes of the tool calls of a step, kept apart from the state until the step is promoted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helix_fast.errors import ConcurrentUpdateError, MalformedStateError, SessionNotFoundError
from helix_fast.lua import Argument

from .fields import decode_custom
from .merge import as_staged_changes, compute, read_staged_line, read_warnings, staged_head, staged_line, words_of
from .requests import CONFLICTS, SessionRequests, back_off
from .schema import PromoteResult, StagedChanges


class Staging:
    """The part of the state store that keeps staged changes. The contracts are in RedisStateStore."""

    def __init__(self, session: SessionRequests) -> None:
        self._session = session

    async def stage(
        self, session_id: str, step_id: str, changes: StagedChanges | Mapping[str, Any], fencing_token: int | None
    ) -> None:
        """Add the changes of a tool call to those of its step."""
        keys = self._session.keys(session_id)
        staging = keys.staging(step_id)
        checked = as_staged_changes(changes)
        args: list[Argument] = [step_id, staged_head(checked), staged_line(checked)]
        await self._session.write("staging_add", session_id, keys, args, fencing_token, staging=staging)

    async def of_step(self, session_id: str, step_id: str) -> list[StagedChanges]:
        """The staged changes of a step, the oldest first."""
        keys = self._session.keys(session_id)
        staging = keys.staging(step_id)
        reply = await self._session.read("staging_list", session_id, keys, (), staging)
        if reply is None:
            return []
        if reply[0] == b"foreign":
            raise MalformedStateError(staging.decode(), "staged", reply[1].decode(errors="replace"))
        return [read_staged_line(line, staging.decode()) for line in reply[1]]

    async def promote(self, session_id: str, step_id: str, fencing_token: int | None) -> PromoteResult:
        """Apply the staged changes of a step.

        Merge changes are applied by one script. Patches are computed here, from the custom state in the script's
        reply, and sent to the script, which applies them if the custom state is still the same.
        """
        keys = self._session.keys(session_id)
        staging = keys.staging(step_id)
        computed: list[Any] = ["", ""]
        warnings: list[str] = []
        for attempt in range(CONFLICTS):
            args = [step_id, *computed]
            reply = await self._session.write("staging_promote", session_id, keys, args, fencing_token, staging=staging)
            if reply[0] == b"nothing":
                return PromoteResult(0, int(reply[1]), [f"nothing is staged in step {step_id!r}"])
            if reply[0] == b"ok":
                return PromoteResult(int(reply[2]), int(reply[1]), warnings + read_warnings(reply[3:]))
            await back_off(attempt)
            base, stamp, custom, lines = reply[2:]
            staged = [read_staged_line(line, staging.decode()) for line in lines]
            changes, warnings = compute(decode_custom(custom, keys.hash.decode()), staged)
            computed = [base, stamp, *words_of(changes)]
        raise ConcurrentUpdateError(int(computed[0]), int(reply[2]))

    async def discard(self, session_id: str, step_id: str, fencing_token: int | None) -> int:
        """Delete the staged changes of a step; returns their number."""
        keys = self._session.keys(session_id)
        staging = keys.staging(step_id)
        try:
            reply = await self._session.write(
                "staging_discard", session_id, keys, [step_id], fencing_token, staging=staging
            )
        except SessionNotFoundError:
            return 0
        return int(reply[2])
