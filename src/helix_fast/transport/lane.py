"""The auto-pipelining connection: what is sent in one turn of the event loop leaves in one write.

All stores and all tasks of a process share one lane per node. Every request has a slot in a queue and every reply is
passed to the slot at its head, so a caller that stopped waiting never shifts another's reply. Appenders do not queue
their batches: they say that they are ready, and the lane asks them for a frame when it writes. So a batch grows until
then, and while the socket takes nothing. Blocking and pub/sub commands have no place here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Union

import hiredis

from helix_fast import codec
from helix_fast.errors import (
    BufferFullError,
    HelixError,
    NotReplicatedError,
    StoreClosedError,
    StoreConnectionError,
    StoreResponseError,
    StoreTimeoutError,
)

from .link import INCOMPLETE, Connector, Link, logger
from .unparsed import Cutting, Unparsed, UnparsedSlot

LONG_PIECE: Final = 8192
"""Bytes of a frame's piece, on average, from which on pieces are handed to the socket without joining them."""
MOST_AT_ONCE: Final = 1 << 20
"""Bytes of such pieces that leave in one turn of the event loop; its other tasks wait for no more."""
Frame = Union[bytes, tuple[bytes, ...]]  # noqa: UP007  read on Python 3.10
"""One RESP command, whole or in pieces."""
OnReply = Callable[[Any], None]
"""Called with the reply, or an exception in its place: StoreResponseError from the server, StoreConnectionError when
the connection broke (the request may or may not have been executed)."""


def settle(future: asyncio.Future[Any], reply: Any) -> None:
    """Give a reply to a caller, if it still waits."""
    if not future.done():
        future.set_result(reply)


class AtOnce(partial[None]):
    """An ``on_reply`` whose reply says nothing about data: it waits for no replica."""


