"""/key/*: making, changing, blocking and deleting keys. Only the deletion is not broadcast."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from idsync.sandbox.access import refuse
from idsync.sandbox.calls import KEY_TABLE, LITELLM, ROUTERO, Call, Endpoint
from idsync.sandbox.clock import parse_duration
from idsync.sandbox.objects import Key, key_row
from idsync.sandbox.replies import invalid, plain, shape_a, shape_b
from idsync.sandbox.validate import Body, flag, mapping, number, require, text, texts
from idsync.sandbox.world import digest_of

INHERITED = (  # by the key that replaces another
    *("key_alias", "user_id", "team_id", "organization_id", "models", "metadata"),
    *("blocked", "expires", "max_budget", "spend", "created_by"),
)


def generate(call: Call) -> Any:
    fields = _fields(call)
    user_id = text(call.body, "user_id")
    team_id = text(call.body, "team_id")
    if not call.is_admin and not call.caller.organization:
        _refuse_person(call, user_id, team_id)
        user_id = call.caller.user_id
    return _make(call, user_id=user_id, team_id=team_id, **fields)


def generate_service_account(call: Call) -> Any:
    team_id = require(call.body, "team_id")
    fields = _fields(call)
    name = text(call.body, "service_account_id") or fields.get("key_alias") or team_id
    fields["metadata"] = {**fields.get("metadata", {}), "service_account_id": name}
    if not call.is_admin and not call.caller.organization:
        _refuse_person(call, None, team_id)
    return _make(call, team_id=team_id, **fields)


def _make(call: Call, **fields: Any) -> Any:
    alias = fields.get("key_alias")
    if alias and call.state.key_by_alias(alias):
        message = f"Key with alias '{alias}' already exists. Unique key aliases across all keys are required."
        raise shape_a(400, message, "bad_request_error", "key_alias")
    raw = text(call.body, "key")
    if raw and call.state.key_by_digest(digest_of(raw)):
        raise shape_a(400, "Key already exists", "bad_request_error", "key")
    team = call.state.teams.get(fields.get("team_id") or "")
    organization = text(call.body, "organization_id") or call.organization
    fields["organization_id"] = organization or (team.organization_id if team else None)
    key, raw = call.world.make_key(raw, created_by=call.actor, updated_by=call.actor, **fields)
    call.audit("created", KEY_TABLE, key.token, None, key_row(key))
    return {"key": raw, **key_row(key)}


def _refuse_person(call: Call, user_id: str | None, team_id: str | None) -> None:
    """May the person behind this key make that key."""
    allowed = call.world.settings.person_keys
    if allowed is None:
        allowed = not call.world.routero
    if not allowed:
        raise refuse("Only proxy admin can be used to generate keys")
    if user_id not in (None, call.caller.user_id):
        raise shape_b(403, "User can only create keys for themselves.")
    team = call.state.teams.get(team_id or "")
    if team_id and not (team and "/key/generate" in team.member_permissions):
        raise refuse(f"Team member does not have permissions for endpoint: /key/generate. Team={team_id}")


def _fields(call: Call) -> Body:
    body = call.body
    given = {
        "key_alias": text(body, "key_alias"),
        "models": texts(body, "models"),
        "metadata": mapping(body, "metadata"),
        "blocked": flag(body, "blocked"),
        "max_budget": number(body, "max_budget"),
        "expires": _moment(call, "duration"),
    }
    return {name: value for name, value in given.items() if value is not None}


def _moment(call: Call, name: str) -> datetime | None:
    """So long from now as the named field says."""
    duration = text(call.body, name)
    if duration is None:
        return None
    try:
        return call.world.clock.wall() + parse_duration(duration)
    except ValueError as problem:
        raise shape_a(400, str(problem), "bad_request_error", name) from None


def info(call: Call) -> Any:
    wanted = call.query.get("key") or (call.query.get("key_hash") if call.world.routero else None)
    own = call.caller.key.token if call.caller.key else ""
    key = call.key(wanted or own) or _archived(call, wanted or own)
    if key is None:
        raise shape_a(404, "Key not found in database", "not_found_error", "key")
    _refuse_foreign(call, key)
    return {"key": wanted or own, "info": key_row(key)}


def _archived(call: Call, raw_or_id: str) -> Key | None:
    """litellm answers for deleted keys too; a reader has to look at the status."""
    if call.world.routero:
        return None
    return call.state.archive.get(raw_or_id) or call.state.archive.get(digest_of(raw_or_id))


def _refuse_foreign(call: Call, key: Key) -> None:
    own = key.user_id is not None and key.user_id == call.caller.user_id
    if not (call.is_admin or call.caller.organization or own):
        raise shape_a(403, "You are not allowed to access this key", "auth_error", "key")


def _addressed(call: Call) -> Key:
    key = call.key(require(call.body, "key"))
    if key is None:
        raise shape_a(404, "Key not found", "not_found_error", "key")
    _refuse_foreign(call, key)
    return key


def update(call: Call) -> Any:
    fields = _fields(call)
    key = _addressed(call)
    _refuse_teamless(call, key)
    before = key_row(key)
    moves: Body = {name: text(call.body, name) for name in ("user_id", "team_id") if name in call.body}
    if alias := fields.pop("key_alias", None):
        moves["key_alias"] = alias
    call.state.move_key(key, **moves)
    for name, value in fields.items():
        setattr(key, name, value)
    key.updated_by, key.updated_at = call.actor, call.world.clock.wall()
    call.world.fleet.keys_changed([key], call.replica)
    call.audit("updated", KEY_TABLE, key.token, before, key_row(key))
    return {"key": call.body["key"], **key_row(key)}


def _refuse_teamless(call: Call, key: Key) -> None:
    team_id = text(call.body, "team_id") or key.team_id
    if team_id and team_id not in call.state.teams:
        raise shape_a(404, f"{{'error': 'Team not found, passed team_id={team_id}'}}")


def block(call: Call) -> Any:
    return _set_blocked(call, True)


def unblock(call: Call) -> Any:
    return _set_blocked(call, False)


def _set_blocked(call: Call, blocked: bool) -> Any:
    if not call.world.settings.block_supported:
        raise plain(404, "Not Found")
    key = _addressed(call)
    before = key_row(key)
    call.world.set_blocked(key, blocked, call.actor, call.replica)
    call.audit("blocked" if blocked else "updated", KEY_TABLE, key.token, before, key_row(key))
    return key_row(key)


def delete(call: Call) -> Any:
    """Echoes the request, also the part of it that was not there."""
    names, aliases = texts(call.body, "keys"), texts(call.body, "key_aliases")
    if not names and not aliases:
        raise invalid("value_error", ["body"], "At least one of 'keys' or 'key_aliases' must be provided")
    found = [call.key(name) for name in names or ()]
    found += [_by_alias(call, alias) for alias in aliases or ()]
    keys = {key.token: key for key in found if key}
    if not keys:
        raise shape_a(404, "{'error': 'No keys found'}", param="None")
    for key in keys.values():
        _refuse_foreign(call, key)
        call.audit("deleted", KEY_TABLE, key.token, key_row(key), None)
    gone = call.state.archive_keys(keys.values(), call.world.clock.wall(), call.actor)
    call.world.fleet.keys_deleted(gone, call.replica)
    return {"deleted_keys": [*(names or ()), *(aliases or ())]}


def _by_alias(call: Call, alias: str) -> Key | None:
    key = call.state.key_by_alias(alias)
    return key if key and call.sees(key) else None


def regenerate(call: Call) -> Any:
    if not call.world.routero and not call.world.settings.licence:
        raise shape_a(500, "Regenerating Virtual Keys is an Enterprise feature")
    call.body["key"] = call.params.get("key") or call.body.get("key")
    old = _addressed(call)
    until = _moment(call, "grace_period")
    key, raw = _successor(call, old)
    if until:
        call.state.grace[old.digest] = (key.token, until)
    call.world.fleet.keys_changed([old], call.replica)
    call.audit("rotated", KEY_TABLE, key.token, key_row(old), key_row(key))
    return {"key": raw, **key_row(key)}


def _successor(call: Call, old: Key) -> tuple[Key, str]:
    call.state.drop_keys([old])
    return call.world.make_key(updated_by=call.actor, **{name: getattr(old, name) for name in INHERITED})


ENDPOINTS = [
    Endpoint("POST", "/key/generate", generate, access="person"),
    Endpoint("POST", "/key/service-account/generate", generate_service_account, access="person"),
    Endpoint("GET", "/key/info", info, access="person"),
    Endpoint("POST", "/key/update", update, access="person", dialects=LITELLM),
    Endpoint("PUT", "/key/update", update, access="person", dialects=ROUTERO),
    Endpoint("POST", "/key/block", block),
    Endpoint("POST", "/key/unblock", unblock),
    Endpoint("POST", "/key/delete", delete, access="person", dialects=LITELLM),
    Endpoint("DELETE", "/key/delete", delete, access="person", dialects=ROUTERO),
    Endpoint("POST", "/key/regenerate", regenerate),
    Endpoint("POST", "/key/{key}/regenerate", regenerate, needs_body=False),
]
