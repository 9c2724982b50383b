"""How much memory of the server the parts of one session take."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from helix_fast.connect import Helix
from helix_fast.errors import StoreResponseError
from helix_fast.keys import LockKeys, SessionKeys, StreamKeys, UsageKeys
from helix_fast.requests import Requests


async def sizes_of(helix: Helix, prefix: str, session: str) -> dict[str, int] | None:
    """Bytes by part, as the server estimates them; 0 for an absent part.

    None without the right to ask, ``+memory|usage``.

    Raises:
        InvalidIdError, StoreConnectionError.
    """
    requests = helix.state._requests
    state, stream, lock = SessionKeys(prefix, session), StreamKeys(prefix, session), LockKeys(prefix, session)
    usage = UsageKeys(prefix.removesuffix(":"), session)
    parts: dict[str, Iterable[bytes]] = {
        "state": (state.hash, state.custom, state.subagents),
        "messages": await message_logs(requests, session, state),
        "checkpoints": (state.checkpoints, state.checkpoint_data),
        "staging": await staged(requests, session, state),
        "operations": state.operations,
        "stream": (stream.stream, stream.meta, stream.lease),
        "usage": (usage.entries, usage.ids, usage.deleted, usage.totals),
        "lock": (lock.lock, lock.fence, lock.queue, lock.alive),
    }
    try:
        return {part: await total(requests, session, keys) for part, keys in parts.items()}
    except StoreResponseError:
        return None


async def message_logs(requests: Requests, session: str, keys: SessionKeys) -> list[bytes]:
    """The logs of messages: the conversation's, and those that checkpoints still need."""
    last = await requests.command(session, b"HGET", keys.hash, b"lastGeneration")
    return [keys.messages(generation) for generation in range(1, int(last or 0) + 1)]


async def staged(requests: Requests, session: str, keys: SessionKeys) -> list[bytes]:
    """The staged changes of each step."""
    steps = await requests.command(session, b"SMEMBERS", keys.steps)
    return [keys.steps, *(keys.staging(step.decode()) for step in steps)]


async def total(requests: Requests, session: str, keys: Iterable[bytes]) -> int:
    """Bytes of these keys, those that do not exist left out."""
    found = await asyncio.gather(
        *(requests.command(session, b"MEMORY", b"USAGE", key) for key in keys), return_exceptions=True
    )
    size = 0
    for answer in found:
        if isinstance(answer, BaseException):
            raise answer
        size += int(answer or 0)
    return size
