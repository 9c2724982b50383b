"""Errors tell programs whether the same call may succeed later."""

from __future__ import annotations

import pytest

from helix_fast import StoreResponseError


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
