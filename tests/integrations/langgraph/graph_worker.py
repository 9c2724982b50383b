"""A process that runs a graph until it is killed: one branch has finished, the other waits for ever."""

from __future__ import annotations

import asyncio
import operator
import sys
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from helix_fast.integrations.langgraph import HelixSaver

CONFIG: Any = {"configurable": {"thread_id": "killed"}}


class State(TypedDict):
    """What the branches write."""

    done: Annotated[list[str], operator.add]


def build(slow: Callable[[], Any], ran: list[str]) -> StateGraph[Any, Any, Any, Any]:
    """A graph with a first node, two branches, and a node behind both."""

    def first(_state: State) -> Any:
        ran.append("first")
        return {"done": ["first"]}

    def quick(_state: State) -> Any:
        ran.append("quick")
        return {"done": ["quick"]}

    async def waiting(_state: State) -> Any:
        ran.append("waiting")
        await slow()
        return {"done": ["waiting"]}

    def last(state: State) -> Any:
        ran.append("last")
        return {"done": [f"last of {len(state['done'])}"]}

    builder: Any = StateGraph(State)
    for node in (first, quick, waiting, last):
        builder.add_node(node.__name__, node)
    builder.add_edge(START, "first")
    for branch in ("quick", "waiting"):
        builder.add_edge("first", branch)
    builder.add_edge(["quick", "waiting"], "last")
    builder.add_edge("last", END)
    return builder  # type: ignore[no-any-return]


async def main(url: str) -> None:
    async with HelixSaver.from_url(url) as saver:

        async def forever() -> None:
            stored = False
            while not stored:
                await asyncio.sleep(0.01)
                found = await saver.aget_tuple(CONFIG)
                stored = any(value == ["quick"] for *_, value in (found and found.pending_writes) or ())
            print("ready", flush=True)
            await asyncio.Event().wait()

        graph = build(forever, []).compile(checkpointer=saver)
        await graph.ainvoke({"done": []}, CONFIG)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
