"""A chat with a tool and a sub-agent, run by an executor: ``python agent.py``.

The model is a script, so it needs no network. The answer is followed from another process, stopped in the middle, and
resumed. ``HELIX_URL`` names the server; without it, a private one starts.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from typing import Any

from helix_fast import connect
from helix_fast.agents import AgentExecutor, Messages, Output, RunContext

SESSION = "trip"
ANSWER = "The ferry leaves at nine. A room with a view of the sea costs ninety. Shall I book both?"


async def hotels(message: Any, context: RunContext) -> AsyncIterator[Any]:
    """A sub-agent: knows the price of rooms."""
    yield f"Looking for {message}. "
    yield {"kind": "tokens", "model": "small", "tokens": {"prompt": 40, "completion": 12}}
    yield Output({"price": 90})


async def timetable(context: RunContext, call: str) -> None:
    """A tool: notes in the session's state when the ferry leaves."""
    await context.stage(call, {"facts": ["ferry at nine"]})


async def assistant(message: Any, context: RunContext) -> AsyncIterator[Any]:
    """The agent: asks a tool and a sub-agent at once, then answers word by word, from where it was stopped."""
    facts = context.state.custom_state.get("facts")
    if facts is None:
        for call, tool in (("call-1", "timetable"), ("call-2", "hotels")):
            yield {"type": "tool_start", "toolCallId": call, "toolName": tool, "arguments": {"day": "Friday"}}
        room, _ = await asyncio.gather(
            context.run_sub_agent(hotels, "a room on Friday", tool_call_id="call-2"), timetable(context, "call-1")
        )
        await context.stage("call-2", {"facts": [f"a room for {room.output['price']}"]})
        await context.commit_step()
        for call in ("call-1", "call-2"):
            yield {"type": "tool_end", "toolCallId": call, "success": True}
    said = [m["content"] for m in context.messages if m["role"] == "assistant"]
    words = ANSWER.split()[len("".join(said).split()) :]
    for word in words:
        yield f"{word} "
        await asyncio.sleep(0.05)
    yield {"kind": "tokens", "model": "large", "tokens": {"prompt": 200, "completion": len(words)}}
    yield Messages([{"role": "assistant", "content": " ".join(words)}])
    yield Output({"words": len(words)})


async def follow(url: str) -> None:
    """Another process: prints the answer as it comes, and stops it after the first sentence."""
    async with connect(url) as helix:
        executor, handle, said = AgentExecutor(helix), None, ""
        print("ready", flush=True)
        while handle is None:
            await asyncio.sleep(0.02)
            handle = await executor.get_handle(SESSION)
        async for chunk, _sequence, _epoch in handle.stream():
            if chunk.type == "text_delta":
                said += getattr(chunk, "delta", "")
                if said.endswith("nine. "):
                    await handle.stop("I know enough")
        print(f"follower: {said.partition('. ')[0]}…")
        print(f"follower: {(await handle.result()).status}")


async def main(url: str) -> None:
    """Run, be stopped by the follower, resume."""
    async with connect(url) as helix, AgentExecutor(helix) as executor:
        await helix.state.delete_session(SESSION)
        program = [sys.executable, __file__, "follow", url]
        follower = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
        assert follower.stdout is not None
        await follower.stdout.readline()
        handle = await executor.execute(assistant, "How do I get to the island?", session_id=SESSION)
        result = await handle.result()
        print((await follower.stdout.read()).decode(), end="")
        print(f"assistant: {result.status}")
        resumed = await handle.resume("Go on, please.")
        result = await resumed.result()
        print(f"assistant: {result.status}")
        state = await resumed.get_state()
        assert state is not None
        print(" ".join(" ".join(m["content"] for m in state.messages if m["role"] == "assistant").split()))
        print(f"facts: {', '.join(sorted(state.custom_state['facts']))}; resumed {state.resume_count} time")
        rollup = await resumed.get_usage_rollup()
        assert rollup is not None
        assert rollup.by_session is not None
        print(f"models: {', '.join(sorted(rollup.by_model))}; sessions: {len(rollup.by_session)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["follow"]:
        asyncio.run(follow(sys.argv[2]))
    elif "HELIX_URL" in os.environ:
        asyncio.run(main(os.environ["HELIX_URL"]))
    else:
        with tempfile.TemporaryDirectory() as directory:  # two processes that open it share one server
            asyncio.run(main(f"embedded://{directory}"))
