"""P17: one LangGraph graph with each checkpointer, in turns: ``make bench-langgraph BENCH_ARGS="--quick --docs"``.

The target installs the rivals; those that are missing do not take part. Postgres is started here where initdb and
pg_ctl are on PATH. Everything runs on this machine, each server on a unix socket and with its default settings;
Postgres also without waiting for its disk. The last table says which targets are reached, and what InMemorySaver, which
only keeps bytes in a dict, reaches of each; the exit code is 0 either way.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import operator
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, TypedDict

import redis.asyncio as redis
import uvloop
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from helix_fast.integrations.langgraph import HelixSaver
from helix_fast.testing.servers import ServerProcess

from .measure import meets
from .page import ROOT, put
from .results import describe_machine
from .table import align, markdown
from .targets import SAVERS

Lines = list[tuple[str, ...]]
Savers = dict[str, Any]
Rates = dict[str, list[float]]
OURS: Final = "HelixSaver"
LIMIT: Final = "InMemorySaver"


class State(TypedDict, total=False):
    """Channels of constant size."""

    n: int
    until: int
    text: str
    facts: dict[str, int]


class Growing(TypedDict, total=False):
    """A conversation that grows by one message each step."""

    n: int
    until: int
    messages: Annotated[list[str], operator.add]


DELTA: Any = TypedDict(
    "DELTA",
    {"n": int, "until": int, "messages": Annotated[list[str], DeltaChannel(lambda old, new: sum(new, old))]},
)


def graph_of(schema: Any, change: Callable[[int], dict[str, Any]], saver: Any) -> Any:
    """A graph whose only node runs until ``until``."""
    builder: Any = StateGraph(schema)
    builder.add_node("step", lambda state: {"n": state["n"] + 1, **change(state["n"] + 1)})
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda state: END if state["n"] >= state["until"] else "step")
    return builder.compile(checkpointer=saver)


def constant(saver: Any) -> Any:
    """Two of three channels change, to values of the same size."""
    return graph_of(State, lambda n: {"text": f"{n:08}" * 25, "facts": {"a": n % 7, "b": 1}}, saver)


def message(number: int) -> dict[str, Any]:
    """One message more."""
    return {"messages": [f"{number:08}" * 25]}


async def steps(graph: Any, thread: str, count: int, first: int = 0) -> float:
    """Steps a second."""
    config = {"configurable": {"thread_id": thread}, "recursion_limit": count + 10}
    began = time.perf_counter()
    await graph.ainvoke({"n": first, "until": first + count}, config)
    return count / (time.perf_counter() - began)


async def together(graph: Any, prefix: str, threads: int, count: int) -> float:
    """Steps a second of many threads at once."""
    began = time.perf_counter()
    await asyncio.gather(*(steps(graph, f"{prefix}-{n}", count) for n in range(threads)))
    return threads * count / (time.perf_counter() - began)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A private server on a unix socket; not as root, which Postgres refuses."""
    with tempfile.TemporaryDirectory(prefix="pg-") as room:
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if as_user:
            shutil.chown(room, "postgres")
        data, log = f"{room}/data", f"{room}/log"

        def run(*words: str) -> None:
            subprocess.run([*as_user, *words], check=True, capture_output=True)

        run("initdb", "-D", data, "-A", "trust", "-U", "postgres")
        run("pg_ctl", "-D", data, "-l", log, "-w", "-o", f"-k {room} -h '' -c max_connections=120", "start")
        try:
            yield f"postgresql:///postgres?host={room}&user=postgres"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")


@contextlib.asynccontextmanager
async def savers(server: ServerProcess, room: Path) -> AsyncIterator[Savers]:
    """Those that are installed, ready."""
    found: Savers = {LIMIT: InMemorySaver()}
    async with contextlib.AsyncExitStack() as stack:
        found[OURS] = await stack.enter_async_context(HelixSaver.from_url(server.url))
        with contextlib.suppress(ImportError):
            from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

            path = str(room / "checkpoints.db")
            found["AsyncSqliteSaver"] = await stack.enter_async_context(AsyncSqliteSaver.from_conn_string(path))
        with contextlib.suppress(ImportError):
            from langgraph_checkpoint_plainredis import AsyncRedisSaver

            clients = redis.BlockingConnectionPool.from_url(server.url, max_connections=100, timeout=300)
            found["plainredis"] = AsyncRedisSaver(redis.Redis(connection_pool=clients))
            stack.push_async_callback(clients.aclose)
        with contextlib.suppress(ImportError):
            from langgraph_checkpoint_aws import AsyncValkeySaver

            valkey = AsyncValkeySaver.from_conn_string(server.url, pool_size=1000)  # it fails where none is free
            found["AWS AsyncValkeySaver"] = await stack.enter_async_context(valkey)
        with contextlib.suppress(ImportError, FileNotFoundError):
            from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
            from psycopg.rows import dict_row
            from psycopg_pool import AsyncConnectionPool

            url = stack.enter_context(postgres())
            for name, options in (
                ("AsyncPostgresSaver", ""),
                ("AsyncPostgresSaver, synchronous_commit off", "-c synchronous_commit=off"),
            ):
                settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row, "options": options}
                pool: Any = AsyncConnectionPool(url, min_size=4, max_size=50, kwargs=settings, open=False, timeout=300)
                await stack.enter_async_context(pool)
                found[name] = AsyncPostgresSaver(pool)
                await found[name].setup()
        yield found


