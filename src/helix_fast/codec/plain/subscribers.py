"""Whether anybody elsewhere hears a publication, in plain Python: the twin of `compiled/subscribers.pxi`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from .append import FastAppend


@final
class Listeners:
    """Whether anybody beside this process hears a stream's channel: takes the replies to publications.

    Args:
        audience: its ``here`` names the channels that are heard in this process, each with ``heard``: whether the
            server counts that; ``changes`` how often that has become true; ``blind`` says that its counts mean nothing.
        channel: the stream's.

    Attributes:
        elsewhere: somebody does, as far as is known.
        flying: publications whose replies have not come. stale: of those, the ones from before somebody came.
    """

    __slots__ = ("_audience", "_changes", "channel", "elsewhere", "flying", "stale")

    def __init__(self, audience: Any, channel: bytes) -> None:
        self._audience = audience
        self.channel = channel
        self.elsewhere = True
        self.flying = self.stale = 0
        self._changes = audience.changes

    def come(self) -> None:
        """Somebody has come, or may have: what the server counted before then means nothing."""
        self.elsewhere = True
        self.stale = self.flying

    def others(self, count: int) -> bool:
        """Whether so many subscriptions are more than this process's own."""
        entry = self._audience.here.get(self.channel)
        return count > (entry is not None and entry.heard)

    def __call__(self, reply: Any) -> None:
        """The reply to a publication; an error tells nothing."""
        self.flying -= 1
        if self._changes != self._audience.changes:
            # Counted before or after this process was: replies and subscriptions come by different connections.
            self._changes, self.stale = self._audience.changes, self.flying
        elif self.stale:
            self.stale -= 1
        elif type(reply) is int and not self._audience.blind:
            self.elsewhere = self.others(reply)


def count_frame(word: bytes, publishers: list[FastAppend]) -> bytes:
    """RESP of ``PUBSUB word channel…``, which asks how many hear each publisher's channel; none is silent any more."""
    from . import wire

    for publisher in publishers:
        publisher.silent = False
    return wire.frame_command([b"PUBSUB", word, *(publisher.listeners.channel for publisher in publishers)])


def heard_elsewhere(publishers: list[FastAppend], counts: list[Any]) -> list[FastAppend]:
    """Those of the publishers that somebody beside this process hears.

    Args:
        counts: the reply to ``count_frame``: channel and number of each, in turns.

    Raises:
        ValueError: there are not as many of them as publishers.
    """
    if len(counts) != 2 * len(publishers):
        raise ValueError("there is not one count for each publisher")
    return [one for one, count in zip(publishers, counts[1::2], strict=True) if one.listeners.others(count)]
