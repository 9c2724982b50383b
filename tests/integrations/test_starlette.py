"""Server-sent events over a stream on a real server: what a browser's EventSource gets, and what becomes of readers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from helix_fast import Helix, InMemoryStreamManager, InvalidArgumentError, RedisStreamManager, connect
from helix_fast.integrations.starlette import EventStream, event_stream
from helix_fast.streams.schema import StreamPosition
from helix_fast.testing.waiting import until
from tests.support.proxy import FaultProxy

SECONDS = 30
END = "event: end\ndata: {}"


class Connection:
    """One request to an ASGI app, as a server makes it; what comes is there as it comes."""

    def __init__(self, streams: RedisStreamManager, path: str, *, last: str = "", method: str = "GET", **options: Any):
        async def events(request: Request) -> Response:
            return await event_stream(request, streams, request.path_params["stream"], **options)

        self.app = Starlette(routes=[Route("/{stream}", events)])
        self.scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
            "client": ("test", 1), "server": ("test", 80),
            "headers": [(b"last-event-id", last.encode())] if last else [],
        }  # fmt: skip
        self.status = 0
        self.headers: dict[str, str] = {}
        self.text = ""
        self.complete = False
        self.broken = False  # whether sending raises, as a server does whose client has gone
        self._gone = asyncio.Event()
        self.task = asyncio.ensure_future(self.app(self.scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if self.broken:
            raise OSError("the client has gone")
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.text += message.get("body", b"").decode()
            self.complete = not message.get("more_body", False)

    @property
    def events(self) -> list[str]:
        return self.text.split("\n\n")[:-1]

    def hang_up(self) -> None:
        self._gone.set()

    async def all(self) -> list[str]:
        await asyncio.wait_for(self.task, SECONDS)
        return self.events


@pytest.fixture
async def helix(server_url: str) -> AsyncIterator[Helix]:
    async with connect(server_url) as stores:
        yield stores


async def write(helix: Helix, *deltas: str, stream: str = "s") -> None:
    async with await helix.streams.create_writer(stream, "agent") as writer:
        for delta in deltas:
            await writer.write({"type": "text_delta", "delta": delta})


def delta(event: str) -> str:
    return str(json.loads(event.splitlines()[1].removeprefix("data: "))["delta"])


def identifier(event: str) -> str:
    return event.splitlines()[0].removeprefix("id: ")


def reading(helix: Helix) -> int:
    return sum(cursor.reading for cursor in helix.streams._cursors)


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


async def test_client_of_an_earlier_life_is_told_to_begin_anew_and_forgets_its_id(helix: Helix) -> None:
    await write(helix, "a")
    live = Connection(helix.streams, "/s")
    await until(lambda: len(live.events) == 1)
    await helix.streams.reset_stream("s")
    later = Connection(helix.streams, "/s", last=identifier(live.events[0]))
    for reset in ((await live.all())[-1], *await later.all()):
        identity, name, data = reset.splitlines()
        assert (identity, name) == ("id", "event: reset")
        assert json.loads(data.removeprefix("data: "))["code"] == "stream_reset"


async def test_client_behind_what_is_kept_begins_anew_or_skips(helix: Helix) -> None:
    await write(helix, "a", "b", "c")
    await helix.state._requests.command("", b"XTRIM", b"helix:stream:{s}", b"MAXLEN", b"1")
    await helix.streams.end_stream("s")
    (reset,) = await Connection(helix.streams, "/s", last="1").all()
    assert "event: reset" in reset
    assert "sequence_gap" in reset
    third, end = await Connection(helix.streams, "/s", last="1", on_gap="skip").all()
    assert (delta(third), end) == ("c", END)


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


async def test_what_cannot_be_answered_has_its_status(helix: Helix, fault_proxy: FaultProxy) -> None:
    for path, last, status in (("/none", "", 404), ("/s", "nonsense", 400), ("/a{b}", "", 400), ("/s", "e:x", 400)):
        connection = Connection(helix.streams, path, last=last)
        await connection.all()
        assert connection.status == status, path
    fault_proxy.refuse()
    async with RedisStreamManager(fault_proxy.url) as streams:
        connection = Connection(streams, "/s")
        await connection.all()
    assert (connection.status, connection.headers["retry-after"]) == (503, "1")
    assert "proxy" not in connection.text


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
    reader = await helix.streams.create_resumable_reader("s")
    assert reader is not None
    response = EventStream(reader, heartbeat=15)
    await response(connection.scope, connection._receive, connection._send)
    assert not [stored async for stored in reader]


async def test_streams_in_memory_are_served_as_well() -> None:
    async with InMemoryStreamManager() as streams:
        async with await streams.create_writer("s", "agent") as writer:
            writer.send_text("a")
        await streams.end_stream("s")
        first, end = await Connection(streams, "/s", headers={"X-Accel-Buffering": "yes"}).all()
    assert (delta(first), end) == ("a", END)


async def test_options_that_make_no_sense_are_refused(helix: Helix) -> None:
    for options in ({"heartbeat_ms": 0}, {"on_gap": "ignore"}, {"retry_ms": -1}):
        with pytest.raises(InvalidArgumentError):
            await Connection(helix.streams, "/s", **options).all()


def test_missing_starlette_is_told_with_what_to_install() -> None:
    code = "import sys; sys.modules['starlette'] = None; import helix_fast.integrations.starlette"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 'helix-fast[starlette]'" in done.stderr
