"""The tenant over HTTP: Graph under one prefix, Entra's authority under another."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from idsync.sandbox.graph import api, limits
from idsync.sandbox.graph.acts import Acts, seed
from idsync.sandbox.graph.delta import Delta
from idsync.sandbox.graph.entra import Entra, Grant
from idsync.sandbox.graph.replies import TYPE, USUAL, failure, missing, opened
from idsync.sandbox.graph.state import Tenant
from idsync.sandbox.idp.faults import IdpRule, Listing
from idsync.sandbox.idp.service import Service
from idsync.sandbox.idp.settings import Settings
from idsync.sandbox.journal import Entry
from idsync.sandbox.replies import Headers, Refusal, Reply
from idsync.sandbox.wire import Request

JSON = dict[str, Any]
TENANT = "5a4db0c5-0000-4000-8000-00000000e47a"
CLIENT = "5a4db0c5-0000-4000-8000-0000000c11e4"
SECRET = "sandbox-entra-secret"  # noqa: S105 - of the stand-in
IDENTITY_HEADER = "sandbox-identity-header"
ROLES = ["User.Read.All", "GroupMember.Read.All", "Application.Read.All"]


@dataclass
class GraphSettings(Settings):
    """Changed by `POST /_sandbox/graph/options`."""

    tenant: str = TENANT
    clients: list[JSON] = field(default_factory=lambda: [{"client_id": CLIENT, "secrets": [{"value": SECRET}]}])
    roles: list[str] = field(default_factory=lambda: list(ROLES))  # application permissions
    identity_header: str = IDENTITY_HEADER
    units: int = 0  # resource units in 10 s (S 3500, M 5000, L 8000); 0: not counted
    unseen_groups: list[str] = field(default_factory=list)  # names or ids the application may not read
    delta_members: int = 1000  # members on a page of groups/delta
    delta_noise: int = 0  # a seed: items repeat and come in any order
    expired_delta: int = 410  # or 400: what a token too old is answered with


class Graph(Service):
    logged = ("prefer", "consistencylevel", "x-ms-throttle-priority", "client-request-id", "user-agent")
    settings: GraphSettings

    def __init__(self, prefixes: tuple[str, ...] = ("/graph", "/entra"), manual_clock: bool = False) -> None:
        super().__init__(prefixes, manual_clock)
        self.start_over()

    def start_over(self) -> None:
        self.settings = GraphSettings()
        self.tenant = Tenant(self.now)
        self.acts = Acts(self.tenant)
        self.delta = Delta(self.tenant)
        self.delta_epoch = 0
        self.entra = Entra(self.now)
        self.budget = limits.Budget()

    def act(self, given: JSON) -> Any:
        if given.get("do") == "revoke_tokens":
            self.entra.revoke_all()
            return {}
        if given.get("do") == "forget_deltas":
            self.delta_epoch += 1
            return {}
        return self.acts.perform(given)

    def seed(self, given: JSON) -> Any:
        return seed(self.tenant, given)

    def state(self) -> JSON:
        """Everybody and everything, shortly. Large."""
        tenant = self.tenant
        return {
            "users": [{"id": u.id, "upn": u.upn, "enabled": u.enabled, "groups": list(u.groups)} for u in tenant.users],
            "deleted": [{"id": u.id, "upn": u.upn} for u in tenant.deleted],
            "groups": [{"id": g.id, "name": g.name, "members": len(g.members)} for g in tenant.groups],
            "servicePrincipals": [
                {"id": p.id, "name": p.name, "assigned": len(p.assignments)} for p in tenant.principals
            ],
        }

    # one call

    def inner(self, path: str) -> str:
        """Graph's paths begin at its prefix; the authority keeps its own, so that rules can tell them apart."""
        return path.removeprefix("/graph")

    def answer(self, request: Request, entry: Entry) -> Reply:
        origin = f"http://{request.headers.get('host', '127.0.0.1')}"
        settings, entra = self.settings, self.entra
        entra.tenant, entra.clients, entra.roles = settings.tenant, settings.clients, settings.roles
        entra.identity_header = settings.identity_header
        if request.path.startswith("/entra/"):
            entry.caller = "client"
            below = replace(request, path=request.path.removeprefix("/entra"))
            return entra.answer(below, f"{origin}/entra")
        grant = self._admitted(request, entry)
        base = f"{origin}{self.prefixes[0]}/v1.0"
        return self._dispatched(request, grant, base, entry)

    def _admitted(self, request: Request, entry: Entry) -> Grant:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        entry.caller = "app" if scheme else "none"
        now = self.now()
        if scheme != "Bearer" or not token:
            raise Refusal(failure(401, "InvalidAuthenticationToken", "Access token is empty.", now))
        grant = self.entra.grant(token)
        if grant is None:
            code, said = USUAL[401]
            raise Refusal(failure(401, code, said, now))
        return grant

    def _dispatched(self, request: Request, grant: Grant, base: str, entry: Entry) -> Reply:
        if request.path == "/v1.0/$batch" and request.method == "POST":
            return self._batch(request, grant, base)
        units = limits.cost(request.path, request.query)
        told: Headers = (("x-ms-resource-unit", str(units)),)
        if self.settings.units:
            low = request.headers.get("x-ms-throttle-priority", "").lower() == "low"
            allowed, part, wait = self.budget.take(units, self.settings.units, self.now(), low)
            if not allowed:
                return self._throttled(wait, grant.client_id)
            if part > 0.8:
                told += (("x-ms-throttle-limit-percentage", f"{part:.2f}"),)
        try:
            reply = api.handled(api.Call(self, request, grant.roles, base))
        except Refusal as refusal:
            reply = refusal.reply
        return Reply(reply.status, reply.body, reply.headers + told, reply.content_type)

    def _throttled(self, wait: int, client_id: str = CLIENT) -> Reply:
        code, said = USUAL[429]
        headers = (
            ("retry-after", str(wait)),
            ("x-ms-throttle-scope", f"Tenant_Application/ReadWrite/{client_id}/{self.settings.tenant}"),
            ("x-ms-throttle-information", "ResourceUnitLimitExceeded"),
            ("x-ms-throttle-limit-percentage", "1.0"),
        )
        return failure(429, code, said, self.now(), headers)

    def _batch(self, request: Request, grant: Grant, base: str) -> Reply:
        """At most 20; the outer 200 says nothing about the inner ones, and their order is not kept."""
        given = (request.json() or {}).get("requests", [])
        if not given or len(given) > 20:
            said = f"Number of batch request steps exceeds the maximum value of 20. ({len(given)})"
            return failure(400, "BadRequest", said, self.now())
        return Reply(200, {"responses": [self._step(step, request, grant, base) for step in reversed(given)]}, (), TYPE)

    def _step(self, step: JSON, outer: Request, grant: Grant, base: str) -> JSON:
        path, _, query = str(step["url"]).partition("?")
        body = json.dumps(step["body"]).encode() if "body" in step else b""
        headers = {name.lower(): value for name, value in (step.get("headers") or {}).items()}
        prefixed = "/v1.0/" + path.lstrip("/")
        inner = Request(
            step["method"], prefixed, 0, api.parsed(query), {"host": outer.headers.get("host", "")} | headers, body
        )
        entry = self.journal.open(inner.method, inner.path, inner.query, body, 0)
        entry.caller = "batch"
        reply = self._inner_reply(inner, grant, base, entry)
        entry.status = reply.status
        told = {name.title(): value for name, value in reply.headers} | {"Content-Type": "application/json"}
        return {
            "id": step["id"],
            "status": reply.status,
            "headers": told,
            "body": json.loads(reply.encoded() or b"null"),
        }

    def _inner_reply(self, inner: Request, grant: Grant, base: str, entry: Entry) -> Reply:
        rule = self._pick(inner)
        if isinstance(rule, IdpRule) and rule.before and not rule.hang and not rule.drop and not rule.html:
            entry.fault = rule.name
            return self._wrong(rule, inner)
        return self._dispatched(inner, grant, base, entry)

    # what rules need

    def error(self, status: int, request: Request) -> Reply:
        if status == 404:
            return missing(request.path.rsplit("/", 1)[-1], self.now()).reply
        if status == 429:
            return self.throttled("rate", request)
        code, said = USUAL.get(status, ("InternalServerError", "Internal Server Error"))
        headers: Headers = ()
        if status == 410:
            address = f"http://{request.headers.get('host', '')}{self.prefixes[0]}{request.path}?$deltatoken="
            headers = (("location", address),)
        return failure(status, code, said, self.now(), headers)

    def throttled(self, kind: str, request: Request) -> Reply:
        return self._throttled(1 if kind == "concurrency" else 10)

    def page_of(self, request: Request) -> int:
        token = next((v for n, v in request.query.items() if n.lower() in ("$skiptoken", "$deltatoken")), "")
        page = (opened(token) or {}).get("page", 1) if token else 1
        return page if isinstance(page, int) else 1

    def listing(self, reply: Reply, request: Request) -> Listing | None:
        body = json.loads(reply.encoded())
        if not isinstance(body, dict) or not isinstance(body.get("value"), list):
            return None
        own = f"http://{request.headers.get('host', '')}{self.prefixes[0]}{request.path}"
        rest = {name: value for name, value in body.items() if name not in ("value", "@odata.nextLink")}

        def build(items: list[Any], following: str | None) -> Reply:
            link = {"@odata.nextLink": following} if following else {}
            if following:
                rest.pop("@odata.deltaLink", None)
            return Reply(200, rest | link | {"value": items}, reply.headers, reply.content_type)

        first = {n: v for n, v in request.query.items() if n.lower() not in ("$skiptoken", "$deltatoken")}
        return Listing(
            body["value"], body.get("@odata.nextLink"), build, api.link(own, request.query), api.link(own, first)
        )
