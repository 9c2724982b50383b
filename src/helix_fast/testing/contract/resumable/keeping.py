"""What resumable storages keep, and from whom they take it: trimming, and tokens of appends."""

from __future__ import annotations

import pytest

from helix_fast import StaleFencingTokenError
from helix_fast.interfaces import ResumableStorage, StreamManager
from helix_fast.testing.contract.chunk_helpers import number, numbers, sequences
from helix_fast.testing.contract.fixtures import MakeStorage, MakeStreams


async def test_appends_trim_within_the_bounds(make_storage: MakeStorage) -> None:
    storage = make_storage(max_stream_length=50)
    await storage.create("s")
    last = 0
    for n in range(200):
        chunks = numbers(range(n % 4 + 1))
        await storage.append_many("s", chunks, last + 1, fencing_token=n // 20)
        last += len(chunks)
        info = await storage.get_metadata("s")
        assert info is not None
        assert min(50, last) <= info.chunk_count <= 50 * 1.1 + 5
        assert info.last_sequence == last


async def test_without_a_length_all_is_kept(make_storage: MakeStorage, make_streams: MakeStreams) -> None:
    for length in (None, 0):
        storage = make_storage(max_stream_length=length)
        async with await make_streams(max_stream_length=length).create_writer(f"s{length}", "a") as writer:
            for n in range(9000):
                writer.send(number(n))
        assert len(await storage.read_from(f"s{length}")) == 9000
        await storage.append(f"s{length}", number(1), 9001)
        assert (await storage.read_from(f"s{length}", limit=1))[0].sequence == 1


async def test_a_token_of_an_append_fences_older_writers(storage: ResumableStorage, streams: StreamManager) -> None:
    writer = await streams.create_writer("s", "a", fencing_token=5)
    await writer.write(number(1))
    await storage.append("s", number(2), 2, fencing_token=6)
    await storage.append("s", number(2), 2, fencing_token=6)
    await storage.append("s", number(3), 3, fencing_token=6)
    with pytest.raises(StaleFencingTokenError):
        await writer.write(number(4))
    with pytest.raises(StaleFencingTokenError):
        await storage.append("s", number(4), 4, fencing_token=5)
    assert sequences(await storage.read_from("s")) == [1, 2, 3]
    for after in range(4):
        assert sequences(await storage.read_from("s", after)) == list(range(after + 1, 4))
