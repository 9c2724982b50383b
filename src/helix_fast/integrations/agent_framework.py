"""Histories of Microsoft's Agent Framework, on any Redis or Valkey. Needs the extra ``agent-framework``.

There is no ``CheckpointStorage`` here: checkpoints of workflows hold pickled objects, and stored bytes are data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis, RedisCluster

from helix_fast.connect import Helix
from helix_fast.errors import ConcurrentUpdateError
from helix_fast.state.schema import AgentState

from .extras import needs
from .owned import OwnedHelix

with needs("Agent Framework", extra="agent-framework"):
    from agent_framework import HistoryProvider, Message
    from agent_framework._sessions import filter_new_messages

__all__ = ["HelixHistoryProvider"]

_AGENT_TYPE = "agent-framework"
_NO_SESSION = "default"  # as the framework's own providers have it


class HelixHistoryProvider(HistoryProvider):
    """A history provider for ``Agent(…, context_providers=[HelixHistoryProvider(helix)])``.

    The messages are those of the session of that id in ``helix.state``. What a run hands in and is stored already is
    not stored again; that is found out and written in one step, so that concurrent runs lose and double nothing.

    Args:
        target: a Helix, or what ``connect`` takes: then it opens at first use, and ``close`` closes it.
        source_id, load_messages, store_inputs, store_context_messages, store_context_from, store_outputs: as of
            ``HistoryProvider``.
        options: of ``connect``, where ``target`` is no Helix.
    """

    def __init__(
        self,
        target: Helix | str | Redis | RedisCluster,
        source_id: str = "helix",
        *,
        load_messages: bool = True,
        store_inputs: bool = True,
        store_context_messages: bool = False,
        store_context_from: set[str] | None = None,
        store_outputs: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            source_id,
            load_messages=load_messages,
            store_inputs=store_inputs,
            store_context_messages=store_context_messages,
            store_context_from=store_context_from,
            store_outputs=store_outputs,
        )
        self._helix = OwnedHelix(target, **options)

    async def get_messages(
        self, session_id: str | None, *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Message]:
        """The stored messages."""
        found = await (await self._helix.get()).state.load_state(session_id or _NO_SESSION)
        return [] if found is None else [Message.from_dict(message) for message in found.messages]

    async def save_messages(
        self, session_id: str | None, messages: Sequence[Message], *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Append the messages that are not stored yet."""
        store, session = (await self._helix.get()).state, session_id or _NO_SESSION
        while messages:
            found = await store.load_state(session) or AgentState(session, _AGENT_TYPE)
            new = filter_new_messages([Message.from_dict(message) for message in found.messages], messages)
            if not new:
                return
            found.messages += [message.to_dict() for message in new]
            try:
                await store.save_state(session, found, expected_version=found.version)
                return
            except ConcurrentUpdateError:
                continue

    async def close(self) -> None:
        """Close the connection if the provider has made it. Safe to call twice."""
        await self._helix.close()
