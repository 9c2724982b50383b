"""TLS in front of a real server that was built without it: certificates made on the spot, bytes passed on."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from urllib.parse import unquote, urlsplit

import trustme


class TlsFront:
    """Listens with TLS on a free port of 127.0.0.1 and forwards to `target`.

    Args:
        target: `unix://` or `redis://` URL of the server.
        directory: where the CA's certificate is put.
        name: what the server's certificate is for.
        client_certificates: whether clients must show one that the CA has signed.
    """

    def __init__(
        self, target: str, directory: Path, *, name: str = "127.0.0.1", client_certificates: bool = False
    ) -> None:
        self._target = urlsplit(target)
        authority = trustme.CA()
        self.authority = str(directory / "ca.pem")
        authority.cert_pem.write_to_path(self.authority)
        own = authority.issue_cert("client@example.org")
        self.client_certificate, self.client_key = str(directory / "client.pem"), str(directory / "client.key")
        for part in own.cert_chain_pems:
            part.write_to_path(self.client_certificate)
        own.private_key_pem.write_to_path(self.client_key)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(self._context)
        if client_certificates:
            self._context.verify_mode = ssl.CERT_REQUIRED
            authority.configure_trust(self._context)
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._listener is not None
        return f"rediss://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}/0"

    async def __aenter__(self) -> TlsFront:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [writer]
        pumps: list[asyncio.Task[None]] = []
        try:
            if self._target.scheme == "unix":
                there = await asyncio.open_unix_connection(unquote(self._target.path))
            else:
                there = await asyncio.open_connection(self._target.hostname, self._target.port or 6379)
            writers.append(there[1])
            pumps = [asyncio.ensure_future(_pump(reader, there[1])), asyncio.ensure_future(_pump(there[0], writer))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for one in writers:
                one.transport.abort()
            for one in writers:
                with contextlib.suppress(OSError):
                    await one.wait_closed()
            self._tasks.discard(task)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
