"""The lane against a real server: each reply reaches its own request, also when callers stop waiting."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from helix_fast import codec
from helix_fast.errors import (
    BufferFullError,
    StoreClosedError,
    StoreConnectionError,
    StoreResponseError,
    StoreTimeoutError,
)
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from helix_fast.transport.lane import Lane
from helix_fast.transport.resolve import topology_for
from helix_fast.transport.topology import Standalone
from helix_fast.transport.unparsed import Unparsed
from tests.support.proxy import FaultProxy
from tests.support.streams_under_fault import logged, storage, text

pytestmark = pytest.mark.timeout(60)


def lane_of(topology: object) -> Lane:
    assert isinstance(topology, Standalone)
    return topology.lane


def echo(value: object) -> bytes:
    return codec.frame_command([b"ECHO", str(value)])


async def test_replies_meet_their_requests_though_calls_are_cancelled(server_url: str) -> None:
    """Two stores on one topology, every third call given up at another moment."""
    topology = topology_for(server_url)
    lane = lane_of(topology)

    async def caller(name: int) -> int:
        wrong = 0
        for n in range(60):
            call = asyncio.ensure_future(lane.call(echo(f"{name}:{n}")))
            if (n + name) % 3 == 0:
                for _ in range(n % 7):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
            else:
                wrong += await call != f"{name}:{n}".encode()
        return wrong

    assert sum(await asyncio.gather(*(caller(name) for name in range(20)))) == 0
    assert lane.generation == 1
    await topology.close()


class CountingTransport:
    """A transport that counts writes. Those of uvloop take no other method."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def test_what_is_sent_in_one_turn_leaves_in_one_write(server_url: str, fault_proxy: FaultProxy) -> None:
    topology = topology_for(fault_proxy.url)
    lane = lane_of(topology)
    await lane.call(echo("connect"))
    assert lane._transport is not None
    lane._transport = counting = CountingTransport(lane._transport)  # type: ignore[assignment]
    assert await asyncio.gather(*(lane.call(echo(n)) for n in range(500))) == [b"%d" % n for n in range(500)]
    assert counting.writes == 1
    await topology.close()


async def test_huge_reply_and_huge_request(server_url: str) -> None:
    topology = topology_for(server_url)
    lane = lane_of(topology)
    big = b"x" * (40 << 20)
    results = await asyncio.gather(
        lane.call(echo("before")), lane.call(codec.frame_command([b"ECHO", big])), lane.call(echo("after"))
    )
    assert (results[0], results[1] == big, results[2]) == (b"before", True, b"after")
    await topology.close()


async def test_error_reply_is_raised_to_its_own_caller(server_url: str) -> None:
    topology = topology_for(server_url)
    lane = lane_of(topology)
    frames = [echo(1), codec.frame_command([b"NOSUCHCOMMAND"]), echo(2)]
    results = await asyncio.gather(*map(lane.call, frames), return_exceptions=True)
    assert (results[0], results[2]) == (b"1", b"2")
    assert isinstance(results[1], StoreResponseError)
    assert results[1].server_code == "ERR"
    await topology.close()


async def test_buffer_is_bounded_while_the_server_takes_nothing(server_url: str, fault_proxy: FaultProxy) -> None:
    topology = topology_for(fault_proxy.url, timeout=0.4)
    lane = lane_of(topology)
    lane.max_buffered_bytes = 1 << 20
    await lane.call(echo("connect"))
    fault_proxy.stall()
    calls = [asyncio.ensure_future(lane.call(echo("x" * 200_000))) for _ in range(100)]
    await asyncio.sleep(0.1)
    assert lane.outbox.size < (1 << 20) + 300_000
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} <= {BufferFullError, StoreTimeoutError, StoreConnectionError}
    fault_proxy.heal()
    assert await lane.call(echo("again")) == b"again"
    await topology.close()


async def test_room_is_refused_in_time(server_url: str, fault_proxy: FaultProxy) -> None:
    topology = topology_for(fault_proxy.url, timeout=30)
    lane = lane_of(topology)
    lane.max_buffered_bytes = 1 << 16
    await lane.call(echo("connect"))
    fault_proxy.stall()
    blocked = [asyncio.ensure_future(lane.call(echo("x" * 100_000))) for _ in range(60)]
    await until(lambda: lane._paused and lane.outbox.size > lane.max_buffered_bytes)  # and so it stays
    lane.timeout = 0.1
    with pytest.raises(BufferFullError):
        await lane.call(echo("x"))
    await topology.close()
    results = await asyncio.gather(*blocked, return_exceptions=True)
    assert all(isinstance(result, (StoreClosedError, BufferFullError)) for result in results)


async def test_close_tells_everyone_who_waits(server_url: str, fault_proxy: FaultProxy) -> None:
    topology = topology_for(fault_proxy.url)
    lane = lane_of(topology)
    await lane.call(echo("connect"))
    fault_proxy.stall()
    calls = [asyncio.ensure_future(lane.call(echo(n))) for n in range(10)]
    await asyncio.sleep(0.02)
    late = asyncio.ensure_future(lane.call(echo("late")))
    await asyncio.sleep(0)
    await topology.close()
    results = await asyncio.wait_for(asyncio.gather(*calls, late, return_exceptions=True), 5)
    assert all(isinstance(result, StoreClosedError) for result in results)
    with pytest.raises(StoreClosedError):
        await lane.call(echo("after"))
    await topology.close()


