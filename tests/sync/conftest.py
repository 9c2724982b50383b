"""The contract's stores, blocking: on memory and on a server."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from helix_fast.sync import loop
from tests.support.backends import Backend, Backends
from tests.support.helix_internals import lock_waiters
from tests.support.threaded import store_of

Factory = Callable[..., Any]
HERE = Path(__file__).parent
OTHER = (
    # A thread cannot be cancelled; what interrupts one is in test_loop.py.
    "cancelled",
    "given_up",
    "test_loss_cancels_the_body",
    "test_a_cancellation_from_outside",
    # A source is a plain iterable here; see test_stores.py.
    "source",
    "stop_request_nothing_is_passed_on",
    # on_lost and callbacks are plain functions here, and the adapter makes them of others.
    "test_on_lost_must_be_a_plain_function",
    # Calls of several threads begin in no order, and the loop sends at once what a thread sends slowly.
    "keep_their_order",
    "test_drain_waits_only",
    "test_many_entries_are_few_requests",
)
LONG = (
    "test_random_histories",
    "test_any_json_survives",
    "racing_callers",
    "test_trimming",
    "test_without_a_length_all_is_kept",
    "test_appends_trim",
    "test_from_every_sequence",
    "where_stored_meets_live",
    "a_writer_knew_of_a_listener",
    "several_pages",
    "too_many_entries",
    "long_lists",
    "thousands",
    "listeners_everywhere",
    "read_from_gives_the_rest",
)
"""Through threads these take seconds, and show nothing new."""


@cache
def sends_and_fails(function: Callable[..., Any]) -> bool:
    """Whether a test counts on it that what it sends without waiting leaves in one turn of its own event loop."""
    source = inspect.getsource(function)
    return ".send" in source and ("raises" in source or "errors" in source)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the contract, what makes sense for threads; the longer part with --thorough."""
    ours = [item for item in items if item.path.parent == HERE and item.path.name.startswith("test_contract")]
    gone = set()
    for item in ours:
        calm = "memory" in item.name and item.path.stem == "test_contract"
        if (
            not (calm or config.getoption("--thorough"))
            or any(part in item.name for part in (*OTHER, *LONG))
            or sends_and_fails(item.function)  # type: ignore[attr-defined]
        ):
            gone.add(item)
    config.hook.pytest_deselected(items=list(gone))
    items[:] = [item for item in items if item not in gone]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without --thorough nothing of it would run."""
    return True if collection_path.name == "test_contract_records.py" and not config.getoption("--thorough") else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Both places; without --thorough the contract in memory alone."""
    if "place" in metafunc.fixturenames:
        few = metafunc.module.__name__.endswith("test_contract") and not metafunc.config.getoption("--thorough")
        metafunc.parametrize("place", ["memory"] if few else ["memory", "embedded"], indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, backends: Backends) -> Backend:
    """Where the stores of a test are: an empty server."""
    return backends.get(request.param)


@pytest.fixture
def thorough() -> bool:
    return False


@pytest.fixture
def waiters_of() -> Callable[[Any, str], Any]:
    async def waiters(manager: Any, session_id: str) -> int:
        return loop.run(lock_waiters(manager.blocking._async, session_id))

    return waiters


@pytest.fixture
def stop_renewing() -> Callable[[Any], Any]:
    async def stop(manager: Any) -> None:
        loop.run(manager._leases.close())

    return stop


@pytest.fixture
def new_state_store(place: Backend) -> Factory:
    return partial(store_of, place, "state")


@pytest.fixture
def new_stream_manager(place: Backend) -> Factory:
    return partial(store_of, place, "streams")


@pytest.fixture
def new_resumable_storage(place: Backend) -> Factory:
    return partial(store_of, place, "resumable")


@pytest.fixture
def new_usage_store(place: Backend) -> Factory:
    return partial(store_of, place, "usage")


@pytest.fixture
def new_lock_manager(place: Backend) -> Factory:
    return partial(store_of, place, "locks")
