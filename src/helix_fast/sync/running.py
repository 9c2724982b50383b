"""What stands behind a blocking executor: the async one of this process, made with its first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from helix_fast.agents import executor as _executor
from helix_fast.agents import handle as _handle
from helix_fast.errors import HelixError, InvalidArgumentError

from .base import Blocking
from .functions import FunctionAdapter
from .helix import Helix
from .loop import call, drain_at_exit, run

Self = TypeVar("Self", bound="Executing")


class Handling(Blocking[_handle.RunHandle]):
    """A run, in this process or another."""


class Executing:
    """The async executor, one for each connection set of a Helix: a forked worker has its own."""

    def __init__(self, state_store: Any, stream_manager: Any, adapter: Any, **options: Any) -> None:
        self._callbacks: list[Callable[[HelixError], object]] = []
        self._made: _executor.AgentExecutor | None = None
        self._opened: object = None
        self._make: Callable[[Any], _executor.AgentExecutor]
        self._helix: Helix | None = state_store if isinstance(state_store, Helix) else None
        options = {name: stored(name, value) if name in _STORES else value for name, value in options.items()}
        if self._helix is None:
            state, streams = stored("state_store", state_store), stored("stream_manager", stream_manager)
            self._made = _executor.AgentExecutor(state, streams, adapter or FunctionAdapter(), **options)
            drain_at_exit(self._made)
            return
        adapter = adapter or stream_manager or FunctionAdapter()
        _executor.check_adapter(adapter)
        self._make = lambda helix: _executor.AgentExecutor(helix, adapter, **options)

    @property
    def _async(self) -> _executor.AgentExecutor:
        if self._helix is None:
            assert self._made is not None
            return self._made
        opened = self._helix._opened()
        if self._opened is not opened:
            call(lambda: self._renew(opened))
        assert self._made is not None
        return self._made

    def _renew(self, opened: Any) -> None:
        """On the loop, where the threads come one after the other."""
        if self._opened is opened:
            return
        self._made = self._make(opened.helix)
        drain_at_exit(self._made)
        for callback in self._callbacks:
            self._made.on("error", callback)
        self._opened = opened

    def on(self, event: Literal["error"], callback: Callable[[HelixError], object]) -> None:
        """Register ``callback(error)`` for errors of background work.

        It is called on the background event loop: it must be quick, and a blocking call in it is refused.

        Args:
            event: ``"error"``, the only one.

        Raises:
            InvalidArgumentError: another event, or a callback that cannot be called.
        """
        self._async.on(event, callback)
        self._callbacks.append(callback)

    def __enter__(self: Self) -> Self:
        self._async  # noqa: B018  connects
        return self

    def __exit__(self, *exc_info: object) -> None:
        run(self._async.drain())


_STORES = frozenset({"lock_manager", "usage_store"})


def stored(name: str, store: object) -> Any:
    """The async store behind a blocking one."""
    if store is None or isinstance(store, Blocking):
        return None if store is None else store._async
    raise InvalidArgumentError(
        f"{name} is a store of helix_fast.sync, not {type(store).__module__}.{type(store).__qualname__}",
        hint="AgentExecutor(helix, adapter) with the Helix of helix_fast.sync.connect",
    )
