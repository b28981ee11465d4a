"""/_sandbox/okta/* and /_sandbox/graph/*: the hooks of the gateway's stand-in, for those of the identity providers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from idsync.sandbox.asked import body_of, fitting, rows
from idsync.sandbox.idp.faults import IdpRule
from idsync.sandbox.idp.service import Service

JSON = dict[str, Any]
Hook = Callable[[Service, Any, Request], Any]


def routes(name: str, service: Service) -> list[Route]:
    table: list[tuple[str, str, Hook]] = [
        ("GET", "state", lambda s, *_: s.state()),
        ("POST", "seed", lambda s, body, _: s.seed(body or {})),
        ("POST", "act", _act),
        ("POST", "clock", _clock),
        ("GET", "log", lambda s, _, request: {"entries": s.journal.rows(int(request.query_params.get("since", 0)))}),
        ("DELETE", "log", _clear_log),
        ("GET", "faults", _faults),
        ("POST", "faults", _add_faults),
        ("DELETE", "faults", _clear_faults),
        ("GET", "options", lambda s, *_: s.settings.shown()),
        ("POST", "options", _change_options),
        ("POST", "reset", _reset),
    ]
    return [Route(f"/_sandbox/{name}/{path}", _endpoint(service, hook), methods=[m]) for m, path, hook in table]


def _endpoint(service: Service, hook: Hook) -> Any:
    async def endpoint(request: Request) -> JSONResponse:
        try:
            return JSONResponse(hook(service, body_of(await request.body()), request))
        except ValueError as problem:
            return JSONResponse({"error": f"{problem}"}, 400)
        except (KeyError, TypeError, AttributeError) as problem:
            return JSONResponse({"error": f"this does not fit together: {problem}"}, 400)

    return endpoint


def _act(service: Service, body: Any, _: Request) -> JSON:
    """One act, or several: {"acts": [...]}."""
    given = body.get("acts", [body]) if isinstance(body, dict) else body
    results = [service.act(fitting("an act", act, act)) for act in rows("acts", given)]
    return {"results": results}


def _clock(service: Service, body: Any, _: Request) -> JSON:
    service.clock.advance(float((body or {}).get("advance", 0)))
    return {"now": service.now()}


def _clear_log(service: Service, *_: Any) -> JSON:
    service.journal.clear()
    return {"entries": []}


def _faults(service: Service, *_: Any) -> JSON:
    return {"faults": [rule.row() for rule in service.faults.rules]}


def _add_faults(service: Service, body: Any, _: Request) -> JSON:
    given = body.get("faults", [body]) if isinstance(body, dict) else body or []
    service.faults.rules += [IdpRule.parse(rule) for rule in given]
    return _faults(service)


def _clear_faults(service: Service, *_: Any) -> JSON:
    service.faults.rules.clear()
    return _faults(service)


def _change_options(service: Service, body: Any, _: Request) -> JSON:
    service.settings.change(body or {})
    return service.settings.shown()


def _reset(service: Service, *_: Any) -> JSON:
    service.start_over()
    service.restart_clock()
    service.journal.clear()
    service.faults.rules.clear()
    return {"reset": True}
