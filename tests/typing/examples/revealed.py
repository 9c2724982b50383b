# pyright: strict
"""What type checkers make of everyday code. Not run: test_revealed.py compares each `reveal_type` with its comment."""

from __future__ import annotations

from typing_extensions import reveal_type

from helix_fast import (
    AgentState,
    AgentStateSchema,
    Helix,
    InMemoryStateStore,
    MergeChanges,
    RedisLockManager,
    RedisStateStore,
    SequenceGapError,
    StreamPosition,
    TextDeltaChunk,
    TokenCounts,
    TokenUsage,
    ToolEndChunk,
    connect,
    decode_chunk,
    encode_chunk,
)
from helix_fast.interfaces import LockManager, StateStore


async def connecting() -> None:
    async with connect("redis://localhost", streams={"max_stream_length": 100}) as helix:
        reveal_type(helix)  # Helix
        reveal_type(helix.state)  # RedisStateStore
        reveal_type(helix.streams)  # RedisStreamManager
        reveal_type(helix.resumable)  # RedisResumableStorage
        reveal_type(helix.usage)  # RedisUsageStore
        reveal_type(helix.locks)  # RedisLockManager
    reveal_type(await connect("memory://"))  # Helix


async def sessions(helix: Helix) -> None:
    reveal_type(await helix.state.create_session("s", agent_type="a"))  # AgentState
    state = await helix.state.load_state("s")
    reveal_type(state)  # AgentState | None
    assert state is not None
    reveal_type(state.messages)  # list[Any]
    reveal_type(state.version)  # int
    reveal_type(await helix.state.save_state("s", state, expected_version=state.version))  # int
    page = await helix.state.get_messages("s", newest_first=True)
    reveal_type(page)  # MessagePage
    reveal_type(page.has_more)  # bool
    merged = await helix.state.merge_custom_state("s", MergeChanges(values={"a": 1}))
    reveal_type(merged.warnings)  # list[str]
    checkpoints = await helix.state.list_checkpoints("s")
    reveal_type(checkpoints.items)  # list[Checkpoint]
    reveal_type(await helix.state.get_latest_checkpoint("s"))  # Checkpoint | None
    promoted = await helix.state.promote_staging("s", "step")
    reveal_type(promoted.applied)  # int
    parsed = AgentStateSchema.safe_parse({})
    reveal_type(parsed.data)  # AgentState | None


async def streams(helix: Helix) -> None:
    async with await helix.streams.create_writer("s", "agent") as writer:
        reveal_type(await writer.write({"type": "text_delta", "delta": "a"}))  # int
        reveal_type(await writer.write(TextDeltaChunk(delta="b")))  # int
        reveal_type(writer.send_text("c"))  # None
    reveal_type(helix.streams.read("s", wait_ms=5))  # ResumableReader
    async for live in helix.streams.read("s"):
        reveal_type(live)  # StoredChunk
    reveal_type(await helix.streams.exists("s"))  # bool
    reader = await helix.streams.create_resumable_reader("s", from_sequence=3)
    assert reader is not None
    async with reader:
        async for stored in reader:
            reveal_type(stored)  # StoredChunk
            reveal_type(stored.position)  # StreamPosition
            chunk, sequence, epoch = stored
            reveal_type(sequence)  # int
            reveal_type(epoch)  # str
            if isinstance(chunk, ToolEndChunk):
                reveal_type(chunk.tool_call_id)  # str
            elif isinstance(chunk, TextDeltaChunk):
                reveal_type(chunk.delta)  # str
                reveal_type(chunk.timestamp)  # int | None
    info = await helix.streams.get_info("s")
    assert info is not None
    reveal_type(info.last_sequence)  # int
    reveal_type(StreamPosition.parse("epoch:3"))  # StreamPosition
    reveal_type(encode_chunk(decode_chunk(b"{}")))  # bytes


async def usage(helix: Helix) -> None:
    entry = TokenUsage(session_id="s", model="m", tokens=TokenCounts(prompt=1))
    reveal_type(await helix.usage.record_entry(entry))  # bool
    rollup = await helix.usage.get_rollup("s", include_sub_agents=True)
    reveal_type(rollup)  # UsageRollup | None
    assert rollup is not None
    reveal_type(rollup.tokens.total)  # int
    reveal_type(rollup.by_model["m"].calls)  # int


async def locks(helix: Helix, manager: RedisLockManager) -> None:
    async with helix.locks.hold("s", wait_ms=100) as lock:
        reveal_type(lock)  # Lock
        reveal_type(lock.fencing_token)  # int
    reveal_type(await manager.acquire("s"))  # Lock | None
    reveal_type(await manager.get_holder("s"))  # LockInfo | None


def errors(error: SequenceGapError) -> None:
    reveal_type(error.code)  # str
    reveal_type(error.retryable)  # bool
    reveal_type(error.first_available)  # int


async def a_store_of_ones_own_choice(store: StateStore, locks: LockManager) -> AgentState | None:
    """Code that is written against the Protocols takes both backends."""
    reveal_type(await locks.is_locked("s"))  # bool
    return await store.load_state("s")


async def both_backends(locks: RedisLockManager) -> None:
    reveal_type(await a_store_of_ones_own_choice(RedisStateStore("redis://localhost"), locks))  # AgentState | None
    reveal_type(await a_store_of_ones_own_choice(InMemoryStateStore(), locks))  # AgentState | None
