"""One run of a chat: a producer, and the task that stores what it yields and always writes an end. No HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any, Final, Protocol

from helix_fast.errors import HelixError, StreamClosedError, StreamNotFoundError
from helix_fast.streams.manager import RedisStreamManager
from helix_fast.streams.writer import StreamWriter

YIELD_EVERY: Final = 64  # items of a producer after which other tasks get their turn, even if it never waits
PATIENCE: Final = 600.0  # seconds for which the end of a run is tried to be written


class Recorder(Protocol):
    """Makes the chunks that are stored of what a producer yields."""

    def header(self) -> dict[str, Any]:
        """The first chunk, which says what the others are."""

    def items(self, item: Any) -> list[dict[str, Any]]:
        """The chunks of one item. Raises TypeError, ValueError: it is none of the protocol's."""

    def end(self, *, stopped: bool, error: BaseException | None) -> list[dict[str, Any]]:
        """What is missing at the end, for a client to see that it is the end."""


class Production:
    """The producer of a run, at work.

    Args:
        streams: the manager.
        writer: of the run's stream.
        source: what the producer yields.
        recorder: makes chunks of it.
        grace: seconds that the producer has to end after a stop, before it is cancelled.
    """

    def __init__(
        self,
        streams: RedisStreamManager,
        writer: StreamWriter,
        source: AsyncIterable[Any],
        recorder: Recorder,
        grace: float,
    ) -> None:
        self._streams = streams
        self._writer = writer
        self._source = source
        self._recorder = recorder
        self._grace = grace

    async def run(self, keep_pointer: Callable[[], Awaitable[None]]) -> None:
        """Store everything, and the end. A cancellation ends the run as failed.

        Args:
            keep_pointer: called every third of the streams' TTL.
        """
        loop = asyncio.get_running_loop()
        pumping = loop.create_task(self._pump())
        stopping = loop.create_task(self._writer.stop_requested.wait())
        refresh = self._streams.ttl / 3 or None
        error: BaseException | None = None
        try:
            while not (pumping.done() or stopping.done()):
                done, _ = await asyncio.wait((pumping, stopping), timeout=refresh, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    with contextlib.suppress(HelixError):
                        await keep_pointer()
            if not pumping.done():
                await asyncio.wait((pumping,), timeout=self._grace)
        except asyncio.CancelledError as cancelled:  # the process is ending
            error = cancelled
        stopped = stopping.done() and error is None
        stopping.cancel()
        pumping.cancel()
        await asyncio.wait((pumping,))
        if error is None and not pumping.cancelled():
            error = pumping.exception()
        await self._end(error, stopped=stopped and error is None)

    async def _pump(self) -> None:
        writer, recorder, count = self._writer, self._recorder, 0
        try:
            async for item in self._source:
                for chunk in recorder.items(item):
                    writer.send(chunk)
                await writer.drain()
                count += 1
                if count % YIELD_EVERY == 0:
                    await asyncio.sleep(0)
        finally:
            await discard(self._source)

    async def _end(self, error: BaseException | None, *, stopped: bool) -> None:
        """Write the end. A client sees one, whether the producer ended, failed or was stopped."""
        writer, streams, run = self._writer, self._streams, self._writer.stream_id
        try:
            for chunk in self._recorder.end(stopped=stopped, error=error):
                writer.send(chunk)
            await _surely(writer.flush)
            if error is None:
                await _surely(lambda: streams.end_stream(run, {"stopped": stopped}))
            else:
                await _surely(lambda: streams.fail_stream(run, _text(error)))
        except (StreamClosedError, StreamNotFoundError):
            pass  # somebody else has ended it
        except HelixError as failure:
            streams._errors.report(failure)
        finally:
            with contextlib.suppress(HelixError):
                await writer.close()


async def discard(source: object) -> None:
    """Close a producer that is not iterated over any more."""
    if inspect.isasyncgen(source):
        await source.aclose()


async def _surely(attempt: Callable[[], Awaitable[None]]) -> None:
    """Try again after retryable errors: the end of a run matters more than when its task ends."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + PATIENCE
    while True:
        try:
            return await attempt()
        except HelixError as error:  # noqa: PERF203
            if not error.retryable or loop.time() > give_up:
                raise
            await asyncio.sleep(0.5)


def _text(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "the process was shut down"
    return f"{type(error).__name__}: {error}"
