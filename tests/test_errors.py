"""Errors tell programs whether the same call may succeed later, and arrive whole wherever they are sent."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import pytest

from helix_fast import EmbeddedServerUnavailableError, HelixError, MalformedChunkError, StoreResponseError, errors
from helix_fast.usage.schema import TokenCounts, TokenUsage
from tests.support.errors import told


@pytest.mark.parametrize(
    ("answer", "retryable"),
    [
        ("TRYAGAIN Multiple keys request during rehashing of slot", True),
        ("LOADING the dataset is in memory soon", True),
        ("CLUSTERDOWN The cluster is down", True),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", False),
        ("NOPERM this user has no permissions", False),
        ("OOM command not allowed when used memory > 'maxmemory'.", True),
        ("", False),
    ],
)
def test_answer_of_a_server_in_passing_trouble_is_retryable(answer: str, retryable: bool) -> None:
    assert StoreResponseError(answer).retryable is retryable


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no notes")
def test_traceback_shows_what_to_do() -> None:
    error = EmbeddedServerUnavailableError("no program")
    assert traceback.format_exception(error)[-1] == f"hint: {error.hint}\n"
    assert "hint" not in "".join(traceback.format_exception(HelixError("nothing to be done")))


@pytest.mark.parametrize(
    ("answer", "server_code", "hint"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM", "maxmemory"),
        ("OOM command not allowed when used memory > 'maxmemory'. script: f, on @user_script:9.", "OOM", "maxmemory"),
        (
            "ERR Error running script (call to f_1): @user_script:9: @user_script: 9: -OOM command not allowed when "
            "used memory > 'maxmemory'.",
            "OOM",
            "maxmemory",
        ),
        ("NOPERM User app has no permissions to run the 'xadd' command", "NOPERM", "docs/operations.md"),
        ("MISCONF Redis is configured to save RDB snapshots", "MISCONF", "log"),
        ("ERR Error running script (call to f_1): @user_script:9: nil", "ERR", ""),
        ("ERR -OOM is no command", "ERR", ""),
    ],
)
def test_a_refusal_says_what_to_do_also_from_inside_a_script(answer: str, server_code: str, hint: str) -> None:
    error = StoreResponseError(answer)
    assert error.server_code == server_code
    assert bool(error.hint) == bool(hint)
    assert hint in error.hint


# Every class, made with an argument of each kind that its signature names.
ARGUMENTS: dict[str, object] = {
    "str": "text",
    "str | None": "a hint",
    "int": 5,
    "int | None": 5,
    "object": b"data",
    "BaseException | None": None,
    "Sequence[bytes]": [b"one", b"two"],
    "Sequence[object]": [TokenUsage(session_id="s", model="m", tokens=TokenCounts(prompt=1), id="a")],
}
CLASSES = [kind for _name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, HelixError)]


def example(kind: type[HelixError]) -> HelixError:
    parameters = inspect.signature(kind).parameters.values()
    given = {parameter.name: ARGUMENTS[str(parameter.annotation)] for parameter in parameters}
    return kind(**given)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "sent",
    [copy.copy, copy.deepcopy, *(lambda error, n=n: pickle.loads(pickle.dumps(error, n)) for n in range(6))],
    ids=["copy", "deepcopy", *(f"pickle {n}" for n in range(6))],
)
def test_an_error_arrives_whole(kind: type[HelixError], sent: Callable[[HelixError], HelixError]) -> None:
    error = example(kind)
    error.retryable = True
    there = sent(error)
    assert there is not error
    assert told(there) == told(error)


def fail_with(name: str) -> None:
    raise example(getattr(errors, name))


@pytest.mark.slow
def test_errors_arrive_through_a_process_pool() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        waiting = {kind: pool.submit(fail_with, kind.__name__) for kind in CLASSES}
        for kind, future in waiting.items():
            assert told(future.exception(60)) == told(example(kind))


def test_what_cannot_be_pickled_arrives_as_it_would_be_shown() -> None:
    lock = threading.Lock()
    error = MalformedChunkError(7, lock)
    assert copy.copy(error).data is lock
    there = pickle.loads(pickle.dumps(error))
    assert (there.sequence, there.data) == (7, repr(lock))


def test_errors_of_others_arrive_too() -> None:
    error = OwnError(3, extra="x")
    there = pickle.loads(pickle.dumps(error))
    assert (str(there), there.number, there.extra, there.hint) == ("number 3", 3, "x", "count again")


class OwnError(HelixError):
    """An error of an application, with parameters of its own."""

    def __init__(self, number: int, *, extra: str) -> None:
        super().__init__(f"number {number}", hint="count again")
        self.number = number
        self.extra = extra
