"""An authority and a Graph that answer whatever a test tells them to: for the answers that no honest one gives."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from gateway.helpers import serving

from idsync.clock import Clock, ManualClock
from idsync.sources.graph.source import ClientSecret, Credential, GraphSettings, GraphSource

TENANT = "0f0e0d0c-1111-4222-8333-444455556666"
SECRET = "s3cr3t~value"
TOKEN = "eyJ-token"
Answers = Callable[[web.Request], Awaitable[web.StreamResponse] | web.StreamResponse]


def reply(body: Any, status: int = 200, **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, bytes):
        return web.Response(body=body, status=status, headers=named)
    return web.json_response(body, status=status, headers=named)


def again(told: web.Response) -> web.Response:
    """Return the same answer anew: one object is good for one request."""
    return web.Response(body=told.body, status=told.status, headers=told.headers)


def refusal(code: int, text: str = "") -> dict[str, Any]:
    """Return an error of the token endpoint as Entra writes it, with more in it than anybody should see."""
    return {
        "error": "invalid_client",
        "error_description": f"AADSTS{code}: {text} Trace ID: 1 Correlation ID: 2",
        "error_codes": [code],
    }


@dataclass
class Entra:
    """Both servers in one. `tokens` are answered in their order, the last one for ever; `graph` answers the rest."""

    url: str = ""
    graph: Answers | None = None
    tokens: list[Any] = field(default_factory=list)
    discovery: Any = None
    forms: list[dict[str, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    clock: ManualClock = field(default_factory=ManualClock)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        if request.path.endswith("/openid-configuration"):
            return self._discover()
        if request.path.endswith("/token"):
            self.forms.append({str(k): str(v) for k, v in (await request.post()).items()})
            told = self.tokens.pop(0) if len(self.tokens) > 1 else next(iter(self.tokens), None)
            if isinstance(told, web.Response):
                return again(told)
            made = {"token_type": "Bearer", "access_token": f"{TOKEN}{len(self.forms)}", "expires_in": 3599}
            return reply(told or made, 400 if told else 200)
        assert self.graph is not None
        answer = self.graph(request)
        return answer if isinstance(answer, web.StreamResponse) else await answer

    def _discover(self) -> web.Response:
        if self.discovery is not None:
            return reply(*self.discovery)
        own = f"{self.url}/{TENANT}/oauth2/v2.0"
        return reply({"issuer": own, "authorization_endpoint": f"{own}/authorize", "token_endpoint": f"{own}/token"})

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    def settings(self, **changed: Any) -> GraphSettings:
        credential: Credential = ClientSecret(lambda: SECRET)
        usual = {"name": "entra", "tenant_id": TENANT, "client_id": "app-1", "credential": credential}
        return GraphSettings(**{**usual, "authority": self.url, "graph_url": self.url, "timeout": 5.0, **changed})

    def observe(self, endpoint: str, code: str, _seconds: float) -> None:
        self.seen.append((endpoint, code))

    @asynccontextmanager
    async def source(self, clock: Clock | None = None, **changed: Any) -> AsyncIterator[GraphSource]:
        found = GraphSource(self.settings(**changed), clock or self.clock, self.observe, sleep=self.sleep)
        try:
            yield found
        finally:
            await found.close()

    def graph_asked(self) -> list[str]:
        return [one for one in self.asked if "/v1.0/" in one]


@asynccontextmanager
async def entra(graph: Answers | None = None, tls: ssl.SSLContext | None = None, **told: Any) -> AsyncIterator[Entra]:
    servers = Entra(graph=graph, **told)
    async with serving(servers.handle, tls) as url:
        servers.url = url
        yield servers


def page(*rows: Any, **more: Any) -> bytes:
    """Return a page of a listing; `next_`, `delta` and `count` by their names in OData."""
    names = {"next_": "@odata.nextLink", "delta": "@odata.deltaLink", "count": "@odata.count"}
    return json.dumps({"value": list(rows), **{names.get(name, name): value for name, value in more.items()}}).encode()
