"""Sessions and usage of the OpenAI Agents SDK, on any Redis or Valkey. Needs the extra ``openai-agents``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import Redis, RedisCluster

from helix_fast.connect import Helix
from helix_fast.errors import (
    ConcurrentUpdateError,
    SessionExistsError,
    SessionNotFoundError,
    StoreClosedError,
)
from helix_fast.keys import check_id
from helix_fast.state.schema import AgentState
from helix_fast.state.store import RedisStateStore
from helix_fast.usage.prices import Price
from helix_fast.usage.store import RedisUsageStore

from .extras import needs
from .owned import OwnedHelix
from .recording import CallRecorder

with needs("the OpenAI Agents SDK", extra="openai-agents"):
    from agents import RunHooks
    from agents.items import TResponseInputItem
    from agents.memory.session_settings import SessionSettings, resolve_session_limit
    from agents.models.default_models import get_default_model

__all__ = ["HelixSession", "UsageHooks"]

Self = TypeVar("Self", bound="HelixSession")
T = TypeVar("T")
_AGENT_TYPE = "openai-agents"
_PAGE = 10_000  # items in one reply, at most


class Snapshot(NamedTuple):
    """The newest items, and how to replace a suffix of them in one step: what the SDK's compaction asks for."""

    items: list[TResponseInputItem]
    complete: bool
    replace_suffix: Callable[[int, list[TResponseInputItem]], Awaitable[bool]]


class HelixSession:
    """A ``Session`` for ``Runner.run(…, session=…)``, on one server, Sentinel or a cluster.

    Its items are the messages of the session of that id in ``helix.state``, as they are given: ``helix-fast inspect``
    shows them, checkpoints keep them. Every change is one script, stored once however often its reply is lost. A
    cancelled change is waited for, so that its outcome is known.

    Args:
        session_id: the conversation.
        target: a Helix; or what ``connect`` takes, as :meth:`from_url`.
        session_settings: its ``limit`` is the number of items that ``get_items`` reads without one.
        fencing_token: of a lock on the session: a change with an older one raises StaleFencingTokenError.
        options: of ``connect``, where ``target`` is no Helix.

    Raises:
        InvalidIdError, InvalidArgumentError: wrong arguments.
    """

    def __init__(
        self,
        session_id: str,
        target: Helix | str | Redis | RedisCluster,
        *,
        session_settings: SessionSettings | None = None,
        fencing_token: int | None = None,
        **options: Any,
    ) -> None:
        self.session_id: str = check_id(session_id, "session_id")
        self.session_settings: SessionSettings | None = session_settings or SessionSettings()
        self._fencing_token = fencing_token
        self._helix = OwnedHelix(target, **options)

    @classmethod
    def from_url(
        cls: type[Self],
        session_id: str,
        *,
        url: str,
        ttl: int | None = None,
        session_settings: SessionSettings | None = None,
        fencing_token: int | None = None,
        **options: Any,
    ) -> Self:
        """A session with a connection of its own, which opens at first use; ``close`` closes it.

        Args:
            ttl: seconds from its last change until the session expires; None: it is kept.
            options: of ``connect``, as ``key_prefix``.
        """
        options.setdefault("state", {"ttl": ttl})
        return cls(session_id, url, session_settings=session_settings, fencing_token=fencing_token, **options)

    async def get_items(self, limit: int | None = None, *, wrapper: Any = None) -> list[TResponseInputItem]:
        """The newest ``limit`` items, the oldest first; all without a limit, none with one below 1."""
        limit = resolve_session_limit(limit, self.session_settings)
        if limit is not None and limit <= 0:
            return []
        state = await self._state()
        newest: list[TResponseInputItem] = []
        try:
            while limit is None or len(newest) < limit:
                count = _PAGE if limit is None else min(_PAGE, limit - len(newest))
                page = await state.get_messages(self.session_id, offset=len(newest), limit=count, newest_first=True)
                newest += page.messages
                if not page.has_more:
                    break
        except SessionNotFoundError:
            pass
        return newest[::-1]

    async def add_items(self, items: list[TResponseInputItem], *, wrapper: Any = None) -> None:
        """Append items, all or none."""
        if items:
            await settled(self._append(list(items)))

    async def pop_item(self, *, wrapper: Any = None) -> TResponseInputItem | None:
        """Take the newest item off; None without any."""
        state = await self._state()
        try:
            popped = await settled(state.pop_messages(self.session_id, fencing_token=self._fencing_token))
        except SessionNotFoundError:
            return None
        return popped[0] if popped else None

    async def clear_session(self, *, wrapper: Any = None) -> None:
        """Remove all items. What else is stored for the session stays: ``helix.state.delete_session`` deletes it."""
        state = await self._state()
        with contextlib.suppress(SessionNotFoundError):
            await settled(state.truncate_messages(self.session_id, 0, fencing_token=self._fencing_token))

    async def ping(self) -> bool:
        """Whether the server answers."""
        try:
            await (await self._state()).session_exists(self.session_id)
        except StoreClosedError:
            raise
        except Exception:  # noqa: BLE001  the question is whether it works
            return False
        return True

    async def close(self) -> None:
        """Close the connection if the session has made it; it cannot be used any more. Safe to call twice."""
        await self._helix.close()

    # What the SDK's compaction asks for, in place of clearing and adding.

    async def _get_compaction_snapshot(self, limit: int) -> Snapshot:
        state = await self._state()
        found = await state.load_state(self.session_id)
        messages = [] if found is None else found.messages
        first = max(0, len(messages) - limit)

        async def replace_suffix(start: int, items: list[TResponseInputItem]) -> bool:
            if found is None or first + start >= len(messages):
                return False
            return await self._replace(found, [*messages[: first + start], *items])

        return Snapshot(messages[first:], first == 0, replace_suffix)

    async def _atomic_replace_items(self, items: list[TResponseInputItem]) -> bool:
        state = await self._state()
        while True:
            found = await state.load_state(self.session_id)
            if found is None:
                await self._create(state)
            elif await self._replace(found, list(items)):
                return True

    async def _replace(self, found: AgentState, messages: list[TResponseInputItem]) -> bool:
        """Store these messages in place of those of the state that was found; False where it has changed since."""
        state = await self._state()
        version, found.messages = found.version, messages
        saving = state.save_state(self.session_id, found, expected_version=version, fencing_token=self._fencing_token)
        try:
            await settled(saving)
        except ConcurrentUpdateError:
            return False
        return True

    async def _append(self, items: list[TResponseInputItem]) -> None:
        state = await self._state()
        while True:
            try:
                await state.append_messages(self.session_id, items, fencing_token=self._fencing_token)
                return
            except SessionNotFoundError:  # noqa: PERF203
                await self._create(state)

    async def _create(self, state: RedisStateStore) -> None:
        with contextlib.suppress(SessionExistsError):
            await state.create_session(self.session_id, agent_type=_AGENT_TYPE, fencing_token=self._fencing_token)

    async def _state(self) -> RedisStateStore:
        return (await self._helix.get()).state


