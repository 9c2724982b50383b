"""What an OpenTelemetry SDK gets to see of stores on a real server, and that nothing is there unless asked for."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.crc import key_slot

from helix_fast import (
    Helix,
    InMemoryStateStore,
    InvalidArgumentError,
    NoOpLockManager,
    RedisStreamManager,
    StoreConnectionError,
    connect,
)
from helix_fast.errors import HelixError, StoreResponseError
from helix_fast.integrations.telemetry import Instrumentation, instrument
from helix_fast.testing.waiting import until
from tests.support.proxy import FaultProxy


class Seen:
    """An SDK that keeps what it is given."""

    def __init__(self) -> None:
        self.spans_out = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans_out))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def instrument(self, target: Any) -> Instrumentation:
        return instrument(target, tracer_provider=self.tracers, meter_provider=self.meters)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans_out.get_finished_spans() if span.name == name]

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        found = [] if data is None else [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return [point for metric in found if metric.name == name for point in metric.data.data_points]

    def unit(self, name: str) -> str | None:
        data = self.reader.get_metrics_data()
        assert data is not None
        (unit,) = {
            metric.unit
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        }
        return unit

    def value(self, name: str) -> Any:
        (point,) = self.points(name)
        return point.value


@pytest.fixture
def seen() -> Iterator[Seen]:
    sdk = Seen()
    yield sdk
    sdk.tracers.shutdown()
    sdk.meters.shutdown()


@pytest.fixture
async def helix(server_url: str) -> AsyncIterator[Helix]:
    async with connect(server_url) as stores:
        yield stores


def server_of(url: str) -> str:
    return url.removeprefix("unix://").partition("?")[0]


async def test_each_batch_is_a_span_with_its_chunks_and_bytes(seen: Seen, helix: Helix, server_url: str) -> None:
    seen.instrument(helix)
    async with await helix.streams.create_writer("s", "agent") as writer:
        await writer.write({"type": "text_delta", "delta": "a"})
        await writer.write_many([{"type": "text_delta", "delta": "b"}] * 9)
    one, nine = seen.spans("XADD")
    for span, chunks in ((one, 1), (nine, 9)):
        assert span.kind is trace.SpanKind.CLIENT
        assert span.attributes is not None
        assert span.attributes["db.system.name"] == "redis"
        assert span.attributes["db.operation.name"] == "XADD"
        assert span.attributes["server.address"] == server_of(server_url)
        assert span.attributes["helix_fast.id"] == "s"
        assert span.attributes["helix_fast.append.chunks"] == chunks
        assert span.attributes["helix_fast.append.size"] == 34 * chunks - 1  # with line ends between them
        assert "error.type" not in span.attributes


async def test_metrics_of_appending_have_latency_chunks_and_bytes(seen: Seen, helix: Helix, server_url: str) -> None:
    seen.instrument(helix)
    async with await helix.streams.create_writer("s", "agent") as writer:
        for _ in range(3):
            await writer.write({"type": "text_delta", "delta": "a"})
    (duration,) = [
        point
        for point in seen.points("db.client.operation.duration")
        if point.attributes["db.operation.name"] == "XADD"
    ]
    assert duration.attributes == {
        "db.system.name": "redis",
        "db.operation.name": "XADD",
        "server.address": server_of(server_url),
    }
    assert duration.count == 3
    assert 0 < duration.sum < 30
    assert seen.unit("db.client.operation.duration") == "s"
    (chunks,) = seen.points("helix_fast.append.chunks")
    assert (chunks.count, chunks.sum, seen.unit("helix_fast.append.chunks")) == (3, 3, "{chunk}")
    (size,) = seen.points("helix_fast.append.size")
    assert (size.count, seen.unit("helix_fast.append.size")) == (3, "By")
    assert size.sum == 3 * 33


async def test_span_of_a_batch_is_under_the_span_of_who_wrote(seen: Seen, helix: Helix) -> None:
    """Also where it could not leave before another was acknowledged, outside of anybody's task."""
    tracer = seen.tracers.get_tracer("test")
    with tracer.start_as_current_span("connecting"):
        await helix.state.session_exists("s")
    seen.instrument(helix)
    writer = await helix.streams.create_writer("s", "agent")
    with tracer.start_as_current_span("step") as step:
        writer.send_text("a")
        await asyncio.sleep(0)  # the first batch leaves
        writer.send_text("b")
        await writer.flush()
    with tracer.start_as_current_span("next step") as other:
        await writer.write({"type": "text_delta", "delta": "c"})
    await writer.close()
    parents = [None if span.parent is None else span.parent.span_id for span in seen.spans("XADD")]
    assert parents == [step.get_span_context().span_id] * 2 + [other.get_span_context().span_id]