async def sent_and_stored(client: Any, thread: str) -> tuple[int, int]:
    """Bytes that the server has received, and bytes of the thread's keys."""
    keys = [key async for key in client.scan_iter(match=f"*{thread}*", count=10_000)]
    stored = [await client.memory_usage(key, samples=0) for key in keys]
    return int((await client.info("stats"))["total_net_input_bytes"]), sum(size or 0 for size in stored)


async def bytes_of_steps(make: Callable[[Any], Any], saver: Any, client: Any, thread: str) -> list[tuple[int, int]]:
    """Bytes sent for a step around step 10 and step 1 000; bytes stored a step, of all steps until then.

    Around 1 000 it is the mean of a hundred steps: LangGraph hands over the whole value of a DeltaChannel at each
    hundredth update of it.
    """
    graph, sizes = make(saver), []
    for first, runs, count, counts in ((0, 1, 5, False), (5, 1, 10, True), (15, 1, 935, False), (950, 10, 10, True)):
        before, _ = await sent_and_stored(client, thread)
        began, _ = await sent_and_stored(client, thread)
        for run in range(runs):
            await steps(graph, thread, count, first + run * count)
        after, stored = await sent_and_stored(client, thread)
        if counts:
            all_steps = runs * count
            sizes.append(((after - began - (began - before)) // all_steps, stored // (first + all_steps)))
    return sizes


async def take(options: argparse.Namespace) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="hf-") as name:
        room = Path(name)
        server = ServerProcess(room)
        await server.start()
        client: Any = redis.Redis.from_url(server.url)
        try:
            async with savers(server, room) as found:
                speeds = await rates(found, options)
                table = speed_table(*speeds, options.threads)
                sys.stdout.write(f"{align(table)}\n\n")
                sent, grown = await sizes(found, client)
                read = await reads(found, options.long)
                targets = target_table(speeds[0], speeds[1], grown, options.threads)
                sys.stdout.write(f"{align(sent)}\n\n{align(read)}\n\n{align(targets)}\n")
        finally:
            await client.aclose()
            await server.stop()
    if options.docs:
        about = (
            f"{describe_machine()['cpu']}, {os.cpu_count()} cores for everything; medians of {options.rounds} turns."
        )
        tables = [
            markdown(lines, numbers)
            for lines, numbers in ((table, {1, 2, 3, 4, 5}), (targets, {1, 2, 3}), (sent, {2, 3, 4, 5}), (read, {1}))
        ]
        put("savers", "\n\n".join([about, *tables]), ROOT / "docs" / "langgraph.md")


async def rates(found: Savers, options: argparse.Namespace) -> tuple[Rates, Rates, Rates]:
    """Steps a second of one thread and of many, and milliseconds of CPU a step, by saver and turn."""
    one: Rates = {label: [] for label in found}
    many: Rates = {label: [] for label in found}
    cpu: Rates = {label: [] for label in found}
    for turn in range(options.rounds):
        for label, saver in found.items():
            began = time.process_time()
            one[label].append(await steps(constant(saver), f"one-{turn}", options.steps))
            cpu[label].append((time.process_time() - began) / options.steps * 1000)
            try:
                many[label].append(await together(constant(saver), f"many-{turn}", options.threads, options.each))
            except Exception as error:
                if label == OURS:
                    raise
                print(f"{label} failed under {options.threads} threads: {error!r}"[:200], flush=True)
    return one, many, cpu


async def sizes(found: Savers, client: Any) -> tuple[Lines, float]:
    """The bytes of steps, and the bytes that ours sends at step 1 000 by those at step 10."""
    grown = 0.0
    lines: Lines = [("bytes of a step", "channels", "sent at 10", "sent at 1 000", "stored by 10", "stored by 1 000")]
    for label in (OURS, "plainredis", "AWS AsyncValkeySaver"):
        if label not in found:
            continue
        kinds: dict[str, Callable[[Any], Any]] = {"of constant size": constant}
        if label == OURS:
            kinds["messages, a list that grows"] = partial(graph_of, Growing, message)
            kinds["messages, a DeltaChannel"] = partial(graph_of, DELTA, message)
        for kind, make in kinds.items():
            near, far = await bytes_of_steps(make, found[label], client, f"bytes-{label[:5]}-{len(kind)}")
            lines.append((label, kind, *(f"{each:,}" for pair in zip(near, far, strict=True) for each in pair)))
            if make is constant and label == OURS:
                grown = far[0] / near[0]
    return lines, grown


async def reads(found: Savers, long: int) -> Lines:
    """How long ``get_tuple`` takes at the end of a long thread."""
    lines: Lines = [(f"get_tuple at step {long:,}", "ms")]
    for label, saver in found.items():
        await steps(constant(saver), "long", long)
        times = []
        for _ in range(50):
            began = time.perf_counter()
            await saver.aget_tuple({"configurable": {"thread_id": "long", "checkpoint_ns": ""}})
            times.append(time.perf_counter() - began)
        lines.append((label, f"{statistics.median(times) * 1000:.2f}"))
    return lines


def ratio(rates_: Rates, saver: str, rival: str) -> float:
    """How many times as many steps a saver takes as a rival, the median of the turns; 0 where the rival has failed."""
    if len(rates_.get(rival, ())) < len(rates_[saver]):
        return 0.0
    return statistics.median(a / b for a, b in zip(rates_[saver], rates_[rival], strict=True))


def speed_table(one: Rates, many: Rates, cpu: Rates, threads: int) -> Lines:
    """Steps a second, medians, and the ratios.

    CPU is that of this process, graph and checkpointer together: it does not depend on what else the machine does.
    """
    several = f"{threads} threads"
    lines: Lines = [("", "steps/s, 1 thread", "ours/theirs", "CPU ms/step", f"steps/s, {several}", "ours/theirs")]
    for label in one:
        cells = [label]
        for found in (one, many):
            by = ratio(found, OURS, label)
            cells += [f"{statistics.median(found[label]):,.0f}", f"{by:.2f}"] if by else ["failed", ""]
            cells += [f"{statistics.median(cpu[label]):.2f}"] if found is one else []
        lines.append(tuple(cells))
    return lines


def target_table(one: Rates, many: Rates, grown: float, threads: int) -> Lines:
    """P17: what was reached; the limit is what a checkpointer without a server reaches of the same figure."""
    rows = [
        ("steps/s, 1 thread, by AsyncPostgresSaver", one, "AsyncPostgresSaver", "postgres, 1 thread"),
        (f"steps/s, {threads} threads, by AsyncPostgresSaver", many, "AsyncPostgresSaver", "postgres, many"),
        ("steps/s, 1 thread, by InMemorySaver", one, LIMIT, "memory"),
        (f"steps/s, {threads} threads, by InMemorySaver", many, LIMIT, "memory"),
    ]
    lines: Lines = [("P17", "HelixSaver", "InMemorySaver, the limit", "target", "reached")]
    for what, found, rival, name in rows:
        value, limit = ratio(found, OURS, rival), ratio(found, LIMIT, rival)
        if value:
            lines.append((what, f"{value:.2f}", f"{limit:.2f}", *verdict(value, name)))
            if not meets(limit, *SAVERS[name]):
                lines[-1] = (*lines[-1][:-1], f"{lines[-1][-1]}, nor by the limit")
    lines.append(("bytes sent for a step at 1 000, by those at 10", f"{grown:.2f}", "", *verdict(grown, "bytes")))
    return lines


def verdict(value: float, name: str) -> tuple[str, str]:
    """A target, and whether a value reaches it."""
    limit, reach = SAVERS[name]
    return f"{'≥' if reach == 'at least' else '≤'} {limit:g}", "yes" if meets(value, limit, reach) else "no"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/langgraph.md too")
    sizes_of = {"rounds": (5, 3), "steps": (150, 50), "threads": (200, 200), "each": (5, 2), "long": (1000, 100)}
    for word in sizes_of:
        parser.add_argument(f"--{word}", type=int)
    given = parser.parse_args()
    for word, (full, quick) in sizes_of.items():
        if getattr(given, word) is None:
            setattr(given, word, quick if given.quick else full)
    uvloop.run(take(given))
