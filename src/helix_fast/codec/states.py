"""The states of an appender: numbers that the compiled codec, its plain twin and `streams/appender.py` share."""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """What an appender is doing. Up to SUSPENDED nothing is scheduled or in flight, so a new chunk starts it."""

    IDLE = 0
    """Every chunk is acknowledged."""
    SUSPENDED = 1
    """The server could not be reached for the retry time; chunks are kept, the next call or a timer goes on."""
    READY = 2
    """Chunks are buffered and will be sent on this turn of the event loop, or when ``linger`` is over."""
    IN_FLIGHT = 3
    """A batch was sent; its reply is due."""
    RECOVERING = 4
    """What became of the batch in flight is being found out."""
    CLOSED = 5
    """Nothing more can be written."""
