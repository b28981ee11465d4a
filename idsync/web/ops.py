"""The operations port: health, metrics, the status page.

Readiness speaks of us alone: an IdP or a gateway that is down must not take SCIM off the air.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from idsync.web.auth import Tokens, bearer
from idsync.web.page.site import OPERATOR, StatusPage

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


def probe_routes(ready: Callable[[], list[str]]) -> list[Route]:
    """Return /livez and /readyz. `ready` returns what is in the way, empty when nothing is."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        problems = ready()
        return PlainTextResponse("ok\n" if not problems else f"no: {', '.join(problems)}\n", 503 if problems else 200)

    return [Route("/livez", livez), Route("/readyz", readyz)]


def ops_app(
    *,
    ready: Callable[[], list[str]],
    metrics: Callable[[], bytes],
    health: Callable[[], dict[str, Any]],
    tokens: Tokens,
    page: StatusPage,
) -> Starlette:
    """Build the application of the operations port.

    /health needs an operator's token, or a session of the page; until one exists it is 401.
    """

    async def exposition(_: Request) -> Response:
        return Response(await page.in_thread(metrics), media_type=EXPOSITION)

    async def health_page(request: Request) -> Response:
        if tokens.check(bearer(request.scope["headers"]), OPERATOR) is None and page.session_of(request) is None:
            said = "an operator's token is needed: idsync token new --operator NAME"
            return JSONResponse({"error": said}, 401, {"WWW-Authenticate": 'Bearer realm="idsync"'})
        return JSONResponse(await page.in_thread(health), headers={"Cache-Control": "no-store"})

    routes = [*probe_routes(ready), Route("/metrics", exposition), Route("/health", health_page)]
    return Starlette(routes=[*routes, *page.routes()])
