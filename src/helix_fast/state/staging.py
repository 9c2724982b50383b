"""The part of the state store that keeps what the tool calls of a step want to change, until the step commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helix_fast.errors import ConcurrentUpdateError, InvalidArgumentError, SessionNotFoundError
from helix_fast.lua import Argument

from .fields import decode_custom
from .merge import as_staged_changes, compute, describe_warning, read_staged_line, staged_line
from .schema import PromoteResult, StagedChanges
from .session import CONFLICTS, SessionStore, let_others_finish


class StagingStore(SessionStore):
    """Staged changes of sessions."""

    async def stage_changes(
        self,
        session_id: str,
        step_id: str,
        changes: StagedChanges | Mapping[str, Any],
        *,
        fencing_token: int | None = None,
    ) -> None:
        """Keep what a tool call wants to change, apart from the state, whose version stays as it is.

        Raises:
            InvalidArgumentError, PatchError: no valid changes; nothing was sent. Whether patches apply is seen when
                they are promoted.
        """
        keys = self._keys(session_id)
        staging = keys.staging(step_id)
        args: list[Argument] = [step_id, staged_line(as_staged_changes(changes))]
        await self._write("staging_add", session_id, keys, args, fencing_token, staging)

    async def get_staged_changes(self, session_id: str, step_id: str) -> list[StagedChanges]:
        """What the step has staged, in the order in which it was."""
        staging = self._keys(session_id).staging(step_id)
        lines = await self._ask(session_id, "LRANGE", staging, 0, -1)
        return [read_staged_line(line, staging.decode()) for line in lines]

    async def promote_staging(
        self, session_id: str, step_id: str, *, fencing_token: int | None = None
    ) -> PromoteResult:
        """Apply all that the step has staged, in the order of the timestamps, or nothing of it.

        Where all changes are merge changes this is one script. Patches are computed here from the custom state as it
        was read, and applied where it still is that.

        Returns:
            How many staged changes were applied, the version, and warnings: of tool calls that set the same to other
            values, of arrays that replaced something else, and where nothing was staged (``applied`` is 0 then, as in a
            second call).

        Raises:
            PatchError: a patch does not apply; what was staged stays.
            ConcurrentUpdateError: the custom state was changed by others all the time; the same.
        """
        keys = self._keys(session_id)
        staging = keys.staging(step_id)
        computed: list[Any] = ["", ""]
        warnings: list[str] = []
        for attempt in range(CONFLICTS):
            args = [step_id, *computed]
            reply = await self._write("staging_promote", session_id, keys, args, fencing_token, staging)
            if reply[0] == b"ok":
                applied, version = int(reply[1]), int(reply[2])
                if not applied:
                    return PromoteResult(0, version, [f"nothing is staged in step {step_id!r}"])
                return PromoteResult(applied, version, warnings + read_warnings(reply[3:]))
            await let_others_finish(attempt)
            base, stamp, custom, lines = reply[1:]
            staged = [read_staged_line(line, staging.decode()) for line in lines]
            changes, warnings = compute(decode_custom(custom, keys.hash.decode()), staged)
            computed = [
                base,
                stamp,
                *(word for kind, name, data in changes for word in (kind, encode_name(name), data)),
            ]
        raise ConcurrentUpdateError(int(computed[0]), int(reply[1]))

    async def discard_staging(self, session_id: str, step_id: str, *, fencing_token: int | None = None) -> int:
        """Forget what the step has staged.

        Returns:
            How many staged changes there were; 0 also where there is no session.
        """
        keys = self._keys(session_id)
        try:
            reply = await self._write(
                "staging_discard", session_id, keys, [step_id], fencing_token, keys.staging(step_id)
            )
        except SessionNotFoundError:
            return 0
        return int(reply[1])


def encode_name(name: str) -> bytes:
    """The name of a member of the custom state as UTF-8."""
    try:
        return name.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"a name that is no Unicode text: {error}") from error


def read_warnings(words: Sequence[bytes]) -> list[str]:
    """The texts of the warnings that a script returned, four words each."""
    texts = [word.decode() for word in words]
    return [describe_warning(*texts[i : i + 4]) for i in range(0, len(texts), 4)]
