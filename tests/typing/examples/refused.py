"""Mistakes that type checkers find. Not run: test_revealed.py expects errors in the marked lines, and in no other."""

from __future__ import annotations

from helix_fast import (
    AgentState,
    Helix,
    InMemoryStreamManager,
    Lock,
    MergeChanges,
    RedisResumableStorage,
    RedisStateStore,
    TokenUsage,
    connect,
)


async def mistakes(helix: Helix, lock: Lock) -> None:
    await helix.state.load_state(7)  # refused: an id is a text
    await helix.state.update_status("s", "running", lock.fencing_token)  # refused: tokens are named
    await helix.state.update_status("s", "running", fencing_token=lock)  # refused: the lock is not its token
    await helix.state.merge_custom_state("s", MergeChanges(["a"]))  # refused: values have names
    state = await helix.state.load_state("s")
    state.version += 1  # refused: there may be none
    await helix.streams.create_resumable_reader("s", from_sequence=b"7")  # refused: a position is a number or a text
    async with await helix.streams.create_writer("s", "agent") as writer:
        writer.send_text(b"bytes")  # refused: text
        await writer.send_text("text")  # refused: it does not wait
    await helix.usage.record_entry(TokenUsage(session_id="s"))  # refused: of which model?
    RedisStateStore("redis://localhost", key_prefix=b"p:")  # refused: a prefix is a text
    AgentState(session_id="s")  # refused: agent_type is missing
    connect("redis://localhost", passwort="p")  # refused: no such option
    connect("redis://localhost", streams={"max_len": 1})  # refused: no such option
    connect("redis://localhost", usage={"ttl": 1})  # refused: it is ttl_seconds
    connect("redis://localhost", timeout="5")  # refused: seconds are a number
    connect("redis://localhost", ssl_cert_reqs="some")  # refused: none, optional or required
    RedisStateStore("redis://localhost", max_checkpoint=1)  # refused: no such option
    RedisResumableStorage("redis://localhost", max_len=1)  # refused: no such option
    InMemoryStreamManager(max_len=1)  # refused: no such option
    helix.state.on("errors", print)  # refused: there is only "error"
