"""tail and inspect on a real server: their output as text and as JSON."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import typer

from helix_fast import Helix, connect
from helix_fast.cli.tail import print_stream
from helix_fast.streams.schema import StreamPosition
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from tests.support.backends import documented_rights
from tests.support.cli import command

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


@pytest.mark.parametrize(("last", "sequences"), [(2, [4, 5]), (99, [1, 2, 3, 4, 5]), (0, [])])
async def test_tail_of_the_last_chunks_begins_there(
    helix: Helix, ended_stream: str, capfd: pytest.CaptureFixture[str], last: int, sequences: list[int]
) -> None:
    await print_stream(helix.streams, ended_stream, StreamPosition("", 0), last=last, json=True)
    assert [json.loads(line)["sequence"] for line in capfd.readouterr().out.splitlines()] == sequences


async def test_tail_from_a_position_that_cannot_be_is_told(ended_stream: str, server_url: str) -> None:
    assert_one_line(command("tail", ended_stream, "--url", server_url, "--from", "6"), "--from", "last sequence is 5")
    assert_one_line(command("tail", ended_stream, "--url", server_url, "--from", "other:2"), "reset", "--from 0")


async def test_tail_behind_what_is_kept_tells_where_it_can_begin(helix: Helix, server_url: str) -> None:
    async with await helix.streams.create_writer("trimmed", "agent") as writer:
        for _ in range(3):
            await writer.write({"type": "text_delta", "delta": "a"})
    await helix.state._requests.command("", b"XTRIM", b"helix:stream:{trimmed}", b"MAXLEN", b"1")
    assert_one_line(command("tail", "trimmed", "--url", server_url, "--from", "1"), "--from 2")


async def test_tail_that_is_stopped_tells_where_to_go_on(helix: Helix, server_url: str) -> None:
    async with await helix.streams.create_writer("open", "agent") as writer:
        await writer.write({"type": "text_delta", "delta": "so far"})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "helix_fast.cli", "tail", "open", "--url", server_url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readexactly(6), 30) == b"so far"
        process.send_signal(signal.SIGINT)
        _, told = await asyncio.wait_for(process.communicate(), 30)
    place = rf"{writer.epoch}:\d+[a-z]\w{{3}}:1"
    assert process.returncode == 130
    assert re.fullmatch(f"helix-fast: to continue: --from {place}\n", told.decode())


async def test_tail_that_loses_the_server_tells_where_to_go_on(
    fresh_server: ServerProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    async with connect(fresh_server.url, retry_timeout=0.1) as helix:
        async with await helix.streams.create_writer("open", "agent") as writer:
            await writer.write({"type": "text_delta", "delta": "so far"})
        printing = asyncio.ensure_future(print_stream(helix.streams, "open", StreamPosition("", 0)))
        shown = ""

        def printed() -> str:
            nonlocal shown
            shown += capfd.readouterr().out
            return shown

        await until(lambda: printed() == "so far")
        await fresh_server.stop()
        with pytest.raises(typer.Exit) as raised:
            await printing
        out, told = capfd.readouterr()
    assert (raised.value.exit_code, out) == (2, "\n")
    assert told.startswith("helix-fast: ")
    assert re.search(rf"to continue: --from {writer.epoch}:\d+[a-z]\w{{3}}:1\n$", told)
    assert told.count("\n") == 1


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
    assert [point["messageCount"] for point in found["latestCheckpoints"]] == [1]
    assert all(found["sizes"][part] > 0 for part in ("state", "messages", "checkpoints", "stream", "usage", "lock"))
    shown = command("inspect", "s-1", "--url", server_url)
    assert shown.returncode == 0
    for part in ("researcher", "messages", "worker-7", "active", "cpv1-s-1", "hi", "about"):
        assert part in shown.stdout
    await lock.release()


async def test_inspect_shows_as_many_of_the_newest_messages_as_wanted(helix: Helix, server_url: str) -> None:
    await helix.state.create_session("s-1", agent_type="researcher")
    await helix.state.append_messages("s-1", [{"role": "user", "content": f"question {n}\x1b[2J"} for n in range(9)])
    await helix.state.append_messages("s-1", [{"role": "assistant", "content": [{"type": "text", "text": "well"}]}])
    shown = command("inspect", "s-1", "--url", server_url, "--messages", "2").stdout
    assert "the newest 2 of 10 messages" in shown
    assert "question 8\\x1b[2J" in shown
    assert '"text":"well"' in shown
    assert "question 7" not in shown


async def test_inspect_does_without_sizes_where_the_server_does_not_tell_them(fresh_server: ServerProcess) -> None:
    async with connect(fresh_server.url) as helix:
        await helix.state.create_session("s-1", agent_type="researcher")
        await helix.state._requests.command("", b"ACL", b"SETUSER", *documented_rights())
    url = fresh_server.url.replace("//", "//helix:password@", 1)
    done = command("inspect", "s-1", "--url", url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "+memory|usage" in done.stdout


async def test_inspect_of_nothing_is_told(server_url: str) -> None:
    assert_one_line(command("inspect", "nobody", "--url", server_url), "nobody", "--prefix")
