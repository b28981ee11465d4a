"""The org over HTTP: who may ask, how often, and what about."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from idsync.sandbox.idp.faults import Listing
from idsync.sandbox.idp.service import Service
from idsync.sandbox.idp.settings import Settings
from idsync.sandbox.journal import Entry
from idsync.sandbox.okta import api, limits
from idsync.sandbox.okta.acts import Acts
from idsync.sandbox.okta.calls import Call, base_of, decode_cursor
from idsync.sandbox.okta.seeding import seed
from idsync.sandbox.okta.state import Org
from idsync.sandbox.okta.tokens import Tokens, failure, refused
from idsync.sandbox.replies import Headers, Refusal, Reply
from idsync.sandbox.wire import Request

JSON = dict[str, Any]
TOKEN = "00sandbox-okta-token"  # noqa: S105 - of the stand-in


@dataclass
class OktaSettings(Settings):
    """Changed by `POST /_sandbox/okta/options`."""

    tokens: list[str] = field(default_factory=lambda: [TOKEN])  # SSWS
    token_owner: str = ""  # whose the SSWS tokens are: they die when that person is deactivated
    clients: list[JSON] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)  # requests a minute, by bucket
    documented_limits: bool = False  # those Okta documents, for every bucket not named in `limits`
    concurrency: int = 0  # requests at the same time; 0: any number
    narrowed_to: list[str] = field(default_factory=list)  # names or ids of the groups the admin role still covers
    narrowed: bool = False
    narrowed_status: int = 403  # or 404: what a record outside of the role is answered with
    deactivated_keep_groups: bool = True
    log_overlap: int = 0  # so many of the last events come again with each poll
    log_lag: float = 0.0  # seconds until an event can be read

    def change(self, wanted: JSON) -> None:
        super().change(wanted)
        if "narrowed_to" in wanted and "narrowed" not in wanted:
            self.narrowed = True


class Okta(Service):
    logged = ("content-type", "user-agent")
    settings: OktaSettings

    def __init__(self, prefixes: tuple[str, ...] = ("/okta",), manual_clock: bool = False) -> None:
        super().__init__(prefixes, manual_clock)
        self.start_over()

    def start_over(self) -> None:
        self.settings = OktaSettings()
        self.org = Org(self.now)
        self.acts = Acts(self.org, lambda: self.settings.deactivated_keep_groups)
        self.tokens = Tokens(self.now)
        self.buckets = limits.Buckets()

    def act(self, given: JSON) -> Any:
        special = {
            "revoke_api_tokens": self._revoke_api_tokens,
            "revoke_tokens": self.tokens.revoke_all,
            "new_nonce": self.tokens.new_nonce,
            "refill": self.buckets.clear,
        }.get(str(given.get("do")))
        if special is None:
            return self.acts.perform(given)
        special()
        return {}

    def _revoke_api_tokens(self) -> None:
        self.settings.tokens = []
        self.org.record("system.api_token.revoke", [], "Revoke API token")

    def _api_tokens(self) -> list[str]:
        owner = self.org.find_user(self.settings.token_owner) if self.settings.token_owner else None
        dead = bool(self.settings.token_owner) and (owner is None or owner.status == "DEPROVISIONED")
        return [] if dead else self.settings.tokens

    def seed(self, given: JSON) -> Any:
        return seed(self.org, given)

    def state(self) -> JSON:
        """Everybody and everything, shortly. Large."""
        return {
            "users": [
                {"id": u.id, "login": u.login, "status": u.status, "groups": list(u.groups)} for u in self.org.users
            ],
            "groups": [{"id": g.id, "name": g.name, "members": len(g.members)} for g in self.org.groups],
            "apps": [{"id": a.id, "label": a.label, "users": len(a.users)} for a in self.org.apps],
            "events": len(self.org.events),
        }

    # one call

    def answer(self, request: Request, entry: Entry) -> Reply:
        base = base_of(request, self.prefixes[0])
        self.tokens.ssws, self.tokens.clients = self._api_tokens(), self.settings.clients
        self.buckets.limits = (limits.DOCUMENTED if self.settings.documented_limits else {}) | self.settings.limits
        if self.settings.concurrency and self.in_flight > self.settings.concurrency:
            return self.throttled("concurrency", request)
        *told, allowed = self.buckets.take(request.path, self.now())
        self._warn(request.path)
        headers = _limit_headers(*told)
        if not allowed:
            return _too_many(headers)
        try:
            reply = self._handled(request, entry, base)
        except Refusal as refusal:
            reply = refusal.reply
        return Reply(reply.status, reply.body, reply.headers + headers, reply.content_type)

    def _warn(self, path: str) -> None:
        """Of a bucket that runs out, the administrators are told."""
        if alarm := self.buckets.alarm(path):
            self.org.record(f"system.org.rate_limit.{alarm}", [], f"Rate limit {alarm}")

    def _handled(self, request: Request, entry: Entry, base: str) -> Reply:
        if request.path == "/oauth2/v1/token" and request.method == "POST":
            entry.caller = "client"
            return self.tokens.token(request, base)
        if not request.path.startswith("/api/"):
            raise refused(404, "E0000022", "The endpoint does not support the provided HTTP method")
        caller = self.tokens.caller(request, base + request.path)
        entry.caller = caller.kind
        handler, scope, params = api.find(request.method, request.path)
        if caller.scopes is not None and scope not in caller.scopes:
            challenge = (
                f'Bearer authorization_uri="{base}/oauth2/v1/authorize", realm="{base}", scope="{scope}", '
                'error="insufficient_scope", error_description="The access token provided does not contain the '
                f'required scopes.", resource="{request.path}"'
            )
            said = "You do not have permission to perform the requested action"
            raise refused(403, "E0000006", said, headers=(("www-authenticate", challenge),))
        return handler(Call(self.org, self.acts, request, base, params, self._visible(), self.settings))

    def _visible(self) -> frozenset[str] | None:
        """The ids of the groups the role covers; None: everything."""
        if not self.settings.narrowed:
            return None
        wanted = set(self.settings.narrowed_to)
        return frozenset(group.id for group in self.org.groups if wanted & {group.id, group.name})

    # what rules need

    def error(self, status: int, request: Request) -> Reply:
        code, said = {
            400: ("E0000001", "Api validation failed: filter"),
            401: ("E0000011", "Invalid token provided"),
            403: ("E0000006", "You do not have permission to perform the requested action"),
            404: ("E0000007", f"Not found: Resource not found: {request.path.rsplit('/', 1)[-1]} (User)"),
        }.get(status, ("E0000009", "Internal Server Error"))
        if status == 429:
            return self.throttled("rate", request)
        told = self.buckets.take(request.path, self.now())
        return failure(status, code, said, headers=_limit_headers(*told[:3]))

    def throttled(self, kind: str, request: Request) -> Reply:
        """The limit on concurrent requests names no time to wait for: limit and remaining are 0."""
        if kind == "concurrency":
            return _too_many(_limit_headers(0, 0, int(self.now())))
        return _too_many(_limit_headers(*self.buckets.exhaust(request.path, self.now())))

    def page_of(self, request: Request) -> int:
        return decode_cursor(request.query.get("after", ""))[0]

    def listing(self, reply: Reply, request: Request) -> Listing | None:
        items = json.loads(reply.encoded())
        if not isinstance(items, list):
            return None
        links = [value for name, value in reply.headers if name == "link"]
        rest: Headers = tuple(pair for pair in reply.headers if pair[0] != "link")
        own = links[0].partition(">")[0][1:] if links else ""
        after = next((link.partition(">")[0][1:] for link in links if 'rel="next"' in link), None)

        def build(changed: list[Any], following: str | None) -> Reply:
            now = [f'<{own}>; rel="self"'] + ([f'<{following}>; rel="next"'] if following else [])
            return Reply(200, changed, rest + tuple(("link", link) for link in now), reply.content_type)

        return Listing(items, after, build, own, api.without_cursor(own))


def _limit_headers(limit: int, remaining: int, reset: int) -> Headers:
    return (
        ("x-rate-limit-limit", str(limit)),
        ("x-rate-limit-remaining", str(remaining)),
        ("x-rate-limit-reset", str(reset)),
    )


def _too_many(headers: Headers) -> Reply:
    """As recorded; there is no Retry-After."""
    said = "API call exceeded rate limit due to too many requests."
    return failure(429, "E0000047", said, headers=headers)
