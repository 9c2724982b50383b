"""A password is in no log line, error, repr or span, whatever breaks while it is in use."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from helix_fast import HelixError, connect
from helix_fast.integrations.telemetry import instrument
from helix_fast.testing.servers import ServerProcess
from helix_fast.testing.waiting import until
from tests.support.errors import everything_about

PASSWORD = "hunter2-sesame9"
USER = "default"


@pytest.fixture
async def locked_server(short_path: Path) -> AsyncIterator[ServerProcess]:
    server = ServerProcess(short_path, tcp=True, options={"requirepass": PASSWORD})
    await server.start()
    yield server
    await server.stop()


@pytest.mark.faults
async def test_nothing_that_breaks_in_use_shows_a_password(
    locked_server: ServerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    spans, metrics = InMemorySpanExporter(), InMemoryMetricReader()
    tracer = TracerProvider()
    tracer.add_span_processor(SimpleSpanProcessor(spans))
    errors: list[HelixError] = []
    url = f"redis://{USER}:{PASSWORD}@127.0.0.1:{locked_server.port}"
    async with connect(url, retry_timeout=0.5) as helix:
        helix.streams.on("error", errors.append)
        with instrument(helix, tracer_provider=tracer, meter_provider=MeterProvider([metrics])):
            writer = await helix.streams.create_writer("s", agent_id="a")
            await writer.write({"type": "text_delta", "delta": "a"})
            reader = helix.streams.read("s", wait_ms=0)
            await reader.__anext__()
            shown = [
                repr(each) for each in (helix, helix.state, helix.streams, helix.locks, helix.usage, writer, reader)
            ]
            raw = helix.state._requests.command
            for command in ((b"NOSUCH",), (b"LPUSH", b"helix:stream:{s}", b"x"), (b"AUTH", b"wrong")):
                with pytest.raises(HelixError) as caught:
                    await raw("s", *command)
                errors.append(caught.value)
            # Another password from now on: what reconnects is refused.
            await raw("", b"CONFIG", b"SET", b"requirepass", b"another-one")
            await raw("", b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"no")
            with pytest.raises(HelixError) as refused:
                await helix.state.exists("s")
            errors.append(refused.value)
            locked_server.kill()
            for call in (helix.state.load_state("s"), writer.write({"type": "text_delta", "delta": "b"})):
                with pytest.raises(HelixError) as gone:
                    await call
                errors.append(gone.value)
            shown += [repr(each) for each in gc.get_objects() if str(type(each).__module__).startswith("helix_fast.")]
            shown += [span.to_json() for span in spans.get_finished_spans()]
            shown.append(repr(metrics.get_metrics_data()))
    await until(lambda: len(errors) >= 6)
    said = [*map(everything_about, errors), *shown, caplog.text]
    assert not [text for text in said if PASSWORD in text]
