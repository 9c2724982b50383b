"""Recovery by itself, on a real server: each outcome that a batch can have, without an appender."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from helix_fast.codec import Batch
from helix_fast.errors import (
    StaleFencingTokenError,
    StoreConnectionError,
    StoreResponseError,
    StreamClosedError,
    StreamDeletedError,
    StreamFencedError,
    StreamResetError,
)
from helix_fast.keys import StreamKeys
from helix_fast.streams.recovery import (
    Assigned,
    Closed,
    Outcome,
    Position,
    Recovery,
    Rejoined,
    Resend,
    Stored,
    Unknown,
    Unreachable,
)
from helix_fast.streams.terms import Terms
from tests.support.proxy import FaultProxy
from tests.support.streams_under_fault import StreamStore, deltas, logged, storage, text

pytestmark = pytest.mark.timeout(60)
NONCE = b"abcd0001"


@pytest.fixture
async def store(server_url: str) -> AsyncIterator[StreamStore]:
    async with storage(server_url, max_stream_length=25) as opened:
        yield opened


async def opened(store: StreamStore, chunks: int = 2, token: int | None = None) -> Terms:
    """A stream "s" with so many chunks; the terms of its writer."""
    writer = await store.create_writer("s", "agent", fencing_token=token)
    for n in range(chunks):
        await writer.write(text(n))
    terms = writer._appender.terms
    await writer.close()
    return terms


def position(store: StreamStore, terms: Terms, last: int, **more: Any) -> Position:
    generation = store._requests.topology.generation("s")
    return Position("s", StreamKeys("helix:", "s"), terms, generation, b"", b"", last, **more)


def batch_at(first: int, body: bytes = b'{"type":"text_delta","delta":"new"}', *, doubtful: bool = False) -> Batch:
    batch = Batch(body, 1, [], NONCE)
    batch.first, batch.sent, batch.doubtful = first, True, doubtful
    return batch


async def last_entry(store: StreamStore) -> dict[bytes, bytes]:
    ((_id, fields),) = await store._requests.command("s", b"XREVRANGE", b"helix:stream:{s}", b"+", b"-", b"COUNT", 1)
    return dict(zip(fields[::2], fields[1::2], strict=True))


async def resolve(store: StreamStore, batch: Batch, there: Position) -> Outcome:
    outcome, found = await Recovery(store._requests).resolve(batch, there)
    assert isinstance(found, Rejoined) or not isinstance(outcome, Resend)
    return outcome


async def test_a_batch_that_is_in_the_stream_is_stored(store: StreamStore) -> None:
    terms = await opened(store)
    entry = await last_entry(store)
    batch = Batch(entry[b"chunk"], 1, [], entry[b"writer"])
    batch.first, batch.sent = 2, True
    assert await resolve(store, batch, position(store, terms, 1)) == Stored(2, None)
    other = Batch(b"{}", 1, [], entry[b"writer"])
    other.first, other.sent = 2, True
    assert await resolve(store, other, position(store, terms, 1)) == Resend(), "its bytes are others"


async def test_a_batch_that_is_not_in_the_stream_is_sent_again_after_its_end(store: StreamStore) -> None:
    terms = await opened(store, chunks=3)
    for batch, last in ((batch_at(4), 3), (batch_at(2), 1)):  # the second is overtaken
        outcome, found = await Recovery(store._requests).resolve(batch, position(store, terms, last))
        assert isinstance(found, Rejoined)
        assert (outcome, found.last, found.terms.key) == (Resend(), 3, terms.key)


async def test_a_log_that_knows_less_than_its_writer_begins_a_term_behind_all_of_it(store: StreamStore) -> None:
    terms = await opened(store, chunks=3)
    outcome, found = await Recovery(store._requests).resolve(batch_at(8), position(store, terms, 7))
    assert isinstance(found, Rejoined)
    assert (outcome, found.last, found.terms.end_of(terms.key, found.last)) == (Resend(), 7, 3)
    assert found.terms.current > terms.current


async def closed_by(store: StreamStore, terms: Terms, *, assisted: bool) -> Closed:
    outcome = await resolve(store, batch_at(3), position(store, terms, 2, assisted=assisted))
    assert isinstance(outcome, Closed)
    return outcome


@pytest.mark.parametrize("assisted", [False, True])
async def test_a_stream_that_takes_nothing_more_says_why(store: StreamStore, assisted: bool) -> None:
    terms = await opened(store, token=1)
    await store.create_writer("s", "other", fencing_token=2)
    error = (await closed_by(store, terms, assisted=assisted)).make_error([b"unsent"])
    assert isinstance(error, StaleFencingTokenError)
    assert list(error.unsent) == [b"unsent"]
    terms.token = None
    assert isinstance((await closed_by(store, terms, assisted=assisted)).make_error(()), StreamFencedError)
    await store.reset_stream("s")
    assert isinstance((await closed_by(store, terms, assisted=assisted)).make_error(()), StreamResetError)
    await store.end_stream("s")
    assert isinstance((await closed_by(store, terms, assisted=assisted)).make_error(()), StreamClosedError)
    await store.delete_stream("s")
    assert isinstance((await closed_by(store, terms, assisted=assisted)).make_error(()), StreamDeletedError)


@pytest.mark.parametrize("assisted", [False, True])
async def test_a_doubtful_batch_whose_place_is_trimmed_is_unknown(store: StreamStore, assisted: bool) -> None:
    terms = await opened(store, chunks=60)
    outcome = await resolve(store, batch_at(1, doubtful=True), position(store, terms, 59, assisted=assisted))
    assert outcome == Unknown()
    assert len(await store.read_from("s", 50)) == 10, "nothing was added"


async def test_the_server_assigns_a_sequence_once(store: StreamStore) -> None:
    terms = await opened(store)
    for _ in range(3):
        assert await resolve(store, batch_at(2), position(store, terms, 1, assisted=True)) == Assigned(terms.current, 3)
    assert await logged(store, "s") == ["0", "1", "new"]


async def test_an_assisted_batch_trims(store: StreamStore) -> None:
    terms = await opened(store, chunks=3)
    below = b"%d-3" % terms.current
    outcome = await resolve(store, batch_at(4), position(store, terms, 3, assisted=True, trim_below=below))
    assert outcome == Assigned(terms.current, 4)
    entries = await store._requests.command("s", b"XRANGE", b"helix:stream:{s}", b"-", b"+")
    assert [entry_id for entry_id, _fields in entries] == [below, b"%d-4" % terms.current]


@pytest.mark.parametrize("assisted", [False, True])
async def test_a_cause_that_does_not_pass_is_given_back(store: StreamStore, assisted: bool) -> None:
    terms = await opened(store)
    refusal, lost = StoreResponseError("WRONGTYPE no stream"), StoreConnectionError("lost")
    there = position(store, terms, 2, assisted=assisted)
    assert await resolve(store, batch_at(3), there._replace(cause=refusal)) == Unreachable(refusal)
    late = there._replace(cause=lost, failing_for=store._requests.retry_timeout + 1)
    assert await resolve(store, batch_at(3), late) == Unreachable(lost)
    assert await logged(store, "s") == ["0", "1"]
    for cause in (lost, StoreResponseError("OOM no memory")):
        assert not isinstance(await resolve(store, batch_at(3), there._replace(cause=cause)), Unreachable)


@pytest.mark.faults
@pytest.mark.parametrize("assisted", [False, True])
async def test_a_server_that_does_not_answer_is_unreachable(
    server_url: str, fault_proxy: FaultProxy, assisted: bool
) -> None:
    async with storage(fault_proxy.url, retry_timeout=0) as store, storage(server_url) as direct:
        terms = await opened(store)
        fault_proxy.refuse()
        fault_proxy.cut_after_reply_bytes(0)
        outcome = await resolve(store, batch_at(3), position(store, terms, 2, assisted=assisted))
        assert isinstance(outcome, Unreachable)
        assert isinstance(outcome.error, StoreConnectionError)
        assert outcome.doubtful == assisted, "an assisted append may have been stored"
        fault_proxy.heal()
        await fault_proxy.start()
        batch = batch_at(3, doubtful=outcome.doubtful)
        again = await resolve(store, batch, position(store, terms, 2, assisted=assisted))
        assert isinstance(again, Assigned if assisted else Resend)
        assert deltas(await direct.read_from("s")) == (["0", "1", "new"] if assisted else ["0", "1"])