async def test_connection_keeps_nothing_of_the_context_it_was_first_needed_in(seen: Seen, server_url: str) -> None:
    tracer = seen.tracers.get_tracer("test")
    with tracer.start_as_current_span("a request that ended long ago"):
        store = RedisStreamManager(server_url)
        writer = await store.create_writer("s", "agent")
    seen.instrument(store)
    writer.send_text("a")
    await asyncio.sleep(0)
    writer.send_text("b")
    await writer.close()
    await store.close()
    assert [span.parent for span in seen.spans("XADD")] == [None, None]


async def test_requests_of_all_stores_are_spans_named_by_their_script(seen: Seen, helix: Helix) -> None:
    seen.instrument(helix)
    tracer = seen.tracers.get_tracer("test")
    with tracer.start_as_current_span("request") as parent:
        await helix.state.create_session("s", agent_type="a")
        await helix.usage.get_entry_count("s")
        async with helix.locks.hold("s"):
            pass
        await helix.state.delete_session("s")
    spans = [span for span in seen.spans_out.get_finished_spans() if span.name != "request"]
    assert {span.parent.span_id for span in spans if span.parent} == {parent.get_span_context().span_id}
    assert all(span.attributes and span.attributes["helix_fast.id"] == "s" for span in spans)
    scripts = [span.attributes.get("db.stored_procedure.name") for span in spans if span.attributes]
    for part in ("state_", "lock_acquire", "lock_release", "state_delete"):
        assert any(str(script).startswith(part) for script in scripts), (part, scripts)
    assert {span.name for span in spans} >= {"EVALSHA lock_acquire", "EVALSHA state_delete"}


async def test_failed_request_names_its_error_and_the_server_s(seen: Seen, helix: Helix) -> None:
    seen.instrument(helix)
    with pytest.raises(StoreResponseError) as raised:
        await helix.state._requests.command("s", b"HGETALL")
    (span,) = seen.spans("HGETALL")
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == raised.value.code
    assert span.attributes["db.response.status_code"] == "ERR"
    (point,) = seen.points("db.client.operation.duration")
    assert point.attributes["error.type"] == raised.value.code


async def test_append_that_failed_counts_as_stored_once_it_is(seen: Seen, fault_proxy: FaultProxy) -> None:
    async with connect(fault_proxy.url, retry_timeout=0.1) as helix:
        seen.instrument(helix)
        chunk = {"type": "text_delta", "delta": "a"}
        async with await helix.streams.create_writer("s", "agent") as writer:
            fault_proxy.drop_replies()
            waiting = asyncio.ensure_future(writer.write(chunk))
            await asyncio.sleep(0)
            fault_proxy.refuse()
            fault_proxy.cut_all()
            with pytest.raises(StoreConnectionError):
                await waiting
            (failed,) = seen.spans("XADD")
            assert failed.status.status_code is trace.StatusCode.ERROR
            assert failed.attributes is not None
            assert failed.attributes["error.type"] == "store_connection"
            assert not seen.points("helix_fast.append.chunks")
            fault_proxy.heal()
            await fault_proxy.start()
            assert await writer.write(chunk) == 1
        (chunks,) = seen.points("helix_fast.append.chunks")
        assert (chunks.count, chunks.sum) == (1, 1)
        assert len([span for span in seen.spans("XADD") if span.status.status_code is trace.StatusCode.ERROR]) == 1


async def test_gauges_tell_what_is_buffered_and_who_is_open(seen: Seen, server_url: str) -> None:
    async with connect(server_url) as helix:
        seen.instrument(helix)
        writer = await helix.streams.create_writer("s", "agent")
        other = await helix.streams.create_writer("s", "agent")
        first = await helix.streams.create_reader("s")
        second = await helix.streams.create_resumable_reader("s")
        assert first is not None
        assert second is not None
        assert (seen.value("helix_fast.writers"), seen.value("helix_fast.readers")) == (2, 2)
        assert seen.value("helix_fast.append.buffered") == 0
        writer.send_text("x" * 1000)
        assert 1000 < seen.value("helix_fast.append.buffered") < 1300
        await writer.flush()
        assert seen.value("helix_fast.append.buffered") == 0
        await other.close()
        await first.close()
        assert (seen.value("helix_fast.writers"), seen.value("helix_fast.readers")) == (1, 1)
        await helix.streams.end_stream("s")
        assert [stored.sequence async for stored in second] == [1]
        assert seen.value("helix_fast.readers") == 0
        await writer.close()


