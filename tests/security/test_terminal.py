"""What agents, tools and other programs stored reaches a terminal as text, never as a command to it."""

from __future__ import annotations

import asyncio
import json

import pytest

from helix_fast import connect
from helix_fast.cli.findings import Finding, show
from tests.support.cli import command

pytestmark = pytest.mark.slow

# The window's title, clear the screen, the same in its C1 form, right-to-left override, delete, carriage return.
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b2J\u202eab\x7f\rc"


async def leave_evil_data(url: str) -> None:
    """Everything that can be stored through the stores, and what only who may write to the server can store."""
    async with connect(url) as helix:
        async with await helix.streams.create_writer("s", "a") as writer:
            await writer.write({"type": "text_delta", "delta": EVIL, "agentId": EVIL})
            await writer.write({"type": "custom", "eventName": EVIL, "data": {EVIL: [EVIL]}})
        await helix.streams.fail_stream("s", EVIL)
        await helix.state.create_session("s", agent_type=EVIL, initial_state={EVIL: EVIL}, metadata={EVIL: EVIL})
        await helix.state.append_messages("s", [{"role": EVIL, "content": EVIL, EVIL: EVIL}])
        await helix.state.update_status("s", EVIL)
        point = await helix.state.create_checkpoint("s", metadata={EVIL: EVIL})
        await helix.locks.acquire("s", owner=EVIL, ttl_ms=600_000)
        await helix.usage.record_tokens("s", EVIL, prompt=1, completion=1)
        for entry in (
            {"kind": "tool", "toolName": EVIL, "toolCallId": EVIL, "durationMs": 1, "success": True},
            {"kind": "subagent", "subSessionId": "below", "agentType": EVIL, "durationMs": 1, "success": True},
            {"kind": "custom", "type": EVIL, "value": 1, "unit": EVIL},
            {"kind": EVIL, "stepCount": 0, "timestamp": 1},
        ):
            await helix.usage.record_entry({"sessionId": "s", **entry})
        raw = helix.state._requests.command
        key = b"helix:session:{s}"
        header = await raw("s", b"HGET", key + b":checkpoint-data", point.id.encode())
        evil = header.replace(json.dumps(point.id).encode(), json.dumps(EVIL).encode())
        assert evil != header
        await raw("s", b"HSET", key + b":checkpoint-data", point.id.encode(), evil)


async def test_no_command_passes_a_control_character_on(server_url: str) -> None:
    await leave_evil_data(server_url)
    for words in (
        ("tail", "s"),
        ("tail", "s", "--json"),
        ("tail", "s", "--from", "99"),
        ("tail", EVIL),
        ("inspect", "s"),
        ("inspect", "s", "--json"),
        ("usage", "s", "--include-sub-agents"),
        ("usage", "s", "--json"),
        ("top", "--once"),
        ("top", "--once", "--json", "--status", EVIL),
    ):
        done = await asyncio.to_thread(command, *words, "--url", server_url)
        for text in (done.stdout, done.stderr):
            assert text.replace("\n", "").isprintable(), (words, text)


async def test_an_error_of_the_server_reaches_the_terminal_as_text(server_url: str) -> None:
    async with connect(server_url) as helix:
        await helix.state._requests.command("", b"SET", b"helix:stream:{s}", EVIL.encode())
        await helix.state._requests.command("", b"SET", b"helix:lock:{s}", EVIL.encode())
    for words in (("tail", "s"), ("inspect", "s")):
        done = command(*words, "--url", server_url)
        assert done.returncode == 2
        assert done.stderr.replace("\n", "").isprintable()


def test_findings_are_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    show([Finding(EVIL, "error", EVIL, EVIL, EVIL)])
    assert capsys.readouterr().out.replace("\n", "").isprintable()
