"""SealLater: the background task that seals the streams which a manager has ended."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from helix_fast.errors import HelixError, StoreClosedError
from helix_fast.transport.binding import cancel


class SealLater:
    """Seals streams some time after their end, one after the other. It runs while there are any.

    It is best effort: what was not sealed when the manager is closed stays as it is.

    Args:
        seal: seals a stream.
        delay: seconds after the end; None: nothing is sealed.
        report: gets the errors.
    """

    def __init__(
        self, seal: Callable[[str], Awaitable[bool]], delay: float | None, report: Callable[[HelixError], object]
    ) -> None:
        self._seal = seal
        self._delay = delay
        self._report = report
        self._due: deque[tuple[float, str]] = deque()
        self._task: asyncio.Task[None] | None = None

    def ended(self, stream_id: str) -> None:
        """A stream has ended."""
        if self._delay is None:
            return
        loop = asyncio.get_running_loop()
        self._due.append((loop.time() + self._delay, stream_id))
        if self._task is None or self._task.done() or self._task.get_loop().is_closed():
            self._task = loop.create_task(self._run(), name="helix_fast sealing")

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due:
            due, stream_id = self._due[0]
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            self._due.popleft()
            try:
                await self._seal(stream_id)
            except StoreClosedError:
                return
            except HelixError as error:
                self._report(error)

    async def close(self) -> None:
        """Stop the task. A stream that it is sealing is sealed or left as it is."""
        self._due.clear()
        task, self._task = self._task, None
        await cancel(task)
