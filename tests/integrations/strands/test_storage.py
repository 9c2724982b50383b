"""HelixStorage: Strands' own storage in memory as the oracle, agents that go on elsewhere, and lost replies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("strands.storage")

from strands import Agent
from strands.models.model import Model
from strands.session import SnapshotSessionManager
from strands.storage import InMemoryStorage, LocalFileStorage
from strands.types.exceptions import StorageError

from helix_fast import Helix, InvalidArgumentError, InvalidIdError, connect
from helix_fast.integrations.strands import HelixStorage
from tests.support.eventually import eventually
from tests.support.proxy import FaultProxy

KEYS = ["a", "a/b", "a/b/c", "ab", "b", "sessions/1/x.json", "sessions/10/x.json", "ä/ü", "\U0001f600", "￿"]


@pytest.fixture
async def storage(each_url: str) -> AsyncIterator[HelixStorage]:
    made = HelixStorage(each_url)
    yield made
    await made.close()


class Echo(Model):
    """A model that answers with the number of messages that it was sent."""

    def update_config(self, **_config: Any) -> None:
        pass

    def get_config(self) -> dict[str, Any]:
        return {"model_id": "echo"}

    async def structured_output(self, *_args: Any, **_rest: Any) -> AsyncIterator[Any]:
        raise NotImplementedError
        yield

    async def stream(self, messages: Any, *_args: Any, **_rest: Any) -> AsyncIterator[Any]:
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockDelta": {"delta": {"text": f"{len(messages)} messages"}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


def agent(storage: Any, session: str = "s") -> Agent:
    manager = SnapshotSessionManager(session, storage=storage)
    return Agent(model=Echo(), agent_id="a", session_manager=manager, callback_handler=None)


async def test_a_random_history_reads_as_in_their_storage_in_memory(storage: HelixStorage) -> None:
    ours, theirs, chance = storage, InMemoryStorage(), random.Random(7)
    for _ in range(60):
        key = chance.choice(KEYS)
        if chance.random() < 0.6:
            data = chance.randbytes(chance.choice([0, 1, 40]))
            await ours.write(key, data)
            await theirs.write(key, data)
        else:
            await ours.delete(key)
            await theirs.delete(key)
        assert [await ours.read(each) for each in KEYS] == [await theirs.read(each) for each in KEYS]
        for prefix in ("", "a", "a/", "sessions/1", "none"):
            assert await ours.list(prefix) == await theirs.list(prefix)
    await ours.write("words", b"the quick brown fox")
    assert [found.key for found in await ours.search("brown")] == ["words"]


async def test_more_keys_than_fit_in_a_reply_are_listed_in_order(storage: HelixStorage) -> None:
    keys = [f"k/{number:05}" for number in range(1001)]
    await asyncio.gather(*(storage.write(key, b"") for key in keys))
    assert await storage.list("k/") == keys
    assert await storage.list("k/0100") == ["k/01000"]


async def test_an_agent_goes_on_in_another_process(storage: HelixStorage, each_url: str) -> None:
    """The second agent has connections of its own, where the server is not inside this process."""
    assert str(await agent(storage).invoke_async("one")).strip() == "1 messages"
    other = storage if each_url == "memory://" else HelixStorage(each_url)
    assert str(await agent(other).invoke_async("two")).strip() == "3 messages"
    await asyncio.to_thread(agent(other), "three")  # from another thread, on the event loop that it makes
    assert str(await agent(storage).invoke_async("four")).strip() == "7 messages"
    await SnapshotSessionManager("s", storage=storage).delete_session()
    assert await storage.list() == []
    if other is not storage:
        await other.close()


async def test_another_machine_finds_a_session_here_and_not_in_their_files(server_url: str, tmp_path: Path) -> None:
    """Each worker has a disk of its own: a session that a file holds ends with its machine."""
    answers = []
    for make in (lambda n: LocalFileStorage(str(tmp_path / str(n))), lambda _n: HelixStorage(server_url)):
        for number in (1, 2):
            storage: Any = make(number)
            answers.append(str(await agent(storage).invoke_async("hello")).strip())
            if isinstance(storage, HelixStorage):
                await storage.close()
    assert answers == ["1 messages", "1 messages", "1 messages", "3 messages"]


async def test_values_live_for_their_ttl_from_the_last_write(server_url: str) -> None:
    storage = HelixStorage(server_url, ttl=1000)
    await storage.write("k", b"1")
    async with connect(server_url) as helix:
        requests = helix.state._requests
        assert 900 < await requests.command("all", "TTL", "helix:strands:{all}:file:k") <= 1000
        await requests.command("all", "DEL", "helix:strands:{all}:file:k")  # as if it had expired
        assert await storage.list() == []
        assert await requests.command("all", "EXISTS", "helix:strands:{all}:names") == 0
    await storage.close()


@pytest.mark.faults
async def test_a_lost_reply_undoes_no_later_write(fault_proxy: FaultProxy, server_url: str) -> None:
    storage, direct = HelixStorage(fault_proxy.url), HelixStorage(server_url)
    await storage.write("k", b"0")
    fault_proxy.cut_after_reply_bytes(0)
    fault_proxy.refuse()  # the retry waits until another has written
    writing = asyncio.ensure_future(storage.write("k", b"1"))

    async def written() -> bool:
        return await direct.read("k") == b"1"

    await eventually(written)
    await direct.write("k", b"2")
    await fault_proxy.start()
    await writing
    assert await storage.read("k") == b"2"
    await storage.close()
    await direct.close()


async def test_groups_are_apart_and_what_is_wrong_is_refused(server_url: str) -> None:
    one, two = HelixStorage(server_url), HelixStorage(server_url, name="two")
    await one.write("k", b"1")
    assert await two.read("k") is None
    await one.close()
    await one.close()
    await two.close()
    with pytest.raises(StorageError):
        await one.read("k")
    with pytest.raises(InvalidIdError):
        HelixStorage(server_url, name="{}")
    async with connect(server_url) as helix:
        assert isinstance(helix, Helix)
        with pytest.raises(InvalidArgumentError, match="give it a URL"):
            HelixStorage(helix)  # type: ignore[arg-type]
