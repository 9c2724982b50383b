"""The table of frameworks, in the README and in docs/integrations.md: the same in both, and its lines run."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from helix_fast import connect
from tests.docs.test_docs import run

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| \[(.+?)\]\((.+?)\) \| `([\w-]+)` \| (`.+`) \|$", re.MULTILINE)
# What must be importable, and what a program has beside the three lines.
SETUP = {
    "langgraph": (
        "langgraph.graph",
        """
from langgraph.graph import END, START, StateGraph
builder = StateGraph(dict)
builder.add_node("answer", lambda state: {"answer": "Hello"})
builder.add_edge(START, "answer")
question = {"question": "Hi"}
""",
    ),
    "pydantic-ai": (
        "pydantic_ai",
        """
from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.models.test import TestModel
agent = Agent(TestModel())
""",
    ),
    "openai-agents": (
        "agents.testing",
        """
from agents import Agent, Runner
from agents.testing import ScriptedModel
from openai.types.responses import ResponseOutputMessage, ResponseOutputText
text = ResponseOutputText(text="Hello", type="output_text", annotations=[])
reply = ResponseOutputMessage(id="1", type="message", role="assistant", content=[text], status="completed")
agent = Agent("friend", model=ScriptedModel([[reply]]))
""",
    ),
    "agent-framework": (
        "agent_framework",
        """
from agent_framework import Agent, BaseChatClient, ChatResponse, Message
class Client(BaseChatClient):
    async def _inner_get_response(self, **_options):
        return ChatResponse(messages=[Message("assistant", ["Hello"])])
client = Client()
""",
    ),
    "strands": (
        "strands.storage",
        """
from strands import Agent
from strands.session import SnapshotSessionManager
from tests.integrations.strands.test_storage import Echo
model = Echo()
""",
    ),
    "mcp": ("mcp.server.subscriptions", "from mcp.server import MCPServer"),
    "assistant-stream": (
        "assistant_stream.resumable",
        """
from assistant_stream.resumable import create_resumable_stream_context
async def produce():
    yield b"Hello"
""",
    ),
    "litellm": ("litellm", "import litellm\nmessages = [{'role': 'user', 'content': 'Hi'}]"),
    "langchain": (
        "langchain_core",
        """
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
model = GenericFakeChatModel(messages=iter([AIMessage("Hello", usage_metadata=usage)]))
""",
    ),
}


def rows(page: str) -> dict[str, list[str]]:
    """The lines of code by extra."""
    found = ROW.findall((ROOT / page).read_text("utf-8"))
    return {extra: [line.strip("`") for line in code.split("<br>")] for _name, _page, extra, code in found}


def test_readme_and_docs_have_the_same_lines_three_for_each_extra() -> None:
    assert rows("README.md") == rows("docs/integrations.md")
    assert rows("README.md").keys() == SETUP.keys()
    assert {len(lines) for lines in rows("README.md").values()} == {3}


@pytest.mark.framework
@pytest.mark.slow
@pytest.mark.parametrize("extra", SETUP)
async def test_three_lines_run(extra: str, server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    needed, setup = SETUP[extra]
    pytest.importorskip(needed)
    module = importlib.import_module(f"helix_fast.integrations.{extra.replace('-', '_')}")
    if extra == "litellm":
        mocked(monkeypatch)
    async with connect(server_url) as helix:
        names: dict[str, Any] = {"__name__": "table", "helix": helix}
        names |= {name: getattr(module, name) for name in module.__all__}
        code = "\n".join(rows("README.md")[extra]).replace('"redis://localhost"', repr(server_url))
        await run(setup, names, "setup", 0)
        await run(code, names, "README.md", 0)
        for opened in ("storage", "bus"):
            if opened in names:
                await names[opened].close()


def mocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM's call, answered without a provider; its lists of callbacks as they were, afterwards."""
    import litellm

    called = litellm.acompletion

    async def acompletion(**options: Any) -> Any:
        return await called(**options, mock_response="Hello")

    for name, value in list(vars(litellm).items()):
        if name.endswith(("callbacks", "_callback")) and isinstance(value, list):
            monkeypatch.setattr(litellm, name, list(value))
    monkeypatch.setattr(litellm, "acompletion", acompletion)
