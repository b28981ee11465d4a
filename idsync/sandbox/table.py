"""All endpoints of one dialect: looking one up, and describing them."""

from __future__ import annotations

from typing import Any

from idsync.sandbox import (
    inference,
    routes_config,
    routes_health,
    routes_invitations,
    routes_key_list,
    routes_keys,
    routes_members,
    routes_orgs,
    routes_spend,
    routes_teams,
    routes_users,
)
from idsync.sandbox.calls import LITELLM, ROUTERO, Call, Endpoint
from idsync.sandbox.replies import Refusal, Reply, plain

MODULES = (
    routes_users,
    routes_invitations,
    routes_teams,
    routes_members,
    routes_keys,
    routes_key_list,
    routes_orgs,
    routes_spend,
    routes_config,
    routes_health,
    inference,
)
VERBS_THAT_DIFFER = ("/key/update", "/key/delete")

Found = tuple[Endpoint, dict[str, str]]


class Table:
    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._exact: dict[str, dict[str, Endpoint]] = {}
        self._patterns: list[tuple[str, str, str, Endpoint]] = []
        self._other_verbs: dict[str, dict[str, Endpoint]] = {}
        for endpoint in [*self._own(), *(e for module in MODULES for e in module.ENDPOINTS)]:
            self._add(endpoint)

    def _own(self) -> list[Endpoint]:
        return [
            Endpoint("GET", "/openapi.json", self._describe, "open", dialects=LITELLM, offline=True),
            Endpoint("GET", "/openapi.json", self._describe, "person", dialects=ROUTERO, offline=True),
        ]

    def _add(self, endpoint: Endpoint) -> None:
        if endpoint.path in VERBS_THAT_DIFFER:
            self._other_verbs.setdefault(endpoint.path, {})[endpoint.method] = endpoint
        if self._dialect not in endpoint.dialects:
            return
        if "{" in endpoint.path:
            head, _, rest = endpoint.path.partition("{")
            name, _, tail = rest.partition("}")
            self._patterns.append((head, name, tail, endpoint))
        else:
            self._exact.setdefault(endpoint.path, {})[endpoint.method] = endpoint

    def find(self, method: str, path: str, both_verbs: bool = False) -> Found:
        """Raises a 404 for an unknown path and a 405 for a wrong verb."""
        verbs = self._exact.get(path)
        if verbs is None:
            return self._find_pattern(method, path)
        if method in verbs:
            return verbs[method], {}
        if both_verbs and method in self._other_verbs.get(path, {}):
            return self._other_verbs[path][method], {}
        raise _wrong_verb(verbs)

    def _find_pattern(self, method: str, path: str) -> Found:
        for head, name, tail, endpoint in self._patterns:
            value = path[len(head) : len(path) - len(tail)]
            if path.startswith(head) and path.endswith(tail) and value and "/" not in value:
                if endpoint.method != method:
                    raise _wrong_verb({endpoint.method: endpoint})
                return endpoint, {name: value}
        raise plain(404, "Not Found")

    def _describe(self, call: Call) -> Any:
        paths: dict[str, dict[str, Any]] = {}
        for path, verbs in self._exact.items():
            paths[path] = {verb.lower(): _operation(endpoint) for verb, endpoint in verbs.items()}
        for *_, endpoint in self._patterns:
            paths[endpoint.path] = {endpoint.method.lower(): _operation(endpoint)}
        return {"openapi": "3.1.0", "info": {"title": self._dialect, "version": "sandbox"}, "paths": paths}


def _wrong_verb(verbs: dict[str, Endpoint]) -> Refusal:
    allow = (("allow", ", ".join(sorted(verbs))),)
    return Refusal(Reply(405, {"detail": "Method Not Allowed"}, allow))


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "summary": (endpoint.handler.__doc__ or endpoint.handler.__name__).splitlines()[0],
        "responses": {"200": {"description": "Successful Response"}},
    }
