"""P17: one LangGraph graph with each checkpointer, in turns: ``python -m benchmarks.langgraph_savers [--quick]``.

Needs what ``make test-integrations`` installs, and of the rivals those that shall take part:
langgraph-checkpoint-postgres with psycopg[binary] and psycopg-pool, -sqlite, -plainredis, -aws with valkey.
Postgres is started here where initdb and pg_ctl are on PATH.
Everything runs on this machine, each server with its default settings; Postgres also without waiting for its disk.
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

Savers = dict[str, Any]


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

            valkey = AsyncValkeySaver.from_conn_string(server.url, pool_size=200)
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


async def take(*, quick: bool) -> None:
    """Measure and print."""
    rounds, alone, threads, each = (3, 50, 50, 4) if quick else (5, 150, 200, 5)
    with tempfile.TemporaryDirectory(prefix="hf-") as name:
        room = Path(name)
        server = ServerProcess(room, tcp=True)
        await server.start()
        client: Any = redis.Redis.from_url(server.url)
        try:
            async with savers(server, room) as found:
                one: dict[str, list[float]] = {each_: [] for each_ in found}
                cpu: dict[str, list[float]] = {each_: [] for each_ in found}
                many: dict[str, list[float]] = {each_: [] for each_ in found}
                for turn in range(rounds):
                    for label, saver in found.items():
                        began = time.process_time()
                        one[label].append(await steps(constant(saver), f"one-{turn}", alone))
                        cpu[label].append((time.process_time() - began) / alone * 1000)
                        with contextlib.suppress(Exception):  # a rival that fails under load has no number
                            many[label].append(await together(constant(saver), f"many-{turn}", threads, each))
                show(one, many, cpu, threads)
                shown = {"HelixSaver", "plainredis", "AWS AsyncValkeySaver"} & found.keys()
                for label in sorted(shown):
                    kinds: dict[str, Callable[[Any], Any]] = {"constant channels": constant}
                    if label == "HelixSaver":
                        kinds["messages, a list that grows"] = partial(graph_of, Growing, message)
                        kinds["messages, a DeltaChannel"] = partial(graph_of, DELTA, message)
                    for kind, make in kinds.items():
                        near, far = await bytes_of_steps(make, found[label], client, f"bytes-{label[:5]}-{len(kind)}")
                        print(
                            f"{label}, {kind}: (bytes sent for a step, stored by step) at 10: {near}, at 1 000: {far}"
                        )
                for label, saver in found.items():
                    await steps(constant(saver), "long", 50 if quick else 1000)
                    times = []
                    for _ in range(50):
                        began = time.perf_counter()
                        await saver.aget_tuple({"configurable": {"thread_id": "long", "checkpoint_ns": ""}})
                        times.append(time.perf_counter() - began)
                    print(f"{label}: get_tuple of a long thread {statistics.median(times) * 1000:.2f} ms")
        finally:
            await client.aclose()
            await server.stop()


def show(one: dict[str, list[float]], many: dict[str, list[float]], cpu: dict[str, list[float]], threads: int) -> None:
    """The table: steps a second, medians, and how many times as many ours takes, the median of the turns.

    CPU is that of this process, graph and checkpointer together: it does not depend on what else the machine does.
    """
    print(f"| | steps/s, 1 thread | ours/theirs | CPU ms/step | steps/s, {threads} threads | ours/theirs |")
    print("|---|---|---|---|---|---|")
    for label in one:
        cells = [label]
        for found in (one, many):
            if len(found[label]) < len(found["HelixSaver"]):
                cells += ["failed", ""]
                continue
            ratio = statistics.median(a / b for a, b in zip(found["HelixSaver"], found[label], strict=True))
            cells += [f"{statistics.median(found[label]):,.0f}", f"{ratio:.2f}"]
            cells += [f"{statistics.median(cpu[label]):.2f}"] if found is one else []
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    uvloop.run(take(quick=parser.parse_args().quick))
