"""/_sandbox/*: seed it, break it, move its clock, read what it was asked. Never part of a client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from idsync.sandbox import acts
from idsync.sandbox.asked import body_of
from idsync.sandbox.faults import Rule
from idsync.sandbox.gateway import Gateway
from idsync.sandbox.objects import invitation_row, key_row, team_row, user_row
from idsync.sandbox.seeding import seed

JSON = dict[str, Any]
Hook = Callable[[Gateway, Any, Request], Any]


def routes(gateway: Gateway) -> list[Route]:
    table: list[tuple[str, str, Hook]] = [
        ("GET", "state", _state),
        ("POST", "seed", lambda g, body, _: seed(g.world, body or {})),
        ("POST", "act", lambda g, body, _: acts.perform(g.world, body or {})),
        ("POST", "warm", lambda g, *_: {"keys": g.world.warm()}),
        ("POST", "clock", _clock),
        ("GET", "log", lambda g, _, request: _log(g, request)),
        ("DELETE", "log", _clear_log),
        ("GET", "faults", _faults),
        ("POST", "faults", _add_faults),
        ("DELETE", "faults", _clear_faults),
        ("GET", "options", lambda g, *_: _options(g)),
        ("POST", "options", _change_options),
        ("POST", "reset", _reset),
    ]
    return [Route(f"/_sandbox/{name}", _endpoint(gateway, hook), methods=[method]) for method, name, hook in table]


def _endpoint(gateway: Gateway, hook: Hook) -> Any:
    @wraps(hook)
    async def endpoint(request: Request) -> JSONResponse:
        try:
            return JSONResponse(hook(gateway, body_of(await request.body()), request))
        except ValueError as problem:
            return JSONResponse({"error": str(problem)}, 400)
        except (KeyError, TypeError, AttributeError) as problem:
            return JSONResponse({"error": f"this does not fit together: {problem}"}, 400)

    return endpoint


def _state(gateway: Gateway, *_: Any) -> JSON:
    state = gateway.world.state
    return {
        "users": [user_row(user) for user in state.users.values()],
        "teams": [team_row(team) for team in state.teams.values()],
        "keys": [key_row(key) for key in state.keys.values()],
        "archived_keys": [key_row(key) for key in state.archive.values()],
        "invitations": [invitation_row(invitation) for invitation in state.invitations.values()],
        "config": state.config,
    }


def _clock(gateway: Gateway, body: Any, _: Request) -> JSON:
    gateway.world.clock.advance(float((body or {}).get("advance", 0)))
    return {"now": gateway.world.clock.now()}


def _log(gateway: Gateway, request: Request) -> JSON:
    return {"entries": gateway.journal.rows(int(request.query_params.get("since", 0)))}


def _clear_log(gateway: Gateway, *_: Any) -> JSON:
    gateway.journal.clear()
    return {"entries": []}


def _faults(gateway: Gateway, *_: Any) -> JSON:
    return {"faults": [rule.row() for rule in gateway.faults.rules]}


def _add_faults(gateway: Gateway, body: Any, _: Request) -> JSON:
    given = body.get("faults", [body]) if isinstance(body, dict) else body or []
    gateway.faults.rules += [Rule.parse(rule) for rule in given]
    return _faults(gateway)


def _clear_faults(gateway: Gateway, *_: Any) -> JSON:
    gateway.faults.rules.clear()
    return _faults(gateway)


def _options(gateway: Gateway) -> JSON:
    return {name: value for name, value in asdict(gateway.world.settings).items() if name != "admin_key"}


def _change_options(gateway: Gateway, body: Any, _: Request) -> JSON:
    gateway.world.settings.change(body or {})
    return _options(gateway)


def _reset(gateway: Gateway, *_: Any) -> JSON:
    gateway.world.reset()
    gateway.journal.clear()
    gateway.faults.rules.clear()
    return {"reset": True}
