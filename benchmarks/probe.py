"""What the server itself says of a run: CPU, bytes, memory, connections, entries. Asked outside of the timed part."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import redis

PATIENCE: Final = 60.0


class Probe:
    """A connection beside the measured ones. It blocks, so it is used before and after a run only.

    Args:
        socket_path: the server's unix socket; "" where it listens on ``port`` of 127.0.0.1 alone.
    """

    def __init__(self, socket_path: str = "", *, port: int = 0) -> None:
        self.socket_path = socket_path
        self._client = redis.Redis(unix_socket_path=socket_path) if socket_path else redis.Redis(port=port)

    def command(self, *args: Any) -> Any:
        """Any command."""
        return self._client.execute_command(*args)  # type: ignore[no-untyped-call]

    def info(self, section: str) -> dict[str, Any]:
        """A section of INFO."""
        found: dict[str, Any] = self._client.info(section)
        return found

    def cpu_seconds(self) -> float:
        """CPU that the server has used, all its threads, user and system."""
        info = self.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    def network_bytes(self) -> int:
        """Bytes that the server has received and sent, those of this probe included."""
        info = self.info("stats")
        return int(info["total_net_input_bytes"]) + int(info["total_net_output_bytes"])

    def process_id(self) -> int:
        """The server's."""
        return int(self.info("server")["process_id"])

    def connections(self) -> int:
        """Clients that are connected, without this probe."""
        return int(self.info("clients")["connected_clients"]) - 1

    def channels(self, pattern: str) -> int:
        """Channels of this pattern that have subscribers: a live reader has one."""
        return sum(len(self.command("PUBSUB", kind, pattern)) for kind in ("CHANNELS", "SHARDCHANNELS"))

    def length(self, key: str) -> int:
        """Entries of a stream."""
        return int(self.command("XLEN", key))

    def lengths(self, keys: Sequence[str]) -> int:
        """Entries of several streams together."""
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.xlen(key)
        return sum(pipeline.execute())

    def keys(self, pattern: str) -> list[Any]:
        """The names of keys."""
        return list(self._client.scan_iter(pattern, count=1000))

    def memory(self, pattern: str) -> int:
        """Bytes that the keys of a pattern take, every one of their parts counted."""
        keys = self.keys(pattern)
        return sum(int(self.command("MEMORY", "USAGE", key, "SAMPLES", "0")) for key in keys)

    def version(self) -> str:
        """The server's name and version."""
        info = self.info("server")
        if "valkey_version" in info:
            return f"Valkey {info['valkey_version']}"
        return f"Redis {info['redis_version']}"

    def flush(self) -> None:
        """Empty the server."""
        self.command("FLUSHALL")

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


async def reached(condition: Callable[[], bool], what: str) -> None:
    """Wait until the server says so; TimeoutError after a minute."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        await asyncio.sleep(0.005)


class Use:
    """What a chunk takes in runs of one side: CPU of server and of this process, bytes to and from the server.

    docs/performance.md reckons from it what more cores and nodes would carry.
    """

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._runs: list[tuple[float, float, float]] = []

    @contextlib.contextmanager
    def of(self, chunks: int) -> Iterator[None]:
        """Around a run of so many chunks."""
        sent, server, client = self._probe.network_bytes(), self._probe.cpu_seconds(), time.process_time()
        yield
        client = time.process_time() - client
        server = self._probe.cpu_seconds() - server
        sent = self._probe.network_bytes() - sent
        self._runs.append((server / chunks * 1e6, client / chunks * 1e6, sent / chunks))

    def medians(self) -> tuple[float, float, float]:
        """µs of the server, µs of this process, bytes."""
        server, client, sent = zip(*self._runs, strict=True)
        return statistics.median(server), statistics.median(client), statistics.median(sent)
