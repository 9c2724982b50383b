"""SubAgents: the references of a session to the sub-agents that it has started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET

from helix_fast.errors import (
    ConcurrentUpdateError,
    InvalidArgumentError,
    MalformedStateError,
    SessionNotFoundError,
    SubAgentRefNotFoundError,
)
from helix_fast.keys import check_id
from helix_fast.lua import Argument

from .fields import decode_ref, decode_refs, encode_ref, encode_refs, pairs
from .requests import CONFLICTS, SessionRequests, back_off
from .schema import SubAgentRef, SubAgentRefUpdate, from_wire, refuse_snake_case, to_wire


class SubAgents:
    """The part of the state store that keeps references to sub-agents. The contracts are in RedisStateStore."""

    def __init__(self, session: SessionRequests) -> None:
        self._session = session

    async def add(
        self, session_id: str, refs: Sequence[SubAgentRef | Mapping[str, Any]], fencing_token: int | None
    ) -> None:
        """Add references, or replace those to the same sub-agents."""
        args: list[Argument] = ["add", *encode_refs(refs)]
        await self._session.write("state_refs", session_id, self._session.keys(session_id), args, fencing_token)

    async def update(
        self,
        session_id: str,
        update: SubAgentRefUpdate | SubAgentRef | Mapping[str, Any],
        fencing_token: int | None,
    ) -> None:
        """Change fields of a reference: read it, and swap it for the changed one if it is still the same."""
        keys = self._session.keys(session_id)
        refuse_snake_case(SubAgentRefUpdate, update, "sub-agent ref update")
        wire = to_wire(update) if isinstance(update, (SubAgentRefUpdate, SubAgentRef)) else update
        try:
            checked = from_wire(SubAgentRefUpdate, wire, "sub-agent ref update")
        except MalformedStateError as error:
            raise InvalidArgumentError(str(error)) from error
        name = check_id(checked.sub_session_id, "sub_session_id")
        fields = {field: value for field, value in to_wire(checked).items() if value is not UNSET}
        encode_ref(SubAgentRef(name, "checked", extra=fields))  # refuses values that are no JSON, before any request
        stored = version = b""
        for attempt in range(CONFLICTS):
            if not stored:
                stored = await self._session.command(session_id, "HGET", keys.subagents, name)
            args: list[Any] = ["swap", name, stored or b"", b""]
            if stored:
                ordinal, ref = decode_ref(stored, keys.subagents.decode())
                data = encode_ref(from_wire(SubAgentRef, {**to_wire(ref), **fields}, "sub-agent ref"))
                args[-1] = b'{"ordinal":%d,%b' % (ordinal, data[1:])
            reply = await self._session.write(
                "state_refs", session_id, keys, args, fencing_token,
                none=lambda: SubAgentRefNotFoundError(session_id, name),
            )  # fmt: skip
            if reply[0] == b"ok":
                return
            before, (version, stored) = version, reply[1:]
            await back_off(attempt)
        raise ConcurrentUpdateError(int(before), int(version))

    async def all(self, session_id: str) -> list[SubAgentRef]:
        """All references, the oldest first."""
        keys = self._session.keys(session_id)
        reply = await self._session.read("state_subagents", session_id, keys)
        if reply is None:
            raise SessionNotFoundError(session_id)
        return decode_refs(pairs(reply[1]).values(), keys.subagents.decode())
