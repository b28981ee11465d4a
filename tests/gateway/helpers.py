"""What the contract tests stand on: a sandbox with its hooks, and a server that answers whatever it is told to."""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

from idsync.clock import Clock, ManualClock
from idsync.gateway.client import Gateway, GatewaySettings
from idsync.gateway.dialects import Dialect
from idsync.sandbox.server import Sandbox

T = TypeVar("T")
ADMIN_KEY = "sk-admin-1234"


@dataclass
class Site:
    """A sandbox of one dialect, with everything a test wants to do to it."""

    sandbox: Sandbox
    dialect: Dialect
    clock: ManualClock = field(default_factory=ManualClock)
    keys: list[str] = field(default_factory=lambda: [ADMIN_KEY], repr=False)
    learned: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, int | str]] = field(default_factory=list)
    between: Callable[[], None] | None = None
    """Done once, between the first call and the second."""

    def hook(self, name: str, body: Any = None, method: str = "POST") -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.sandbox.url}/_sandbox/{name}", data=data, method=method)
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def seed(self, **sections: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.hook("seed", sections)["keys"]
        return found

    def fault(self, path: str, **rule: Any) -> None:
        self.hook("faults", [{"path": path, **rule}])

    def options(self, **changes: Any) -> None:
        self.hook("options", changes)

    def log(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.hook("log", method="GET")["entries"]
        return entries

    def asked(self) -> list[str]:
        """Return what the gateway was asked, as `POST /key/block`."""
        return [f"{entry['method']} {entry['path']}" for entry in self.log()]

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.hook("state", method="GET")
        return state

    def gateway(self, clock: Clock | None = None, **settings: Any) -> Gateway:
        return Gateway(
            GatewaySettings(base_url=self.sandbox.url, dialect=self.dialect, **settings),
            lambda: self.keys[-1],
            clock or self.clock,
            learned=self.learned,
            on_learn=self.learned.__setitem__,
            observe=self._observe,
        )

    def _observe(self, endpoint: str, status: int | str, _seconds: float) -> None:
        self.seen.append((endpoint, status))
        act, self.between = self.between, None
        if act is not None:
            act()

    def delete_key(self, key_id: str) -> None:
        """Delete a key as somebody else would."""
        verb = "POST" if self.dialect == "litellm" else "DELETE"
        request = urllib.request.Request(
            f"{self.sandbox.url}/key/delete",
            data=json.dumps({"keys": [key_id]}).encode(),
            headers={"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"},
            method=verb,
        )
        urllib.request.urlopen(request).close()

    def run(self, act: Callable[[Gateway], Awaitable[T]], **settings: Any) -> T:
        """Run a coroutine function with a gateway of its own."""

        async def inside() -> T:
            async with self.gateway(**settings) as gateway:
                return await act(gateway)

        return asyncio.run(inside())


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _application(handler: Handler) -> web.Application:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    return application


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve every request with one handler, for the answers that no gateway gives; yields the URL."""
    runner = web.AppRunner(_application(handler), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"{'https' if tls else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()


def gateway_at(url: str, clock: Clock | None = None, **settings: Any) -> Gateway:
    """Return a gateway of the LiteLLM dialect at any address."""
    settings.setdefault("timeout", 5.0)
    return Gateway(
        GatewaySettings(base_url=url, dialect="litellm", **settings), lambda: ADMIN_KEY, clock or ManualClock()
    )
