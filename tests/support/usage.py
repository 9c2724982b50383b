"""What the tests of usage share; the contract suite's own."""

from __future__ import annotations

from collections.abc import Callable

from helix_fast.testing.contract.entries import sub_agent, tokens, total
from helix_fast.usage.store import RedisUsageStore

__all__ = ["MakeUsageStore", "sub_agent", "tokens", "total"]

MakeUsageStore = Callable[..., RedisUsageStore]
