"""URLs, parsed here so that no part of a user name or password gets into an error message.

`urllib` and redis-py quote the piece that they cannot read: of ``redis://bob:hunter2#x@host`` the password, as a port.
No message here names what stands in a URL, and redis-py is handed the settings behind the host alone.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote

from helix_fast.errors import InvalidUrlError

SCHEMES: Final = frozenset(
    f"{name}{kind}" for name in ("redis", "rediss", "valkey", "valkeys") for kind in ("", "+cluster", "+sentinel")
) | {"unix"}
# As texts: `re` compiles each when a URL is first read, and keeps it. An import need not wait for that.
_SCHEME: Final = r"[a-z][a-z0-9+.-]{0,20}"
_UNPRINTABLE: Final = r"[\x00-\x1f\x7f\ud800-\udfff]"
_HOST: Final = r"(\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[^\[\]:\s]*)(?::([0-9]{0,5}))?"


class Url(NamedTuple):
    """A URL in its parts; user name, password and host are percent-decoded."""

    scheme: str
    username: str | None
    password: str | None
    hosts: list[tuple[str, int | None]]
    """Each with its port, None where none is named; no host at all is an empty list."""
    path: str
    query: str

    @property
    def tls(self) -> bool:
        """Whether the connection is to be encrypted."""
        return self.scheme.startswith(("rediss", "valkeys"))


def scheme_of(url: str) -> str:
    """The scheme of a URL, empty where it has none: what stands there may be anything, a password too."""
    scheme, found, _ = url.partition("://")
    return scheme if found and re.fullmatch(_SCHEME, scheme) else ""


def unreachable(scheme: str) -> InvalidUrlError:
    """The error for a scheme that is none of ours."""
    return InvalidUrlError(
        f"the scheme {scheme}:// is not known" if scheme else "the URL has no scheme, such as redis://"
    )


def split(url: str) -> Url:
    """The parts of a URL.

    Raises:
        InvalidUrlError: it cannot be one. The message quotes nothing of it.
    """
    scheme, _, rest = url.partition("://")
    end = min(place if (place := rest.find(mark)) >= 0 else len(rest) for mark in "/?#")
    authority, tail = rest[:end], rest[end:]
    credentials, _at, addresses = authority.rpartition("@")
    # All before such a '@' may be a password. A directory or a socket has no authority, and may have one in its name.
    if "@" in tail and (authority or scheme not in {"unix", "embedded"}):
        raise InvalidUrlError("a '@' of the URL comes after a '/', '?' or '#'")
    if "#" in tail or re.search(_UNPRINTABLE, url):
        raise InvalidUrlError("a '#' or a control character of the URL is not percent-encoded")
    username, _, password = credentials.partition(":")
    path, _, query = tail.partition("?")
    return Url(
        scheme,
        unquote(username) or None,
        unquote(password) or None,
        [_host(address) for address in addresses.split(",")] if addresses else [],
        path,
        query,
    )


def settings_in(query: str) -> dict[str, str]:
    """The settings that a query names, percent-decoded."""
    parts = [part for part in query.split("&") if part]
    if not all(re.match(r"[a-z_0-9]+=", part) for part in parts):
        raise InvalidUrlError("what follows '?' in the URL must be settings", hint="for example ?db=1&client_name=app")
    return dict(parse_qsl(query, keep_blank_values=True))


def database_in(path: str) -> str:
    """The number of the database that a path names; empty where it names none."""
    name = path.strip("/")
    if name and not re.fullmatch(r"[0-9]{1,9}", name):
        raise InvalidUrlError("the path of the URL must be the number of a database", hint="for example redis://host/0")
    return name


def _host(address: str) -> tuple[str, int | None]:
    matched = re.fullmatch(_HOST, address)
    if matched is None or int(matched[2] or 0) > 65535:
        raise InvalidUrlError("the URL has no host and port where they belong")
    return unquote(matched[1].strip("[]")), int(matched[2]) if matched[2] else None