@pytest.mark.parametrize("turns", range(0, 30, 3))
async def test_close_while_connecting_leaves_nothing(server_url: str, fault_proxy: FaultProxy, turns: int) -> None:
    before = asyncio.all_tasks()
    topology = topology_for(fault_proxy.url)
    call = asyncio.ensure_future(lane_of(topology).call(echo("x")))
    for _ in range(turns):
        await asyncio.sleep(0)
    await topology.close()
    result = (await asyncio.gather(call, return_exceptions=True))[0]
    assert result == b"x" or isinstance(result, StoreClosedError)
    leaked = {task for task in asyncio.all_tasks() - before if "FaultProxy" not in repr(task)}
    assert not leaked


async def test_request_sent_in_the_turn_in_which_the_connection_breaks_is_not_forgotten(server_url: str) -> None:
    topology = topology_for(server_url)
    lane = lane_of(topology)
    await lane.call(echo("connect"))
    first = asyncio.ensure_future(lane.call(echo("first")))
    await asyncio.sleep(0)  # it is queued, and will leave later in the next turn
    lane.give_up("as where the socket breaks in this turn")
    second: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    lane.send(echo("second"), second.set_result)
    assert await asyncio.wait_for(second, 5) == b"second"
    with pytest.raises(StoreConnectionError):
        await first
    await topology.close()


