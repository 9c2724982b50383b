"""Any log reads the same after it was sealed: terms, holes, batches, chunks of any kind and lines that are none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix_fast.memory import MemoryServer
from helix_fast.streams import sealed as sealed_module
from tests.support.reading import everything
from tests.support.streams_under_fault import StreamStore

STREAM = "helix:stream:{s}"
LOST = ("event", "lost", "error", "why", "sequence")

CHUNKS = st.one_of(
    st.text(max_size=20).map(lambda delta: {"type": "text_delta", "delta": delta, "agentId": "a", "timestamp": 1}),
    st.builds(lambda kind, value: {"type": kind, "x": value}, st.sampled_from(["other", "ünknown"]), st.integers()),
)
STEPS = st.one_of(
    st.lists(CHUNKS, min_size=1, max_size=6).map(lambda chunks: ("write", chunks)),
    st.lists(CHUNKS, min_size=1, max_size=3).map(lambda chunks: ("lose", chunks)),
    st.just(("take over", None)),
    st.sampled_from([b"no json", b'{"type":1}', b"\xff", b"", b'{"type":"x"}\n[]']).map(lambda line: ("line", line)),
)


class Log:
    """A stream in a server that can lose what it had."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.server = MemoryServer(lambda: self.now)
        self.store = StreamStore(topology=self.server.topology())

    async def write(self, steps: list[tuple[str, Any]], ending: str) -> None:
        token = 1
        writer = await self.store.create_writer("s", "a", fencing_token=token, lease_ms=1_000)
        for step, value in steps:
            if step == "write":
                await writer.write_many(value)
            elif step == "lose":
                snapshot = self.server.snapshot()
                await writer.write_many(value)
                self.server.restore(snapshot, new_history=True)
            elif step == "take over":
                token += 1
                writer = await self.store.create_writer("s", "a", fencing_token=token, lease_ms=1_000)
            else:
                term = self.server.execute("HGET", STREAM + ":meta", "term").decode()
                ((_id, fields),) = self.server.execute("XREVRANGE", STREAM, "+", "-", "COUNT", "1")
                last = int(dict(zip(fields[::2], fields[1::2], strict=True))[b"sequence"])
                final = last + value.count(b"\n") + 1
                entry = ("chunk", value, "sequence", final, "writer", "raw_0001")
                self.server.execute("XADD", STREAM, f"{term}-{last + 1}", *entry)
        if ending == "lost":
            self.server.execute("XADD", STREAM, f"{(1 << 64) - 1}-{await self.last()}", *LOST, await self.last())
            self.server.execute("HSET", STREAM + ":meta", "status", "failed")
        else:
            await getattr(self.store, ending)("s", "why")

    async def last(self) -> int:
        info = await self.store.get_info("s")
        assert info is not None
        return info.last_sequence


@pytest.fixture
def small_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sealed entry has a few chunks only."""
    monkeypatch.setattr(sealed_module, "_WANTED_BYTES", 600)


@pytest.mark.usefixtures("small_entries")
@given(steps=st.lists(STEPS, max_size=8), ending=st.sampled_from(["end_stream", "fail_stream", "lost"]))
def test_any_log_reads_the_same_after_it_was_sealed(steps: list[tuple[str, Any]], ending: str) -> None:
    async def compare() -> None:
        log = Log()
        async with log.store as store:
            await log.write(steps, ending)
            before = await everything(store)
            assert await store.seal_stream("s")
            assert await everything(store) == before

    asyncio.run(compare())
