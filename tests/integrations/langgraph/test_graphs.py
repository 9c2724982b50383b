"""Real graphs: interrupts, subgraphs, time travel, branches, a thousand steps, a worker that is killed."""

from __future__ import annotations

import asyncio
import operator
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph.graph")

from langgraph.cache.base import BaseCache
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, Command, Send, interrupt

from helix_fast.integrations.langgraph import HelixCache, HelixSaver, HelixStore
from tests.integrations.langgraph import graph_worker

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")

Make = Callable[..., Awaitable[Any]]


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    answer: str
    n: int


def conversation(saver: Any) -> Any:
    """Parallel branches, a fan-out by Send, and a subgraph that asks a question."""

    def ask(_state: State) -> Any:
        return {"answer": interrupt("which?"), "log": ["asked"]}

    inner: Any = StateGraph(State)
    inner.add_node("before", lambda _state: {"log": ["before"]})
    inner.add_node("ask", ask)
    inner.add_edge(START, "before")
    inner.add_edge("before", "ask")
    outer: Any = StateGraph(State)
    outer.add_node("left", lambda _state: {"log": ["left"]})
    outer.add_node("right", lambda _state: {"log": ["right"]})
    outer.add_node("worker", lambda state: {"log": [f"worker {state['n']}"]})
    outer.add_node("inner", inner.compile())
    outer.add_node("end", lambda state: {"log": [f"end {state['answer']}"]})
    outer.add_edge(START, "left")
    outer.add_edge(START, "right")
    outer.add_conditional_edges("left", lambda _state: [Send("worker", {"n": n}) for n in range(3)])
    outer.add_edge("worker", "inner")
    outer.add_edge("right", END)
    outer.add_edge("inner", "end")
    outer.add_edge("end", END)
    return outer.compile(checkpointer=saver)


def shown(state: Any) -> Any:
    """A snapshot without what differs between two runs: ids and times."""
    tasks = [(task.name, [each.value for each in task.interrupts], bool(task.error)) for task in state.tasks]
    return state.values, state.next, tasks, state.metadata["source"], state.metadata["step"]


async def play(graph: Any, durability: str, thread: str) -> list[Any]:
    """A conversation with everything in it; what could be seen on the way."""
    config: Any = {"configurable": {"thread_id": thread}}
    seen: list[Any] = [await graph.ainvoke({"log": ["start"]}, config, durability=durability)]
    seen[0].pop("__interrupt__")
    state = await graph.aget_state(config, subgraphs=True)
    seen.append([shown(state), shown(state.tasks[0].state)])
    seen.append(await graph.ainvoke(Command(resume="this one"), config, durability=durability))
    history = [state async for state in graph.aget_state_history(config)]
    seen.append(list(map(shown, history)))
    # time travel: from before the end, with a changed answer
    before = next((state for state in history if state.next == ("end",)), None)
    if before is not None:
        fork = await graph.aupdate_state(before.config, {"answer": "another", "log": ["changed"]})
        seen.append(await graph.ainvoke(None, fork, durability=durability))
        seen.append(await graph.ainvoke(None, before.config, durability=durability))
    seen.append(list(map(shown, [state async for state in graph.aget_state_history(config, limit=4)])))
    # a second turn
    seen.append(await graph.ainvoke({"log": ["again"]}, config, durability=durability))
    seen[-1].pop("__interrupt__")
    return seen


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_a_conversation_is_the_same_as_with_langgraphs_own_saver(make_saver: Make, durability: str) -> None:
    graph, model = conversation(await make_saver()), conversation(InMemorySaver())
    threads = ["a:{b}", "ü"]
    mine = await asyncio.gather(*(play(graph, durability, thread) for thread in threads))
    theirs = await asyncio.gather(*(play(model, durability, thread) for thread in threads))
    assert mine == theirs


def test_a_blocking_conversation(server_url: str) -> None:
    with HelixSaver.from_url(server_url) as saver:
        graph = conversation(saver)
        config: Any = {"configurable": {"thread_id": "t"}}
        graph.invoke({"log": []}, config)
        found = graph.invoke(Command(resume="x"), config)
        assert found["log"][-1] == "end x"
        assert len(list(graph.get_state_history(config))) == 6
        graph.update_state(config, {"answer": "y"})
        assert graph.get_state(config).values["answer"] == "y"