class Ready:
    """Stands for an appender: gives a frame when it is asked, and keeps the reply."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked = 0
        self.reply: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def join(self, lane: Lane) -> None:
        lane.outbox.ready.append(self)
        if not lane.outbox.scheduled:
            lane.wake()

    def next_frame(self) -> bytes | None:
        self.asked += 1
        if self.name == "broken":
            raise RuntimeError(self.name)
        return echo(self.name) if self.name else None

    def __call__(self, reply: object) -> None:
        self.reply.set_result(reply)


async def test_all_that_are_ready_are_asked_when_the_lane_writes(
    server_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    topology = topology_for(server_url)
    lane = lane_of(topology)
    names = ["a", "", "broken", "b"]
    for connected in (False, True):
        sources = [Ready(name) for name in names]
        for source in sources:
            source.join(lane)
        assert [source.asked for source in sources] == [0] * 4
        if connected:
            await asyncio.sleep(0)
            assert [source.asked for source in sources] == [1] * 4, "one turn of the loop"
        assert await asyncio.wait_for(sources[0].reply, 5) == b"a"
        assert await asyncio.wait_for(sources[3].reply, 5) == b"b"
        assert lane.outbox.ready == []
    assert len([record for record in caplog.records if "appender" in record.message]) == 2
    await topology.close()


@pytest.mark.parametrize("length", [5, 40_000])
async def test_frames_in_pieces_are_one_request_each(server_url: str, length: int) -> None:
    topology = topology_for(server_url)
    lane = lane_of(topology)
    await lane.call(echo("connect"))
    replies: asyncio.Queue[object] = asyncio.Queue()
    for letter in b"abc":
        text = bytes([letter]) * length
        lane.send((b"*2\r\n$4\r\nECHO\r\n$%d\r\n" % length, text, b"\r\n"), replies.put_nowait)
        lane.send(echo("x"), replies.put_nowait)
    assert lane.outbox.size > 3 * length
    got = [await asyncio.wait_for(replies.get(), 5) for _ in range(6)]
    assert got == [b"a" * length, b"x", b"b" * length, b"x", b"c" * length, b"x"]
    with pytest.raises(TypeError):
        lane.send((b"PING", "text"))  # type: ignore[arg-type]
    assert lane.outbox.frames == []
    await topology.close()


async def test_other_tasks_run_between_the_parts_of_a_long_request(server_url: str) -> None:
    topology = topology_for(server_url)
    lane = lane_of(topology)
    await lane.call(echo("first"))
    long = asyncio.ensure_future(lane.call((b"*301\r\n$3\r\nDEL\r\n", *[b"$20000\r\n%020000d\r\n" % 0] * 300)))
    while not lane._pieces:  # noqa: ASYNC110  between two turns of the loop
        await asyncio.sleep(0)
    others = []
    while lane._pieces:  # what is sent between the parts leaves behind them
        others.append(asyncio.ensure_future(lane.call(echo(len(others)))))
        await asyncio.sleep(0)
    assert len(others) >= 3
    assert await asyncio.gather(long, *others) == [0, *(b"%d" % n for n in range(len(others)))]
    await topology.close()


async def test_nobody_is_asked_while_the_socket_takes_nothing(server_url: str, fault_proxy: FaultProxy) -> None:
    topology = topology_for(fault_proxy.url, timeout=30)
    lane = lane_of(topology)
    await lane.call(echo("connect"))
    fault_proxy.stall()
    blocked = asyncio.ensure_future(lane.call(echo("x" * (20 << 20))))
    await until(lambda: lane._paused)
    source = Ready("a")
    source.join(lane)
    await asyncio.sleep(0.05)
    assert source.asked == 0
    fault_proxy.heal()
    assert await asyncio.wait_for(source.reply, 20) == b"a"
    assert len(await blocked) == 20 << 20
    await topology.close()


async def test_who_is_ready_hears_of_a_connection_that_cannot_be_made(fault_proxy: FaultProxy) -> None:
    topology = topology_for(fault_proxy.url)
    fault_proxy.refuse()
    source = Ready("a")
    source.join(lane_of(topology))
    assert isinstance(await asyncio.wait_for(source.reply, 5), StoreConnectionError)
    await topology.close()


async def test_chunk_sent_in_the_turn_in_which_the_connection_breaks_is_stored_once(server_url: str) -> None:
    async with storage(server_url) as store:
        writer = await store.create_writer("s", "agent")
        writer.send_text("a")
        lane_of(store._requests.topology).give_up("as where the socket breaks in this turn")
        writer.send_text("b")
        await asyncio.wait_for(writer.flush(), 10)
        assert await logged(store, "s") == ["a", "b"]


async def test_server_that_accepts_and_says_nothing_is_given_up_in_time(fresh_server: ServerProcess) -> None:
    """The kernel of a stopped server goes on accepting: neither a connect nor a call may wait for it for ever."""
    async with storage(fresh_server.url, timeout=0.3, retry_timeout=0.5) as store:
        writer = await store.create_writer("s", "agent")
        await writer.write(text("a"))
        fresh_server.pause()
        started = time.monotonic()
        try:
            with pytest.raises(StoreConnectionError):
                await writer.write(text("b"))
            with pytest.raises(StoreConnectionError):
                await store.get_info("s")
            assert time.monotonic() - started < 6
        finally:
            fresh_server.resume()
        assert await writer.write(text("b")) == 2


async def test_answer_that_is_no_resp_breaks_the_connection_and_no_more() -> None:
    handlers: set[asyncio.Task[object]] = set()

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        try:
            for _ in range(2):  # the handshake of the driver
                await reader.read(1000)
                writer.write(b"+OK\r\n+OK\r\n")
            await reader.read(1000)
            writer.write(b"?nonsense\r\n")
            await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    topology = topology_for(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=1)
    with pytest.raises(StoreConnectionError):
        await lane_of(topology).call(echo("x"))
    await topology.close()
    server.close()
    await asyncio.gather(*handlers, return_exceptions=True)  # their sockets are closed with them
    await server.wait_closed()


async def test_unparsed_replies_come_in_order_between_others(server_url: str) -> None:
    """Long and short ones, on a lane that is idle and on one that is in the middle of other replies."""
    topology = topology_for(server_url)
    lane = lane_of(topology)
    words = [b"%d:" % number + b"x" * (number * 97 % 4000) for number in range(300)]
    await lane.call(codec.frame_command([b"RPUSH", b"list", *words]))
    unparsed = 0

    async def parsed(number: int) -> None:
        reply = await lane.call(codec.frame_command([b"LRANGE", b"list", 0, number]))
        assert reply == words[: number + 1]
        assert await lane.call(echo(number)) == b"%d" % number

    async def whole(number: int) -> None:
        nonlocal unparsed
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        lane.send(codec.frame_command([b"LRANGE", b"list", 0, number]), future.set_result, unparsed=True)
        reply = await future
        if isinstance(reply, Unparsed):
            unparsed += 1
            reply = codec.StringArray(reply.reply).strings()
        assert reply == words[: number + 1]

    for count in (1, 2, 40):
        for _ in range(10):
            await asyncio.gather(*((parsed if number % 3 else whole)(number * 7) for number in range(count)))
            await whole(299)
    assert unparsed >= 40  # all that were sent on an idle lane
    refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    lane.send(codec.frame_command([b"LRANGE", b"list", b"x", b"y"]), refused.set_result, unparsed=True)
    assert isinstance(await refused, StoreResponseError)
    assert await lane.call(echo("goes on")) == b"goes on"
    assert lane.generation == 1
    await topology.close()


async def test_unparsed_replies_fail_with_their_connection(server_url: str, fault_proxy: FaultProxy) -> None:
    topology = topology_for(fault_proxy.url)
    lane = lane_of(topology)
    await lane.call(codec.frame_command([b"RPUSH", b"list", *[b"x" * 1000] * 500]))
    for allowed in (1, 100, 5_000, 200_000):
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        fault_proxy.cut_after_reply_bytes(allowed)
        lane.send(codec.frame_command([b"LRANGE", b"list", 0, -1]), future.set_result, unparsed=True)
        assert isinstance(await future, StoreConnectionError)
        assert await lane.call(echo("again")) == b"again"
        future = asyncio.get_running_loop().create_future()
        lane.send(codec.frame_command([b"LRANGE", b"list", 0, -1]), future.set_result, unparsed=True)
        reply = await future
        assert isinstance(reply, Unparsed)
        assert len(codec.StringArray(reply.reply)) == 500
    await topology.close()