class Lane(Link):
    """One connection shared by any number of callers.

    Args:
        connector: makes the connection.
        target: the server's name for messages.
        timeout: seconds without any reply, while one is due, after which the connection is given up.
        max_buffered_bytes: bytes waiting to be written beyond which ``call`` waits.
        wait_replicas: replicas that must have what was written before any reply to it is handed out. One ``WAIT`` for
            all that left in one write; where too few replicas answer in half of ``timeout``: NotReplicatedError.
    """

    purpose = "requests"

    def __init__(
        self,
        connector: Connector,
        target: str,
        *,
        timeout: float = 5.0,
        max_buffered_bytes: int = 64 << 20,
        wait_replicas: int = 0,
    ) -> None:
        super().__init__(connector, target, timeout=timeout)
        self.wait_replicas = wait_replicas
        self._wait = codec.frame_command([b"WAIT", wait_replicas, int(timeout * 500)]) if wait_replicas else b""
        self._unconfirmed: list[tuple[OnReply | None, Any]] = []
        self.max_buffered_bytes = max_buffered_bytes
        self.outbox: codec.Outbox = codec.Outbox()
        self._waiting: deque[OnReply | None] = deque()
        self._pieces: list[bytes] = []  # of long requests whose first ones have left
        self._paused = False
        self._progress = 0
        self._watcher: asyncio.TimerHandle | None = None
        self._room: asyncio.Future[None] | None = None
        self._cutting: Cutting = Cutting()
        self.on_readonly: Callable[[], None] | None = None

    def send(self, frame: Frame, on_reply: OnReply | None = None, *, unparsed: bool = False) -> None:
        """Queue one request (one RESP command). Without ``on_reply`` the reply is ignored.

        Args:
            unparsed: ``on_reply`` takes an ``Unparsed``, where the reply is an array and need not be parsed.

        Raises:
            StoreClosedError: the lane is closed.
        """
        if self.closed:
            raise StoreClosedError(f"the connection to {self.target} is closed")
        if unparsed and on_reply is not None and not self._wait:
            self._cutting.expect(idle=not self._waiting)
            on_reply = UnparsedSlot(on_reply)
        if self.outbox.add(frame, on_reply):
            self.wake()

    def wake(self) -> None:
        """Schedule the next write, or a connection where there is none."""
        if self._transport is None:
            self._demand()
        else:
            self.outbox.scheduled = True
            self._loop.call_soon(self._flush)

    @property
    def requests(self) -> int:
        """Requests sent so far."""
        return self.outbox.requests

    async def call(self, frame: Frame, *, at_once: bool = False) -> Any:
        """Send one request and wait for its reply. Cancelling the wait does not take the request back.

        Args:
            at_once: the reply says nothing about data, and waits for no replica.

        Raises:
            StoreResponseError: the server answered with an error.
            StoreConnectionError: the connection broke; the request may have been executed.
            BufferFullError: the server takes nothing in and the buffer stayed full for ``timeout``.
        """
        await self.room()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.send(frame, (AtOnce if at_once else partial)(settle, future))
        reply = await future
        if isinstance(reply, HelixError):
            raise reply
        return reply

    async def room(self) -> None:
        """Wait while more than ``max_buffered_bytes`` wait to be written.

        Raises:
            BufferFullError: that did not change for ``timeout``.
        """
        if self.outbox.size <= self.max_buffered_bytes:
            return
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self.timeout
        while self.outbox.size > self.max_buffered_bytes and not self.closed:
            if self._room is None or self._room.done():
                self._room = loop.create_future()
            await asyncio.wait([self._room], timeout=max(0.0, give_up - loop.time()))
            if loop.time() >= give_up:
                raise BufferFullError(f"{self.outbox.size} bytes wait to be sent to {self.target}")

    def _flush(self) -> None:
        outbox = self.outbox
        outbox.scheduled = False
        transport = self._transport
        if transport is None:
            # The connection was lost in this turn of the loop, before what was queued in it could leave.
            if outbox.frames or outbox.ready:
                self._demand()
            return
        if self._paused or (self._pieces and not self._write_pieces(transport)):
            return
        if outbox.ready:
            self._pull()
        if not outbox.frames:
            return
        self._waiting.extend(outbox.slots)
        frames, size = outbox.frames[:], outbox.size
        outbox.clear()
        if self._wait:
            frames.append(self._wait)
            self._waiting.append(self._confirmed)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        if size >= LONG_PIECE * len(frames):
            self._pieces = frames
            self._write_pieces(transport)
        else:
            transport.write(b"".join(frames))
        if self._watcher is None:
            self._watch(self._progress, 0)

    def _write_pieces(self, transport: asyncio.Transport) -> bool:
        """Write long pieces, a part of them in each turn of the loop; whether these were the last."""
        pieces, size, count = self._pieces, 0, 0
        while count < len(pieces) and size < MOST_AT_ONCE:
            size += len(pieces[count])
            count += 1
        now, self._pieces = pieces[:count], pieces[count:]
        transport.writelines(now)
        if self._pieces and not self._paused:
            self.wake()
        return not self._pieces

    def _pull(self) -> None:
        """Ask the appenders that are ready for their frames."""
        outbox = self.outbox
        for appender in outbox.take_ready():
            try:
                frame = appender.next_frame()
            except Exception:  # noqa: BLE001, PERF203
                # One stream's bug must not keep the others' batches back.
                logger.exception("an appender failed to make its request")
            else:
                if frame is not None:
                    outbox.add(frame, appender)

    def _watch(self, seen: int, quiet: int) -> None:
        """Give the connection up when replies are due and none has arrived for ``timeout`` seconds."""
        self._watcher = None
        if not self._waiting:
            return
        quiet = quiet + 1 if self._progress == seen else 0
        if quiet > 4:
            self._abort(StoreTimeoutError(f"{self.target} did not answer for {self.timeout:g} s"))
            return
        loop = asyncio.get_running_loop()
        self._watcher = loop.call_later(self.timeout / 4, self._watch, self._progress, quiet)

    def data_received(self, data: bytes) -> None:
        """Parse the bytes received and hand out each reply. Every reply passes here, so there is no call too many."""
        if self._wait:
            super().data_received(data)
            return
        if self._cutting.due:
            (self._cut if self._cutting.begun else self._parse)(data)
            return
        reader, waiting = self._reader, self._waiting
        self._progress += 1
        try:
            reader.feed(data)
            gets = reader.gets
            while (reply := gets()) is not INCOMPLETE:
                if not waiting or type(reply) is StoreResponseError:
                    self._handle(reply)
                elif (on_reply := waiting.popleft()) is not None:
                    try:
                        on_reply(reply)
                    except Exception:  # noqa: BLE001
                        logger.exception("a reply handler failed")
        except hiredis.ProtocolError as error:
            self._abort_foreign(error)

    def _cut(self, data: bytes) -> None:
        """Cut what arrives into replies. That which is due unparsed stays as it is, the others are parsed."""
        cutting, cutter = self._cutting, self._cutting.cutter
        try:
            cutter.feed(data)
            while cutting.begun and (raw := cutter.next()) is not None:
                if raw[:1] == b"*" and self._waiting and type(self._waiting[0]) is UnparsedSlot:
                    self._handle(Unparsed(raw))
                else:
                    super().data_received(raw)
        except ValueError as error:
            self._abort_foreign(error)

    def _parse(self, data: bytes) -> None:
        """Parse all of it, and have what comes next cut where the last reply ended with it."""
        reader, ended = self._reader, False
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not INCOMPLETE:
                self._handle(reply)
                ended = not reader.has_data()
        except hiredis.ProtocolError as error:
            self._abort_foreign(error)
        else:
            self._cutting.begun = ended and self._cutting.due > 0

    def _handle(self, reply: Any) -> None:
        self._progress += 1
        if not self._waiting:
            self._abort(StoreConnectionError(f"{self.target} sent a reply that nobody asked for"))
            return
        slot = self._waiting.popleft()
        rest = self._cutting.take() if type(slot) is UnparsedSlot else b""
        if type(reply) is StoreResponseError and reply.server_code == "READONLY" and self.on_readonly is not None:
            self.on_readonly()
        if self._wait and slot != self._confirmed and type(slot) is not AtOnce:
            self._unconfirmed.append((slot, reply))
        else:
            self._settle(slot, reply)
        if rest and self._transport is not None:
            self.data_received(rest)

    def _confirmed(self, replicas: Any) -> None:
        """The reply to WAIT: what was answered before it may be handed out."""
        held, self._unconfirmed = self._unconfirmed, []
        if isinstance(replicas, int) and replicas >= self.wait_replicas:
            for slot, reply in held:
                self._settle(slot, reply)
            return
        error: HelixError = NotReplicatedError(self.wait_replicas, replicas if isinstance(replicas, int) else 0)
        error.__cause__ = replicas if isinstance(replicas, HelixError) else None
        for slot, reply in held:
            self._settle(slot, reply if isinstance(reply, HelixError) else error)

    def _settle(self, on_reply: OnReply | None, reply: Any) -> None:
        if on_reply is not None:
            try:
                on_reply(reply)
            except Exception:  # noqa: BLE001
                # One caller's bug must not cost the others their replies.
                logger.exception("a reply handler failed")

    async def finish(self) -> None:
        """Close when everything that was sent has been answered, or ``timeout`` seconds from now."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self.timeout
        # Polled: an event would cost every reply of every lane.
        while (self._waiting or self.outbox.slots or self.outbox.ready) and loop.time() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await self.close()

    def pause_writing(self) -> None:
        """The socket takes no more: frames gather until it does."""
        self._paused = True

    def resume_writing(self) -> None:
        """The socket takes more."""
        self._paused = False
        self._flush()

    def _opened(self) -> None:
        self._paused = False
        self._flush()

    def _broken(self, error: HelixError) -> None:
        # Requests not yet written fail too: their callers decide whether to repeat them, and when. Appenders that are
        # ready find the connection lost, or share the failure: no other write would ask them for their frames.
        self._pull()
        slots = [slot for slot, _reply in self._unconfirmed]
        slots += [slot for slot in (*self._waiting, *self.outbox.slots) if slot != self._confirmed]
        self._unconfirmed.clear()
        self._cutting.reset()
        self._waiting.clear()
        self._pieces = []
        self.outbox.clear()
        self._paused = False
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        for slot in slots:
            self._settle(slot, error)
