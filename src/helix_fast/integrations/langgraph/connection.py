"""Connection: how a saver, store or cache reaches its server from any event loop and any thread."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster

from helix_fast.connect import Helix, connect
from helix_fast.errors import HelixError, InvalidArgumentError, StoreClosedError
from helix_fast.keys import check_prefix
from helix_fast.reporting import BackgroundErrors
from helix_fast.requests import Requests
from helix_fast.transport.binding import running_loop
from helix_fast.transport.topology import Topology

T = TypeVar("T")


class Connection:
    """The connections of a Helix. Shallow copies of their user share it.

    Args:
        target: a Helix, which its maker opens and closes; or what ``connect`` takes, for a Helix of our own.
        key_prefix: None: that of the Helix.
        options: of ``connect``; only for a Helix of our own.
    """

    def __init__(
        self, target: Helix | str | Redis | RedisCluster, key_prefix: str | None, options: dict[str, Any]
    ) -> None:
        self._own = not isinstance(target, Helix)
        if isinstance(target, Helix):
            if options:
                raise InvalidArgumentError(f"{', '.join(options)}: the connection is that of the Helix")
            self.helix: Helix = target
        else:
            if key_prefix is not None:
                options = {**options, "key_prefix": key_prefix}
            self.helix = connect(target, **options)
        self.key_prefix: str = self.helix._key_prefix if key_prefix is None else check_prefix(key_prefix)
        self._requests: Requests | None = None
        self._errors = BackgroundErrors(None)

    def report(self, error: HelixError) -> None:
        """Log an error of background work."""
        self._errors.report(error)

    @property
    def requests(self) -> Requests:
        """The requests.

        Raises:
            StoreClosedError: the Helix is not open.
        """
        if self._requests is None:
            opened = self.helix._requests
            if opened is None:
                raise StoreClosedError(
                    "the connection to the server is not open",
                    hint="async with connect(url) as helix: HelixSaver(helix), or async with HelixSaver.from_url(url)",
                )
            self._requests = Requests(opened.topology)
        return self._requests

    async def open(self) -> None:
        """Open a Helix of our own, unless it is open."""
        if self._own and self.helix._requests is None:
            await self.helix

    async def close(self) -> None:
        """Close a Helix of our own. Safe to call twice, on any event loop."""
        if self._own:
            await self.helix.close()

    async def at_home(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work on the event loop of the connections, wherever the caller is."""
        home = self._home()
        if home is None or home is asyncio.get_running_loop():
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, home))

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work on the event loop of the connections, from a thread that runs none."""
        home = self._home()
        if home is not None and home is running_loop():
            work.close()
            raise InvalidArgumentError(
                "a synchronous method was called on the event loop of the connections, which would wait for itself",
                hint="await graph.ainvoke(...), or call graph.invoke in another thread: asyncio.to_thread",
            )
        if home is None:
            raise InvalidArgumentError("no event loop runs the connections")
        return asyncio.run_coroutine_threadsafe(work, home).result()

    def _home(self) -> asyncio.AbstractEventLoop | None:
        """The open event loop that the connections belong to, if any does."""
        opened = self.helix._requests
        topology: Topology | None = None if opened is None else opened.topology
        loop = None if topology is None else topology.binding.loop
        return None if loop is None or loop.is_closed() else loop
