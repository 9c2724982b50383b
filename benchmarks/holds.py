"""How long the largest operations keep the event loop from other tasks: ``python -m benchmarks.holds [--docs]``.

A task that does nothing but give way notes how much CPU time the thread used between two of its turns, at most. It is
CPU time because a busy machine adds pauses of its own: this is what an operation costs the others on an idle core.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
import uvloop

from helix_fast import connect
from helix_fast.connect import Helix
from helix_fast.embedded import EmbeddedServer
from helix_fast.state.schema import AgentState
from helix_fast.streams.chunks import TextDeltaChunk

from .bench_state import message
from .page import show
from .table import Rows

RUNS: Final = 5
MESSAGES: Final = 10_000
ENTRIES: Final = 100_000

Operation = Callable[[], Awaitable[Any]]


class Hold(msgspec.Struct):
    """The longest CPU time between two turns of the loop while an operation ran, and the whole time that it took."""

    what: str
    longest_ms: float
    whole_ms: float


async def held(operation: Operation) -> tuple[float, float]:
    """The longest hold of one run and its whole time, in milliseconds."""
    longest = 0.0
    over = False

    async def watch() -> None:
        nonlocal longest
        before = time.thread_time()
        while not over:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest = max(longest, now - before)
            before = now

    gc.collect()
    gc.freeze()
    gc.disable()  # the collector's pauses are those of the program, and grow with its objects
    watching = asyncio.ensure_future(watch())
    try:
        await asyncio.sleep(0)
        began = time.perf_counter()
        result = await operation()
        whole = time.perf_counter() - began
    finally:
        over = True
        await watching
        gc.enable()
        gc.unfreeze()
    del result  # not sooner: dropping it is the caller's part
    return longest * 1000, whole * 1000


def entry(number: int, session: str) -> dict[str, Any]:
    """A usage entry in wire form."""
    tokens = {"prompt": 1200 + number % 7, "completion": 80, "total": 1280 + number % 7}
    return {
        "kind": "tokens",
        "id": f"e{number}",
        "sessionId": session,
        "stepCount": number,
        "timestamp": 1_700_000_000_000 + number,
        "model": f"model-{number % 3}",
        "tokens": tokens,
    }


async def state_operations(helix: Helix, url: str, count: int) -> AsyncIterator[tuple[str, Operation]]:
    """A conversation of ``count`` messages."""
    store = helix.state
    state = AgentState("long", "assistant", messages=[message(number) for number in range(count)])
    fresh = iter(range(1_000_000))
    size = f"{count:,} messages"

    async def first_save() -> None:
        name = f"first-{next(fresh)}"
        await store.save_state(name, AgentState(name, "assistant", messages=state.messages))

    async def one_more() -> None:
        state.messages.append(message(len(state.messages)))
        await store.save_state("long", state)

    async def changed() -> None:
        state.messages[1] = message(next(fresh))
        await store.save_state("long", state)

    async def save_in_another_process() -> None:
        async with connect(url) as other:
            state.messages.append(message(len(state.messages)))
            await other.state.save_state("long", state)

    yield f"save_state, {size}, all new", first_save
    await store.save_state("long", state)
    yield f"save_state, {size}, one of them new", one_more
    yield f"save_state, {size}, an old one changed", changed
    yield f"save_state, {size}, one new, by a process that knows none", save_in_another_process
    yield f"load_state, {size}", lambda: store.load_state("long")
    yield f"get_messages, limit {count:,}", lambda: store.get_messages("long", limit=count)
    yield (
        f"get_messages, limit {count:,}, without thinking",
        lambda: store.get_messages("long", limit=count, include_thinking=False),
    )
    batch = [message(number) for number in range(count)]
    yield f"append_messages, {size}", lambda: store.append_messages("appended", batch)
    yield f"pop_messages, {size}", lambda: store.pop_messages("appended", count)
    made = await store.create_checkpoint("long")
    yield f"get_checkpoint, {size}", lambda: store.get_checkpoint("long", made.id)
    yield f"restore_checkpoint, {size}", lambda: store.restore_checkpoint("long", made.id)
    for _ in range(count // 10):
        await store.create_checkpoint("many")
    yield f"list_checkpoints, {count // 10:,} of them", lambda: store.list_checkpoints("many", limit=count)
    for first in range(0, count, 500):
        await asyncio.gather(
            *(store.create_session(f"s{number}", agent_type="a") for number in range(first, min(first + 500, count)))
        )
    yield f"list_sessions, {count:,} of them", store.list_sessions


async def usage_operations(helix: Helix, url: str, count: int) -> AsyncIterator[tuple[str, Operation]]:
    """``count`` entries."""
    usage = helix.usage
    entries = [entry(number, "u") for number in range(count)]
    others = [entry(number, "r") for number in range(count)]

    async def cold() -> None:
        async with connect(url) as other:
            await other.usage.get_rollup("u")

    async def record() -> None:
        await usage.record_entries(others)
        await usage.delete("r")

    await usage.record_entries(entries)
    yield f"get_rollup, {count:,} entries, cold", cold
    yield f"get_entries, all {count:,}", lambda: usage.get_entries("u")
    yield f"get_entries, {count:,}, one kind", lambda: usage.get_entries("u", kinds=["tool"])
    yield f"record_entries, {count:,}", record


async def stream_operations(helix: Helix, count: int) -> AsyncIterator[tuple[str, Operation]]:
    """``count`` chunks."""
    streams = helix.streams
    chunks = [TextDeltaChunk(delta=f"token {number} ") for number in range(count)]
    fresh = iter(range(1_000_000))

    async def write() -> None:
        async with await streams.create_writer(f"w{next(fresh)}", agent_id="a") as writer:
            await writer.write_many(chunks)

    async with await streams.create_writer("long", agent_id="a") as writer:
        await writer.write_many(chunks)
        await writer.end()
    yield f"write_many, {count:,} chunks", write

    async def read() -> None:
        reader = await streams.create_resumable_reader("long")
        while reader is not None and await reader.read_batch():
            pass

    async def read_each() -> None:
        async for _chunk in streams.read("long"):
            pass

    yield f"read_batch, {count:,} chunks", read
    yield f"async for, {count:,} chunks", read_each


async def measure(only: str, runs: int, *, quick: bool) -> list[Hold]:
    """Every operation in turn."""
    messages, entries = (1_000, 5_000) if quick else (MESSAGES, ENTRIES)
    found: list[Hold] = []
    async with EmbeddedServer() as server, connect(server.url) as helix:
        await helix.state.create_session("appended", agent_type="a")
        await helix.state.create_session("many", agent_type="a")

        async def take(what: str, operation: Operation) -> None:
            if only in what:
                await operation() if what.startswith("save_state") else None
                times = [await held(operation) for _ in range(runs)]
                found.append(Hold(what, min(each[0] for each in times), min(each[1] for each in times)))
                sys.stderr.write(f"{found[-1].longest_ms:8.2f} ms  {what}\n")

        for operations in (
            state_operations(helix, server.url, messages),
            usage_operations(helix, server.url, entries),
            stream_operations(helix, messages),
        ):
            async for what, operation in operations:
                await take(what, operation)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, the longest holds first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.holds")
    parser.add_argument("--only", default="", help="operations whose line has this text")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--quick", action="store_true", help="a tenth of the data and less")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/performance.md too")
    options = parser.parse_args(arguments)
    found = uvloop.run(measure(options.only, options.runs, quick=options.quick))
    found.sort(key=lambda hold: -hold.longest_ms)
    lines: Rows = [("operation", "longest hold, ms of CPU", "whole, ms")]
    lines += [(hold.what, f"{hold.longest_ms:.2f}", f"{hold.whole_ms:.1f}") for hold in found]
    show("holds", f"smallest of {options.runs} runs", [lines], docs=options.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
