"""Fixtures of the benchmarks' tests."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True)
def tests_stay_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A measure thaws all objects when it ends: each later garbage collection would go through thousands of tests."""
    monkeypatch.setattr(gc, "unfreeze", lambda: None)
