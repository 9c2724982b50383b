"""Connection: how a saver, store or cache reaches its server from any event loop and any thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster

from helix_fast.connect import Helix
from helix_fast.errors import HelixError, InvalidArgumentError, StoreClosedError
from helix_fast.integrations.owned import helix_of
from helix_fast.keys import check_prefix
from helix_fast.reporting import BackgroundErrors
from helix_fast.requests import Requests
from helix_fast.sync.loop import background, run
from helix_fast.transport.binding import running_loop

T = TypeVar("T")
Self = TypeVar("Self", bound="Connected")


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
        if self._own and key_prefix is not None:
            options = {**options, "key_prefix": key_prefix}
        self.helix: Helix = helix_of(target, options)
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

    def at_home(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Work, to be awaited at once; it runs on the event loop of the connections, wherever the caller is.

        Raises:
            InvalidArgumentError: that loop is open and does not run.
        """
        home = self._home()
        if home is None or home is running_loop():
            return work
        return asyncio.wrap_future(_send(work, home))

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work on the event loop of the connections, and block the thread until it is done.

        Connections that no loop has yet go to the background loop of ``helix_fast.sync``.

        Raises:
            InvalidArgumentError: it is the thread of that loop, or that loop is open and does not run.
        """
        home = self._home()
        if home is None or (home is not running_loop() and home is background().loop):
            return run(work)
        if home is running_loop():
            work.close()
            raise InvalidArgumentError(
                "a blocking method was called on the event loop of the connections, which would wait for itself",
                hint="use graph.ainvoke(...), or run graph.invoke in another thread with asyncio.to_thread",
            )
        return _send(work, home).result()

    def _home(self) -> asyncio.AbstractEventLoop | None:
        """The open event loop that the connections belong to, if any does."""
        opened = self.helix._requests
        loop = None if opened is None else opened.topology.binding.loop
        return None if loop is None or loop.is_closed() else loop


def _send(work: Coroutine[Any, Any, T], home: asyncio.AbstractEventLoop) -> concurrent.futures.Future[T]:
    if not home.is_running():
        work.close()
        raise InvalidArgumentError(
            "the event loop of the connections is open, but does not run", hint="close it, or keep it running"
        )
    return asyncio.run_coroutine_threadsafe(work, home)


class Connected:
    """What saver, store and cache share: how they are opened and closed.

    Args:
        target, key_prefix, options: as of :class:`Connection`.
    """

    def __init__(
        self, target: Helix | str | Redis | RedisCluster, key_prefix: str | None, options: dict[str, Any]
    ) -> None:
        self._connection = Connection(target, key_prefix, options)

    @classmethod
    def from_url(cls: type[Self], url: str, **options: Any) -> Self:
        """One on the server at ``url``, for ``async with`` or ``with``; takes all options of the class."""
        return cls(url, **options)

    @classmethod
    def from_conn_string(cls: type[Self], url: str, **options: Any) -> Self:
        """The same as :meth:`from_url`, under the name that LangGraph's own have."""
        return cls(url, **options)

    async def asetup(self) -> None:
        """Open the connection, unless it is open. There is nothing to be set up on the server."""
        await self._connection.open()

    async def aclose(self) -> None:
        """Close the connection, unless it is that of a Helix. Safe to call twice, on any event loop."""
        await self._connection.close()

    async def __aenter__(self: Self) -> Self:
        await self._connection.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._connection.close()

    def setup(self) -> None:
        """As :meth:`asetup`, blocking."""
        self._connection.wait_for(self._connection.open())

    def close(self) -> None:
        """As :meth:`aclose`, blocking."""
        self._connection.wait_for(self._connection.close())

    def __enter__(self: Self) -> Self:
        self.setup()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
