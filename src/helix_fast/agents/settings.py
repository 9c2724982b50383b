"""What all runs of an executor share: its stores and settings. No I/O here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from helix_fast.errors import HelixError
from helix_fast.interfaces import LockManager, StateStore, StreamManager, UsageStore

from .adapter import AgentAdapter


class Stores(Protocol):
    """All stores of one server, such as the Helix that ``connect`` gives."""

    @property
    def state(self) -> StateStore:
        """The store of sessions."""

    @property
    def streams(self) -> StreamManager:
        """The streams."""

    @property
    def usage(self) -> UsageStore:
        """The store of usage."""

    @property
    def locks(self) -> LockManager:
        """The locks of sessions."""


class Settings(NamedTuple):
    """Stores and settings of one executor; see AgentExecutor."""

    state: StateStore
    streams: StreamManager
    locks: LockManager | None
    usage: UsageStore | None
    adapter: AgentAdapter
    lock_ttl_ms: float | None
    lease_ms: int
    stop_grace_s: float
    max_length: int | None
    report: Callable[[HelixError], None]


class Request(NamedTuple):
    """What a caller wants to run."""

    session_id: str
    run_id: str
    agent: Any
    agent_type: str
    message: Any
    usage: UsageStore | None
    resumes: bool = False
    parent_session_id: str | None = None
    initial_state: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    own_id: bool = False
    """Whether the caller has named the run: then there may be another attempt at it."""
