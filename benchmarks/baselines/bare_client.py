"""A client that does nothing but send prebuilt bytes: what the server takes at most, one entry a chunk.

`redis-benchmark -P 128` where that is installed; else the same in Python. Each connection sends a prebuilt buffer of
128 XADD commands and waits for 128 replies, which are counted by their line ends and not parsed; several connections
keep the server busy while one is read.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import time
from typing import Final

DEPTH: Final = 128
CONNECTIONS: Final = 8
PROGRAMS: Final = ("redis-benchmark", "valkey-benchmark")
_RECEIVED: Final = 256 << 10
_RATE = re.compile(r"([\d.]+) requests per second")


def frame(*parts: bytes) -> bytes:
    """A command as RESP."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def benchmark_program() -> str | None:
    """Path of `redis-benchmark`, or of Valkey's, where one is installed."""
    for name in PROGRAMS:
        found = shutil.which(name)
        if found is not None:
            return found
    return None


def baseline_name() -> str:
    """What `xadd_per_second` measures on this machine."""
    return "redis-benchmark -P 128 XADD" if benchmark_program() else "bare RESP client, pipeline 128, XADD"


async def xadd_per_second(socket_path: str, key: str, chunk: bytes, count: int) -> float:
    """Append ``chunk`` at least ``count`` times, each in an entry of its own; returns entries a second."""
    program = benchmark_program()
    if program is None:
        return await asyncio.to_thread(send_prebuilt, socket_path, key, chunk, count)
    arguments = ["-s", socket_path, "-n", str(count), "-P", str(DEPTH), "-q"]
    process = await asyncio.create_subprocess_exec(
        program, *arguments, "XADD", key, "*", "chunk", chunk, "sequence", "1000000",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{program} failed: {errors.decode(errors='replace')[-500:]}")
    return read_rate(output.decode(errors="replace"))


def read_rate(output: str) -> float:
    """The last rate that `redis-benchmark -q` printed; it overwrites the running ones before it."""
    found = _RATE.findall(output)
    if not found:
        raise RuntimeError(f"no rate in what redis-benchmark printed: {output[-200:]!r}")
    return float(found[-1])


def send_prebuilt(socket_path: str, key: str, chunk: bytes, count: int) -> float:
    """Append ``chunk`` at least ``count`` times; returns entries a second. Blocks."""
    command = frame(b"XADD", key.encode(), b"*", b"chunk", chunk, b"sequence", b"1000000")
    buffer = command * DEPTH
    rounds = max(1, -(-count // (DEPTH * CONNECTIONS)))
    connections = [_connect(socket_path) for _ in range(CONNECTIONS)]
    try:
        began = time.perf_counter()
        for connection in connections:
            connection.sendall(buffer)
        for turn in range(rounds):
            for connection in connections:
                _receive(connection)
                if turn + 1 < rounds:
                    connection.sendall(buffer)
        return rounds * DEPTH * CONNECTIONS / (time.perf_counter() - began)
    finally:
        for connection in connections:
            connection.close()


def _connect(socket_path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(socket_path)
    return connection


def _receive(connection: socket.socket) -> None:
    """Wait for as many replies as a buffer has commands; each is ``$n``, line end, id, line end."""
    left = 2 * DEPTH
    while left > 0:
        data = connection.recv(_RECEIVED)
        if not data:
            raise ConnectionError("the server closed the connection")
        if data.startswith(b"-"):
            raise ConnectionError(f"the server refused: {data[:200]!r}")
        left -= data.count(b"\n")