async def settled(change: Coroutine[Any, Any, T]) -> T:
    """Await a change to its end, also when cancelled: then the cancellation follows."""
    task = asyncio.ensure_future(change)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:  # noqa: PERF203
            cancelled = error
    if cancelled is not None:
        task.exception()  # the cancellation goes first
        raise cancelled
    return task.result()


class UsageHooks(RunHooks[Any]):
    """Hooks for ``Runner.run(…, hooks=…)`` that record each response of a model once.

    The entry's id is the response's; one without an id is recorded under a new one.

    Args:
        usage: where to record.
        session_id, run_id: of all calls of the run.
        model: None: that of the agent. A model in ``RunConfig`` is not told to hooks: name it here.
        price: for the cost; see ``TokenUsage.from_response``.
    """

    def __init__(
        self,
        usage: RedisUsageStore,
        *,
        session_id: str,
        run_id: str | None = None,
        model: str | None = None,
        price: Price | None = None,
    ) -> None:
        self._recorder = CallRecorder(usage, price)
        self._session_id = session_id
        self._run_id = run_id
        self._model = model

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        """Record the response."""
        named = agent.model if isinstance(agent.model, str) else getattr(agent.model, "model", None)
        await self._recorder.record(
            response,
            session_id=self._session_id,
            run_id=self._run_id,
            model=self._model or (named if isinstance(named, str) else None) or get_default_model(),
            agent=agent.name,
        )