async def test_reconnections_are_counted_and_first_connections_are_not(seen: Seen, fault_proxy: FaultProxy) -> None:
    async with connect(fault_proxy.url) as helix:
        seen.instrument(helix)
        await helix.resumable.create("s")
        reader = await helix.streams.create_reader("s")
        assert reader is not None
        assert not seen.points("helix_fast.reconnects")
        fault_proxy.cut_all()
        await helix.state.session_exists("s")

        def purposes() -> dict[str, int]:
            found = seen.points("helix_fast.reconnects")
            return {point.attributes["helix_fast.connection.purpose"]: point.value for point in found}

        await until(lambda: purposes() == {"requests": 1, "subscriptions": 1})
        await reader.close()


async def test_uninstrumented_store_reports_nothing_more(seen: Seen, helix: Helix) -> None:
    with seen.instrument(helix) as watching:
        await helix.state.session_exists("s")
    assert len(seen.spans_out.get_finished_spans()) == 1
    await helix.state.session_exists("s")
    async with await helix.streams.create_writer("s", "agent") as writer:
        writer.send_text("a")
        assert seen.value("helix_fast.append.buffered") == 0
    assert len(seen.spans_out.get_finished_spans()) == 1
    assert seen.instrument(helix) is not watching  # and again


async def test_an_uninstrumented_store_keeps_no_span(seen: Seen, helix: Helix) -> None:
    async with await helix.streams.create_writer("s", "agent") as writer:
        with seen.instrument(helix) as watching:
            await writer.write({"type": "text_delta", "delta": "a"})
        gone = weakref.ref(watching)
        del watching
        gc.collect()
        assert gone() is None
        assert await writer.write({"type": "text_delta", "delta": "b"}) == 2
    assert len(seen.spans("XADD")) == 1


async def test_a_tracer_that_raises_does_not_stop_a_stream(
    seen: Seen, helix: Helix, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await helix.streams.create_writer("s", "agent") as writer:
        with seen.instrument(helix) as watching:
            monkeypatch.setattr(watching, "batch", lambda *_: 1 // 0)
            with pytest.raises(HelixError, match="ZeroDivisionError"):
                await asyncio.wait_for(writer.write({"type": "text_delta", "delta": "a"}), 30)
        assert await writer.write({"type": "text_delta", "delta": "b"}) == 1


async def test_gauges_sum_over_all_that_is_instrumented(seen: Seen, server_url: str) -> None:
    async with connect(server_url) as one, connect(server_url) as two:
        seen.instrument(one)
        seen.instrument(two)
        writers = [await helix.streams.create_writer("s", "agent") for helix in (one, two)]
        assert seen.value("helix_fast.writers") == 2
        for writer in writers:
            await writer.close()


async def test_instrumentation_keeps_no_store_alive(seen: Seen) -> None:
    async with InMemoryStateStore() as store:
        seen.instrument(store)
        await store.create_session("s", agent_type="a")
        assert seen.spans_out.get_finished_spans()
        gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None
    assert seen.value("helix_fast.writers") == 0


async def test_on_a_cluster_each_span_names_the_server_of_its_id(seen: Seen, helix_cluster_url: str) -> None:
    async with connect(helix_cluster_url) as helix:
        seen.instrument(helix)
        for stream in ("a", "b", "c", "d", "e", "f"):
            async with await helix.streams.create_writer(stream, "agent") as writer:
                writer.send_text("x")
        slots = await helix.state._requests.command("", b"CLUSTER", b"SLOTS")
    told = {
        str(span.attributes["helix_fast.id"]): span.attributes["server.port"]
        for span in seen.spans("XADD")
        if span.attributes is not None
    }
    assert told == {
        stream: port
        for stream in told
        for first, last, (_host, port, *_), *_ in slots
        if first <= key_slot(stream.encode()) <= last
    }
    assert len(told) == 6
    assert len(set(told.values())) > 1


async def test_what_cannot_be_instrumented_is_told(seen: Seen, helix: Helix) -> None:
    seen.instrument(helix)
    with pytest.raises(InvalidArgumentError, match="already"):
        seen.instrument(helix.state)
    closed: Any = connect("memory://")
    for target in (closed, NoOpLockManager()):
        with pytest.raises(InvalidArgumentError, match="open Helix"):
            seen.instrument(target)


@pytest.mark.slow
def test_library_works_without_opentelemetry_and_does_not_load_its_hook() -> None:
    source = """
import asyncio, sys
sys.modules["opentelemetry"] = None  # not installed
from helix_fast import connect

async def main():
    async with connect("memory://") as helix:
        async with await helix.streams.create_writer("s", "agent") as writer:
            writer.send_text("a")

asyncio.run(main())
assert "helix_fast.integrations.telemetry" not in sys.modules
try:
    import helix_fast.integrations.telemetry
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "pip install 'helix-fast[otel]'" in done.stdout
