"""Whether an org lets idsync read what it has to: each scope is tried by the smallest request that needs it."""

from __future__ import annotations

from urllib.parse import quote

from idsync.clock import rfc3339
from idsync.errors import IncompleteSource, SourceRefused
from idsync.sources.okta.auth import ApiToken, ServiceApp
from idsync.sources.okta.http import Wire
from idsync.sources.okta.settings import APPS_SCOPE, OktaSettings
from idsync.sources.pager import whole_json

_FOR = {
    "okta.users.read": "reading people by id, and who has changed",
    "okta.groups.read": "reading groups and their members",
    "okta.logs.read": "the System Log, by which leavers are seen within a minute",
    APPS_SCOPE: "reading who is assigned to the app",
}
_VIEWS = {
    "okta.users.read": "all users",
    "okta.groups.read": "all groups and their members",
    "okta.logs.read": "the System Log",
    APPS_SCOPE: "the app and its assignments",
}


async def check(settings: OktaSettings, wire: Wire, credential: ApiToken | ServiceApp) -> list[tuple[str, bool, str]]:
    """Try each scope: what it is for, whether it is there, what to do."""
    lines = [await _check_scope(wire, credential, scope, path) for scope, path in _probes(settings, wire)]
    if isinstance(credential, ApiToken):
        advice = (
            "an API token has all the power of the administrator who made it, dies when they are deactivated and"
            " after 30 days without use: better a service app with a key (docs/okta.md)"
        )
        lines.append(("API token", True, advice))
    return lines


def _probes(settings: OktaSettings, wire: Wire) -> list[tuple[str, str]]:
    since = quote(rfc3339(wire.server_time() - 60.0), safe="")
    app = quote(settings.app_id, safe="")
    probes = [
        ("okta.users.read", "/api/v1/users?limit=1&filter=" + quote('status eq "ACTIVE"', safe="")),
        ("okta.groups.read", "/api/v1/groups?limit=1"),
        ("okta.logs.read", f"/api/v1/logs?limit=1&sortOrder=ASCENDING&since={since}"),
    ]
    return probes + ([(APPS_SCOPE, f"/api/v1/apps/{app}/users?limit=1")] if app else [])


async def _check_scope(wire: Wire, credential: ApiToken | ServiceApp, scope: str, path: str) -> tuple[str, bool, str]:
    what = f"{scope} ({_FOR[scope]})"
    if isinstance(credential, ServiceApp):
        credential = credential.asking_for(scope)
        try:
            await credential.headers(wire.base)
        except SourceRefused as error:
            return what, False, f"{error}. In the app: Okta API Scopes, grant {scope}"
        except IncompleteSource as error:
            return what, False, str(error)
    try:
        whole_json(await wire.get(wire.base + path, "check", credential), f"{wire.name}: {scope}")
    except SourceRefused as error:
        role = f"give the app (or the token's owner) an admin role that may view {_VIEWS[scope]}"
        return what, False, f"{error}: {role}"
    except IncompleteSource as error:
        return what, False, str(error)
    return what, True, ""
