"""tail, inspect and doctor on a real server: what people and programs get to see of what is stored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from helix_fast import Helix, connect
from helix_fast.cli.doctor import memory_policy, server_version

USAGE = {
    "kind": "custom",
    "id": "u1",
    "sessionId": "s-1",
    "runId": "r1",
    "stepCount": 1,
    "timestamp": 1,
    "source": {"type": "agent", "name": "a"},
    "type": "pages",
    "value": 3,
    "unit": "page",
}


def command(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "helix_fast.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **(env or {})},
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str, code: int = 2) -> None:
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("helix-fast: ")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


@pytest.fixture
async def helix(server_url: str) -> AsyncIterator[Helix]:
    async with connect(server_url) as stores:
        yield stores


@pytest.fixture
async def ended_stream(helix: Helix) -> str:
    async with await helix.streams.create_writer("chat-1", "agent") as writer:
        writer.send_text("Grüße, ")
        writer.send_text("世界\x1b[2J\n")
        writer.send({"type": "tool_start", "toolCallId": "c1", "toolName": "search", "arguments": {"q": []}})
        writer.send({"type": "brand_new", "field": [1, {"x": None}]})
        writer.send_text("end")
    await helix.streams.end_stream("chat-1")
    return "chat-1"


async def test_tail_prints_text_as_it_flows_and_nothing_that_steers_a_terminal(
    ended_stream: str, server_url: str
) -> None:
    done = command("tail", ended_stream, "--url", server_url)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.split("\n")
    assert lines[0] == "Grüße, 世界\\x1b[2J"
    assert lines[1].startswith('[3] {"type":"tool_start"')
    assert lines[2].startswith("[4] {")
    assert lines[3:] == ["end", ""]


async def test_tail_json_gives_every_chunk_in_wire_form_from_the_position_on(
    helix: Helix, ended_stream: str, server_url: str
) -> None:
    info = await helix.streams.get_info(ended_stream)
    assert info is not None
    done = command("tail", ended_stream, "--url", server_url, "--json", "--from", f"{info.epoch}:2")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["sequence"] for line in lines] == [3, 4, 5]
    assert lines[0]["chunk"]["toolName"] == "search"
    assert (lines[1]["chunk"]["type"], lines[1]["chunk"]["field"]) == ("brand_new", [1, {"x": None}])
    assert {line["epoch"] for line in lines} == {info.epoch}


@pytest.mark.parametrize(("position", "sequences"), [("0", [1, 2]), ("1", [2]), ("2", [])])
async def test_tail_without_follow_stops_where_an_open_stream_is_now(
    helix: Helix, server_url: str, position: str, sequences: list[int]
) -> None:
    async with await helix.streams.create_writer("open", "agent") as writer:
        await writer.write_many([{"type": "text_delta", "delta": "a"}, {"type": "text_delta", "delta": "b"}])
        done = command("tail", "open", "--url", server_url, "--no-follow", "--json", "--from", position)
    assert done.returncode == 0
    assert [json.loads(line)["sequence"] for line in done.stdout.splitlines()] == sequences


async def test_tail_of_a_failed_stream_prints_its_chunks_and_exits_1(helix: Helix, server_url: str) -> None:
    async with await helix.streams.create_writer("failed", "agent") as writer:
        writer.send_text("half an ans")
    await helix.streams.fail_stream("failed", "out of\ntokens")
    done = command("tail", "failed", "--url", server_url)
    assert done.stdout == "half an ans\n"
    assert_one_line(done, "out of tokens", code=1)


async def test_tail_takes_the_prefix_and_says_where_there_is_no_such_stream(ended_stream: str, server_url: str) -> None:
    assert_one_line(command("tail", ended_stream, "--url", server_url, "--prefix", "other:"), "no stream", "--prefix")


@pytest.mark.parametrize("identifier", ["a{b}", "a\x01b", "", "x" * 513])
@pytest.mark.parametrize("name", ["tail", "inspect"])
async def test_id_that_cannot_be_one_is_told(server_url: str, name: str, identifier: str) -> None:
    assert_one_line(command(name, identifier, "--url", server_url), "1-512 bytes")


@pytest.mark.parametrize("position", ["abc", "-1", "epoch:", "1.5"])
def test_tail_from_a_position_that_is_none_is_told(position: str) -> None:
    assert_one_line(command("tail", "x", f"--from={position}", env={"HELIX_FAST_SERVER": "none"}), "--from")


async def test_inspect_shows_state_checkpoints_stream_lock_and_usage(helix: Helix, server_url: str) -> None:
    await helix.state.create_session("s-1", agent_type="researcher")
    await helix.state.append_messages("s-1", [{"role": "user", "content": "hi"}])
    await helix.state.create_checkpoint("s-1")
    async with await helix.streams.create_writer("s-1", "agent") as writer:
        writer.send_text("x")
    await helix.usage.record_entry(USAGE)
    lock = await helix.locks.acquire("s-1", owner="worker-7")
    assert lock is not None
    found = json.loads(command("inspect", "s-1", "--url", server_url, "--json").stdout)
    assert found["state"]["agentType"] == "researcher"
    assert found["state"]["messages"] == [{"role": "user", "content": "hi"}]
    assert (found["checkpoints"], found["usageEntries"]) == (1, 1)
    assert found["stream"]["lastSequence"] == 1
    shown = command("inspect", "s-1", "--url", server_url)
    assert shown.returncode == 0
    for part in ("researcher", "messages", "worker-7", "active"):
        assert part in shown.stdout
    await lock.release()


async def test_inspect_of_nothing_is_told(server_url: str) -> None:
    assert_one_line(command("inspect", "nobody", "--url", server_url), "nobody", "--prefix")


async def test_doctor_passes_a_stream_through_and_leaves_no_key(helix: Helix, server_url: str) -> None:
    done = command("doctor", "--url", server_url, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    levels = {finding["name"]: finding["level"] for finding in json.loads(done.stdout)}
    assert levels["stream"] == levels["server"] == "ok"
    assert await helix.state.command("", b"DBSIZE") == 0


async def test_doctor_exits_1_where_the_server_refuses_writes(helix: Helix, server_url: str) -> None:
    await helix.state.command("", b"CONFIG", b"SET", b"maxmemory", b"1")
    try:
        done = command("doctor", "--url", server_url, "--json")
    finally:
        await helix.state.command("", b"CONFIG", b"SET", b"maxmemory", b"0")
    assert done.returncode == 1
    assert {finding["name"]: finding["level"] for finding in json.loads(done.stdout)}["stream"] == "error"


def test_doctor_goes_on_where_the_server_does_not_tell_what_it_is() -> None:
    done = command("doctor", "--url", "memory://", "--json")
    assert done.returncode == 0
    levels = {finding["name"]: finding["level"] for finding in json.loads(done.stdout)}
    assert (levels["server"], levels["stream"]) == ("warning", "ok")


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"redis_version": "6.2.14"}, "ok"),
        ({"redis_version": "6.0.16"}, "error"),
        ({"redis_version": "10.0.0"}, "ok"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "ok"),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.0"}, "error"),
    ],
)
def test_doctor_knows_which_servers_are_too_old(info: dict[str, str], level: str) -> None:
    assert server_version(info).level == level


def test_doctor_warns_of_a_server_that_throws_streams_away_when_full() -> None:
    assert memory_policy({"maxmemory": "100", "maxmemory_policy": "allkeys-lru"}).level == "warning"
    assert memory_policy({"maxmemory": "100", "maxmemory_policy": "noeviction"}).level == "ok"
    assert memory_policy({"maxmemory": "0", "maxmemory_policy": "allkeys-lru"}).level == "ok"
