"""Another process of a benchmark: ``python -m benchmarks.MODULE``, asked by lines, answering with lines of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

LONGEST_LINE: Final = 1 << 26


class Child:
    """A child process, seen from its parent. An async context manager.

    Args:
        module: of this folder.
        arguments: of its command line.
    """

    def __init__(self, module: str, *arguments: object) -> None:
        self._arguments = ["-m", f"benchmarks.{module}", *map(str, arguments)]
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Child:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *self._arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
        )  # fmt: skip
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 60)
        except asyncio.TimeoutError:
            process.kill()
            await process.wait()

    def tell(self, **question: Any) -> None:
        """Ask something; ``answer`` has what comes back."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")

    async def answer(self) -> dict[str, Any]:
        """The next answer."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"python {' '.join(self._arguments)} has ended")
        found: dict[str, Any] = json.loads(line)
        return found

    async def ask(self, **question: Any) -> dict[str, Any]:
        """Ask and wait for the answer."""
        self.tell(**question)
        return await self.answer()


async def answer_all(handle: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> None:
    """In the child: answer each question of the parent, until it asks no more."""
    lines = asyncio.StreamReader(limit=LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        sys.stdout.write(json.dumps(await handle(json.loads(line))) + "\n")
        sys.stdout.flush()
