"""Server-sent events over a stream on a real server: what a browser's EventSource gets, and what becomes of readers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from helix_fast import Helix, InMemoryStreamManager, InvalidArgumentError, RedisStreamManager, connect
from helix_fast.memory import MemoryServer
from helix_fast.streams.schema import StreamPosition
from helix_fast.testing.waiting import until
from tests.support.proxy import FaultProxy
from tests.support.sse import END, RETRY, Connection, data, delta, identifier, named, reading, trim, write


@pytest.fixture
async def helix(server_url: str) -> AsyncIterator[Helix]:
    async with connect(server_url) as stores:
        yield stores


async def test_each_chunk_is_an_event_with_its_position_and_the_end_has_a_name(helix: Helix) -> None:
    await write(helix, "a", "b\n\nc")
    await helix.streams.end_stream("s")
    connection = Connection(helix.streams, "/s")
    first, second, end = await connection.all()
    info = await helix.streams.get_info("s")
    assert info is not None
    places = [StreamPosition.parse(identifier(event)) for event in (first, second)]
    assert [(place.epoch, place.sequence) for place in places] == [(info.epoch, 1), (info.epoch, 2)]
    assert len({place.term for place in places} - {""}) == 1
    assert [delta(first), delta(second)] == ["a", "b\n\nc"]
    assert end == END
    assert (connection.status, connection.complete) == (200, True)
    assert connection.headers["content-type"].startswith("text/event-stream")
    assert "no-store" in connection.headers["cache-control"]
    assert connection.headers["x-accel-buffering"] == "no"
    assert "content-length" not in connection.headers


async def test_a_sealed_stream_sends_the_same_events(helix: Helix) -> None:
    await write(helix, *(f"token {n}" for n in range(100)))
    await helix.streams.end_stream("s")
    before = await Connection(helix.streams, "/s").all()
    assert await helix.streams.seal_stream("s")
    assert await Connection(helix.streams, "/s").all() == before
    for last in (identifier(before[0]), identifier(before[49]), identifier(before[99]), "70"):
        seen = int(last.rpartition(":")[2])
        assert await Connection(helix.streams, "/s", last=last).all() == before[seen:]


async def test_client_goes_on_behind_its_last_event_id_and_then_live(helix: Helix) -> None:
    await write(helix, "a", "b")
    first = Connection(helix.streams, "/s")
    await until(lambda: len(first.events) == 2)
    first.hang_up()
    await first.all()
    by_position = Connection(helix.streams, "/s", last=identifier(first.events[0]))
    by_sequence = Connection(helix.streams, "/s", last="1")
    for again in (by_position, by_sequence):
        await until(lambda again=again: len(again.events) == 1)
        assert delta(again.events[0]) == "b"
        again.hang_up()
    live = Connection(helix.streams, "/s", start="2")
    await write(helix, "c")
    await until(lambda: len(live.events) == 1)
    assert delta(live.events[0]) == "c"
    live.hang_up()


@pytest.mark.parametrize("how", ["told", "refused"])
async def test_client_that_leaves_ends_its_reader(helix: Helix, how: str) -> None:
    await write(helix, "a")
    connection = Connection(helix.streams, "/s", heartbeat_ms=60_000 if how == "told" else 10)
    await until(lambda: len(connection.events) >= 1)
    assert reading(helix) == 1
    if how == "told":
        connection.hang_up()
    else:
        connection.broken = True
    await connection.all()
    assert reading(helix) == 0


async def test_cancelled_request_ends_its_reader(helix: Helix) -> None:
    await write(helix, "a")
    connection = Connection(helix.streams, "/s")
    await until(lambda: len(connection.events) == 1)
    connection.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connection.task
    assert reading(helix) == 0


async def test_silence_is_broken_by_comments(helix: Helix) -> None:
    await helix.resumable.create("s")
    connection = Connection(helix.streams, "/s", heartbeat_ms=5, retry_ms=250)
    await until(lambda: len(connection.events) >= 3)
    assert connection.events[:3] == ["retry: 250", ": heartbeat", ": heartbeat"]
    connection.hang_up()


async def test_failed_stream_ends_with_why(helix: Helix) -> None:
    await write(helix, "a")
    await helix.streams.fail_stream("s", "out of tokens")
    _, failed = await Connection(helix.streams, "/s").all()
    name, data = failed.splitlines()
    assert name == "event: failed"
    told = json.loads(data.removeprefix("data: "))
    assert told["code"] == "stream_failed"
    assert "out of tokens" in told["message"]


async def test_client_of_an_earlier_life_is_told_and_begins_anew(helix: Helix) -> None:
    await write(helix, "a")
    live = Connection(helix.streams, "/s")
    await until(lambda: len(live.events) == 1)
    old = identifier(live.events[0])
    epoch = await helix.streams.reset_stream("s")
    later = Connection(helix.streams, "/s", last=old)
    page = Connection(helix.streams, "/s", start=old)
    await write(helix, "b")
    await helix.streams.end_stream("s")
    for events in ((await live.all())[1:], await later.all(), await page.all()):
        reset, second, end = events
        assert (identifier(reset), named(reset), data(reset)["code"]) == (f"{epoch}:0", "reset", "stream_reset")
        place = StreamPosition.parse(identifier(second))
        assert ((place.epoch, place.sequence), delta(second), end) == ((epoch, 2), "b", END)
    # an id that a page of before keeps in its URL must not bring it back to the reset for ever
    (second, _end) = await Connection(helix.streams, "/s", start=old, last=identifier(reset)).all()
    assert delta(second) == "b"


@pytest.mark.parametrize("last", ["", "1"])
async def test_client_behind_what_is_kept_is_told_from_where_it_goes_on_or_skips(helix: Helix, last: str) -> None:
    await write(helix, "a", "b", "c")
    await trim(helix, 1)
    await helix.streams.end_stream("s")
    info = await helix.streams.get_info("s")
    assert info is not None
    reset, third, end = await Connection(helix.streams, "/s", last=last).all()
    assert (identifier(reset), named(reset)) == (f"{info.epoch}:2", "reset")
    assert (data(reset)["code"], data(reset)["firstSequence"]) == ("sequence_gap", 3)
    assert (delta(third), end) == ("c", END)
    for position in (identifier(reset), identifier(third)):
        again = await Connection(helix.streams, "/s", last=position).all()
        assert again == [third, end][-len(again) :], "no second reset"
    third, end = await Connection(helix.streams, "/s", last=last, on_gap="skip").all()
    assert (delta(third), end) == ("c", END)


@pytest.mark.parametrize("form", ["epoch:sequence", "epoch:term:sequence"])
async def test_client_of_a_branch_that_the_server_lost_is_told_and_goes_on_where_it_ends(form: str) -> None:
    server = MemoryServer()
    async with InMemoryStreamManager(server=server) as dead:
        writer = await dead.create_writer("s", "agent")
        await writer.write_many([{"type": "text_delta", "delta": "kept"}] * 2)
        saved = server.snapshot()
        await writer.write_many([{"type": "text_delta", "delta": "lost"}] * 8)
        connection = Connection(dead, "/s")
        await until(lambda: len(connection.events) == 10)
        last = identifier(connection.events[-1])
        connection.hang_up()
        await connection.all()
    server.restore(saved, new_history=True)
    async with InMemoryStreamManager(server=server) as streams:
        async with await streams.create_writer("s", "agent") as writer:
            await writer.write({"type": "text_delta", "delta": "new"})
        await streams.end_stream("s")
        if form == "epoch:sequence":
            last = f"{last.split(':')[0]}:10"
        reset, *rest, end = await Connection(streams, "/s", last=last).all()
        assert (named(reset), data(reset)["code"], end) == ("reset", "sequence_gap", END)
        # without its term a position says only that it is ahead
        wanted = {"epoch:term:sequence": (3, ["new"]), "epoch:sequence": (4, [])}[form]
        assert (data(reset)["firstSequence"], [delta(event) for event in rest]) == wanted


async def test_hole_in_the_log_is_passed_once(helix: Helix) -> None:
    """A reader from 0 meets it each time: sent back there, it would never get behind it."""
    for sequence in (1, 2, 5, 6):
        fields = (b"chunk", b'{"type":"text_delta","delta":"%d"}' % sequence, b"sequence", sequence)
        await helix.state._requests.command("", b"XADD", b"helix:stream:{s}", b"*", *fields)
    await helix.streams.end_stream("s")
    first, second, reset, *rest, end = await Connection(helix.streams, "/s").all()
    assert [delta(event) for event in (first, second, *rest)] == ["1", "2", "5", "6"]
    assert (data(reset)["firstSequence"], end) == (5, END)
    assert [identifier(event) for event in (first, second, reset, *rest)] == ["1", "2", "4", "5", "6"], "no epoch"
    fifth, _sixth, _end = await Connection(helix.streams, "/s", last="4").all()
    assert delta(fifth) == "5"


async def test_bytes_that_are_no_chunk_do_not_hold_the_rest_up(helix: Helix) -> None:
    key = b"helix:stream:{s}"
    await write(helix, "a")
    (entry, _) = (await helix.state._requests.command("", b"XREVRANGE", key, b"+", b"-", b"COUNT", 1))[0]
    term = entry.partition(b"-")[0]
    fields = (b"chunk", b"no chunk", b"sequence", 2, b"writer", b"other")
    await helix.state._requests.command("", b"XADD", key, term + b"-2", *fields)
    await write(helix, "c")
    await helix.streams.end_stream("s")
    first, malformed, third, end = await Connection(helix.streams, "/s").all()
    assert (delta(first), delta(third), end) == ("a", "c", END)
    assert identifier(malformed).endswith(":2")
    assert "event: malformed" in malformed


@pytest.mark.parametrize(("path", "last"), [("/s", "nonsense"), ("/a{b}", ""), ("/s", "e:x"), ("/s", "9" * 20)])
async def test_request_that_makes_no_sense_is_refused(helix: Helix, path: str, last: str) -> None:
    connection = Connection(helix.streams, path, last=last)
    await connection.all()
    assert connection.status == 400


async def test_what_may_pass_sends_the_client_back_without_an_error(helix: Helix, fault_proxy: FaultProxy) -> None:
    """At any status but 200 a browser's EventSource gives up for good."""
    fault_proxy.refuse()
    async with RedisStreamManager(fault_proxy.url) as away:
        unreachable = Connection(away, "/s")
        missing = Connection(helix.streams, "/none", wait_ms=10)
        for connection in (unreachable, missing):
            assert await connection.all() == []
            assert (connection.status, connection.text, connection.complete) == (200, RETRY + "\n\n", True)
    closed = Connection(away, "/s")
    assert (await closed.all(), closed.status) == ([], 200)


