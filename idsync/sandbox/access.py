"""Who is calling, and may they."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsync.sandbox.calls import ADMIN_USER, Caller, Endpoint
from idsync.sandbox.replicas import KeyView
from idsync.sandbox.replies import Refusal, shape_a, shape_b
from idsync.sandbox.world import World, digest_of

NOBODY = Caller("none")


def refuse(message: str, kind: str = "auth_error", param: str | None = None) -> Refusal:
    return shape_a(401, f"Authentication Error, {message}", kind, param)


def identify(world: World, replica: int, authorization: str | None) -> Caller:
    """The caller behind an Authorization header, judged by what this replica remembers.

    Order: no key, wrong shape, admin key, unknown, blocked, expired, fenced owner.
    """
    raw = _bearer(authorization)
    if raw == world.settings.admin_key:
        return Caller("admin", ADMIN_USER)
    view = _read(world, replica, digest_of(raw))
    if view.blocked:
        raise refuse("Key is blocked. Update via `/key/unblock` if you're admin.", param="None")
    if view.expires and view.expires <= world.clock.wall():
        raise refuse(f"Expired Key. Key Expiry time {view.expires}", "expired_key", "key")
    if view.user_id is not None and world.fenced(replica, view.user_id):
        raise refuse(f"User={view.user_id} has been deactivated via SCIM. Contact your admin.")
    return Caller("key", view.user_id, view, _administers(world, view))


def authorize(caller: Caller, endpoint: Endpoint) -> None:
    if endpoint.access != "admin" or caller.kind == "admin" or caller.organization:
        return
    message = f"Only proxy admin can be used to call {endpoint.path}. Your role=internal_user"
    if endpoint.refusal == 403:
        raise shape_b(403, message)
    raise refuse(message)


def chosen_organization(
    world: World, caller: Caller, headers: Mapping[str, str], query: Mapping[str, str], body: dict[str, Any]
) -> str | None:
    """The organization the call is about; None is all of them, for the admin key only."""
    if not world.routero:
        return None
    named = headers.get("x-organization-id") or query.get("organization_id") or body.get("organization_id")
    if caller.organization is None:
        return str(named) if named else None
    if named and named != caller.organization:
        raise refuse(f"Not an admin of organization {named}")
    return caller.organization


def _bearer(authorization: str | None) -> str:
    if not authorization:
        raise refuse("No api key passed in.")
    raw = authorization[7:] if authorization[:7].lower() == "bearer " else authorization
    raw = raw.strip()
    if not raw:
        raise refuse("No api key passed in.")
    if not raw.startswith("sk-"):
        raise refuse("LiteLLM Virtual Key expected, it starts with 'sk-'.")
    return raw


def _read(world: World, replica: int, digest: str) -> KeyView:
    if world.settings.db_down:
        # What the replica remembers goes on working; all else looks like a bad key.
        view = world.fleet.key(replica, digest, lambda: None)
        if view is None:
            raise refuse("the key could not be looked up, the database is not connected")
        return view
    view = world.key_view(replica, digest)
    if view is None:
        raise refuse("Invalid API key provided.", "token_not_found_in_db", "key")
    return view


def _administers(world: World, view: KeyView) -> str | None:
    """The organization whose org_admin owns the key."""
    user = world.state.users.get(view.user_id or "")
    if not user or not world.routero:
        return None
    if view.organization_id and user.organizations.get(view.organization_id) == "org_admin":
        return view.organization_id
    return next((org for org, role in user.organizations.items() if role == "org_admin"), None)
