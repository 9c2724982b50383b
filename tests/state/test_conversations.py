"""Long conversations: one snapshot, work in slices, and the same log however it is reckoned."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix_fast import slices
from helix_fast.errors import InvalidArgumentError, MalformedStateError
from helix_fast.state import conversation
from helix_fast.state.conversation import Conversation, decode_messages, encode_messages
from helix_fast.state.log import EMPTY, Log
from helix_fast.state.schema import AgentState
from helix_fast.state.store import RedisStateStore

OBJECTS = st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5)), max_size=14)


def messages(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"n": number, "text": "x" * 20} for number in range(start, start + count)]


@pytest.fixture(autouse=True)
def small_parts() -> Iterator[None]:
    """Every piece of work is a slice of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversation, "_PART", 4)
        patch.setattr(slices, "SLICE_SECONDS", 0.0)
        yield


def chain(encoded: list[bytes]) -> str:
    digest = ""
    for line in encoded:
        digest = hashlib.sha1(digest.encode() + line, usedforsecurity=False).hexdigest()
    return digest


@given(OBJECTS, st.integers(0, 15), st.integers(0, 15))
def test_parts_say_the_same_as_messages_one_by_one(given_messages: list[Any], known: int, asked: int) -> None:
    encoded = encode_messages(given_messages)
    asked = min(asked, len(encoded))

    async def run() -> None:
        assert await Conversation(given_messages, known).messages() == encoded
        assert await Conversation(given_messages, known).messages(asked) == encoded[asked:]
        base = Log(asked, chain(encoded[:asked]))
        whole = Conversation(given_messages, known)
        assert await whole.begins(base)
        log = await whole.log(base, encoded[asked:])
        assert (log.count, log.digest) == (len(encoded), chain(encoded))
        # what is known of one save is enough for the next one
        text = hashlib.sha1(b"".join(line + b"," for line in encoded), usedforsecurity=False)
        assert log.text.digest() == text.digest()
        longer = Conversation([*given_messages, {"new": 1}], log.count)
        assert await longer.begins(Log(log.count, "the text decides", log.text))
        assert await longer.messages(log.count) == [b'{"new":1}']
        if given_messages:
            changed = Conversation([*given_messages[:-1], {"another": None}, {}], log.count)
            assert not await changed.begins(log)
            assert not await changed.begins(Log(log.count, log.digest))
        assert EMPTY.appended(encoded, len(encoded), chain(encoded)).text.digest() == text.digest()
        assert EMPTY.appended(encoded, len(encoded), "another").text is None
        again = hashlib.sha1(usedforsecurity=False)
        assert await decode_messages(encoded, "key", again) == given_messages
        assert again.digest() == text.digest()

    asyncio.run(run())


async def turns_during(work: Awaitable[Any]) -> int:
    turns = 0
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    await task
    return turns


async def test_other_tasks_run_while_a_long_conversation_is_read_split_or_hashed() -> None:
    encoded = encode_messages(messages(400))
    assert await turns_during(decode_messages(encoded, "key")) >= 100
    assert await turns_during(Conversation(messages(400)).messages()) >= 100
    known = await Conversation(messages(400)).log(EMPTY, encoded)
    assert await turns_during(Conversation(messages(401), 400).begins(known)) >= 100
    assert await turns_during(Conversation(messages(401)).begins(Log(400, known.digest))) >= 100


@pytest.mark.parametrize("knows", ["nothing", "the first ones", "others"])
async def test_a_save_stores_what_the_conversation_was_when_it_was_called(server_url: str, knows: str) -> None:
    async with RedisStateStore(server_url) as store:
        if knows != "nothing":
            first = messages(30, start=0 if knows == "the first ones" else 7)
            await store.save_state("s", AgentState("s", "a", messages=first))
        state = AgentState("s", "a", custom_state={"k": [1]}, messages=messages(60))
        saving = asyncio.ensure_future(store.save_state("s", state))
        await asyncio.sleep(0)
        for said in state.messages:
            said["text"] = "changed"
        state.messages.append({"new": 1})
        state.custom_state["k"].append(2)
        await saving
        stored = await store.load_state("s")
        assert stored is not None
        assert (stored.messages, stored.custom_state) == (messages(60), {"k": [1]})
        await store.save_state("s", state)  # and the next one knows that it is another
        stored = await store.load_state("s")
        assert stored is not None
        assert stored.messages == state.messages


async def test_concurrent_saves_of_one_session_leave_one_of_them_whole(server_url: str) -> None:
    async with RedisStateStore(server_url) as store:
        states = [AgentState("s", "a", messages=messages(40 + 10 * n, start=n % 2)) for n in range(4)]
        await asyncio.gather(*(store.save_state("s", state) for state in states))
        stored = await store.load_state("s")
        assert stored is not None
        assert stored.messages in [state.messages for state in states]
        await store.append_messages("s", messages(1))
        await store.save_state("s", AgentState("s", "a", messages=[*stored.messages, *messages(2)]))
        assert (await store.get_messages("s", limit=100)).messages == [*stored.messages, *messages(2)]


async def test_a_message_that_is_none_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match=r"messages\[7\]"):
        Conversation([*messages(7), {"a": float("nan")}, *messages(3)])
    with pytest.raises(InvalidArgumentError, match=r"messages\[7\] is no object"):
        await Conversation([*messages(7), [1], *messages(3)]).messages()
    two = Conversation([*messages(7), msgspec.Raw(b"{},{}"), *messages(3)])
    with pytest.raises(InvalidArgumentError, match="more than one"):
        await two.messages()
    none = Conversation([*messages(7), msgspec.Raw(b"{"), *messages(3)])
    with pytest.raises(InvalidArgumentError, match="is no JSON"):
        await none.messages()
    with pytest.raises(MalformedStateError, match=r"messages\[6\]"):
        await decode_messages([*encode_messages(messages(6)), b"[]"], "key")
