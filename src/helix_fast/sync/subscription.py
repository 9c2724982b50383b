"""Subscriptions: a thread for each calls its callback, which may call the stores."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import queue
import threading
from collections.abc import Callable
from typing import Any, Union

from helix_fast.errors import InvalidArgumentError
from helix_fast.streams.chunks import StreamChunk
from helix_fast.streams.schema import StreamPosition
from helix_fast.streams.storage import RedisResumableStorage, Unsubscribe

from .loop import call, run

Callback = Callable[[StreamChunk, int], object]
Position = Union[int, str, StreamPosition, None]  # noqa: UP007  evaluated at run time on Python 3.10
_Item = tuple[StreamChunk, int, "asyncio.Future[None]"]


class Subscription:
    """Ends a subscription when called; then no callback runs any more, but the one that calls it."""

    def __init__(self, storage: RedisResumableStorage, stream_id: str, callback: Callback, after: Position) -> None:
        if inspect.iscoroutinefunction(callback):
            raise InvalidArgumentError("callback must be a plain function, not a coroutine function")
        self._callback = callback
        self._items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        given: object = callback
        deliver = self._deliver if callable(given) else given  # refused there
        self._handle: Unsubscribe = call(lambda: self._begin(storage, stream_id, deliver, after))

    def _begin(self, storage: RedisResumableStorage, stream_id: str, deliver: Any, after: Position) -> Unsubscribe:
        handle = storage.subscribe(stream_id, deliver, from_sequence=after)
        handle._task.add_done_callback(lambda _task: self._items.put(None))
        return handle

    def __call__(self) -> None:
        """End the subscription."""
        if self._thread is threading.current_thread():
            call(self._handle)  # it is not to wait for itself
        else:
            run(self._ended())

    async def _ended(self) -> None:
        await self._handle()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the stream has ended and its last chunk was delivered; False after ``timeout`` seconds."""
        return run(self._wait(timeout))

    async def _wait(self, timeout: float | None) -> bool:
        done, _ = await asyncio.wait([self._handle._task], timeout=timeout)
        return bool(done)

    async def _deliver(self, chunk: StreamChunk, sequence: int) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="helix-fast-subscription", daemon=True)
            self._thread.start()
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._items.put((chunk, sequence, called))
        await called

    def _serve(self) -> None:
        while (item := self._items.get()) is not None:
            chunk, sequence, called = item
            failure: BaseException | None = None
            try:
                self._callback(chunk, sequence)
            except BaseException as error:  # noqa: BLE001  the storage reports it
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                called.get_loop().call_soon_threadsafe(_settle, called, failure)


def _settle(called: asyncio.Future[None], failure: BaseException | None) -> None:
    if called.done():
        return
    if failure is None:
        called.set_result(None)
    elif isinstance(failure, Exception):
        called.set_exception(failure)
    else:  # SystemExit would end the loop
        called.set_exception(RuntimeError(f"the callback raised {failure!r}"))
