"""Errors, the base: HelixError, and those of arguments, connections and the server."""

from __future__ import annotations

import copyreg
import sys
from typing import Any, ClassVar, Final, TypeVar

Self = TypeVar("Self", bound="HelixError")
_PAGE: Final = "https://github.com/helix-fast/helix-fast/blob/main/docs/errors.md"


class HelixError(Exception):
    """Base of every error of this library.

    Attributes:
        code: stable identifier, for programs.
        retryable: whether the same call may succeed when it is repeated as it is.
        hint: what a person can do about it; may be empty. From Python 3.11 on, tracebacks show it.
    """

    code: ClassVar[str] = "helix_error"
    retryable: bool = False
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint: str = self.default_hint if hint is None else hint
        if self.hint and sys.version_info >= (3, 11):
            self.add_note(f"hint: {self.hint}")

    @property
    def help_url(self) -> str:
        """The section about this error in the documentation: cause, consequence, remedy."""
        return f"{_PAGE}#{self.code}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Without __init__, whose parameters differ from ``args``. An attribute that cannot be pickled (a caller's
        # object that is no valid chunk) goes as its repr: an error that does not arrive would hang a process pool.
        state = {name: value if _pickles(value) else repr(value) for name, value in self.__dict__.items()}
        return copyreg.__newobj__, (type(self), *self.args), state  # type: ignore[attr-defined]

    def __copy__(self: Self) -> Self:
        twin = type(self).__new__(type(self), *self.args)
        twin.__dict__.update(self.__dict__)
        return twin


def _pickles(value: object) -> bool:
    import pickle

    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301  made in this line
    except Exception:  # noqa: BLE001  the value's own methods may raise anything
        return False
    return True


class InvalidArgumentError(HelixError, ValueError):
    """An argument is of the wrong type or out of range; nothing was sent."""

    code = "invalid_argument"


class InvalidIdError(InvalidArgumentError):
    """An invalid session, stream or step id: empty, over 512 bytes, with braces or control characters."""

    code = "invalid_id"
    default_hint = "ids are 1-512 bytes of printable UTF-8 without '{' and '}'"


class InvalidUrlError(InvalidArgumentError):
    """A URL that helix-fast cannot connect to."""

    code = "invalid_url"
    default_hint = (
        "use redis://, rediss://, unix://, redis+cluster://, redis+sentinel://, memory:// or embedded://, and "
        "percent-encode what is neither letter nor digit in a user name or password"
    )


class StoreError(HelixError):
    """The server, or the connection to it, failed a request; the driver's error is ``__cause__``."""

    code = "store_error"


class StoreConnectionError(StoreError):
    """The server cannot be reached, or the connection broke before the reply arrived."""

    code = "store_connection"
    retryable = True
    default_hint = "check that the server runs and that host, port and credentials are right"


class StoreTimeoutError(StoreConnectionError):
    """The server did not answer in time."""

    code = "store_timeout"
    default_hint = "the server is overloaded, paused or cut off; the operation may have happened"


class StoreAuthenticationError(StoreConnectionError):
    """The server refused the user name or password."""

    code = "store_authentication"
    retryable = False
    default_hint = "check user name and password (they are never shown here)"


class NotReplicatedError(StoreConnectionError):
    """The primary has the write, but too few replicas confirmed it in time: a failover might lose it.

    Attributes:
        wanted, confirmed: numbers of replicas.
    """

    code = "not_replicated"
    default_hint = "check the replicas; repeating the operation is safe and waits again"

    def __init__(self, wanted: int, confirmed: int) -> None:
        super().__init__(f"{confirmed} of {wanted} replicas confirmed the write")
        self.wanted = wanted
        self.confirmed = confirmed


# Answers of a server that is starting, failing over, moving slots or full: the same request may succeed soon.
PASSING_CODES: Final = frozenset({"LOADING", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "BUSY", "OOM"})
_HINTS: Final = {
    "OOM": "the server is full: raise maxmemory, or shorten the TTLs",
    "NOPERM": "allow the user what docs/operations.md lists under Rights, &channels too",
    "READONLY": "this is a replica: name the primary",
    "MISCONF": "the server cannot save its data: read its log",
}


class StoreResponseError(StoreError):
    """The server answered with an error of its own.

    Attributes:
        server_code: the server's own code, such as ``WRONGTYPE`` or ``OOM``: the first word of its answer. Where a
            command inside a script was refused, the code of that refusal.
    """

    code = "store_response"

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        self.server_code: str = message.split(" ", 1)[0]
        # Redis 6 wraps the refusal of a command in a script: "ERR Error running script (…): @user_script:9: -OOM …"
        _, wrapped, refusal = message.partition("@user_script")
        if self.server_code == "ERR" and wrapped:
            self.server_code = next((code for code in _HINTS if f" -{code} " in refusal), "ERR")
        super().__init__(message, hint=_HINTS.get(self.server_code) if hint is None else hint)
        self.retryable: bool = self.server_code in PASSING_CODES


class StoreClosedError(HelixError):
    """The store (or the Helix that it belongs to) has been closed."""

    code = "store_closed"
    default_hint = "make a new store; a closed one cannot be opened again"


class BufferFullError(HelixError):
    """Too much waits to be sent: entries of a usage recorder, or bytes on a connection."""

    code = "buffer_full"
    retryable = True
    default_hint = "wait for earlier operations, or raise the buffer limit"


class EmbeddedServerError(HelixError):
    """The private server of ``embedded://`` did not start or does not answer."""

    code = "embedded_server"


class EmbeddedServerUnavailableError(EmbeddedServerError):
    """There is no server program for ``embedded://`` on this machine."""

    code = "embedded_server_unavailable"
    default_hint = "pip install 'helix-fast[embedded]'"