def deltas(saver: Any, frequency: int) -> Any:
    channel = DeltaChannel(lambda state, writes: sum(writes, state), snapshot_frequency=frequency)
    Deltas: Any = TypedDict("Deltas", {"items": Annotated[list[int], channel], "n": int})  # noqa: N806
    builder: Any = StateGraph(Deltas)
    builder.add_node("step", lambda state: {"items": [state["n"]], "n": state["n"] + 1})
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda state: END if state["n"] % 10 == 0 else "step")
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("frequency", [1, 4, 1000])
async def test_a_pruned_thread_with_a_delta_channel_keeps_its_state(make_saver: Make, frequency: int) -> None:
    saver = await make_saver()
    graph = deltas(saver, frequency)
    config: Any = {"configurable": {"thread_id": "t"}}
    await graph.ainvoke({"items": [], "n": 1}, config)
    await graph.ainvoke({"n": 11}, config)
    before = [state async for state in graph.aget_state_history(config)]
    await saver.aprune(["t"])
    after = [state async for state in graph.aget_state_history(config)]
    assert after[0].values == before[0].values == {"items": [*range(1, 10), *range(11, 20)], "n": 20}
    assert len(after) < len(before) or frequency == 1000
    assert (await graph.ainvoke({"n": 21}, config))["items"] == [*range(1, 10), *range(11, 20), *range(21, 30)]
    await saver.acopy_thread("t", "copy")
    copied = await graph.aget_state({"configurable": {"thread_id": "copy"}})
    assert copied.values == (await graph.aget_state(config)).values


async def test_a_thousand_steps_take_the_same_bytes_each(server_url: str) -> None:
    async with HelixSaver.from_url(server_url) as saver:
        requests = saver._connection.requests
        sizes: dict[int, int] = {}

        async def step(state: State) -> Any:
            number = state["n"] + 1
            if number in {10, 20, 990, 1000}:
                usage = [await requests.command("t", "MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys]
                sizes[number] = sum(each or 0 for each in usage)
            return {"n": number, "answer": "x" * 50}

        from helix_fast.keys import ThreadKeys

        keys = ThreadKeys("helix:", "t").all[:4]
        builder: Any = StateGraph(State)
        builder.add_node("step", step)
        builder.add_edge(START, "step")
        builder.add_conditional_edges("step", lambda state: END if state["n"] == 1000 else "step")
        graph = builder.compile(checkpointer=saver)
        config: Any = {"configurable": {"thread_id": "t"}, "recursion_limit": 1100}
        # "sync": all steps before are stored whenever one looks
        assert (await graph.ainvoke({"n": 0}, config, durability="sync"))["n"] == 1000
        assert len([state async for state in graph.aget_state_history(config)]) == 1002
        # tables of a hash grow in steps, which are counted in here
        assert (sizes[1000] - sizes[990]) <= 1.1 * (sizes[20] - sizes[10])


@pytest.mark.slow
async def test_a_graph_whose_worker_is_killed_goes_on_elsewhere(server_url: str) -> None:
    """It dies between the writes of one branch and the checkpoint behind both."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(graph_worker.__file__)), server_url, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    assert (await worker.stdout.readline()).strip() == b"ready"
    worker.kill()
    await worker.wait()
    async with HelixSaver.from_url(server_url) as saver:
        ran: list[str] = []

        async def at_once() -> None:
            return None

        graph: Any = graph_worker.build(at_once, ran).compile(checkpointer=saver)
        found = await graph.ainvoke(None, graph_worker.CONFIG)
    assert found["done"] == ["first", "quick", "waiting", "last of 3"]
    assert ran == ["waiting", "last"]


async def test_nodes_use_the_store_and_the_cache(make: Make) -> None:
    saver, store, cache = await make(HelixSaver), await make(HelixStore), await make(HelixCache)
    calls: list[int] = []

    async def remember(state: State, store: Any) -> Any:
        await store.aput(("users", "1"), "n", {"n": state["n"]})
        return {}

    def square(state: State) -> Any:
        calls.append(state["n"])
        return {"answer": str(state["n"] ** 2)}

    from langgraph.store.base import BaseStore

    remember.__annotations__.update(store=BaseStore, state=State)
    builder: Any = StateGraph(State)
    builder.add_node("remember", remember)
    builder.add_node("square", square, cache_policy=CachePolicy(ttl=100))
    builder.add_edge(START, "remember")
    builder.add_edge("remember", "square")
    assert isinstance(cache, BaseCache)
    graph = builder.compile(checkpointer=saver, store=store, cache=cache)
    for thread in "ab":
        found = await graph.ainvoke({"n": 7}, {"configurable": {"thread_id": thread}})
        assert found["answer"] == "49"
    assert calls == [7]
    item = await store.aget(("users", "1"), "n")
    assert item.value == {"n": 7}
