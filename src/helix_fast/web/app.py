"""The page over HTTP: its files, its lookups as JSON, the text of a stream as server-sent events.

Whoever may ask is decided first: with a token, who knows it; without one, who asks from this machine by its own name,
so that no other page can (a name that a foreign server points here is refused). Text of chunks is never markup: the
page has a policy that runs no script but its own file.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from helix_fast.connect import Helix
from helix_fast.errors import HelixError, InvalidArgumentError, StreamClosedError, StreamNotFoundError
from helix_fast.integrations.starlette import event_stream

from .lookups import Lookups

try:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import RedirectResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as _missing:
    raise ImportError("the live page needs Starlette: pip install 'helix-fast[web]'") from _missing

Health = Callable[[], Awaitable[Sequence[Any]]]
COOKIE: Final = "helix-fast-token"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FILES: Final = {"": "index.html", "app.js": "app.js", "charts.js": "charts.js", "style.css": "style.css"}
TYPES: Final = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
ROWS: Final = 200


class LivePage:
    """The page's endpoints.

    Args:
        helix: the stores.
        allow_stop: whether the page may stop runs; else it writes nothing.
        health: finds what ``helix-fast doctor`` finds.
    """

    def __init__(self, helix: Helix, *, allow_stop: bool = False, health: Health | None = None) -> None:
        self._helix = helix
        self._lookups = Lookups(helix)
        self._allow_stop = allow_stop
        self._health = health

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/api/settings", self.settings),
            Route("/api/list", self.list),
            Route("/api/session", self.session),
            Route("/api/events", self.events),
            Route("/api/usage", self.usage),
            Route("/api/usage/session", self.session_usage),
            Route("/api/server", self.server),
            Route("/api/health", self.health),
            Route("/api/stop", self.stop, methods=["POST"]),
            Route("/{name}", self.file),
            Route("/", self.file),
        ]

    async def settings(self, _request: Request) -> Response:
        """What the page may do."""
        return _json({"allowStop": self._allow_stop, "health": self._health is not None})

    async def list(self, request: Request) -> Response:
        """Sessions and streams: ``q`` in the id, ``status``."""
        query = request.query_params
        return _json(await self._lookups.listing(query.get("q", ""), query.get("status", ""), ROWS))

    async def session(self, request: Request) -> Response:
        """One of them."""
        return _json(await self._lookups.session(request.query_params.get("id", "")))

    async def events(self, request: Request) -> Response:
        """A stream's chunks."""
        return await event_stream(request, self._helix.streams, request.query_params.get("id", ""), on_gap="skip")

    async def usage(self, _request: Request) -> Response:
        """What sessions have used."""
        return _json(await self._lookups.usage_by_session(ROWS))

    async def session_usage(self, request: Request) -> Response:
        """What a session has used over time."""
        return _json(await self._lookups.usage_over_time(request.query_params.get("id", "")))

    async def server(self, _request: Request) -> Response:
        """The server."""
        return _json(await self._lookups.server())

    async def health(self, _request: Request) -> Response:
        """The findings of ``doctor``. It writes and deletes a stream, so it is asked for by hand."""
        return _json([] if self._health is None else list(await self._health()))

    async def stop(self, request: Request) -> Response:
        """Ask the writers of a stream to stop."""
        if not self._allow_stop:
            return _json({"error": "read-only", "hint": "start it with --allow-stop"}, 403)
        try:
            await self._helix.streams.request_stop(request.query_params.get("id", ""), "stopped from the live page")
        except (StreamClosedError, StreamNotFoundError):
            return _json({"stopped": False})
        return _json({"stopped": True})

    async def file(self, request: Request) -> Response:
        """The page itself."""
        name = FILES.get(request.path_params.get("name", ""))
        if name is None:
            return Response(status_code=404)
        body = (resources.files("helix_fast.web") / "static" / name).read_bytes()
        kind = f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8"
        return Response(body, headers={"Content-Type": kind, "Cache-Control": "no-cache"})


class Guard:
    """Decides who may ask, before anything is read."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(Request(scope))
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [("content-security-policy", POLICY), ("referrer-policy", "no-referrer")]
                headers += [("x-content-type-options", "nosniff"), ("cross-origin-resource-policy", "same-origin")]
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in headers)]
            await send(message)

        await self._app(scope, receive, guarded)

    def _refusal(self, request: Request) -> Response | None:
        origin = request.headers.get("origin")
        host = request.headers.get("host", "")
        if request.method != "GET" and urlsplit(origin or "").netloc != host:
            return Response("from another site", 403)
        if self._token is None:
            name = urlsplit(f"//{host}").hostname
            return None if name in LOOPBACK else Response("without a token only for this machine", 403)
        given = request.query_params.get("token")
        if given is not None and self._is_token(given):
            response = RedirectResponse(request.url.remove_query_params("token").path, 303)
            response.set_cookie(COOKIE, given, httponly=True, samesite="strict", secure=request.url.scheme == "https")
            return response
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        known = self._is_token(request.cookies.get(COOKIE, "")) or self._is_token(bearer)
        return None if known else Response("open the page with ?token=…", 401)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._token or "").encode())


def live_page(
    helix: Helix, *, token: str | None = None, allow_stop: bool = False, health: Health | None = None
) -> Starlette:
    """The live page as an ASGI app.

    Args:
        helix: the stores; open for as long as the app is served.
        token: who knows it may ask; None: who asks from this machine.
        allow_stop: whether the page may stop runs; else it writes nothing.
        health: finds what ``helix-fast doctor`` finds.

    Raises:
        InvalidArgumentError: an empty token.
    """
    if token is not None and not token:
        raise InvalidArgumentError("the token must not be empty")
    page = LivePage(helix, allow_stop=allow_stop, health=health)
    return Starlette(
        routes=page.routes(),
        middleware=[Middleware(Guard, token=token)],
        exception_handlers={HelixError: _told},
    )


async def _told(_request: Request, error: Exception) -> Response:
    hint = error.hint if isinstance(error, HelixError) else ""
    return _json({"error": str(error), "hint": hint}, 400 if isinstance(error, InvalidArgumentError) else 503)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, {"Cache-Control": "no-store"}, "application/json")
