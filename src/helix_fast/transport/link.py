"""Link: a connection that redis-py sets up and we then read and write ourselves; the base of lane and hub.

redis-py does the connecting (TLS, AUTH, SELECT, Sentinel, credential providers); the transport is then taken over with
``set_protocol`` and replies are parsed by hiredis.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import hiredis
import redis.exceptions
from redis.asyncio.sentinel import MasterNotFoundError

from helix_fast.errors import (
    HelixError,
    StoreAuthenticationError,
    StoreClosedError,
    StoreConnectionError,
    StoreResponseError,
    StoreTimeoutError,
)

from .binding import cancel, discard

logger: logging.Logger = logging.getLogger("helix_fast.transport")

INCOMPLETE: Final = object()
Connector = Callable[[], Awaitable[Any]]
"""Makes and connects one redis-py asyncio connection, speaking RESP2 and bytes."""


async def establish(connection: Any) -> Any:
    """Connect a redis-py connection. One that fails, or is cancelled half-way, leaves no socket behind."""
    try:
        await connection.connect()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


async def _within(seconds: float, connector: Connector) -> Any:
    """A connection, or asyncio.TimeoutError.

    asyncio.wait_for loses a connection that stands although it was cancelled; redis-py may swallow a cancellation.
    """
    attempt: asyncio.Future[Any] = asyncio.ensure_future(connector())
    try:
        done, _ = await asyncio.wait([attempt], timeout=seconds)
        if done:
            return attempt.result()
        raise asyncio.TimeoutError
    except BaseException:
        attempt.cancel()
        connection: Any = (await asyncio.gather(attempt, return_exceptions=True))[0]
        if not isinstance(connection, BaseException):
            await connection.disconnect(nowait=True)
        raise


def wrap_error(error: BaseException, target: str) -> HelixError:
    """The HelixError for an error of redis-py or of a socket; ``target`` names the server without credentials."""
    if isinstance(error, HelixError):
        return error
    refusals = (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError)
    if isinstance(error, refusals) or isinstance(error.__cause__, refusals):
        return StoreAuthenticationError(f"{target} refused the credentials: {error}")
    if isinstance(error, redis.exceptions.ResponseError):
        text = str(error)
        if text.startswith(("WRONGPASS", "NOAUTH", "NOPERM")) or "AUTH" in text:
            return StoreAuthenticationError(f"{target} refused the credentials: {text}")
        return StoreResponseError(text)
    if isinstance(error, (redis.exceptions.TimeoutError, asyncio.TimeoutError)):
        return StoreTimeoutError(f"no connection to {target} in time")
    text = str(error) or type(error).__name__
    if isinstance(error, MasterNotFoundError):
        text = text.partition(" : ")[0]  # behind it: the whole settings of every Sentinel asked
    return StoreConnectionError(f"cannot connect to {target}: {text}")


class Link(asyncio.Protocol):
    """One connection to one server, made again on demand after a loss.

    ``generation`` counts the connections made so far: by it a caller notices that one was lost meanwhile.
    Connecting is tried once for each demand, not sooner than a growing, jittered delay after a failure; retrying is
    for the callers, who know what is safe to repeat.
    """

    purpose = ""
    """The use of the connection, in one word."""

    def __init__(self, connector: Connector, target: str, *, timeout: float = 5.0) -> None:
        self.target = target
        self.timeout = timeout
        self.generation: int = 0
        self.next_generation: int = 1  # of the connection that the next request uses
        self.closed: bool = False
        self.on_opened: Callable[[Link], None] | None = None
        self._connector = connector
        self._transport: asyncio.Transport | None = None
        self._held: Any = None  # the redis-py objects whose finalizers would close our transport
        self._connecting: asyncio.Task[None] | None = None
        self._failures = 0
        self._reader = hiredis.Reader()

    @property
    def connected(self) -> bool:
        """Whether a connection stands now."""
        return self._transport is not None

    # what Lane and Hub implement

    def _opened(self) -> None:
        """A connection stands; ``generation`` is its number."""
        raise NotImplementedError

    def _broken(self, error: HelixError) -> None:
        """The connection is gone, or could not be made."""
        raise NotImplementedError

    def _handle(self, reply: Any) -> None:
        """One reply or push."""
        raise NotImplementedError

    # connecting

    def _demand(self) -> None:
        if self._transport is None and self._connecting is None and not self.closed:
            loop = asyncio.get_running_loop()
            # In a context of its own, in which replies are handled: the first caller's context variables (a trace's
            # span, say) must not apply to all callers after it.
            self._connecting = contextvars.Context().run(
                lambda: loop.create_task(self._connect(), name=f"connect {self.target}")
            )

    async def _connect(self) -> None:
        error: HelixError | None = None
        try:
            if self._failures:
                ceiling = min(1.0, 0.005 * 2 ** min(self._failures, 10))
                await asyncio.sleep(ceiling * random.uniform(0.5, 1.0))  # noqa: S311  jitter, not a secret
            # A server that accepts and says nothing (stopped, or behind a dead link) must not hold the callers.
            self._take_over(await _within(self.timeout, self._connector))
        except asyncio.CancelledError:
            error = StoreClosedError(f"the connection to {self.target} was closed")
            raise
        except Exception as cause:  # noqa: BLE001  a driver, resolver or TLS library may raise anything: it goes to the waiting callers
            error = wrap_error(cause, self.target)
            error.__cause__ = cause if error is not cause else cause.__cause__
        finally:
            self._connecting = None
            if error is not None:
                self._failures += 1
                self._broken(error)

    def _take_over(self, connection: Any) -> None:
        writer = connection._writer
        transport = cast("asyncio.Transport", writer.transport)
        # redis-py's Connection believes itself disconnected from here on, so that its finalizer leaves us alone
        self._held = (connection, connection._reader, writer)
        connection._reader = connection._writer = None
        if self.closed:  # wait_for may hand out a result in place of the cancellation by close()
            transport.abort()
            self._held = None
            return
        self._reader = hiredis.Reader(replyError=StoreResponseError, notEnoughData=INCOMPLETE)
        # Kept: asking for it asks the kernel for the process's id on Python before 3.12.
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._failures = 0
        self.generation += 1
        self.next_generation = self.generation
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=1 << 20)
        if self.on_opened is not None:
            self.on_opened(self)
        if transport.is_closing():  # it broke between redis-py's handshake and us
            self._transport = self._held = None
            self.next_generation = self.generation + 1
            raise StoreConnectionError(f"lost the connection to {self.target}")
        self._opened()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Parse the bytes received and hand out each reply."""
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not INCOMPLETE:
                self._handle(reply)
        except hiredis.ProtocolError as error:
            self._abort_foreign(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: all pending requests fail."""
        if self._transport is None:
            return
        error = StoreConnectionError(f"lost the connection to {self.target}" + (f": {exc}" if exc else ""))
        error.__cause__ = exc
        self._drop(error)

    def _abort(self, error: HelixError) -> None:
        transport, held = self._transport, self._held
        if transport is not None:
            self._drop(error)
            transport.abort()
        del held  # not sooner: finalizers warn of a transport that is still open

    def _abort_foreign(self, error: Exception) -> None:
        """What was received is no RESP."""
        self._abort(StoreConnectionError(f"{self.target} does not speak RESP: {error}"))

    def give_up(self, reason: str) -> None:
        """Drop the connection; the next request or subscription makes another one."""
        self._abort(StoreConnectionError(reason))

    def _drop(self, error: HelixError) -> None:
        self._transport = self._held = None
        self.next_generation = self.generation + 1
        self._broken(error)

    async def close(self) -> None:
        """Close the connection; pending requests get StoreClosedError. Safe to call twice."""
        if self.closed:
            return
        self.closed = True
        task, transport, held = self._connecting, self._transport, self._held
        self._abort_gently(StoreClosedError(f"the connection to {self.target} was closed"))
        await cancel(task)
        if transport is not None:
            await asyncio.sleep(0)  # let the transport close its socket before its objects are collected
        del held

    def discard(self, error: HelixError | None, *, forked: bool) -> None:
        """Drop the connection from outside of its event loop. With ``error``, pending requests get it."""
        self.closed = True
        transport, held = self._transport, self._held
        discard(transport, forked=forked)
        if error is not None:
            self._drop(error)
        self._transport = self._held = None
        del held

    def _abort_gently(self, error: HelixError) -> None:
        transport = self._transport
        if transport is not None:
            transport.close()
        self._drop(error)
