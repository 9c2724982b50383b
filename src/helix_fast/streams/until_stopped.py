"""UntilStopped: the items of a source, until a stream's writers are asked to stop. Nothing here is sent or stored."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Final, Generic, TypeVar, cast

from helix_fast.errors import InvalidArgumentError
from helix_fast.flag import Flag

T = TypeVar("T")
Self = TypeVar("Self", bound="UntilStopped[Any]")
_COUNTED: Final = sys.version_info >= (3, 11)  # a task counts its cancellations


class UntilStopped(Generic[T]):
    """An async iterator; made by ``StreamWriter.until_stopped``.

    The source runs in the task that iterates, so its cancel scopes and context variables keep working. If it waits when
    the stop request arrives, it is cancelled there, as ``asyncio.timeout`` does it.

    Attributes:
        stopped: the iteration ended because of a stop request. False while it goes on, and if the source ended first.
    """

    def __init__(self, source: AsyncIterable[T], stop_requested: Flag) -> None:
        try:
            self._items: AsyncIterator[T] = aiter(source)
        except TypeError as error:
            hint = "await it first" if inspect.isawaitable(source) else ""
            raise InvalidArgumentError(f"until_stopped needs an async iterable: {error}", hint=hint) from error
        self._source = source
        self._stop_requested = stop_requested
        self._over = False
        self.stopped: bool = False

    def __aiter__(self: Self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._over:
            raise StopAsyncIteration
        if self._stop_requested.is_set():
            await self._stop()
            raise StopAsyncIteration
        interruption = _Interruption()
        self._stop_requested.add_callback(interruption.schedule)
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            self._over = True
            raise
        except asyncio.CancelledError:
            if not interruption.alone:
                raise
        finally:
            self._stop_requested.remove_callback(interruption.schedule)
            interruption.withdraw()
        await self._stop()
        raise StopAsyncIteration

    async def _stop(self) -> None:
        self.stopped = True
        await self.aclose()

    async def aclose(self) -> None:
        """Close the source; nothing more comes. Safe to call twice. Leaving the loop early does not call it."""
        self._over = True
        for each in (self._items, self._source):
            close = getattr(each, "aclose", None) or getattr(each, "close", None)
            if close is not None:
                result = close()
                if inspect.isawaitable(result):
                    await result
                if each is self._source:
                    break

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


class _Interruption:
    """The cancellation of one step of the current task, told from those by others."""

    def __init__(self) -> None:
        self._task: Any = cast("Any", asyncio.current_task())
        self._before: int = self._task.cancelling() if _COUNTED else 0
        self._scheduled: asyncio.Handle | None = None
        self._done = False

    def schedule(self) -> None:
        """Cancel the task on the next turn of the event loop: it may itself have made the stop request."""
        self._scheduled = asyncio.get_running_loop().call_soon(self._cancel)

    def _cancel(self) -> None:
        self._done = True
        self._task.cancel()

    @property
    def alone(self) -> bool:
        """Whether nobody else has cancelled the task. Python 3.10 cannot tell: then True."""
        return self._done and (not _COUNTED or self._task.cancelling() <= self._before + 1)

    def withdraw(self) -> None:
        """The step is over: the task is cancelled no more, as far as this is concerned."""
        if self._scheduled is not None:
            self._scheduled.cancel()
        if self._done and _COUNTED:
            self._task.uncancel()
