"""Sealing while connections break, replies are lost, and streams change under it; and in the background."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helix_fast import InvalidArgumentError, RedisStreamManager, StoreConnectionError, StreamClosedError
from helix_fast.streams import sealed as sealed_module
from helix_fast.streams import sealer as sealer_module
from helix_fast.testing.contract.chunk_helpers import numbers, rest
from helix_fast.testing.contract.fixtures import MakeStreams
from helix_fast.testing.contract.lock_helpers import comes_true
from tests.support.proxy import FaultProxy
from tests.support.streams_under_fault import StreamStore, collect_errors, logged, storage, text

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]
STREAM = "helix:stream:{s}"


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sealed log is sent in several parts."""
    monkeypatch.setattr(sealed_module, "_WANTED_BYTES", 600)
    monkeypatch.setattr(sealer_module, "_PAGE_ENTRIES", 5)
    monkeypatch.setattr(sealer_module, "_PART_BYTES", 100)


async def prepared(store: StreamStore, stream: str = "s", count: int = 24) -> list[str]:
    """An ended stream; returns its texts."""
    async with await store.create_writer(stream, "agent") as writer:
        for n in range(count):
            await writer.write(text(f"token {n}"))
        await writer.end()
    return [f"token {n}" for n in range(count)]


async def is_sealed(store: StreamStore, stream: str = "s") -> bool:
    terms = await store._requests.command(stream, b"HGET", f"helix:stream:{{{stream}}}:meta", b"terms")
    return bool(terms.startswith(b"sealed,"))


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("retry_timeout", [0.0, 10.0], ids=["given up", "repeated"])
@pytest.mark.parametrize("direction", ["request", "reply"])
async def test_a_cut_while_sealing_leaves_the_one_log_or_the_other(
    server_url: str, fault_proxy: FaultProxy, direction: str, retry_timeout: float
) -> None:
    async with storage(server_url) as there, storage(fault_proxy.url, retry_timeout=retry_timeout) as here:
        for stream in ("warm", "measured"):
            await prepared(there, stream)
            before = getattr(fault_proxy, f"{direction}_bytes")
            assert await here.seal_stream(stream)
        size = getattr(fault_proxy, f"{direction}_bytes") - before
        for number in range(6):
            name = f"s{number}"
            texts = await prepared(there, name)
            getattr(fault_proxy, f"cut_after_{direction}_bytes")(size * number // 5 - (number == 5))
            try:
                assert await here.seal_stream(name)
            except StoreConnectionError:
                assert not retry_timeout
            fault_proxy.heal()
            assert await logged(there, name) == texts
            assert await there.seal_stream(name)
            assert await is_sealed(there, name)
            assert await logged(there, name) == texts


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("change", ["reset", "delete", "trim", "seal", "expire the draft", "nothing"])
async def test_what_changes_between_reading_and_replacing_is_not_overwritten(
    server_url: str, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    async with storage(server_url) as there, storage(fault_proxy.url) as here:
        texts = await prepared(there)
        send, calls = sealer_module._Draft._send, 0

        async def changed(draft: Any, *, last: bool = False) -> bool:
            nonlocal calls
            calls += 1
            if calls == 3:
                if change == "reset":
                    await there.reset_stream("s")
                    async with await there.create_writer("s", "b") as writer:
                        await writer.write(text("new"))
                elif change == "delete":
                    await there.delete_stream("s")
                elif change == "trim":
                    await there._requests.command("s", b"XTRIM", STREAM, b"MAXLEN", 15)
                elif change == "seal":
                    assert await there.seal_stream("s")
                elif change == "expire the draft":
                    await there._requests.command("s", b"DEL", draft._key)
            return await send(draft, last=last)

        monkeypatch.setattr(sealer_module._Draft, "_send", changed)
        sealed = await here.seal_stream("s")
        assert sealed == (change not in {"reset", "delete"})
        assert await there._requests.command("s", b"KEYS", b"*sealing*") == []
        found = [
            getattr(stored.chunk, "delta", "") for stored in await there.read_from("s", 0 if change != "trim" else 11)
        ]
        assert found == {"reset": ["new"], "delete": [], "trim": texts[11:]}.get(change, texts)


@pytest.mark.usefixtures("in_parts")
async def test_a_draft_of_a_process_that_died_expires(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with storage(server_url) as store:
        texts = await prepared(store)
        send = sealer_module._Draft._send
        hung = asyncio.Event()

        async def hang(draft: Any, *, last: bool = False) -> bool:
            if last:
                hung.set()
                await asyncio.Event().wait()
            return await send(draft, last=last)

        monkeypatch.setattr(sealer_module._Draft, "_send", hang)
        sealing = asyncio.ensure_future(store.seal_stream("s"))
        await hung.wait()
        sealing.cancel()
        (draft,) = await store._requests.command("s", b"KEYS", b"*sealing*")
        assert 0 < await store._requests.command("s", b"PTTL", draft) <= 60_000
        assert not await is_sealed(store)
        assert await logged(store, "s") == texts


async def test_a_write_whose_reply_was_lost_is_found_in_the_sealed_log(
    server_url: str, fault_proxy: FaultProxy
) -> None:
    async with storage(server_url) as there, storage(fault_proxy.url) as here:
        writer = await here.create_writer("s", "agent")
        await writer.write_many([text(n) for n in range(20)])
        fault_proxy.drop_replies()
        writing = asyncio.ensure_future(writer.write_many([text(n) for n in range(20, 40)]))
        await comes_true(lambda: reached(there, 40))
        await there.end_stream("s")
        assert await there.seal_stream("s")
        assert await is_sealed(there)
        fault_proxy.heal()
        fault_proxy.cut_all()
        assert await writing == 40
        with pytest.raises(StreamClosedError):
            await writer.write(text("more"))


async def reached(store: StreamStore, last: int) -> bool:
    info = await store.get_info("s")
    return info is not None and info.last_sequence == last


# in the background


async def test_a_manager_seals_what_it_has_ended(make_streams: MakeStreams, raw: Any) -> None:
    streams, patient = make_streams(seal_after=0.05), make_streams(seal_after=3600)
    for manager, name in ((streams, "by writer"), (streams, "by manager"), (patient, "later")):
        async with await manager.create_writer(name, "a") as writer:
            await writer.write_many(numbers(range(50)))
            if name == "by writer":
                await writer.fail("why")
            else:
                await manager.end_stream(name)

    async def sealed() -> list[bool]:
        names = [f"helix:stream:{{{name}}}:meta" for name in ("by writer", "by manager", "later")]
        return [(await raw.hget(name, "terms")).startswith(b"sealed,") for name in names]

    await comes_true(lambda: is_now(sealed, [True, True, False]))
    assert len(await rest(patient.read("by manager"))) == 50
    await patient.close()
    assert await sealed() == [True, True, False]


async def is_now(found: Any, expected: object) -> bool:
    return bool(await found() == expected)


async def test_an_error_of_sealing_is_reported_and_the_next_stream_is_sealed(server_url: str) -> None:
    async with StreamStore(server_url, seal_after=1) as store:
        errors = collect_errors(store)
        for n in range(20):  # until one is not sealed yet when it is made foreign: a busy machine may be late
            await prepared(store, f"bad{n}")
            key = b"helix:stream:{bad%d}" % n
            await store._requests.command(f"bad{n}", b"DEL", key)
            await store._requests.command(f"bad{n}", b"SET", key, b"foreign")
            if not await is_sealed(store, f"bad{n}"):
                break
        await prepared(store, "s")
        await comes_true(lambda: is_sealed(store))
        assert [error.code for error in errors] == ["malformed_stream"]


@pytest.mark.parametrize("value", [-1, "soon", float("nan")])
def test_seal_after_is_a_number_of_seconds(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="seal_after"):
        RedisStreamManager(seal_after=value)
