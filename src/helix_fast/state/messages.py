"""The part of the state store that keeps messages and references to sub-agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET

from helix_fast import arguments
from helix_fast.errors import (
    ConcurrentUpdateError,
    InvalidArgumentError,
    MalformedStateError,
    SessionNotFoundError,
    SubAgentRefNotFoundError,
)
from helix_fast.keys import check_id
from helix_fast.lua import Argument

from .fields import (
    decode_messages,
    decode_ref,
    decode_refs,
    encode_messages,
    encode_ref,
    encode_refs,
    pairs,
    without_thinking,
)
from .schema import (
    MessagePage,
    SubAgentRef,
    SubAgentRefUpdate,
    from_wire,
    to_wire,
)
from .session import CONFLICTS, MAX_PAGE, SessionStore, let_others_finish


class ConversationStore(SessionStore):
    """Messages and sub-agents of sessions. A message is any JSON object."""

    async def append_messages(
        self, session_id: str, messages: Sequence[Any], *, fencing_token: int | None = None
    ) -> int:
        """Append messages to the conversation: costs what they cost, however long the conversation is.

        Returns:
            How many messages there are now.
        """
        args = encode_messages(messages)
        reply = await self._write("state_append", session_id, self._keys(session_id), args, fencing_token)
        self._remember_reply(session_id, reply[1], reply[2])
        return int(reply[1])

    async def get_messages(
        self,
        session_id: str,
        *,
        offset: int = 0,
        limit: int = 50,
        newest_first: bool = False,
        include_thinking: bool = True,
    ) -> MessagePage:
        """A page of the conversation.

        Args:
            offset: messages to skip: the oldest, or with ``newest_first`` the newest.
            limit: messages at most, 1-10 000.
            newest_first: whether the page begins with the newest.
            include_thinking: False leaves out the model's reasoning: ``thinking`` and ``reasoning`` of a message, and
                parts of its content of the types ``thinking``, ``redacted_thinking`` and ``reasoning``.

        Raises:
            SessionNotFoundError: there is no session.
        """
        keys = self._keys(session_id)
        arguments.integer(offset, "offset")
        arguments.integer(limit, "limit", 1, MAX_PAGE)
        reply = await self._read("state_messages", session_id, keys, [offset, limit, "1" if newest_first else "0"])
        if reply is None:
            raise SessionNotFoundError(session_id)
        total, stored = reply
        messages = decode_messages(stored, f"{keys.hash.decode()}:messages")
        if newest_first:
            messages.reverse()
        if not include_thinking:
            messages = [without_thinking(message) for message in messages]
        return MessagePage(messages, total, offset + len(messages) < total)

    async def get_message_count(self, session_id: str) -> int:
        """How many messages the conversation has; SessionNotFoundError where there is no session."""
        keys = self._keys(session_id)
        known, count = await self._ask(session_id, "HMGET", keys.hash, "sessionId", "messageCount")
        if known is None and count is None:
            raise SessionNotFoundError(session_id)
        if count is None or not count.isdigit():
            raise MalformedStateError(keys.hash.decode(), "messageCount", f"{count!r} is no count")
        return int(count)

    async def truncate_messages(self, session_id: str, count: int, *, fencing_token: int | None = None) -> None:
        """Keep the ``count`` oldest messages; checkpoints keep theirs. Nothing is cut where there are no more."""
        args = [arguments.integer(count, "count")]
        reply = await self._write("state_truncate", session_id, self._keys(session_id), args, fencing_token)
        self._remember_reply(session_id, reply[1], reply[2])

    # --- sub-agents

    async def add_sub_agent_refs(
        self,
        session_id: str,
        refs: Sequence[SubAgentRef | Mapping[str, Any]],
        *,
        fencing_token: int | None = None,
    ) -> None:
        """Add references to sub-agents; one that is there already is replaced, in its place."""
        args: list[Argument] = ["add", *encode_refs(refs)]
        await self._write("state_refs", session_id, self._keys(session_id), args, fencing_token)

    async def update_sub_agent_ref(
        self,
        session_id: str,
        update: SubAgentRefUpdate | SubAgentRef | Mapping[str, Any],
        *,
        fencing_token: int | None = None,
    ) -> None:
        """Change the given fields of the reference to ``update.sub_session_id``.

        Raises:
            SubAgentRefNotFoundError: there is none.
            ConcurrentUpdateError: others changed the same reference all the time.
        """
        keys = self._keys(session_id)
        wire = to_wire(update) if isinstance(update, (SubAgentRefUpdate, SubAgentRef)) else update
        try:
            checked = from_wire(SubAgentRefUpdate, wire, "sub-agent ref update")
        except MalformedStateError as error:
            raise InvalidArgumentError(str(error)) from error
        name = check_id(checked.sub_session_id, "sub_session_id")
        fields = {field: value for field, value in to_wire(checked).items() if value is not UNSET}
        encode_ref(SubAgentRef(name, "checked", extra=fields))  # what is no JSON is refused before anything is sent
        stored = version = b""
        for attempt in range(CONFLICTS):
            if not stored:
                stored = await self._ask(session_id, "HGET", keys.subagents, name)
            args: list[Any] = ["swap", name, stored or b"", b""]
            if stored:
                ordinal, ref = decode_ref(stored, keys.subagents.decode())
                data = encode_ref(from_wire(SubAgentRef, {**to_wire(ref), **fields}, "sub-agent ref"))
                args[-1] = b'{"ordinal":%d,%b' % (ordinal, data[1:])
            reply = await self._write("state_refs", session_id, keys, args, fencing_token)
            if reply[0] == b"ok":
                return
            if reply[0] == b"none":
                raise SubAgentRefNotFoundError(session_id, name)
            before, (stored, version) = version, reply[1:]
            await let_others_finish(attempt)
        raise ConcurrentUpdateError(int(before), int(version))

    async def get_sub_agent_refs(self, session_id: str) -> list[SubAgentRef]:
        """The references, in the order in which they were added; SessionNotFoundError where there is no session."""
        keys = self._keys(session_id)
        reply = await self._read("state_subagents", session_id, keys)
        if reply is None:
            raise SessionNotFoundError(session_id)
        return decode_refs(pairs(reply).values(), keys.subagents.decode())
