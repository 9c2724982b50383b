"""Errors tell programs whether the same call may succeed later."""

from __future__ import annotations

import sys
import traceback

import pytest

from helix_fast import EmbeddedServerUnavailableError, HelixError, StoreResponseError


@pytest.mark.parametrize(
    ("answer", "retryable"),
    [
        ("TRYAGAIN Multiple keys request during rehashing of slot", True),
        ("LOADING the dataset is in memory soon", True),
        ("CLUSTERDOWN The cluster is down", True),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", False),
        ("NOPERM this user has no permissions", False),
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
