"""OpenTelemetry for the stores: metrics and spans of batches and requests. Needs the extra ``otel``.

Nothing of the library imports this module, and none of it is active before :func:`instrument` is called. Names follow
OpenTelemetry's semantic conventions for Redis; names that these lack begin with ``helix_fast.``.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from helix_fast.connect import Helix
from helix_fast.errors import HelixError, InvalidArgumentError, StoreResponseError
from helix_fast.integrations.extras import needs
from helix_fast.requests import Requests
from helix_fast.store import RedisStore
from helix_fast.streams.manager import RedisStreamManager
from helix_fast.streams.storage import RedisResumableStorage
from helix_fast.transport.observer import Span
from helix_fast.transport.topology import Topology

with needs("OpenTelemetry", extra="otel"):
    from opentelemetry import context as contexts
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider

Self = TypeVar("Self", bound="Instrumentation")
Attributes = dict[str, str | int]

SCOPE: Final = "helix_fast"
SCHEMA: Final = "https://opentelemetry.io/schemas/1.33.0"
# The conventions' boundaries, and some below: a round trip on a good network takes less than their first.
SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
CHUNKS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
BYTES: Final = (128, 512, 2048, 8192, 32_768, 65_536, 262_144, 1_048_576)
_TRIES: Final = 8


def instrument(
    target: Helix | RedisStore,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> Instrumentation:
    """Report the batches and requests of a Helix, or of one store that was made alone, from now on.

    Metrics: ``db.client.operation.duration`` (s), the time from a request to its reply, repetitions included;
    ``helix_fast.append.chunks`` ({chunk}) and ``helix_fast.append.size`` (By) of each batch that a stream acknowledged;
    ``helix_fast.append.buffered`` (By), accepted from writers and not acknowledged; ``helix_fast.writers``
    ({writer}) and ``helix_fast.readers`` ({reader}) open now; ``helix_fast.reconnects`` ({reconnect}).
    Spans: one of kind CLIENT for each request and each batch, below the caller's current span.
    Metrics carry no keys, ids or contents; a span has the id, as ``helix_fast.id``.

    Args:
        target: an open Helix (its stores share connections and are watched together), or a store.
        tracer_provider, meter_provider: default: the global ones; a no-op provider costs next to nothing.

    Returns:
        An object whose ``uninstrument()`` ends the reports; also a context manager.

    Raises:
        InvalidArgumentError: not open, no store on connections, or instrumented already.
    """
    requests: Requests | None = getattr(target, "_requests", None)
    if requests is None:
        hint = "call it inside 'async with connect(...) as helix:'" if isinstance(target, Helix) else ""
        raise InvalidArgumentError("only an open Helix or a store with connections can be instrumented", hint=hint)
    topology = requests.topology
    if topology.observer is not None:
        raise InvalidArgumentError("this store, or one on the same connections, is instrumented already")
    store: Any = target.streams if isinstance(target, Helix) else target
    if isinstance(store, RedisResumableStorage):
        store = store._manager
    managers = [store] if isinstance(store, RedisStreamManager) else []
    instruments = _instruments_of(meter_provider)
    tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider, schema_url=SCHEMA)
    return Instrumentation(topology, managers, instruments, tracer)


class Instrumentation:
    """The link between some stores and OpenTelemetry; made by :func:`instrument`."""

    def __init__(
        self,
        topology: Topology,
        managers: Iterable[RedisStreamManager],
        instruments: _Instruments,
        tracer: trace.Tracer,
    ) -> None:
        self.instruments = instruments
        self.tracer = tracer
        self._topology = topology
        self._attributes: dict[tuple[str, str, str], Attributes] = {}
        self._managers: weakref.WeakSet[RedisStreamManager] = weakref.WeakSet(managers)
        topology.observer = self
        instruments.watch(self)

    def uninstrument(self) -> None:
        """Report nothing more. Safe to call twice."""
        self.instruments.live.discard(self)
        for manager in self._managers:
            for appender in manager._all_appenders:
                appender.observed = None
        if self._topology.observer is self:
            self._topology.observer = None

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.uninstrument()

    # read by the gauges

    def buffered_bytes(self) -> int:
        """Bytes accepted from writers and not acknowledged."""
        return sum(appender.buffered_bytes for manager in self._managers for appender in manager._all_appenders)

    def writers(self) -> int:
        """Writers that are open."""
        return sum(appender.writers for manager in self._managers for appender in manager._appenders.values())

    def readers(self) -> int:
        """Open readers that have not reached the end of their stream."""
        return sum(cursor.reading for manager in self._managers for cursor in manager._cursors)

    # Observer

    def batch(self, stream_id: str, chunks: int, size: int, before: Span | None) -> Span:
        """A batch leaves; see Observer."""
        parent = contexts.get_current()
        if isinstance(before, _Batch) and not trace.get_current_span(parent).get_span_context().is_valid:
            parent = before.parent
        attributes = self._attributes_of(stream_id, "XADD", "")
        return _Batch(self, attributes, stream_id, parent, chunks, size)

    def request(self, tag: str, command: str, script: str = "") -> Span:
        """A request begins; see Observer."""
        return _Request(self, self._attributes_of(tag, command, script), tag, contexts.get_current())

    def reconnected(self, target: str, purpose: str) -> None:
        """A lost connection stands again; see Observer."""
        self.instruments.reconnects.add(1, {**_server(target), "helix_fast.connection.purpose": purpose})

    def _attributes_of(self, tag: str, command: str, script: str) -> Attributes:
        server = self._topology.server(tag)
        attributes = self._attributes.get((server, command, script))
        if attributes is None:
            attributes = {"db.system.name": "redis", "db.operation.name": command, **_server(server)}
            if script:
                attributes["db.stored_procedure.name"] = script
            self._attributes[server, command, script] = attributes
        return attributes


class _Request:
    """A request in flight."""

    __slots__ = ("_attributes", "_begun", "_over", "_span", "_watch", "parent")

    def __init__(
        self, watch: Instrumentation, attributes: Attributes, tag: str, parent: Context, more: Attributes | None = None
    ) -> None:
        self.parent = parent
        self._watch = watch
        self._attributes = attributes
        self._over = False
        script = attributes.get("db.stored_procedure.name", "")
        name = f"{attributes['db.operation.name']} {script}".rstrip()
        of_span: Attributes = {**attributes, **(more or {})}
        if tag:
            of_span["helix_fast.id"] = tag
        self._span = watch.tracer.start_span(name, parent, SpanKind.CLIENT, of_span)
        self._begun = time.perf_counter()

    def done(self, error: BaseException | None = None) -> None:
        """It is over; see Span."""
        if self._over:
            return
        self._over = True
        seconds = time.perf_counter() - self._begun
        attributes = self._attributes
        if error is not None:
            failure = _failure(error)
            attributes = {**attributes, **failure}
            self._span.set_attributes(failure)
            self._span.set_status(Status(StatusCode.ERROR, str(error)))
        self._span.end()
        # The caller's context: a reply is handled outside of it, and an exemplar would have no trace.
        self._watch.instruments.duration.record(seconds, attributes, trace.set_span_in_context(self._span, self.parent))


class _Batch(_Request):
    """A batch in flight."""

    __slots__ = ("_chunks", "_size", "_stored")

    def __init__(
        self, watch: Instrumentation, attributes: Attributes, stream_id: str, parent: Context, chunks: int, size: int
    ) -> None:
        more: Attributes = {"helix_fast.append.chunks": chunks, "helix_fast.append.size": size}
        super().__init__(watch, attributes, stream_id, parent, more)
        self._chunks = chunks
        self._size = size
        self._stored = False

    def done(self, error: BaseException | None = None) -> None:
        """It is over; one that was given up, and is found stored later, counts as stored then. See Span."""
        if error is None and not self._stored:
            self._stored = True
            server = {name: value for name, value in self._attributes.items() if name.startswith("server.")}
            self._watch.instruments.chunks.record(self._chunks, server)
            self._watch.instruments.size.record(self._size, server)
        super().done(error)


class _Instruments:
    """The instruments of one meter. A meter accepts each name once, so the gauges sum over all instrumentations."""

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = metrics.get_meter(SCOPE, meter_provider=provider, schema_url=SCHEMA)
        self.live: weakref.WeakSet[Instrumentation] = weakref.WeakSet()

        def histogram(name: str, unit: str, description: str, boundaries: Sequence[float]) -> metrics.Histogram:
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=boundaries)

        self.duration: metrics.Histogram = histogram(
            "db.client.operation.duration", "s", "Time from a request to its reply, repetitions included.", SECONDS
        )
        self.chunks: metrics.Histogram = histogram(
            "helix_fast.append.chunks", "{chunk}", "Chunks of an acknowledged batch.", CHUNKS
        )
        self.size: metrics.Histogram = histogram(
            "helix_fast.append.size", "By", "Size of an acknowledged batch.", BYTES
        )
        self.reconnects: metrics.Counter = meter.create_counter(
            "helix_fast.reconnects", "{reconnect}", "Connections made again after they were lost."
        )
        for name, unit, description, ask in (
            ("helix_fast.append.buffered", "By", "Written and not acknowledged.", Instrumentation.buffered_bytes),
            ("helix_fast.writers", "{writer}", "Open writers.", Instrumentation.writers),
            ("helix_fast.readers", "{reader}", "Open readers.", Instrumentation.readers),
        ):
            meter.create_observable_up_down_counter(name, [self._asking(ask)], unit, description)

    def watch(self, instrumentation: Instrumentation) -> None:
        """Count it in the gauges while it is alive."""
        self.live.add(instrumentation)

    def _asking(self, ask: Callable[[Instrumentation], int]) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            # An exporter reads from its own thread, and the sets may change during the read.
            for _ in range(_TRIES):
                try:
                    return [Observation(sum(ask(each) for each in list(self.live)))]
                except RuntimeError:  # noqa: PERF203
                    continue
            return []

        return observe


_known: weakref.WeakKeyDictionary[Any, _Instruments] = weakref.WeakKeyDictionary()
_global: list[_Instruments] = []
_lock: Final = threading.Lock()


def _instruments_of(provider: MeterProvider | None) -> _Instruments:
    """The instruments of a provider. None stands for the global one, which may be replaced later."""
    with _lock:
        if provider is None or provider is metrics.get_meter_provider():
            if not _global:
                _global.append(_Instruments(None))
            return _global[0]
        known = _known.get(provider)
        if known is None:
            known = _known[provider] = _Instruments(provider)
        return known


def _server(target: str) -> Attributes:
    """The attributes of a server: host and port, or the path of its socket."""
    host, colon, port = target.rpartition(":")
    if colon and port.isdigit():
        return {"server.address": host, "server.port": int(port)}
    return {"server.address": target.removeprefix("unix://")}


def _failure(error: BaseException) -> Attributes:
    """The error type, as the conventions define it."""
    code = error.code if isinstance(error, HelixError) else type(error).__qualname__
    if isinstance(error, StoreResponseError):
        return {"error.type": code, "db.response.status_code": error.server_code}
    return {"error.type": code}
