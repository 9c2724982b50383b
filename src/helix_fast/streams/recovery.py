"""What became of a batch: after a refusal, a lost reply or a reconnection, the stream itself is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from helix_fast.errors import (
    AcknowledgedDataLostError,
    HelixError,
    StaleFencingTokenError,
    StoreResponseError,
    StreamClosedError,
    StreamDeletedError,
    StreamFencedError,
    StreamResetError,
    WriteOutcomeUnknownError,
)
from helix_fast.keys import StreamKeys
from helix_fast.lua import script
from helix_fast.requests import Requests
from helix_fast.transport.retry import is_transient, pause

if TYPE_CHECKING:
    from .appender import Appender

_INSPECT: Final = script("streams", "stream_inspect")
_APPEND: Final = script("streams", "stream_append")
# After so many refusals in a row another process is writing as busily as we are: the server assigns the sequences of
# the next batches. Chosen so that two writers that meet now and then never leave the fast path.
COLLISIONS: Final = 3
ASSISTED_BATCHES: Final = 64


class Inspection:
    """The reply of ``stream_inspect``."""

    __slots__ = ("chunk", "epoch", "fence", "oldest", "status", "stored", "term", "terms", "top", "writer")

    def __init__(self, reply: Sequence[bytes]) -> None:
        self.status = reply[0].decode()
        self.term = int(reply[1])
        self.epoch = reply[2].decode()
        self.terms = reply[3].decode()
        self.fence = int(reply[4]) if reply[4] else None
        self.top = int(reply[8] or 0)
        self.oldest = int(reply[9].split(b"-")[1])
        self.chunk = reply[10]
        self.writer = reply[11]
        # the last sequence that is there, where a reader marked what is missing after it
        self.stored = int(reply[12]) if reply[12] else self.top


class Recovery:
    """Resolves batches for all appenders of one manager."""

    def __init__(self, requests: Requests, report: Callable[[HelixError], None]) -> None:
        self._requests = requests
        self._report = report

    async def resolve(self, appender: Appender, cause: HelixError | None) -> None:
        """Find out what became of the appender's batch and let it go on.

        ``cause`` is the error that its append met; None for a refusal by Redis's id check, after a reconnection, and
        where the server assigns the sequence.
        """
        try:
            if cause is not None and not await self._worth_retrying(appender, cause):
                appender.pause(cause)
            elif appender.assisted_batches or appender.collisions >= COLLISIONS:
                await self._assist(appender)
            else:
                await self._look(appender)
        except HelixError as error:
            appender.pause(error)
        except Exception as error:  # noqa: BLE001
            # A bug here must not leave the writers waiting for ever.
            trouble = HelixError(f"recovery of stream {appender.stream_id!r} failed: {error!r}")
            trouble.__cause__ = error
            appender.pause(trouble)

    async def _worth_retrying(self, appender: Appender, cause: HelixError) -> bool:
        now = asyncio.get_running_loop().time()
        if appender.trouble_since is None:
            appender.trouble_since, appender.failures = now, 0
        if not is_transient(cause) or now - appender.trouble_since > self._requests.retry_timeout:
            appender.trouble_since = None
            return False
        await asyncio.sleep(pause(appender.failures))
        appender.failures += 1
        return True

    async def _inspect(self, appender: Appender, entry: bytes) -> Inspection | None:
        keys: StreamKeys = appender.keys
        generation = appender.topology.generation(appender.stream_id)
        reply = await self._requests.run(_INSPECT, appender.stream_id, (keys.stream, keys.meta), (entry,))
        # Taken from before the request: a reconnection in between is looked at again.
        appender.generation = generation
        return Inspection(reply) if reply else None

    async def _look(self, appender: Appender) -> None:
        batch = appender.flight
        if batch is None:
            return
        entry = b"%d-%d" % (appender.terms.number, batch.first) if batch.sent else b""
        found = await self._inspect(appender, entry)
        if found is not None and batch.sent and found.writer == batch.nonce and found.chunk == batch.body:
            appender.found(batch.first, publish=True)
        elif not self._over(appender, found) and found is not None:
            believed = appender.sequence.last
            if found.stored < believed:
                lost = (found.stored + 1, believed)
                if appender.lost != lost:  # looked at again before anything was stored behind the hole: told once
                    appender.lost = lost
                    self._report(AcknowledgedDataLostError(appender.stream_id, *lost))
            if found.top > believed:
                if batch.doubtful and found.oldest > batch.first:
                    appender.abandon(
                        WriteOutcomeUnknownError(appender.stream_id, batch.first, batch.first + batch.count - 1),
                        found.top,
                    )
                    return
                appender.moved(found.top)
            appender.resend()

    def _over(self, appender: Appender, found: Inspection | None) -> bool:
        """Whether nothing more can be written, and then end the appender."""
        name, terms = appender.stream_id, appender.terms
        if found is None:
            appender.die(lambda unsent: StreamDeletedError(name, unsent))
        elif found.status in {"ended", "failed"}:
            status = found.status
            appender.die(lambda unsent: StreamClosedError(name, status, unsent))
        elif found.epoch != terms.epoch:
            epoch = found.epoch
            appender.die(lambda unsent: StreamResetError(epoch, unsent))
        elif found.term != terms.number:
            token, fence = terms.token, found.fence
            if token is not None and fence is not None and token < fence:
                appender.die(lambda unsent: StaleFencingTokenError(token, fence, unsent))
            else:
                appender.die(lambda unsent: StreamFencedError(name, unsent))
        else:
            return False
        return True

    async def _assist(self, appender: Appender) -> None:
        """Let the server assign the sequence of this batch."""
        batch = appender.flight
        if batch is None:
            return
        if appender.assisted_batches == 0:
            appender.assisted_batches = ASSISTED_BATCHES
            appender.collisions = 0
        keys = appender.keys
        # An attempt under an id of ours may still be on its way: the script looks for the nonce from there on.
        after = batch.first - 1 if batch.sent else appender.sequence.last
        batch.first, batch.sent = after + 1, True
        last = appender.sequence.last + batch.count
        args: list[Any] = [
            appender.terms.number, batch.count, batch.body, batch.nonce, after,
            appender.cut(last) or b"", appender.topology.publish, keys.channel, int(batch.doubtful),
        ]  # fmt: skip
        try:
            topology = appender.topology
            reply = await topology.call(appender.stream_id, _APPEND.frame((keys.stream, keys.meta), args))
        except HelixError as error:
            if not is_transient(error) and not (
                isinstance(error, StoreResponseError) and error.server_code == "NOSCRIPT"
            ):
                raise
            if is_transient(error):
                batch.doubtful, args[-1] = True, 1
            reply = await self._requests.run(_APPEND, appender.stream_id, (keys.stream, keys.meta), args)
        if reply == b"unknown":
            lost = WriteOutcomeUnknownError(appender.stream_id, batch.first, batch.first + batch.count - 1)
            appender.abandon(lost, last)
        elif reply:
            appender.assisted_batches -= 1
            appender.found(int(reply), publish=False)
        elif not self._over(appender, await self._inspect(appender, b"")):
            await asyncio.sleep(0)
            await self._assist(appender)