async def test_client_that_is_first_waits_for_its_stream(helix: Helix) -> None:
    connection = Connection(helix.streams, "/s", heartbeat_ms=5)
    await until(lambda: ": heartbeat" in connection.text)
    await write(helix, "a")
    await until(lambda: "delta" in connection.text)
    connection.hang_up()
    await connection.all()
    assert reading(helix) == 0


async def test_server_that_is_lost_ends_the_response_without_an_event(server_url: str, fault_proxy: FaultProxy) -> None:
    async with connect(fault_proxy.url, retry_timeout=0.1) as helix:
        await write(helix, "a")
        connection = Connection(helix.streams, "/s")
        await until(lambda: len(connection.events) == 1)
        fault_proxy.refuse()
        fault_proxy.cut_all()
        await helix.streams.close()
        assert len(await connection.all()) == 1
        assert connection.complete


async def test_head_has_the_headers_and_no_reader(helix: Helix) -> None:
    await write(helix, "a")
    connection = Connection(helix.streams, "/s", method="HEAD")
    assert await connection.all() == []
    assert (connection.status, connection.complete) == (200, True)
    assert reading(helix) == 0


async def test_streams_in_memory_are_served_as_well() -> None:
    async with InMemoryStreamManager() as streams:
        async with await streams.create_writer("s", "agent") as writer:
            writer.send_text("a")
        await streams.end_stream("s")
        first, end = await Connection(streams, "/s", headers={"X-Accel-Buffering": "yes"}).all()
    assert (delta(first), end) == ("a", END)


async def test_options_that_make_no_sense_are_refused(helix: Helix) -> None:
    for options in ({"heartbeat_ms": 0}, {"on_gap": "ignore"}, {"retry_ms": -1}, {"wait_ms": -1}):
        with pytest.raises(InvalidArgumentError):
            await Connection(helix.streams, "/s", **options).all()


@pytest.mark.slow
def test_missing_starlette_is_told_with_what_to_install() -> None:
    code = "import sys; sys.modules['starlette'] = None; import helix_fast.integrations.starlette"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 'helix-fast[starlette]'" in done.stderr
