"""Presence: which channels of this process have subscribers, local ones and those of other processes.

Stored entries are handed to the process's own readers without a detour by the server. A channel without remote
subscribers is not published on: its publisher is *silent*. Our readers announce themselves; subscribers of other
software are found by polling the server now and then, with one ``PUBSUB NUMSUB`` for all silent publishers. A publisher
with a new subscriber has it read the log, which holds everything that was not published.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import Any, Final, Protocol

from helix_fast import codec
from helix_fast.errors import HelixError, StoreResponseError

from .channels import StreamChannel

POLL_SECONDS: Final = 5.0
"""Seconds between polls of PUBSUB NUMSUB: the longest that a subscriber which did not announce itself waits for its
first chunk."""
MAX_POLLED: Final = 1000
"""Channels of one poll: the server does nothing else meanwhile."""

Send = Callable[[str, bytes, Callable[[Any], None]], None]


class Publisher(Protocol):
    """A stream's appender, as far as presence is concerned."""

    @property
    def stream_id(self) -> str:
        """The stream; also the tag by which its server is found."""

    @property
    def subscribers(self) -> codec.RemoteSubscribers:
        """Whether other processes subscribe to the stream."""

    @property
    def silent(self) -> bool:
        """Whether something was not published, and no poll has been sent since."""

    @silent.setter
    def silent(self, silent: bool) -> None: ...

    def notify_catch_up(self) -> None:
        """Have the stream's subscribers read its log."""


class Presence:
    """Presence of subscribers, for all streams of one topology. Used from its event loop.

    Args:
        send: sends a request about a tag's keys, and calls back with the reply: the topology's.
        server_of: name of the server that has a tag's keys.

    Attributes:
        local: the channels of streams that have readers in this process.
        subscribe_epoch: how often the server has begun to count this process among a channel's subscribers.
        counts_unreliable: the server's counts mean nothing, or it gives none. Then everything is published.
        sharded: pub/sub is sharded.
        poll_seconds: how long publishers are silent before they are polled for.
    """

    def __init__(self, send: Send, server_of: Callable[[str], str]) -> None:
        self.local: dict[bytes, StreamChannel] = {}
        self.subscribe_epoch: int = 0
        self.counts_unreliable: bool = False
        self.sharded = False
        self.poll_seconds = POLL_SECONDS
        self._send = send
        self._server_of = server_of
        self._silent: list[Publisher] = []
        self._timer: asyncio.TimerHandle | None = None

    @cached_property
    def name(self) -> bytes:
        """Tells the readers of this process from those of others. Made on first use, as the process may fork before."""
        return secrets.token_urlsafe(6).encode()

    def counted(self) -> None:
        """The server has begun to count this process among the subscribers of a channel."""
        self.subscribe_epoch += 1

    def poll_later(self, publisher: Publisher) -> None:
        """Have the server polled for subscribers of a publisher that has become silent."""
        self._silent.append(publisher)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.poll_seconds, self._poll)

    def poll_now(self, publishers: Iterable[Publisher]) -> None:
        """Poll for all publishers without remote subscribers: an announcement may have been missed."""
        self._silent += [publisher for publisher in publishers if not publisher.subscribers.present]
        if self._timer is not None:
            self._timer.cancel()
        self._poll()

    def remote_joined(self, publisher: Publisher, name: bytes) -> None:
        """A reader has announced itself to a publisher; ``name`` is that of its process."""
        if name != self.name:
            known = publisher.subscribers.present
            publisher.subscribers.assume_present()
            if not known:
                _notify(publisher)

    def _take_silent(self) -> list[Publisher]:
        self._timer = None
        silent, self._silent = self._silent, []
        return silent

    def _poll(self) -> None:
        by_server: dict[str, list[Publisher]] = {}
        for publisher in self._take_silent():
            publisher.silent = False
            by_server.setdefault(self._server_of(publisher.stream_id), []).append(publisher)
        for publishers in by_server.values():
            for start in range(0, len(publishers), MAX_POLLED):
                part = publishers[start : start + MAX_POLLED]
                if self.counts_unreliable:
                    _assume_present(part)
                    continue
                command = (b"PUBSUB", b"SHARDNUMSUB" if self.sharded else b"NUMSUB")
                frame = codec.frame_command((*command, *(publisher.subscribers.channel for publisher in part)))
                with contextlib.suppress(HelixError):  # closed: subscribers notice by themselves
                    self._send(part[0].stream_id, frame, partial(self._polled, part, self.subscribe_epoch))

    def _polled(self, part: list[Publisher], subscribe_epoch: int, reply: Any) -> None:
        # With another epoch the numbers may be from before this process was counted, or from after it.
        if isinstance(reply, list) and len(reply) == 2 * len(part) and subscribe_epoch == self.subscribe_epoch:
            counts = zip(part, reply[1::2], strict=True)
            part = [publisher for publisher, count in counts if publisher.subscribers.exceeds_local(count)]
        elif isinstance(reply, StoreResponseError) and reply.server_code in {"ERR", "NOPERM"}:
            # No such command, or no right to it: the next poll would fail in the same way.
            self.counts_unreliable = True
        _assume_present(part)

    async def close(self) -> None:
        """Stop polling. Have subscribers that may have joined unnoticed read the log, while there is a connection."""
        if self._timer is not None:
            self._timer.cancel()
            _assume_present(self._take_silent())
            await asyncio.sleep(0)  # on the next turn of the event loop that leaves


def _assume_present(publishers: list[Publisher]) -> None:
    for publisher in publishers:
        publisher.subscribers.assume_present()
        _notify(publisher)


def _notify(publisher: Publisher) -> None:
    with contextlib.suppress(HelixError):  # closed meanwhile
        publisher.notify_catch_up()
