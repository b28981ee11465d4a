"""/key/list: pages of keys. The dashboard's session keys are never in it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from idsync.sandbox.calls import Call, Endpoint, page_of, shown
from idsync.sandbox.objects import Key, Row, key_row, user_row
from idsync.sandbox.replies import shape_a
from idsync.sandbox.state import State
from idsync.sandbox.validate import count, truth

STATUSES = ("active", "expired", "revoked", "deleted")
FILTERS = {name: name for name in ("user_id", "team_id", "organization_id", "key_alias")} | {"key_hash": "token"}
SORTABLE = ("spend", "max_budget", "created_at", "updated_at", "token", "key_name", "key_alias", "expires")


def listing(call: Call) -> Any:
    page = count(call.query, "page", 1)
    size = count(call.query, "size", 10, most=100)
    matching = _sorted(call, _selected(call))
    keys, pages = page_of(matching, page, size)
    full = truth(call.query, "return_full_object") or "expand" in call.query
    return {
        "keys": [_row(call, key) if full else key.token for key in keys],
        "total_count": len(matching),
        "current_page": page,
        "total_pages": pages,
    }


def _row(call: Call, key: Key) -> Row:
    row = key_row(key)
    if call.query.get("expand") == "user":
        owner = call.state.users.get(key.user_id or "")
        row["user"] = user_row(owner) if owner else None
    return row


def _candidates(call: Call) -> Iterable[Key]:
    """Newest first, narrowed by an index where one fits."""
    state = call.world.listed()
    status = call.query.get("status")
    if status is not None and status not in STATUSES:
        raise shape_a(400, f"status must be one of {', '.join(STATUSES)}", "bad_request_error", "status")
    if status == "deleted":
        return reversed(state.archive.values())
    return reversed(_narrowed(call, state))


def _narrowed(call: Call, state: State) -> list[Key]:
    if not call.is_admin and not call.caller.organization:
        return state.keys_of_user(call.caller.user_id or "")
    if user_id := call.query.get("user_id"):
        return state.keys_of_user(user_id)
    if team_id := call.query.get("team_id"):
        return state.keys_of_team(team_id)
    return list(state.keys.values())


def _selected(call: Call) -> list[Key]:
    """The filters are settled once, not for each of many thousand keys."""
    keys: Iterable[Key] = shown(list(_candidates(call)))
    if not call.is_admin and not call.caller.organization:
        keys = [key for key in keys if key.user_id == call.caller.user_id]
    if call.organization is not None:
        keys = filter(call.sees, keys)
    for name, column in FILTERS.items():
        if wanted := call.query.get(name):
            keys = [key for key in keys if getattr(key, column) == wanted]
    if status := call.query.get("status"):
        now = call.world.clock.wall()
        keys = [key for key in keys if _has_status(key, status, now)]
    return list(keys)


def _has_status(key: Key, status: str, now: datetime) -> bool:
    expired = key.expires is not None and key.expires <= now
    if status == "active":
        return not expired and not key.blocked
    if status == "expired":
        return expired
    return bool(key.blocked) if status == "revoked" else True


def _sorted(call: Call, keys: list[Key]) -> list[Key]:
    column = call.query.get("sort_by")
    if column is None:
        return keys
    if column not in SORTABLE:
        raise shape_a(400, f"Invalid sort column: {column}", "bad_request_error", "sort_by")
    falling = call.query.get("sort_order", "desc").lower() == "desc"
    keys = keys if falling else keys[::-1]  # among equals too, newest first or oldest first
    known = [key for key in keys if getattr(key, column) is not None]
    unknown = [key for key in keys if getattr(key, column) is None]
    return sorted(known, key=lambda key: getattr(key, column), reverse=falling) + unknown


ENDPOINTS = [Endpoint("GET", "/key/list", listing, access="person")]
