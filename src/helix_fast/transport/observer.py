"""Observer: the interface of a telemetry hook, and its spans. Nothing here imports OpenTelemetry or the like.

A topology has at most one observer, and none by default. Without one, it costs one comparison with None for each batch
and each request, and nothing for a chunk.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Protocol

from .link import Link


class Span(Protocol):
    """A batch or request in progress. Its method must not raise."""

    def done(self, error: BaseException | None = None) -> None:
        """It has ended, with ``error`` where it failed. Of further calls only one without an error changes anything."""


class Observer(Protocol):
    """Gets the events of a topology's connections. Called from the event loop; must not block and must not raise."""

    def batch(self, stream_id: str, chunks: int, size: int, before: Span | None) -> Span:
        """A batch of ``chunks`` chunks, ``size`` bytes, is sent; its span ends when it is acknowledged.

        ``before`` is the span of the stream's previous batch, if there was one: a batch that is sent when that one is
        acknowledged is sent outside of any caller's task.
        """

    def request(self, tag: str, command: str, script: str = "") -> Span:
        """A request about the keys of ``tag`` begins, repetitions included; ``script`` names the Lua script it runs."""

    def reconnected(self, target: str, purpose: str) -> None:
        """A lost connection was made again; ``purpose`` is that of its Link."""


class Observable:
    """What topologies share: the observer, and reporting reconnections to it."""

    observer: Observer | None = None
    _told_of_links: tuple[weakref.WeakMethod[Callable[[], None]], ...] = ()

    def watch(self, method: Callable[[], None]) -> None:
        """Call a bound method, which is held weakly, after each connection that is made."""
        alive = (reference for reference in self._told_of_links if reference() is not None)
        self._told_of_links = (*alive, weakref.WeakMethod(method))

    def opened(self, link: Link) -> None:
        """A connection was made; called by each Link of the topology."""
        if self.observer is not None and link.generation > 1:
            self.observer.reconnected(link.target, link.purpose)
        for reference in self._told_of_links:
            method = reference()
            if method is not None:
                method()
