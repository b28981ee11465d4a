"""Serves a sandbox: as an application, in a thread for tests, or in the foreground."""

from __future__ import annotations

import importlib.util
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from idsync.sandbox.gateway import Gateway
from idsync.sandbox.graph.service import Graph
from idsync.sandbox.hooks import routes
from idsync.sandbox.idp import hooks as idp_hooks
from idsync.sandbox.okta.service import Okta
from idsync.sandbox.options import Options

__all__ = ["Options", "Sandbox", "create_app", "run"]

AWAKE = 0.5
"""Seconds between two looks whether a signal has come."""
START_TIMEOUT = 10.0


class App(Starlette):
    """Hooks are ordinary routes; identity providers have a prefix; everything else goes to the gateway."""

    def __init__(self, options: Options) -> None:
        self.gateway = Gateway(options)
        self.okta = Okta(manual_clock=options.clock == "manual")
        self.graph = Graph(manual_clock=options.clock == "manual")
        self._services = {"okta": self.okta, "graph": self.graph, "entra": self.graph}
        hooks = routes(self.gateway) + idp_hooks.routes("okta", self.okta) + idp_hooks.routes("graph", self.graph)
        super().__init__(routes=hooks)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_sandbox/"):
            await super().__call__(scope, receive, send)
            return
        service = self._services.get(scope["path"].split("/", 2)[1])
        await (service or self.gateway)(scope, receive, send)

    def close(self) -> None:
        """Let hanging calls go."""
        for each in (self.gateway, self.okta, self.graph):
            each.close()


def create_app(options: Options) -> Starlette:
    return App(options)


class _Server(uvicorn.Server):
    """Lets hanging calls go before waiting for open connections."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app = self.config.app
        if isinstance(app, App):
            app.close()
        await super().shutdown(sockets)


class Sandbox:
    """A sandbox in a thread of its own, for as long as the `with` block lasts."""

    def __init__(self, options: Options = Options()) -> None:  # noqa: B008 - frozen
        self.options = options
        self.url = ""
        self.okta_url = self.graph_url = self.entra_url = ""
        self.replica_urls: list[str] = []

    def __enter__(self) -> Self:
        listener = _listen(self.options)
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self.okta_url, self.graph_url = f"{self.url}/okta", f"{self.url}/graph"
        self.entra_url = f"{self.url}/entra"
        self.replica_urls = [f"{self.url}/replica/{n}" for n in range(self.options.replicas)]
        self._server = _Server(_config(self.options))
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="idsync-sandbox", daemon=True)
        self._thread.start()
        self._wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()

    def _wait(self) -> None:
        end = time.monotonic() + START_TIMEOUT
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > end:
                raise RuntimeError("the sandbox did not start")
            time.sleep(0.002)


def run(options: Options, on_ready: Callable[[Sandbox], None]) -> None:
    """Serve until SIGINT or SIGTERM; main thread only."""
    ended = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: ended.set())
    try:
        with Sandbox(options) as sandbox:
            on_ready(sandbox)
            while not ended.wait(AWAKE):  # a signal that another thread has got does not wake this one
                pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(options: Options) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
    except OSError:
        listener.close()
        raise
    return listener


def _config(options: Options) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(options),
        loop="uvloop" if importlib.util.find_spec("uvloop") else "asyncio",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        date_header=False,  # ours, which may be wrong on purpose
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
    )
