"""The real clients of npm, in one process of node, and Chromium. `make test-web` installs them into build/web."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from helix_fast.testing.waiting import until

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).with_name("web")
WEB = Path(os.environ.get("HELIX_TEST_WEB") or ROOT / "build" / "web")
CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-extensions", "--disable-component-update")


def need(*packages: str) -> None:
    """Skip the test where node or one of the packages is not installed."""
    missing = [package for package in packages if not (WEB / "node_modules" / package / "package.json").is_file()]
    if shutil.which("node") is None:
        missing.insert(0, "node")
    if missing:
        pytest.skip(f"without {', '.join(missing)}: make test-web installs the packages")


class Node:
    """The process that runs ``clients.mjs``; ``await node("op", …)`` asks it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.ensure_future(self._read())

    async def __call__(self, op: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        number = len(self._waiting)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n")
        return await asyncio.wait_for(self._waiting[number], 90)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            answer = json.loads(line)
            waiting = self._waiting[answer["id"]]
            if "error" in answer:
                waiting.set_exception(AssertionError(answer["error"]))
            else:
                waiting.set_result(answer["value"])
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(AssertionError("node has ended"))

    async def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


@contextlib.asynccontextmanager
async def node() -> AsyncIterator[Node]:
    """A process with the clients."""
    program = WEB / "clients.mjs"
    text = (FOLDER / "clients.mjs").read_text("utf-8")
    if not program.is_file() or program.read_text("utf-8") != text:
        beside = program.with_suffix(f".{os.getpid()}")
        beside.write_text(text, "utf-8")
        beside.replace(program)
    process = await asyncio.create_subprocess_exec(
        "node", str(program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=64 << 20, cwd=WEB
    )
    made = Node(process)
    try:
        yield made
    finally:
        await made.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class SiteProcess:
    """``tests.support.chat_site`` as a process of its own, to be killed and started again on the same port."""

    def __init__(self, store: str, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {**os.environ, "HELIX_URL": store, "WEB": str(WEB), **environment}
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "tests.support.chat_site", str(self.port)]
        self._process = process = subprocess.Popen(command, env=self._environment, cwd=ROOT)

        def listens() -> bool:
            assert process.poll() is None, "the site has ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            return False

        await until(listens, seconds=60)

    def kill(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> None:
        """As a deployment does."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)


@contextlib.contextmanager
def site_process(store: str, **environment: str) -> Iterator[SiteProcess]:
    """A site that is not started yet; killed in the end."""
    made = SiteProcess(store, **environment)
    try:
        yield made
    finally:
        made.kill()


@contextlib.asynccontextmanager
async def chromium(**options: Any) -> AsyncIterator[Any]:
    """A browser of the test's own; ``options`` are Playwright's of a context."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("without chromium")
    playwright = pytest.importorskip("playwright.async_api")
    # Their start is most of a test on a busy machine: the driver's scripts are compiled once, and no GPU is looked for.
    os.environ.setdefault("NODE_COMPILE_CACHE", str(Path(tempfile.gettempdir()) / f"helix-fast-node-{os.getuid()}"))
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program, args=list(CHROMIUM))
        try:
            yield await browser.new_context(**options)
        finally:
            await browser.close()


async def post(url: str, **body: Any) -> httpx.Response:
    """A POST with JSON."""
    async with httpx.AsyncClient(verify=False, timeout=60) as client:
        return await client.post(url, json=body)
