"""The options of ``connect`` and of the stores, for type checkers, and the check of their names. No store, no I/O."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import redis.asyncio

from .errors import InvalidArgumentError

if TYPE_CHECKING:
    import ssl

    from redis.credentials import CredentialProvider

    from .transport.topology import Topology


class ConnectionOptions(TypedDict, total=False):
    """The options of RedisStore that each store passes on to it."""

    client: redis.asyncio.Redis | redis.asyncio.RedisCluster | None
    host: str
    port: int
    username: str | None
    password: str | None
    db: int | None
    logger: logging.Logger | None
    wait_replicas: int
    topology: Topology | None


class ConnectOptions(TypedDict, total=False):
    """The options of ``connect`` that are about connections; all but the first three are redis-py's."""

    timeout: float | None
    retry_timeout: float
    wait_replicas: int
    host: str
    port: int
    username: str | None
    password: str | None
    db: int | None
    client_name: str | None
    credential_provider: CredentialProvider | None
    socket_timeout: float | None
    socket_connect_timeout: float | None
    socket_keepalive: bool | None
    ssl: bool
    ssl_keyfile: str | None
    ssl_certfile: str | None
    ssl_cert_reqs: Literal["none", "optional", "required"] | ssl.VerifyMode
    ssl_ca_certs: str | None
    ssl_ca_data: str | None
    ssl_ca_path: str | None
    ssl_check_hostname: bool
    ssl_min_version: ssl.TLSVersion | None
    ssl_ciphers: str | None
    ssl_password: str | None


class StateOptions(TypedDict, total=False):
    """The options of a state store."""

    ttl: int | None
    max_checkpoints: int | None
    logger: logging.Logger | None


class StreamOptions(TypedDict, total=False):
    """The options of a stream manager."""

    max_stream_length: int | None
    block_timeout: float
    ttl: int | None
    lease_ms: int | None
    linger_ms: float
    max_chunk_bytes: int
    max_buffered_bytes: int
    loss_memory_s: float
    seal_after: float | None
    logger: logging.Logger | None


class ResumableOptions(StreamOptions, ConnectionOptions, total=False):
    """The options of a RedisResumableStorage: those of its stream manager."""


class UsageOptions(TypedDict, total=False):
    """The options of a usage store."""

    ttl_seconds: int | None
    rollup_sessions: int
    logger: logging.Logger | None


class LockOptions(TypedDict, total=False):
    """The options of a lock manager."""

    default_ttl_ms: float
    logger: logging.Logger | None


def check_names(given: Iterable[str], known: Collection[str], where: str) -> None:
    """Check that all options are known.

    Raises:
        InvalidArgumentError: one is not; the message names it, the hint the nearest known one.
    """
    for name in given:
        if name not in known:
            near = [each for each in known if each in name or name in each]
            import difflib  # here: a slip is rare, and the import of this package is timed

            near = difflib.get_close_matches(name, near or known, 1, 0.4) or near
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
            raise InvalidArgumentError(f"{where} takes no option {name!r}", hint=hint)


def connect_options() -> set[str]:
    """All that ``connect`` takes: what is typed, and the other settings of this version of redis-py."""
    own = {"key_prefix", "clock", "state", "streams", "usage", "locks"}
    return own | keyword_options(redis.asyncio.Redis) | ConnectOptions.__annotations__.keys()


def keyword_options(made: type[Any]) -> set[str]:
    """The names of the keyword-only arguments with which a class, or a base that it passes them on to, is made."""
    makers = [vars(each)["__init__"] for each in made.__mro__ if "__init__" in vars(each) and each is not object]
    found = [parameter for maker in makers for parameter in inspect.signature(maker).parameters.values()]
    return {parameter.name for parameter in found if parameter.kind is parameter.KEYWORD_ONLY}
