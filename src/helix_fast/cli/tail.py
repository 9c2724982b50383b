"""`helix-fast tail STREAM`: print a stream from any sequence on, and follow it until it ends."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

import msgspec
import typer

from helix_fast import connect
from helix_fast.errors import (
    InvalidArgumentError,
    SequenceGapError,
    StoreConnectionError,
    StreamFailedError,
    StreamNotFoundError,
    StreamResetError,
)
from helix_fast.streams.chunks import TextDeltaChunk, encode_chunk
from helix_fast.streams.manager import RedisStreamManager
from helix_fast.streams.schema import StoredChunk, StreamPosition, to_position

from .common import DEFAULT_URL, JsonOption, PrefixOption, UrlOption, fail, run, where_else
from .output import print_json, printable

FAILED = 1


class Line(msgspec.Struct):
    """What ``--json`` prints for each chunk; ``chunk`` is in wire form."""

    sequence: int
    epoch: str
    chunk: msgspec.Raw


class Printer:
    """Prints chunks as text: deltas joined, every other chunk on a line of its own, dimmed on a terminal."""

    def __init__(self) -> None:
        self._in_line = False
        colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._dim, self._plain = ("\x1b[2m", "\x1b[0m") if colours else ("", "")

    def show(self, stored: StoredChunk) -> None:
        """Print one chunk."""
        if isinstance(stored.chunk, TextDeltaChunk):
            text = printable(stored.chunk.delta)
        else:
            line = f"[{stored.sequence}] {printable(wire(stored).decode())}"
            text = "\n" * self._in_line + f"{self._dim}{line}{self._plain}\n"
        if text:
            self._in_line = not text.endswith("\n")
            sys.stdout.write(text)
            sys.stdout.flush()

    def finish(self) -> None:
        """End the last line."""
        if self._in_line:
            self._in_line = False
            sys.stdout.write("\n")
            sys.stdout.flush()


def wire(stored: StoredChunk) -> bytes:
    """The chunk as JSON, as it is stored."""
    return encode_chunk(stored.chunk, None, None, 0)


def show_json(stored: StoredChunk) -> None:
    """Print one chunk as a line of JSON."""
    print_json(Line(stored.sequence, stored.epoch, msgspec.Raw(wire(stored))))


def start_position(text: str) -> StreamPosition:
    """The position of ``--from``: a sequence, or a position as a browser sends it back."""
    try:
        return to_position(text)
    except InvalidArgumentError as error:
        fail(f"--from: {error}", "give the last sequence seen, or epoch:term:sequence")


async def print_stream(
    streams: RedisStreamManager,
    stream: str,
    after: StreamPosition,
    *,
    last: int | None = None,
    follow: bool = True,
    json: bool = False,
) -> None:
    """Print the chunks after a position until the stream ends; without following, until the last stored one.

    Args:
        last: print at most so many of the stored chunks.

    Raises:
        StreamNotFoundError, InvalidIdError, and what ResumableReader raises.
    """
    info = await streams.get_info(stream)
    if info is not None and after.sequence > info.last_sequence:
        behind = f"has nothing behind {after.sequence}, its last sequence is {info.last_sequence}"
        fail(f"--from: {stream!r} {behind}")
    if info is not None and last is not None:
        begin = max(info.last_sequence - last, info.first_sequence - 1)
        after = after if after.sequence >= begin else StreamPosition(info.epoch, begin)
    reader = await streams.create_resumable_reader(stream, from_sequence=after)
    if reader is None or info is None:
        raise StreamNotFoundError(stream)
    printer = Printer()
    show = show_json if json else printer.show
    async with reader:
        if not follow and after.sequence >= info.last_sequence:
            return
        try:
            async for stored in reader:
                show(stored)
                if not follow and stored.sequence >= info.last_sequence:
                    break
        except asyncio.CancelledError:
            printer.finish()
            sys.stderr.write(printable(f"helix-fast: to continue: --from {reader.position}\n"))
            raise
        except StoreConnectionError as error:
            printer.finish()
            fail(str(error), f"to continue: --from {reader.position}")
        finally:
            printer.finish()


def tail(
    stream: Annotated[str, typer.Argument(help="Id of the stream.")],
    url: UrlOption = DEFAULT_URL,
    prefix: PrefixOption = "helix:",
    after: Annotated[
        str, typer.Option("--from", metavar="POSITION", help="Last sequence that you have seen, or a position.")
    ] = "0",
    last: Annotated[int | None, typer.Option(metavar="N", min=0, help="Begin with the last N stored chunks.")] = None,
    follow: Annotated[bool, typer.Option(help="Wait for further chunks.")] = True,
    json: JsonOption = False,
) -> None:
    """Print a stream from any sequence on, and follow it until it ends.

    Text is printed as it was written, any other chunk as a line of JSON after its sequence. After Ctrl-C it prints the
    position at which to continue. Exit code 1 if the stream failed or its producer was lost.
    """
    position = start_position(after)

    async def work() -> int:
        async with connect(url, key_prefix=prefix) as helix:
            try:
                await print_stream(helix.streams, stream, position, last=last, follow=follow, json=json)
            except StreamNotFoundError as error:
                fail(str(error), where_else(url))
            except SequenceGapError as error:
                fail(str(error), f"go on behind the gap: --from {error.first_available - 1}")
            except StreamResetError as error:
                fail(str(error), "read its new epoch with --from 0")
            except StreamFailedError as error:
                fail(str(error), code=FAILED)
        return 0

    run(work)
