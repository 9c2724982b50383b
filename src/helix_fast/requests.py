"""Requests: how every store talks to its server. Scripts, retries, the observer, and the check for a closed store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from . import codec
from .errors import HelixError, StoreClosedError, StoreResponseError
from .lua import Argument, FramedArguments, Script
from .transport.lane import Frame
from .transport.retry import Retry
from .transport.topology import Topology

T = TypeVar("T")
Call = tuple[Script, Sequence[bytes], Sequence[Argument] | FramedArguments]
_NOSCRIPT: Final = "NOSCRIPT"


class Requests:
    """The requests of one store, and of the parts that it is made of.

    A request is tried once without any preparation, which is nearly always enough. After a transient fault it is
    retried, for ``retry_timeout`` seconds from the first failure. So everything here must be safe to repeat.

    Args:
        topology: the connections.
        retry_timeout: seconds; default: the topology's.

    Attributes:
        closed: whether the store was closed. No request is sent after that.
    """

    def __init__(self, topology: Topology, retry_timeout: float | None = None) -> None:
        self.topology = topology
        self.retry_timeout: float = topology.retry_timeout if retry_timeout is None else retry_timeout
        self.closed = False

    def check_loop(self) -> None:
        """Raise InvalidArgumentError unless the running event loop may use the connections; see ``LoopBinding``."""
        self.topology.binding.check()

    def command(self, tag: str, *args: Argument) -> Awaitable[Any]:
        """Run a command on the server that has the keys tagged ``tag``."""
        request = self._request(tag, codec.frame_command(args), None, None, None)
        if self.topology.observer is None:
            return request
        return self.observed(request, tag, str(args[0], "ascii") if isinstance(args[0], bytes) else str(args[0]))

    def run(
        self,
        script: Script,
        tag: str,
        keys: Sequence[bytes],
        args: Sequence[Argument] | FramedArguments,
        *,
        retry_timeout: float | None = None,
        before_attempt: Callable[[], object] | None = None,
    ) -> Awaitable[Any]:
        """Run a script that only reads, or is idempotent by an operation id.

        Args:
            retry_timeout: seconds, in place of the store's; 0: no retry after a fault.
            before_attempt: called just before each attempt is sent.
        """
        request = self._request(tag, script.frame(keys, args), (script, keys, args), retry_timeout, before_attempt)
        if self.topology.observer is None:
            return request
        return self.observed(request, tag, "EVALSHA", script.name)

    async def _request(
        self,
        tag: str,
        frame: Frame,
        call: Call | None,
        retry_timeout: float | None,
        before_attempt: Callable[[], object] | None,
    ) -> Any:
        if self.closed:
            raise StoreClosedError("the store is closed")
        if before_attempt is not None:
            before_attempt()
        try:
            return await self.topology.call(tag, frame)
        except HelixError as error:
            failure = error
        return await self._go_on(failure, tag, frame, call, retry_timeout, before_attempt)

    async def _go_on(
        self,
        failure: HelixError | None,
        tag: str,
        frame: Frame,
        call: Call | None,
        retry_timeout: float | None,
        before_attempt: Callable[[], object] | None,
    ) -> Any:
        """What a request does after its first attempt has failed."""

        async def send() -> Any:
            if self.closed:
                raise StoreClosedError("the store is closed")
            if before_attempt is not None:
                before_attempt()
            return await self.topology.call(tag, frame)

        async def attempt() -> Any:
            nonlocal failure, frame
            first, failure = failure, None
            try:
                if first is not None:
                    raise first  # an attempt like the others: the retry time begins with it
                return await send()
            except StoreResponseError as refusal:
                if call is None or refusal.server_code != _NOSCRIPT:
                    raise
            script, keys, args = call
            frame = script.frame(keys, args, by_text=True)
            return await send()

        retry = Retry(self.retry_timeout if retry_timeout is None else retry_timeout)
        return await retry.run(attempt, lambda: self.topology.ever_connected(tag))

    async def retrying(self, attempt: Callable[[], Awaitable[T]], tag: str) -> T:
        """Call ``attempt`` until it succeeds, as a request: again after transient faults, for the retry time."""
        if self.closed:
            raise StoreClosedError("the store is closed")
        return await Retry(self.retry_timeout).run(attempt, lambda: self.topology.ever_connected(tag))

    async def publish_command(self) -> bytes:
        """PUBLISH, or SPUBLISH where the servers shard the channels of streams and locks."""
        if not self.topology.publish:
            await self.retrying(self.topology.ready, "")
        return self.topology.publish

    async def observed(self, request: Awaitable[T], tag: str, command: str, script: str = "") -> T:
        """Await ``request``; the observer, if there is one, is told when it begins and how it ended."""
        observer = self.topology.observer
        if observer is None:
            return await request
        span = observer.request(tag, command, script)
        try:
            reply = await request
        except BaseException as error:
            span.done(error)
            raise
        span.done()
        return reply
