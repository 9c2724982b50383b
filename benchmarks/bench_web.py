"""Streams through a web server: P13, P14. They are a run of their own, ``make bench-web``."""

from __future__ import annotations

import asyncio
import functools
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from helix_fast import TextDeltaChunk, connect

from .event_clients import ClientsProcess, Download
from .measure import Also, Measure, Run, check
from .payloads import AGENT_ID, AGENT_TYPE, chunk_json, numbered
from .stream_loads import AT_ONCE, close_and_delete, open_writers
from .stream_reads import ENTRY, percentile
from .targets import PREBUILT_LATENCY, PREBUILT_SHARE, TARGETS
from .web_site import SiteProcess


class EventReplay(Measure):
    """A stored stream to one client, whole, through uvicorn in a process of its own."""

    key = "P13"
    what = "SSE replay of 10 000 chunks (entries of 32) through uvicorn"
    against = "redis-py XREAD + sse-starlette (entries of 1)"
    unit = "chunks/s"
    target, reach = TARGETS["P13"]

    async def prepare(self) -> None:
        self.count = self.size.pick(10_000, 10_000, 640)
        self.times = self.size.pick(20, 5, 1)
        self.baseline_times = self.size.pick(2, 1, 1)
        self.of_prebuilt: list[float] = []
        self.helix = await connect(self.server.url)
        for entry in (1, ENTRY):
            await self._fill(f"by-{entry}", entry)
        self._fill_baseline()
        self.site = SiteProcess(self.server.url, self.server.socket_path)
        self.client = await _download(self.site.port)

    async def _fill(self, name: str, entry: int) -> None:
        streams = self.helix.streams
        writer = await streams.create_writer(name, AGENT_ID, AGENT_TYPE)
        numbers = range(1, self.count + 1)
        for first in range(0, self.count, entry):
            chunks = (TextDeltaChunk(delta=numbered(self.text, n)) for n in numbers[first : first + entry])
            await writer.write_many(chunks)
        await writer.close()
        await streams.end_stream(name)

    def _fill_baseline(self) -> None:
        for sequence in range(1, self.count + 1):
            chunk = chunk_json(numbered(self.text, sequence))
            self.probe.command("XADD", "stream:stored", "*", "chunk", chunk, "sequence", sequence)
        self.probe.command("XADD", "stream:stored", "*", "event", "ended")

    async def clean(self) -> None:
        self.client.close()
        self.site.stop()
        await self.helix.close()

    async def _rate(self, path: str, times: int, end: bytes = b"event: end\ndata: {}\n\n") -> float:
        seconds = 0.0
        for _ in range(times):
            began = time.perf_counter()
            response = await self.client.get(path)
            seconds += time.perf_counter() - began
            check(response.count(b'"delta":"'), self.count, f"chunks of {path}")
            check(end in response[-200:], True, f"{path} has its end")
        return self.count * times / seconds

    async def ours(self) -> float:
        rate = await self._rate(f"/helix?stream=by-{ENTRY}", self.times)
        self.of_prebuilt.append(rate / await self._rate(f"/prebuilt?stream=by-{ENTRY}", self.times))
        return rate

    async def baseline(self) -> float:
        return await self._rate("/redis?key=stream:stored", self.baseline_times)

    def also(self) -> Iterator[Also]:
        of_prebuilt = statistics.median(self.of_prebuilt)
        yield Also("of an ASGI app with the same bytes prebuilt", of_prebuilt, "x", PREBUILT_SHARE, "at least")

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        yield "entries of 1", functools.partial(self._rate, "/helix?stream=by-1", self.times), self.baseline
        for protocol, end in (("vercel", b"data: [DONE]\n\n"), ("ag-ui", b'"type":"RUN_FINISHED"')):
            path = f"/mapped/{protocol}?stream=by-{ENTRY}"
            yield f"{protocol}, entries of 32", functools.partial(self._rate, path, self.times, end), self.baseline


