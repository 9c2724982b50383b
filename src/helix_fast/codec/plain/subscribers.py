"""Hot: the subscribers of a stream, in plain Python. Whether other processes have some; what those here are given."""

from __future__ import annotations

from typing import Any, final

from .frame import parse_push
from .reader import StreamEntry
from .replies import ReplyCutter, read_message


@final
class RemoteSubscribers:
    """Whether a process other than this one subscribes to a stream's channel. Takes the replies to publications.

    Args:
        presence: ``local`` maps the channels with subscribers in this process, each with ``counted``: whether the
            server counts this process among the channel's subscribers. ``subscribe_epoch`` grows whenever that becomes
            true for a channel. ``counts_unreliable``: the server's counts mean nothing.
        channel: the stream's.

    Attributes:
        present: there is one, as far as is known.
        pending: publications without a reply yet. stale: of those, the ones sent before ``assume_present``.
    """

    __slots__ = ("_presence", "_subscribe_epoch", "channel", "pending", "present", "stale")

    def __init__(self, presence: Any, channel: bytes) -> None:
        self._presence = presence
        self.channel: bytes = channel
        self.present: bool = True
        self.pending: int = 0
        self.stale: int = 0
        self._subscribe_epoch = presence.subscribe_epoch

    def assume_present(self) -> None:
        """A subscriber has arrived, or may have: ignore the counts in pending replies."""
        self.present = True
        self.stale = self.pending

    def exceeds_local(self, count: int) -> bool:
        """Whether that many subscriptions are more than this process's own."""
        channel = self._presence.local.get(self.channel)
        return count > (channel is not None and channel.counted)

    def __call__(self, reply: Any) -> None:
        """Take the reply to a publication, the count of its receivers; an error changes nothing."""
        self.pending -= 1
        if self._subscribe_epoch != self._presence.subscribe_epoch:
            # Replies and subscriptions use different connections: the server may have counted this process, or not.
            self._subscribe_epoch, self.stale = self._presence.subscribe_epoch, self.pending
        elif self.stale:
            self.stale -= 1
        elif type(reply) is int and not self._presence.counts_unreliable:
            self.present = self.exceeds_local(reply)


def push_entry(subscribers: list[Any], entry: StreamEntry | None) -> None:
    """Give an entry to every subscriber, of a list of weak references; None has them read the log."""
    if entry is not None:
        entry.readers = len(subscribers)
    for reference in subscribers:
        subscriber = reference()
        if subscriber is not None:
            subscriber.pushed(entry)


def push_payload(subscribers: list[Any], payload: bytes) -> None:
    """The same with the entry of a published payload; None for one that is no entry, as the message to catch up."""
    try:
        position = parse_push(payload)
    except ValueError:
        push_entry(subscribers, None)
    else:
        push_entry(subscribers, StreamEntry(*position))


def deliver_messages(cutter: ReplyCutter, channels: dict[bytes, Any]) -> bytes | None:
    """Give the messages that were received to their channels, up to the next reply that is none, which is returned."""
    while (reply := cutter.next()) is not None:
        message = read_message(reply)
        if message is None:
            return reply
        channel = channels.get(message[0])
        if channel is not None:
            channel.receive(message[1])
    return None
