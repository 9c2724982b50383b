"""One file: written by .ci/make_sync.py from helix_fast.connect. Edit that, and run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helix_fast import connect as _connect

from .helix import Helix

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster
    from typing_extensions import Unpack

    from helix_fast.locks.lock import Clock
    from helix_fast.options import ConnectOptions, LockOptions, StateOptions, StreamOptions, UsageOptions


def connect(
    url: str | Redis | RedisCluster,
    *,
    key_prefix: str = "helix:",
    state: StateOptions | None = None,
    streams: StreamOptions | None = None,
    usage: UsageOptions | None = None,
    locks: LockOptions | None = None,
    clock: Clock | None = None,
    **connection: Unpack[ConnectOptions],
) -> Helix:
    """All stores of the server at ``url``.

    Use it as ``with connect(url) as helix:``, or ``helix = connect(url)``, which connects with its first use, and
    ``helix.close()``.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``redis+cluster://``, ``redis+sentinel://h1,h2/master-name``
            (``valkey…`` and ``valkeys…`` are the same), ``embedded://`` (a private server that lives as long as this),
            ``embedded:///directory`` (one whose data is kept there), ``memory://`` (this process alone, for tests; the
            extra ``memory``), or a ``redis.asyncio`` client whose connection settings are copied.
        key_prefix: put before every key.
        state, streams, usage, locks: options of these stores, for example ``streams={"max_stream_length": 100_000}``.
        clock: for ``memory://`` only: a function that returns seconds since the epoch, in place of the server's clock;
            see MemoryServer.
        connection: ``timeout`` (seconds without a reply after which a connection is closed), ``retry_timeout`` (seconds
            for which an operation is retried after a transient fault), ``wait_replicas`` (replicas that must have a
            write before it is acknowledged), redis-py's connection settings. ``memory://`` takes the first two, and
            ``wait_replicas=0``: it has no replicas and no connection settings.

    Raises:
        InvalidUrlError, InvalidArgumentError: from this call. An unknown option is told with the nearest known one.
        StoreConnectionError, StoreAuthenticationError, EmbeddedServerError: from ``with``, or the first use.
    """
    return Helix(
        lambda: _connect(
            url,
            key_prefix=key_prefix,
            state=state,
            streams=streams,
            usage=usage,
            locks=locks,
            clock=clock,
            **connection,
        ),
        url,
    )
