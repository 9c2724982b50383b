"""Wall-clock times in the formats of the wire."""

from __future__ import annotations

import time
from datetime import datetime, timezone


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def iso_now() -> str:
    """Now as JavaScript's ``toISOString`` writes it."""
    return iso_from_ms(now_ms())


def iso_from_ms(milliseconds: int) -> str:
    """Unix milliseconds as JavaScript's ``toISOString`` writes them."""
    moment = datetime.fromtimestamp(milliseconds // 1000, timezone.utc)
    return f"{moment.isoformat()[:19]}.{milliseconds % 1000:03d}Z"


def ms_from_iso(text: str) -> int | None:
    """Unix milliseconds of an ISO time; None for any other text."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return round(moment.timestamp() * 1000)
