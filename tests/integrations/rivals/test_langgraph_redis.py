"""What LangGraph's official Redis saver needs, and HelixSaver does not."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import pytest

pytest.importorskip("langgraph.checkpoint.redis")

from langgraph.checkpoint.base import empty_checkpoint
from redis.exceptions import ResponseError

from examples.copy_threads import open_source
from helix_fast.integrations.langgraph import HelixSaver


async def use(saver: Any) -> bool:
    """Set it up, put a checkpoint, and read it."""
    await saver.asetup()
    config = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    stored = await saver.aput(config, empty_checkpoint(), {"step": 1}, {})
    return await saver.aget_tuple(stored) is not None


async def test_a_server_without_modules_has_no_commands_for_theirs_and_all_for_ours(server_url: str) -> None:
    async with HelixSaver.from_url(server_url) as ours:
        assert await use(ours)
    with pytest.raises(ResponseError, match=r"unknown command.*(FT|JSON)\."):
        async with open_source(f"redis-stack:{server_url}") as theirs:  # as the program that copies threads does
            await use(theirs)
    with warnings.catch_warnings():  # of the connections that it leaves open
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
