"""State: P6, P7."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

from helix_fast.state.schema import AgentState
from helix_fast.state.store import RedisStateStore

from .baselines.pydantic_store import Message, PydanticStore, Session
from .measure import Also, Measure, Size, check
from .payloads import DEFAULT
from .targets import SAVE_BYTES, SAVE_MICROS, TARGETS
from .under_pytest import benchmark_of

SENTENCE = "The quick brown fox jumps over the lazy dog, and then it sleeps for a while in the sun. "


def message(number: int, text: str = SENTENCE) -> dict[str, Any]:
    """A message of some 100 bytes, or of another text."""
    return {"role": "user" if number % 2 else "assistant", "content": f"{number}: {text}"}


def content_of(size: Size) -> str:
    """The text of messages: the requested payload, or a sentence, because the headline chunk is no message."""
    return SENTENCE if size.payload is DEFAULT else size.payload.text


class Append(Measure):
    """One message at a time, each acknowledged."""

    key = "P6"
    what = "append_messages into a session of 100 000 messages"
    against = "the same into an empty session"
    unit = "µs"
    target, reach = TARGETS["P6"]

    async def prepare(self) -> None:
        self.length = self.size.pick(100_000, 20_000, 200)
        self.appends = self.size.pick(3_000, 500, 20)
        self.content = content_of(self.size)
        self.store = RedisStateStore(self.server.url)
        await self.store.create_session("long", agent_type="assistant")
        for start in range(0, self.length, 5_000):
            part = [message(number, self.content) for number in range(start, min(start + 5_000, self.length))]
            await self.store.append_messages("long", part)

    async def clean(self) -> None:
        await self.store.close()

    async def ours(self) -> float:
        before = await self.store.get_message_count("long")
        check(before >= self.length, True, "messages of the long session")
        return await self._append("long", before)

    async def baseline(self) -> float:
        session = self.fresh("empty")
        await self.store.create_session(session, agent_type="assistant")
        took = await self._append(session, 0)
        await self.store.delete_session(session)
        return took

    async def _append(self, session: str, before: int) -> float:
        added = [message(0, self.content)]
        count = before
        began = time.perf_counter()
        for _ in range(self.appends):
            count = await self.store.append_messages(session, added)
        seconds = time.perf_counter() - began
        check(count, before + self.appends, "count that the last append returned")
        check(await self.store.get_message_count(session), before + self.appends, "messages stored")
        return seconds / self.appends * 1e6


class SaveBytes(Measure):
    """`save_state` of a whole state whose conversation has one more message. Bytes to and from the server."""

    key = "P7"
    what = "save_state with one new message among 10 000: bytes on the wire"
    against = "the limit, 4 KiB"
    unit = "bytes"
    target, reach = TARGETS["P7"]

    async def prepare(self) -> None:
        self.length = self.size.pick(10_000, 10_000, 100)
        self.saves = self.size.pick(100, 20, 3)
        self.content = content_of(self.size)
        self.micros: list[float] = []
        self.store = RedisStateStore(self.server.url)
        self.state = AgentState("long", "assistant")
        self.state.custom_state = {"plan": ["search", "read", "answer"], "found": 17, "notes": SENTENCE * 3}
        self.state.messages = [message(number, self.content) for number in range(self.length)]
        await self.store.save_state("long", self.state)
        self.theirs = await self._pydantic_bytes()

    async def _pydantic_bytes(self) -> int:
        """The pydantic store, which sends the whole state."""
        store = PydanticStore(self.server.socket_path)
        try:
            messages = [Message.model_validate(one) for one in self.state.messages]
            session = Session(session_id="long", agent_type="assistant", messages=messages)
            await store.save(session)
            before = self.probe.network_bytes()
            await store.save(session)
            return self.probe.network_bytes() - before - self._of_probe()
        finally:
            await store.close()

    def _of_probe(self) -> int:
        """Bytes of the question for the bytes."""
        before = self.probe.network_bytes()
        return self.probe.network_bytes() - before

    async def clean(self) -> None:
        await self.store.close()

    async def ours(self) -> float:
        of_probe = self._of_probe()
        before = self.probe.network_bytes()
        began = time.perf_counter()
        for _ in range(self.saves):
            self.state.messages.append(message(len(self.state.messages), self.content))
            await self.store.save_state("long", self.state)
        self.micros.append((time.perf_counter() - began) / self.saves * 1e6)
        used = self.probe.network_bytes() - before - of_probe
        page = await self.store.get_messages("long", newest_first=True, limit=1)
        check((page.total, page.messages), (len(self.state.messages), self.state.messages[-1:]), "messages stored")
        return used / self.saves

    async def baseline(self) -> float:
        return SAVE_BYTES

    def also(self) -> Iterator[Also]:
        yield Also("pydantic store, the same save", self.theirs, "bytes")
        yield Also("time of a save, ours", statistics.median(self.micros), "µs", SAVE_MICROS)


MEASURES = (Append, SaveBytes)
test_state = benchmark_of(*MEASURES)
