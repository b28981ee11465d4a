"""The endpoints. Each handler names the scope a token needs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from idsync.sandbox.idp.jsontext import array, moment
from idsync.sandbox.okta import bodies
from idsync.sandbox.okta.calls import (
    TYPE,
    Call,
    address,
    decode_cursor,
    encode_cursor,
    invalid,
    link_headers,
    missing,
    one,
)
from idsync.sandbox.okta.filters import Getter, Invalid, Predicate, compiled
from idsync.sandbox.okta.state import Event, Group, User
from idsync.sandbox.okta.tokens import refused
from idsync.sandbox.replies import Reply

JSON = dict[str, Any]
Handler = Callable[[Call], Reply]
DAY = 86400.0
OLDEST_SINCE = 180 * DAY
MOST_EVENTS = 1000

_USER_FIELDS: dict[str, tuple[Getter, bool]] = {
    "id": (lambda u: u.id, False),
    "status": (lambda u: u.status, False),
    "lastUpdated": (lambda u: u.updated, True),
    "profile.login": (lambda u: u.login, False),
    "profile.email": (lambda u: u.email, False),
    "profile.firstName": (lambda u: u.first_name, False),
    "profile.lastName": (lambda u: u.last_name, False),
}
_SEARCHED = _USER_FIELDS | {
    "created": (lambda u: u.created, True),
    "activated": (lambda u: u.activated, True),
    "statusChanged": (lambda u: u.status_changed, True),
}
_GROUP_FIELDS: dict[str, tuple[Getter, bool]] = {
    "id": (lambda g: g.id, False),
    "type": (lambda g: g.kind, False),
    "lastUpdated": (lambda g: g.updated, True),
    "lastMembershipUpdated": (lambda g: g.membership_updated, True),
}
_GROUPS_SEARCHED = _GROUP_FIELDS | {
    "created": (lambda g: g.created, True),
    "profile.name": (lambda g: g.name, False),
    "profile.description": (lambda g: g.description, False),
}


def _filtered(expression: str | None, fields: dict[str, tuple[Getter, bool]], loose: bool = False) -> Predicate | None:
    if expression is None:
        return None

    def lookup(name: str) -> tuple[Getter, bool] | None:
        if loose and name.startswith("profile.") and name not in fields:
            return (lambda item: getattr(item, "profile", {}).get(name[8:])), False
        return fields.get(name)

    try:
        return compiled(expression, lookup, loose=loose)
    except Invalid:
        raise refused(400, "E0000031", "Invalid search criteria.") from None


def _narrowed(call: Call, wanted: Predicate | None) -> Predicate | None:
    if call.visible is None:
        return wanted
    return lambda user: call.sees(user) and (wanted is None or wanted(user))


# users


def list_users(call: Call) -> Reply:
    """Without `filter` and `search`, deactivated people are left out; so they are with `q`, which has no pages."""
    query = call.query
    wanted = _filtered(query.get("filter"), _USER_FIELDS) or _filtered(query.get("search"), _SEARCHED, loose=True)
    if wanted is None:
        part = query.get("q", "").lower()

        def wanted(user: User) -> bool:
            names = (user.email, user.first_name, user.last_name) if part else ()
            return user.status != "DEPROVISIONED" and (not part or any(n.lower().startswith(part) for n in names))

    size = call.limit(10 if "q" in query else 200, 200)
    reply = call.page(call.org.users, lambda u: bodies.user(u, call.base, call.omit), size, _narrowed(call, wanted))
    return Reply(200, reply.body, reply.headers[:1], TYPE) if "q" in query else reply


def get_user(call: Call) -> Reply:
    return one(bodies.user(call.user(), call.base, call.omit, full=True))


def user_groups(call: Call) -> Reply:
    """All of them at once, as far as the role sees them."""
    groups = [bodies.group(group, call.base) for group in call.user().groups.values() if call.sees_group(group)]
    return Reply(200, array(groups), link_headers(call.base + call.request.path), TYPE)


def create_user(call: Call) -> Reply:
    body = call.request.json() or {}
    profile = dict(body.get("profile", {}))
    login = profile.pop("login", None)
    if not login:
        raise invalid("login", "login: The field cannot be left blank")
    if call.org.find_user(login):
        raise invalid("login", "login: An object with this field already exists in the current organization")
    status = "STAGED" if call.query.get("activate", "true").lower() == "false" else "ACTIVE"
    made = call.acts.create_user(login, status, **profile)
    return one(bodies.user(call.org.user(made["id"]), call.base, full=True))


def delete_user(call: Call) -> Reply:
    """The first call deactivates, the second deletes."""
    user = call.user()
    if user.status == "DEPROVISIONED":
        call.acts.delete(user.id)
    else:
        call.acts.deactivate(user.id)
    return Reply(204, b"")


_FROM = {
    "activate": ("STAGED", "DEPROVISIONED"),
    "deactivate": None,
    "suspend": ("ACTIVE",),
    "unsuspend": ("SUSPENDED",),
    "unlock": ("LOCKED_OUT",),
}


def lifecycle(call: Call) -> Reply:
    user, step = call.user(), call.params["step"]
    allowed = _FROM.get(step, ())
    if allowed is not None and user.status not in allowed:
        said = f"Cannot {step} a user in status {user.status}"
        raise refused(400, "E0000001", f"Api validation failed: {step}User", (said,))
    call.acts.perform({"do": step, "user": user.id})
    return Reply(200, {}, (), TYPE)


# groups


def list_groups(call: Call) -> Reply:
    query = call.query
    wanted = _filtered(query.get("filter"), _GROUP_FIELDS) or _filtered(
        query.get("search"), _GROUPS_SEARCHED, loose=True
    )
    part = query.get("q", "").lower()
    stats = "stats" in query.get("expand", "")

    def fits(group: Group) -> bool:
        named = not part or group.name.lower().startswith(part)
        return call.sees_group(group) and named and (wanted is None or wanted(group))

    size = call.limit(10_000, 10_000)
    if stats:
        size = min(size, 200)
    return call.page(call.org.groups, lambda g: bodies.group(g, call.base, stats), size, fits)


def get_group(call: Call) -> Reply:
    return one(bodies.group(call.group(), call.base, "stats" in call.query.get("expand", "")))


def group_members(call: Call) -> Reply:
    shelf = call.group().members
    return call.page(shelf, lambda u: bodies.user(u, call.base, call.omit), call.limit(1000, 1000))


def create_group(call: Call) -> Reply:
    profile = (call.request.json() or {}).get("profile", {})
    made = call.acts.create_group(profile.get("name", ""), description=profile.get("description"))
    return one(bodies.group(call.org.group(made["id"]), call.base))


def rename_group(call: Call) -> Reply:
    group = call.group()
    call.acts.rename_group(group.id, (call.request.json() or {}).get("profile", {}).get("name", group.name))
    return one(bodies.group(group, call.base))


def delete_group(call: Call) -> Reply:
    call.acts.delete_group(call.group().id)
    return Reply(204, b"")


def add_member(call: Call) -> Reply:
    call.acts.join(call.group().id, _other(call).id)
    return Reply(204, b"")


def remove_member(call: Call) -> Reply:
    call.acts.leave(call.group().id, _other(call).id)
    return Reply(204, b"")


def _other(call: Call) -> User:
    user = call.org.users.get(call.params["other"])
    if user is None:
        raise missing(call.params["other"], "User")
    return user


# apps


def list_apps(call: Call) -> Reply:
    part = call.query.get("q", "").lower()
    size = call.limit(20, 200)
    return call.page(
        call.org.apps, lambda a: bodies.app(a, call.base), size, lambda a: a.label.lower().startswith(part)
    )


def get_app(call: Call) -> Reply:
    return one(bodies.app(call.app(), call.base))


def app_users(call: Call) -> Reply:
    app, expand = call.app(), call.query.get("expand") == "user"
    wanted = None if call.visible is None else lambda found: call.sees(found.user)
    size = call.limit(50, 500)
    return call.page(app.users, lambda found: bodies.assigned(found, app, call.base, expand), size, wanted)


def app_user(call: Call) -> Reply:
    app, ref = call.app(), call.params["other"]
    found = app.users.get(ref)
    if found is None:
        raise missing(ref, "AppUser")
    return one(bodies.assigned(found, app, call.base, call.query.get("expand") == "user"))


def app_groups(call: Call) -> Reply:
    app = call.app()
    size = call.limit(20, 200)
    return call.page(app.groups, lambda g: bodies.assigned_group(g, app, call.base), size, call.sees_group)


def app_group(call: Call) -> Reply:
    app, ref = call.app(), call.params["other"]
    found = app.groups.get(ref)
    if found is None:
        raise missing(ref, "AppGroup")
    return one(bodies.assigned_group(found, app, call.base))


# the System Log


def logs(call: Call) -> Reply:
    """A polling query (no `until`, ascending) is in the order of persistence and always has a `next`."""
    query, now = call.query, call.org.now()
    given = query.get("limit", "100")
    if not given.isdecimal() or not 0 <= int(given) <= MOST_EVENTS:
        raise invalid("limit", f"The limit must be between 0 and {MOST_EVENTS}")
    wanted = _events_wanted(query)
    if "until" in query or query.get("sortOrder", "ASCENDING") != "ASCENDING":
        return _bounded(call, int(given), wanted, now)
    if "since" in query and "after" in query:
        raise invalid("since,after", "since and after are mutually exclusive")
    return _polled(call, int(given), wanted, now)


def _polled(call: Call, size: int, wanted: Predicate | None, now: float) -> Reply:
    query, events, visible_until = call.query, call.org.events, now - call.settings.log_lag
    page, place = 1, 0
    if "after" in query:
        page, place = decode_cursor(query["after"])
        if not 0 <= place <= len(events):
            raise invalid("after", "The after cursor is not valid")
        place = max(0, place - call.settings.log_overlap)
    else:
        since = _moment(query.get("since"), now - 7 * DAY, now)
        while place < len(events) and events[place].persisted < since:
            place += 1
    found: list[str] = []
    while place < len(events) and len(found) < size and events[place].persisted <= visible_until:
        if wanted is None or wanted(events[place].body):
            found.append(json.dumps(events[place].body))
        place += 1
    kept = {name: value for name, value in query.items() if name not in ("since", "after")}
    own = address(call.base + call.request.path, query)
    following = address(call.base + call.request.path, kept | {"after": encode_cursor(page + 1, place)})
    return Reply(200, array(found), link_headers(own, following), TYPE)


def _bounded(call: Call, size: int, wanted: Predicate | None, now: float) -> Reply:
    """By time of publication; what comes late is missed."""
    query = call.query
    since, until = _moment(query.get("since"), now - 7 * DAY, now), _moment(query.get("until"), now, now)

    def fits(event: Event) -> bool:
        return since <= event.published < until and (wanted is None or wanted(event.body))

    descending = query.get("sortOrder", "ASCENDING") != "ASCENDING"
    events = sorted(filter(fits, call.org.events), key=lambda e: e.published, reverse=descending)
    page, place = decode_cursor(query.get("after", ""))
    own = address(call.base + call.request.path, query)
    following = None
    if place + size < len(events):
        following = address(own.partition("?")[0], query | {"after": encode_cursor(page + 1, place + size)})
    shown = [json.dumps(event.body) for event in events[max(0, place) : place + size]]
    return Reply(200, array(shown), link_headers(own, following), TYPE)


def _events_wanted(query: dict[str, str]) -> Predicate | None:
    if not query.get("filter"):
        return None

    def lookup(name: str) -> tuple[Getter, bool] | None:
        if name == "published":
            return (lambda body: moment(body["published"])), True
        steps = name.split(".")
        if steps[0] == "target":
            return (
                None if len(steps) < 2 else (lambda body: next((t.get(steps[1]) for t in body["target"]), None), False)
            )
        return (lambda body: _inside(body, steps)), False

    wanted = query["filter"]
    if target := re.fullmatch(r'\s*target\.id\s+eq\s+"([^"]*)"\s*', wanted):
        return lambda body: any(t["id"] == target[1] for t in body["target"])
    try:
        return compiled(wanted, lookup, loose=True)
    except Invalid:
        raise refused(400, "E0000031", "Invalid search criteria.") from None


def _inside(body: Any, steps: list[str]) -> Any:
    for step in steps:
        body = body.get(step) if isinstance(body, dict) else None
    return body


def _moment(text: str | None, default: float, now: float) -> float:
    if text is None:
        return default
    try:
        found = moment(text)
    except ValueError:
        raise invalid("since", "The time must be ISO 8601") from None
    if found < now - OLDEST_SINCE:
        raise invalid("since", "The since parameter is over 180 days ago")
    return found


# which is which

_ROUTES: list[tuple[str, str, Handler, str]] = [
    ("GET", "/api/v1/users", list_users, "okta.users.read"),
    ("POST", "/api/v1/users", create_user, "okta.users.manage"),
    ("GET", "/api/v1/users/{id}", get_user, "okta.users.read"),
    ("DELETE", "/api/v1/users/{id}", delete_user, "okta.users.manage"),
    ("GET", "/api/v1/users/{id}/groups", user_groups, "okta.groups.read"),
    ("POST", "/api/v1/users/{id}/lifecycle/{step}", lifecycle, "okta.users.manage"),
    ("GET", "/api/v1/groups", list_groups, "okta.groups.read"),
    ("POST", "/api/v1/groups", create_group, "okta.groups.manage"),
    ("GET", "/api/v1/groups/{id}", get_group, "okta.groups.read"),
    ("PUT", "/api/v1/groups/{id}", rename_group, "okta.groups.manage"),
    ("DELETE", "/api/v1/groups/{id}", delete_group, "okta.groups.manage"),
    ("GET", "/api/v1/groups/{id}/users", group_members, "okta.groups.read"),
    ("PUT", "/api/v1/groups/{id}/users/{other}", add_member, "okta.groups.manage"),
    ("DELETE", "/api/v1/groups/{id}/users/{other}", remove_member, "okta.groups.manage"),
    ("GET", "/api/v1/apps", list_apps, "okta.apps.read"),
    ("GET", "/api/v1/apps/{id}", get_app, "okta.apps.read"),
    ("GET", "/api/v1/apps/{id}/users", app_users, "okta.apps.read"),
    ("GET", "/api/v1/apps/{id}/users/{other}", app_user, "okta.apps.read"),
    ("GET", "/api/v1/apps/{id}/groups", app_groups, "okta.apps.read"),
    ("GET", "/api/v1/apps/{id}/groups/{other}", app_group, "okta.apps.read"),
    ("GET", "/api/v1/logs", logs, "okta.logs.read"),
]
_TABLE = [
    (method, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path.rstrip("/")) + "/?$"), handler, scope)
    for method, path, handler, scope in _ROUTES
]


def find(method: str, path: str) -> tuple[Handler, str, dict[str, str]]:
    """The handler, the scope it needs, and what the path names. Raises 404 and 405."""
    known = False
    for verb, pattern, handler, scope in _TABLE:
        if found := pattern.match(path):
            if verb == method:
                return handler, scope, found.groupdict()
            known = True
    if known:
        raise refused(405, "E0000022", "The endpoint does not support the provided HTTP method")
    raise refused(404, "E0000007", f"Not found: Resource not found: {path.rsplit('/', 1)[-1]} (Endpoint)")


def without_cursor(own: str) -> str:
    """The address of the first page of a listing."""
    return re.sub(r"([?&])after=[^&]*&?", r"\1", own).rstrip("?&")
