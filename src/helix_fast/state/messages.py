"""Messages: the conversation of a session. A message is any JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from helix_fast import arguments
from helix_fast.errors import SessionNotFoundError
from helix_fast.keys import SessionKeys
from helix_fast.lua import Argument
from helix_fast.slices import Slices

from .conversation import Conversation, decode_messages
from .fields import without_thinking
from .log import KnownLogs
from .requests import MAX_PAGE, SessionRequests
from .schema import MessagePage


class Messages:
    """The part of the state store that keeps conversations. The contracts are in RedisStateStore."""

    def __init__(self, session: SessionRequests, logs: KnownLogs) -> None:
        self._session = session
        self._logs = logs

    async def append(self, session_id: str, messages: Sequence[Any], fencing_token: int | None) -> int:
        """Append; returns the new number of messages."""
        args = await Conversation(messages).messages()
        keys = self._session.keys(session_id)
        reply = await self._session.write("state_append", session_id, keys, args, fencing_token)
        self._logs.remember_reply(session_id, reply[2], reply[3], args)
        return int(reply[2])

    async def page(
        self, session_id: str, *, offset: int, limit: int, newest_first: bool, include_thinking: bool
    ) -> MessagePage:
        """Some of the messages."""
        keys = self._session.keys(session_id)
        arguments.integer(offset, "offset")
        arguments.integer(limit, "limit", 1, MAX_PAGE)
        args = (offset, limit, "1" if newest_first else "0")
        total, stored = await self._read(session_id, keys, args)
        messages = await decode_messages(stored, f"{keys.hash.decode()}:messages")
        if newest_first:
            messages.reverse()
        if not include_thinking:
            slices = Slices()
            for index, message in enumerate(messages):
                messages[index] = without_thinking(message)
                if slices.over:
                    await slices.next()
        return MessagePage(messages, total, offset + len(messages) < total)

    async def count(self, session_id: str) -> int:
        """The number of messages."""
        total, _ = await self._read(session_id, self._session.keys(session_id), (0, 0, "0"))
        return total

    async def _read(self, session_id: str, keys: SessionKeys, args: Sequence[Argument]) -> tuple[int, list[bytes]]:
        reply = await self._session.read("state_messages", session_id, keys, args)
        if reply is None:
            raise SessionNotFoundError(session_id)
        return reply[1], reply[2]

    async def truncate(self, session_id: str, count: int, fencing_token: int | None) -> None:
        """Keep the oldest messages."""
        args = [arguments.integer(count, "count")]
        keys = self._session.keys(session_id)
        reply = await self._session.write("state_truncate", session_id, keys, args, fencing_token)
        self._logs.remember_reply(session_id, reply[2], reply[3])

    async def pop(
        self, session_id: str, count: int, expected_version: int | None, fencing_token: int | None
    ) -> list[Any]:
        """Take the newest messages off; returns them, the oldest first."""
        args: list[Argument] = [arguments.integer(count, "count", 1, MAX_PAGE)]
        args.append("" if expected_version is None else arguments.integer(expected_version, "expected_version"))
        keys = self._session.keys(session_id)
        reply = await self._session.write(
            "state_pop", session_id, keys, args, fencing_token, expected=expected_version or 0
        )
        self._logs.remember_reply(session_id, reply[2], reply[3])
        return await decode_messages(reply[4:], f"{keys.hash.decode()}:messages")
