"""Connections to the primary that a set of Sentinels names, asked again for each connection."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import redis.exceptions
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from helix_fast.errors import HelixError, StoreAuthenticationError, StoreConnectionError, StoreResponseError

from .binding import cancel, discard

_UNREACHED: Final = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)
_REFUSED: Final = (
    redis.exceptions.AuthenticationError,
    redis.exceptions.AuthorizationError,
    redis.exceptions.NoPermissionError,
)


class Sentinels(Sentinel):
    """redis-py's set of Sentinels, whose errors name the fault in one line, without credentials.

    Args:
        addresses: host and port of each.
        options: redis-py's settings of the connections to them.
    """

    def __init__(self, addresses: list[tuple[str, int]], **options: Any) -> None:
        # Another Sentinel is asked in place of one that fails; a retry would only take time.
        settings = {"socket_timeout": 1.0, "retry": Retry(NoBackoff(), 0), **options}
        super().__init__(addresses, sentinel_kwargs=settings)  # type: ignore[no-untyped-call]
        self.target: str = ",".join(f"{host}:{port}" for host, port in addresses)

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Address of the primary.

        Raises:
            StoreConnectionError: no Sentinel answered, none knows that name, or the primary is down.
            StoreAuthenticationError: the Sentinels refuse us. StoreResponseError: the server asked is no Sentinel.
        """
        answered = known = False
        cause: BaseException | None = None
        for number, sentinel in enumerate(self.sentinels):
            try:
                states: Any = await sentinel.sentinel_masters()
            except _REFUSED as error:
                raise StoreAuthenticationError(f"a Sentinel of {self.target} refused us: {error}") from error
            except _UNREACHED as error:
                cause = error
                continue
            except redis.exceptions.ResponseError as error:
                hint = "name Sentinels, whose port is 26379 unless set otherwise; or redis://host for a server itself"
                raise StoreResponseError(f"ERR a server of {self.target} is no Sentinel: {error}", hint=hint) from error
            answered = True
            state = states.get(service_name)
            known = known or state is not None
            if state and self.check_master_state(state, service_name):
                # The one that answered is asked first the next time.
                self.sentinels[0], self.sentinels[number] = sentinel, self.sentinels[0]
                return state["ip"], state["port"]
        if known:
            raise StoreConnectionError(
                f"the primary {service_name!r} is down, and its Sentinels have not replaced it yet"
            )
        if answered:
            raise StoreConnectionError(
                f"no Sentinel of {self.target} knows a primary named {service_name!r}",
                hint="check the name in the URL: redis+sentinel://host1,host2/name",
            )
        raise StoreConnectionError(f"no Sentinel of {self.target} could be reached") from cause


def is_unknown_command(error: StoreResponseError) -> bool:
    """Whether the server does not have the command, as a Sentinel has none of those that stores use."""
    return str(error).startswith("ERR unknown command")


def no_store(target: str) -> StoreResponseError:
    """The error for a server without data commands: most likely a Sentinel."""
    return StoreResponseError(
        f"ERR {target} has no commands for data: it seems to be a Sentinel",
        hint="use redis+sentinel://host/name with the name of the primary",
    )


class SentinelWatcher:
    """Detects that a primary was replaced but still runs: until it is demoted, it accepts writes, which will be lost.

    Args:
        manager: the set of Sentinels.
        name: of the primary.
        owned: whether ``close`` closes the connections to the Sentinels.
    """

    def __init__(self, manager: Any, name: str, *, owned: bool) -> None:
        self._manager = manager
        self._name = name
        self._owned = owned
        self._address: tuple[str, int] | None = None

    def connected(self, connection: Any) -> None:
        """Remember the server of a new connection."""
        self._address = (str(connection.host), int(connection.port))

    async def moved(self) -> bool:
        """Whether the Sentinels name another server than the one that was connected to last."""
        # In a task of its own: redis-py may swallow a cancellation, and the caller would not end.
        asking = asyncio.ensure_future(self._manager.discover_master(self._name))
        try:
            await asyncio.wait([asking])
            host, port = asking.result()
        except asyncio.CancelledError:
            await cancel(asking)
            raise
        except (HelixError, redis.exceptions.RedisError, OSError):
            return False
        return self._address is not None and (str(host), int(port)) != self._address

    def discard(self, *, forked: bool) -> None:
        """Drop the connections to the Sentinels, where they are ours, from outside of their event loop."""
        for sentinel in self._manager.sentinels if self._owned else ():
            pool = sentinel.connection_pool
            for connection in (*pool._available_connections, *pool._in_use_connections):
                if connection._writer is not None:
                    discard(connection._writer.transport, forked=forked)
                    connection._reader = connection._writer = None
            pool.reset()

    async def close(self) -> None:
        """Close the connections to the Sentinels, where they are ours."""
        if self._owned:
            for sentinel in self._manager.sentinels:
                await sentinel.aclose()


async def check_primary(connection: Any) -> None:
    """Check that a connection leads to a primary: a Sentinel may report a failover late.

    Raises:
        StoreConnectionError: it does not; the connection is closed.
    """
    try:
        await connection.send_command("ROLE")
        role = await connection.read_response()
    except redis.exceptions.ResponseError:
        return  # no right to ROLE: a write will be refused
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    if role[0] != b"master":
        await connection.disconnect(nowait=True)
        raise StoreConnectionError("the server that the Sentinels name is a primary no more")
