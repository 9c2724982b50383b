"""The words of a failure: type and text of an exception, without what may be a secret. No I/O here."""

from __future__ import annotations

import re
from typing import Final

from helix_fast.errors import ProducerLostError

LONGEST: Final = 2000
LOST: Final = "the producer was lost"
"""With this begins the error of a stream whose worker is gone; ``stream_read.lua`` writes the same."""
TAKEN_OVER: Final = f"{LOST}: another worker took its session over"

_PATTERNS: Final = [
    # user and password of a URL
    (re.compile(r"(?<=://)[^/\s@]+(?=@)"), "***"),
    # Authorization: Bearer …
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[\w.~+/=-]{6,}"), r"\1\2***"),
    # api_key=…, "password": "…", token: …
    (
        re.compile(
            r"(?i)((?:api|access|auth|secret|private)?[-_ ]?(?:key|secret|token|password|passwd|pwd|credentials?)"
            r"[\"']?\s*[:=]\s*[\"']?)([^\s\"',;&)}]{4,})"
        ),
        r"\1***",
    ),
    # keys that say by their first letters what they are
    (
        re.compile(
            r"\b(?:sk|pk|rk|gsk|xai|hf|ghp|gho|ghs|github_pat|glpat|xox[a-z]|AKIA|ASIA|AIza|ya29|eyJ)[-_.]?[\w.\-*]{8,}"
        ),
        "***",
    ),
    # anything long that no word is: letters of both cases and digits
    (re.compile(r"(?=[\w+/=-]*[a-z])(?=[\w+/=-]*[A-Z])(?=[\w+/=-]*\d)[\w+/=-]{32,}"), "***"),
]


def redacted(text: str) -> str:
    """The text with ``***`` in the place of passwords in URLs, keys of providers, tokens and the like; shortened."""
    for pattern, place in _PATTERNS:
        text = pattern.sub(place, text)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def describe(error: BaseException) -> str:
    """Type and text of an exception: what a failed run leaves in state and stream."""
    text = redacted(str(error)).encode(errors="replace").decode()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def lost(cause: BaseException | None = None) -> ProducerLostError:
    """The error of a run whose worker is no longer the session's."""
    return ProducerLostError(TAKEN_OVER if cause is None else f"{LOST}: {type(cause).__name__}")
