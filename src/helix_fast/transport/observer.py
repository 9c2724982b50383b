"""Who may watch the stores work: what a telemetry hook is told. Nothing here knows OpenTelemetry, or any other.

A topology has at most one observer, and none by default. What watching costs then is one comparison with None for each
batch and each request, and nothing for a chunk.
"""

from __future__ import annotations

from typing import Protocol

from .link import Link


class Observed(Protocol):
    """One thing under way. Its methods must not raise."""

    def done(self, error: BaseException | None = None) -> None:
        """It is over; ``error`` is what it failed with. Further calls change nothing, but that it did succeed later."""


class Observer(Protocol):
    """Told what happens on the connections of a topology. Called from the event loop; must not block and not raise."""

    def batch(self, stream_id: str, chunks: int, size: int, before: Observed | None) -> Observed:
        """A batch of ``chunks`` chunks, ``size`` bytes, leaves for the server; done when it is acknowledged.

        ``before`` is what the stream's batch before it was given, where there was one: a batch that leaves when that
        one is acknowledged leaves outside of anybody's task.
        """

    def request(self, tag: str, command: str, script: str = "") -> Observed:
        """A request about the keys of ``tag`` begins, repetitions included; ``script`` names the Lua script it runs."""

    def reconnected(self, target: str, purpose: str) -> None:
        """A connection that was lost stands again; ``purpose`` is that of its Link."""


class Observable:
    """What topologies have in common: the observer, and telling it of their connections."""

    observer: Observer | None = None

    def opened(self, link: Link) -> None:
        """A connection stands; called by each Link of the topology."""
        if self.observer is not None and link.generation > 1:
            self.observer.reconnected(link.target, link.purpose)
