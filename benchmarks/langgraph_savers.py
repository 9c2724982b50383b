"""P17: one LangGraph graph with each checkpointer, in turns: ``make bench-langgraph BENCH_ARGS=--quick``.

The target installs the rivals; those that are missing do not take part. Postgres is started here where initdb and
pg_ctl are on PATH. Everything runs on this machine, each server with its default settings; Postgres also without
waiting for its disk. The last table says which targets are reached; the exit code is 0 either way.
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
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypedDict

import redis.asyncio as redis
import uvloop
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from helix_fast.integrations.langgraph import HelixSaver
from helix_fast.testing.servers import ServerProcess

from .measure import meets
from .targets import SAVERS

Savers = dict[str, Any]
Rates = dict[str, list[float]]


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
    found: Savers = {"InMemorySaver": InMemorySaver()}
    async with contextlib.AsyncExitStack() as stack:
        found["HelixSaver"] = await stack.enter_async_context(HelixSaver.from_url(server.url))
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
    """Bytes sent for a step around step 10 and step 1 000; bytes stored a step, of all steps until then."""
    graph, sizes = make(saver), []
    for first, count in ((0, 5), (5, 10), (15, 980), (995, 10)):
        before, _ = await sent_and_stored(client, thread)
        began, _ = await sent_and_stored(client, thread)
        await steps(graph, thread, count, first)
        after, stored = await sent_and_stored(client, thread)
        if count == 10:
            sizes.append(((after - began - (began - before)) // count, stored // (first + count)))
    return sizes


async def take(options: argparse.Namespace) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="hf-") as name:
        room = Path(name)
        server = ServerProcess(room, tcp=True)
        await server.start()
        client: Any = redis.Redis.from_url(server.url)
        try:
            async with savers(server, room) as found:
                one, many, cpu = await rates(found, options)
                show(one, many, cpu, options.threads)
                grown = await sizes(found, client)
                await reads(found, options.long)
                judge(one, many, grown, options.threads)
        finally:
            await client.aclose()
            await server.stop()


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
                if label == "HelixSaver":
                    raise
                print(f"{label} failed under {options.threads} threads: {error!r}"[:200], flush=True)
    return one, many, cpu


async def sizes(found: Savers, client: Any) -> float:
    """Print the bytes of steps; the bytes that ours sends at step 1 000, by those at step 10."""
    grown = 0.0
    for label in sorted({"HelixSaver", "plainredis", "AWS AsyncValkeySaver"} & found.keys()):
        kinds: dict[str, Callable[[Any], Any]] = {"constant channels": constant}
        if label == "HelixSaver":
            kinds["messages, a list that grows"] = partial(graph_of, Growing, message)
            kinds["messages, a DeltaChannel"] = partial(graph_of, DELTA, message)
        for kind, make in kinds.items():
            near, far = await bytes_of_steps(make, found[label], client, f"bytes-{label[:5]}-{len(kind)}")
            print(
                f"{label}, {kind}: (bytes sent for a step, stored by step) at 10: {near}, at 1 000: {far}", flush=True
            )
            if label == "HelixSaver" and make is constant:
                grown = far[0] / near[0]
    return grown


async def reads(found: Savers, long: int) -> None:
    """Print how long ``get_tuple`` takes at the end of a long thread."""
    for label, saver in found.items():
        await steps(constant(saver), "long", long)
        times = []
        for _ in range(50):
            began = time.perf_counter()
            await saver.aget_tuple({"configurable": {"thread_id": "long", "checkpoint_ns": ""}})
            times.append(time.perf_counter() - began)
        print(f"{label}: get_tuple at step {long}: {statistics.median(times) * 1000:.2f} ms", flush=True)


def ratio(rates_: Rates, rival: str) -> float:
    """How many times as many steps ours takes as a rival, the median of the turns; 0 where the rival has failed."""
    if len(rates_.get(rival, ())) < len(rates_["HelixSaver"]):
        return 0.0
    return statistics.median(a / b for a, b in zip(rates_["HelixSaver"], rates_[rival], strict=True))


def show(one: Rates, many: Rates, cpu: Rates, threads: int) -> None:
    """The table: steps a second, medians, and the ratios.

    CPU is that of this process, graph and checkpointer together: it does not depend on what else the machine does.
    """
    print(f"| | steps/s, 1 thread | ours/theirs | CPU ms/step | steps/s, {threads} threads | ours/theirs |")
    print("|---|---|---|---|---|---|")
    for label in one:
        cells = [label]
        for found in (one, many):
            if ratio(found, label) == 0:
                cells += ["failed", ""]
                continue
            cells += [f"{statistics.median(found[label]):,.0f}", f"{ratio(found, label):.2f}"]
            cells += [f"{statistics.median(cpu[label]):.2f}"] if found is one else []
        print(f"| {' | '.join(cells)} |", flush=True)


def judge(one: Rates, many: Rates, grown: float, threads: int) -> None:
    """P17: what was reached. A rival that did not take part has no row."""
    rows = [
        ("steps/s, 1 thread, by AsyncPostgresSaver", ratio(one, "AsyncPostgresSaver"), "postgres, 1 thread"),
        (f"steps/s, {threads} threads, by AsyncPostgresSaver", ratio(many, "AsyncPostgresSaver"), "postgres, many"),
        ("steps/s, 1 thread, by InMemorySaver", ratio(one, "InMemorySaver"), "memory"),
        ("bytes of a step at step 1 000, by those at 10", grown, "bytes"),
    ]
    print("| P17 | Value | Target | |\n|---|---|---|---|")
    for what, value, name in rows:
        limit, reach = SAVERS[name]
        if value:
            print(f"| {what} | {value:.2f} | {reach} {limit} | {'yes' if meets(value, limit, reach) else 'no'} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    sizes_of = {"rounds": (5, 3), "steps": (150, 50), "threads": (200, 200), "each": (5, 2), "long": (1000, 100)}
    for word in sizes_of:
        parser.add_argument(f"--{word}", type=int)
    given = parser.parse_args()
    for word, (full, quick) in sizes_of.items():
        if getattr(given, word) is None:
            setattr(given, word, quick if given.quick else full)
    uvloop.run(take(given))
