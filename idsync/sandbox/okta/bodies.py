"""Records as Okta writes them, as JSON text: a page of 200 costs about a millisecond."""

from __future__ import annotations

import json
from functools import lru_cache

from idsync.sandbox.idp.faults import merged
from idsync.sandbox.idp.jsontext import millis, text
from idsync.sandbox.okta.state import App, Assignment, Group, User

USER_TYPE = "oty1sandbox4x6sb5d7x"

_USER = (
    '{"id":%s,"status":%s,"created":%s,"activated":%s,"statusChanged":%s,"lastLogin":null,"lastUpdated":%s,'
    '"passwordChanged":%s,"type":{"id":"' + USER_TYPE + '"},"profile":{"firstName":%s,"lastName":%s,'
    '"mobilePhone":null,"secondEmail":null,"login":%s,"email":%s%s},%s"_links":%s}'
)
_CREDENTIALS = (
    '"credentials":{"password":{},"emails":[{"value":%s,"status":"VERIFIED","type":"PRIMARY"}],'
    '"provider":{"type":"OKTA","name":"OKTA"}},'
)
_GROUP = (
    '{"id":%s,"created":%s,"lastUpdated":%s,"lastMembershipUpdated":%s,"objectClass":[%s],"type":%s,'
    '"profile":{"name":%s,"description":%s},"_links":{"logo":[],"users":{"href":"%s/users"},"apps":{"href":"%s/apps"}}'
)
_ASSIGNED = (
    '{"id":%s,"externalId":null,"created":%s,"lastUpdated":%s,"scope":%s,"status":"ACTIVE","statusChanged":%s,'
    '"passwordChanged":null,"syncState":"DISABLED","credentials":{"userName":%s},"profile":{},'
    '"_links":{"app":{"href":"%s"},"user":{"href":"%s/api/v1/users/%s"}}}'
)


@lru_cache(maxsize=65536)
def when(moment: float | None) -> str:
    """A time as JSON text."""
    return text(millis(moment))


def user(who: User, base: str, omit: str = "", full: bool = False) -> str:
    """`omit` is what the request asked to leave out, in Okta's words. `full` adds the links of a single record."""
    credentials = "" if "omitCredentials" in omit else _CREDENTIALS % text(who.email)
    if who.transitioning and "omitTransitioningToStatus" not in omit:
        credentials = f'"transitioningToStatus":{text(who.transitioning)},{credentials}'
    links = f'{{"self":{{"href":"{base}/api/v1/users/{who.id}"}}'
    if full:
        links += _lifecycle(who, f"{base}/api/v1/users/{who.id}")
    written = _USER % (
        text(who.id),
        text(who.status),
        when(who.created),
        when(who.activated),
        when(who.status_changed),
        when(who.updated),
        when(who.created),
        text(who.first_name),
        text(who.last_name),
        text(who.login),
        text(who.email),
        "," + json.dumps(who.profile)[1:-1] if who.profile else "",
        credentials,
        links + "}",
    )
    return json.dumps(merged(json.loads(written), who.odd)) if who.odd else written


def _lifecycle(who: User, address: str) -> str:
    steps = {
        "STAGED": ("activate",),
        "ACTIVE": ("suspend", "deactivate"),
        "SUSPENDED": ("unsuspend", "deactivate"),
        "LOCKED_OUT": ("unlock", "deactivate"),
        "DEPROVISIONED": ("activate", "delete"),
    }.get(who.status, ("deactivate",))
    parts = [f',"{step}":{{"href":"{address}/lifecycle/{step}","method":"POST"}}' for step in steps if step != "delete"]
    parts += [f',"delete":{{"href":"{address}","method":"DELETE"}}'] * ("delete" in steps)
    return "".join(parts)


def group(team: Group, base: str, stats: bool = False) -> str:
    address = f"{base}/api/v1/groups/{team.id}"
    kind = "okta:windows_security_principal" if team.kind == "APP_GROUP" else "okta:user_group"
    written = _GROUP % (
        text(team.id),
        when(team.created),
        when(team.updated),
        when(team.membership_updated),
        text(kind),
        text(team.kind),
        text(team.name),
        text(team.description),
        address,
        address,
    )
    if not stats:
        return written + "}"
    counts = {
        "usersCount": len(team.members),
        "appsCount": 0,
        "groupPushMappingsCount": 0,
        "hasAdminPrivilege": False,
        "_links": {"self": {"href": f"{address}/stats"}},
    }
    return written + f',"_embedded":{{"stats":{json.dumps(counts)}}}}}'


def app(found: App, base: str) -> str:
    address = f"{base}/api/v1/apps/{found.id}"
    body: dict[str, object] = {
        "id": found.id,
        "name": "scim2headerauth",
        "label": found.label,
        "status": found.status,
        "lastUpdated": millis(found.updated),
        "created": millis(found.created),
        "accessibility": {"selfService": False, "errorRedirectUrl": None, "loginRedirectUrl": None},
        "visibility": {"autoSubmitToolbar": False, "hide": {"iOS": False, "web": False}},
        "features": [],
        "signOnMode": "AUTO_LOGIN",
        "credentials": {"userNameTemplate": {"template": "${source.login}", "type": "BUILT_IN"}},
        "settings": {},
        "_links": {
            "self": {"href": address},
            "users": {"href": f"{address}/users"},
            "groups": {"href": f"{address}/groups"},
        },
    }
    return json.dumps(body)


def assigned(one: Assignment, found: App, base: str, expand: bool = False) -> str:
    who = one.user
    written = _ASSIGNED % (
        text(who.id),
        when(one.created),
        when(one.updated),
        text(one.scope),
        when(one.created),
        text(who.login),
        f"{base}/api/v1/apps/{found.id}",
        base,
        who.id,
    )
    return f'{written[:-1]},"_embedded":{{"user":{user(who, base)}}}}}' if expand else written


def assigned_group(team: Group, found: App, base: str) -> str:
    links = {
        "app": {"href": f"{base}/api/v1/apps/{found.id}"},
        "group": {"href": f"{base}/api/v1/groups/{team.id}"},
    }
    return json.dumps(
        {"id": team.id, "lastUpdated": millis(team.updated), "priority": 0, "profile": {}, "_links": links}
    )
