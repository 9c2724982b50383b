"""Writing without waiting, from a thread: tokens are posted to the loop, and a source ends when a stop is requested."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from functools import partial
from typing import Final, TypeVar

from helix_fast.errors import HelixError, InvalidArgumentError
from helix_fast.streams import writer as _writer

from .base import Blocking, Flag
from .loop import call, post, run

T = TypeVar("T")
SelfWriting = TypeVar("SelfWriting", bound="Writing")
_POSTED: Final = 1_024
"""Tokens posted after which the thread waits for the loop: a thread that is faster would fill the memory."""


class Writing(Blocking[_writer.StreamWriter]):
    """The methods of a writer that are other than those of the async one."""

    _posted: int = 0
    _error: HelixError | None = None

    @property
    def stop_requested(self) -> Flag:
        """Set by ``request_stop`` for the stream; the writer may finish its work."""
        return Flag(self._async.stop_requested)

    def send_text(self, delta: str) -> None:
        """Write a ``text_delta`` without waiting; the fast way for tokens. Otherwise as ``send``.

        A stream that ended a moment before is told by the next call.
        """
        writer = self._async
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        self._posted = (self._posted + 1) % _POSTED
        if self._posted and not writer._closed and not writer._appender.closed and self._is_plain(delta):
            post(partial(self._send_text, delta))
        else:
            call(partial(writer.send_text, delta))

    def _is_plain(self, delta: str) -> bool:
        """Whether it is surely a chunk that is small enough."""
        if type(delta) is not str or len(delta) > self._async._surely_small:
            return False
        try:
            return delta.isascii() or bool(delta.encode())
        except UnicodeEncodeError:
            return False

    def _send_text(self, delta: str) -> None:
        try:
            self._async.send_text(delta)
        except HelixError as error:
            self._error = error

    def until_stopped(self, source: Iterable[T]) -> Generator[T, None, None]:
        """The items of ``source``, until somebody asks the writers of the stream to stop (``request_stop``).

        The request is looked for after each item: a source that waits cannot be cancelled. Then the source is closed,
        if it has ``close()``, and the loop ends; ``stop_requested`` tells that it was for this reason.

        ```python
        for token in writer.until_stopped(model.stream(prompt)):
            writer.send_text(token)
        ```

        Raises:
            InvalidArgumentError: ``source`` is no iterable. While iterating: what the source raises.
        """
        if not isinstance(source, Iterable):
            raise InvalidArgumentError(f"until_stopped needs an iterable, not {type(source).__name__}")
        return self._until_stopped(source)

    def _until_stopped(self, source: Iterable[T]) -> Generator[T, None, None]:
        stopped = self._async.stop_requested
        try:
            if not stopped.is_set():
                for item in source:
                    if stopped.is_set():
                        return
                    yield item
        finally:
            close = getattr(source, "close", None)
            if callable(close):
                close()

    def __enter__(self: SelfWriting) -> SelfWriting:
        return self

    def __exit__(self, kind: object, value: BaseException | None, traceback: object) -> None:
        run(self._async.__aexit__(kind, value, traceback))
