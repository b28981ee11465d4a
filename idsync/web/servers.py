"""The applications of the two ports, and uvicorn around them."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from idsync.clock import Clock
from idsync.config import Config
from idsync.intake import Intake
from idsync.metrics import Metrics
from idsync.model import DRILL
from idsync.scim.extensions import Extension
from idsync.store.db import Store
from idsync.traces import UNTRACED, Tracer
from idsync.web.auth import Network, ScimSource, Tokens
from idsync.web.health import health
from idsync.web.ops import ops_app, probe_routes
from idsync.web.page.site import Run, StatusPage
from idsync.web.scim import ScimApp, ScimMount, scim_app


def public_app(
    config: Config,
    *,
    store: Store,
    intake: Intake,
    clock: Clock,
    metrics: Metrics,
    ready: Callable[[], list[str]],
    extensions: Sequence[Extension] = (),
    tracer: Tracer = UNTRACED,
    cursor_secret: str | None = None,
) -> tuple[ScimApp, Starlette]:
    """Build the public port: SCIM and the two probes, nothing else. `cursor_secret`: see `scim_app`."""
    sources = {
        source.name: ScimSource(source.name, source.strict, tuple(map(ipaddress.ip_network, source.allow_from)))
        for source in config.scim.sources
    }
    sources[DRILL] = ScimSource(DRILL, allow_from=_ourselves(config.server.host))
    scim = scim_app(
        store=store,
        intake=intake,
        sources=sources,
        clock=clock,
        public_url=config.server.public_url.rstrip("/"),
        observe=metrics.scim_request,
        contact=metrics.source_contact,
        extensions=extensions,
        tracer=tracer,
        cursor_secret=cursor_secret,
    )
    return scim, Starlette(routes=[*probe_routes(ready), ScimMount("/scim/v2", scim)])


def probes_app(ready: Callable[[], list[str]]) -> Starlette:
    """Build the public port of a process that answers no SCIM: the two probes."""
    return Starlette(routes=probe_routes(ready))


def _ourselves(host: str) -> tuple[Network, ...]:
    """Return the addresses from which this machine reaches its own port: nobody else pushes a drill."""
    networks = ["127.0.0.0/8", "::1/128"]
    with contextlib.suppress(ValueError):
        networks.append(str(ipaddress.ip_address(host)))
    return tuple(map(ipaddress.ip_network, networks))


def operations_app(
    config: Callable[[], Config],
    *,
    store: Store,
    clock: Clock,
    metrics: Metrics,
    tokens: Tokens,
    ready: Callable[[], list[str]],
    gateway: str,
    run: Run,
) -> tuple[StatusPage, Starlette]:
    """Build the operations port: metrics, health, and the status page, which carries out commands with `run`.

    `gateway` is the fingerprint of the gateway; `config` returns the configuration in force.
    """

    def now_healthy() -> dict[str, Any]:
        return health(store, config(), metrics.pulse, clock.now())

    page = StatusPage(
        store=store, clock=clock, tokens=tokens, config=config, gateway=gateway, health=now_healthy, run=run
    )
    return page, ops_app(ready=ready, metrics=metrics.text, health=now_healthy, tokens=tokens, page=page)


HEAD = 320 * 1024
"""Bytes that may arrive before the head of a request ends; one read of the network is up to 256 KiB."""


HEAD_SECONDS = 20.0
"""How long the head of a request may take, from the first byte or the connection on."""


class _Quiet(uvicorn.Server):
    """uvicorn without its own signal handlers: `app.py` decides when to stop."""

    def __init__(self, settings: uvicorn.Config) -> None:
        super().__init__(settings)
        self.answering = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.answering.set()


class Bounded(HttpToolsProtocol):
    """uvicorn's parser with an end to heads, paths and trailers, in bytes and in seconds.

    Without one, strangers who never end a head, or send none, hold memory and connections for ever.
    """

    head_seconds = HEAD_SECONDS
    _unread = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_a_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_a_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        if self._unread > HEAD:
            self.transport.abort()
            return
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_a_head()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._has_a_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        super().on_message_complete()

    def _expect_a_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _has_a_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Server:
    """One application on one socket that is bound already."""

    def __init__(
        self, app: Starlette, listener: socket.socket, *, proxies: Sequence[str] = (), http: Any = Bounded
    ) -> None:
        settings = uvicorn.Config(
            app,
            http=http,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=list(proxies) or None,
            timeout_keep_alive=65,
            timeout_graceful_shutdown=10,
            backlog=2048,
        )
        self._server = _Quiet(settings)
        self._listener = listener

    async def run(self) -> None:
        await self._server.serve(sockets=[self._listener])

    async def started(self) -> None:
        """Wait until it answers."""
        await self._server.answering.wait()

    def stop(self) -> None:
        self._server.should_exit = True