class LiveEvents(Measure):
    """1 000 streams written at the pace of models, each with a client of its own in another process.

    What is counted is the CPU of the web server's process. Where it does not keep up, events
    arrive late and in larger batches: all that were written are waited for.
    """

    key = "P14"
    what = "CPU of the web server, an event; 1 000 live SSE clients, 20 000 events/s"
    against = "redis-py XREAD BLOCK + sse-starlette"
    unit = "µs"
    target, reach = TARGETS["P14"]
    per_second: Final = 20.0

    async def prepare(self) -> None:
        self.clients = self.size.pick(1_000, 1_000, 20)
        self.each = self.size.pick(40, 10, 3)
        self.p99: dict[str, list[float]] = {"ours": [], "baseline": [], "prebuilt": []}
        self.prebuilt_cpu: list[float] = []
        self.helix = await connect(self.server.url)
        self.site = SiteProcess(self.server.url, self.server.socket_path)
        self.client = await _download(self.site.port)

    async def clean(self) -> None:
        self.client.close()
        self.site.stop()
        await self.helix.close()

    async def ours(self) -> float:
        used = await self._live("ours", "/helix?stream=%s", self.each)
        self.prebuilt_cpu.append(await self._timetable())
        return used

    async def baseline(self) -> float:
        return await self._live("baseline", "/redis?key=helix:stream:{%s}", self.each)

    def also(self) -> Iterator[Also]:
        pairs = zip(self.p99["ours"], self.p99["prebuilt"], strict=True)
        against = statistics.median(ours / prebuilt for ours, prebuilt in pairs)
        yield Also("p99 from write to client, of that of prebuilt bytes", against, "x", PREBUILT_LATENCY)
        for side, values in self.p99.items():
            yield Also(f"p99, {side}", statistics.median(values), "ms")
        yield Also("CPU an event, prebuilt", statistics.median(self.prebuilt_cpu), "µs")

    def variants(self) -> Iterator[tuple[str, Run, Run]]:
        paced = functools.partial(self._live, "paced", "/helix?stream=%s", self.each // 5, 2.0)
        baseline = functools.partial(self._live, "paced", "/redis?key=helix:stream:{%s}", self.each // 5, 2.0)
        if self.size.full:
            yield "2 000 events/s, which both keep up with", paced, baseline
        one = functools.partial(self._one_stream, "/helix?stream=%s")
        yield "one stream for all clients", one, functools.partial(self._one_stream, "/redis?key=helix:stream:{%s}")

    async def _live(self, side: str, path: str, each: int, per_second: float = per_second) -> float:
        """µs of the server's CPU for an event."""
        prefix = self.fresh(side)
        names = [f"{prefix}-{number}" for number in range(self.clients)]
        async with self._writing(names) as write, self._receiving(path % f"{prefix}-%d", each + 1) as clients:
            begin = time.perf_counter() + 0.05

            async def produce(number: int) -> list[float]:
                times = []
                for turn in range(each):
                    wait = begin + (turn + number / self.clients) / per_second - time.perf_counter()
                    if wait > 0:
                        await asyncio.sleep(wait)
                    times.append(time.perf_counter())
                    await write(number)
                return times

            used = await self._cpu()
            sent = await asyncio.gather(*map(produce, range(self.clients)))
            received: list[list[float]] = await clients.line()
            used = await self._cpu() - used
        self._note_latencies(side, sent, received, each)
        return used / (self.clients * each) * 1e6

    async def _one_stream(self, path: str) -> float:
        """µs of the server's CPU for an event, of a stream that all clients follow: each has all of its events."""
        name = self.fresh("one")
        path = (path % name).replace("%", "%%") + "&client=%d"
        async with self._writing([name]) as write, self._receiving(path, self.each + 1) as clients:
            used = await self._cpu()
            for _ in range(self.each):
                await write(0)
                await asyncio.sleep(1 / self.per_second)
            await clients.line()
            used = await self._cpu() - used
        return used / (self.clients * self.each) * 1e6

    async def _timetable(self) -> float:
        """The limit: µs of the server's CPU for an event that is there already."""
        name = self.fresh("event")
        async with self._writing([name]):
            query = f"stream={name}&clients={self.clients}&each={self.each}&per_second={self.per_second}"
            await self.client.get(f"/timetable/make?{query}")
        async with self._receiving("/timetable?number=%d", self.each + 1) as clients:
            used = await self._cpu()
            await self.client.get("/timetable/begin")
            received: list[list[float]] = await clients.line()
            used = await self._cpu() - used
        sent = msgspec.json.decode(_body(await self.client.get("/timetable/sent")), type=list[list[float]])
        self._note_latencies("prebuilt", sent, received, self.each)
        return used / (self.clients * self.each) * 1e6

    def _note_latencies(self, side: str, sent: list[list[float]], received: list[list[float]], each: int) -> None:
        """The clocks of both processes are one. The first event of a client is not counted."""
        check([len(times) for times in received], [each + 1] * self.clients, "events that clients got")
        pairs = zip(sent, received, strict=True)
        latencies = [came - left for ours, theirs in pairs for left, came in zip(ours, theirs[1:], strict=True)]
        self.p99.setdefault(side, []).append(percentile(latencies, 0.99) * 1000)

    @asynccontextmanager
    async def _writing(self, names: list[str]) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
        """Streams with a first chunk each; deleted in the end."""
        streams = self.helix.streams
        writers = await open_writers(streams, names)

        async def write(number: int) -> None:
            await writers[number].write(TextDeltaChunk(delta=self.text))

        for first in range(0, len(names), AT_ONCE):
            await asyncio.gather(*map(write, range(len(names))[first : first + AT_ONCE]))
        try:
            yield write
        finally:
            await close_and_delete(streams, names, writers)

    @asynccontextmanager
    async def _receiving(self, path: str, each: int) -> AsyncIterator[ClientsProcess]:
        """All clients, connected, and with their first event."""
        clients = ClientsProcess(self.site.port, path, self.clients, each)
        try:
            check(await clients.line(), True, "clients that have their first event")
            yield clients
        finally:
            clients.close()

    async def _cpu(self) -> float:
        return msgspec.json.decode(_body(await self.client.get("/cpu")), type=float)


async def _download(port: int) -> Download:
    _transport, client = await asyncio.get_running_loop().create_connection(Download, "127.0.0.1", port)
    return client


def _body(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


MEASURES = (EventReplay, LiveEvents)
