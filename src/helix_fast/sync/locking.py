"""A lock that a thread holds, and the ``with`` block around it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from helix_fast.locks import hold as _hold
from helix_fast.locks import lock as _lock

from .base import Blocking, Flag
from .loop import call, run

L = TypeVar("L", bound="Holding")


class Holding(Blocking[_lock.Lock]):
    """What a thread reads of its lock: without waiting, unless its deadline has passed."""

    def _look(self) -> _lock.Lock:
        """The lock. If its deadline has passed, it is marked as lost first: on the loop, which others wait on."""
        lock = self._async
        if not lock._lost.is_set() and lock._backend.clock() >= lock._deadline:
            call(lambda: lock.held)
        return lock

    @property
    def fencing_token(self) -> int:
        """Larger than the token of every earlier holder; pass it to every write as ``fencing_token=``.

        Reading it also sets ``lost`` if the deadline has passed, so that a process that was suspended within a step
        notices before its next write. It never raises.
        """
        return self._look()._token

    @property
    def lost(self) -> Flag:
        """Set, and true, once the lock may belong to another, and never cleared; a released lock is not lost."""
        return Flag(self._look()._lost)

    @property
    def held(self) -> bool:
        """Whether the lock is neither released nor lost, on the holder's own clock."""
        lock = self._look()
        return not lock._released and not lock._lost.is_set()

    @property
    def remaining_ms(self) -> float:
        """Milliseconds for which the holder may still rely on the lock; 0 if it is lost or released."""
        lock = self._async
        return max(0.0, (lock._deadline - lock._backend.clock()) * 1000) if self.held else 0.0


class Hold(Blocking[_hold.Hold], Generic[L]):
    """``with locks.hold(...) as lock:`` acquires, renews and releases. For one block only."""

    _lock: type[L]

    @classmethod
    def _of(cls, wrapped: _hold.Hold, lock: type[L]) -> Hold[L]:
        made = cls._over(wrapped)
        made._lock = lock
        return made

    def __enter__(self) -> L:
        return self._lock._over(run(self._async.__aenter__()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run(self._async.__aexit__(kind, error, trace))


def told(on_lost: Callable[[L], object] | None, lock: type[L]) -> Any:
    """The callback of ``hold``, for a lock of the async kind."""
    if not callable(on_lost) or inspect.iscoroutinefunction(on_lost):
        return on_lost  # refused there
    callback = on_lost
    return lambda lost: callback(lock._over(lost))
