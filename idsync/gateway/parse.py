"""Rows of the gateway, read into our values. Tolerant: every field may be missing, null or of an odd type.

Only what must be there for the row to mean anything is insisted on: an id, and in a team a roster. Ids are opaque
text; Routero's dashboard shows decimal ones, LiteLLM's are hashes, and nothing is ever computed from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from idsync.errors import BadAnswer
from idsync.gateway.dialects import plain_role
from idsync.model import MANAGED, GatewayKey, GatewayTeam, GatewayUser, Invitation, OrganizationMember, TeamMember


def user_from(value: Any) -> GatewayUser:
    """Read a user: a flat row, or /user/info's object with `user_info` inside.

    `metadata` becomes None when it is absent or no object: what was not read must not be written back.
    """
    outer = _object(value, "a user")
    row = _inner(outer, "user_info")
    user_id = text_of(row.get("user_id")) or text_of(outer.get("user_id"))
    if user_id is None:
        raise BadAnswer("a user without user_id")
    role = text_of(row.get("user_role"))
    return GatewayUser(
        user_id=user_id,
        email=text_of(row.get("user_email")),
        role=plain_role(role) if role else None,
        metadata=metadata_of(row["metadata"]) if "metadata" in row else None,
        teams=_team_ids(row.get("teams") if "teams" in row else outer.get("teams")),
        sso_user_id=text_of(row.get("sso_user_id")),
        organizations=_organizations(row.get("organization_memberships")),
    )


def key_from(value: Any, key_id: str | None = None) -> GatewayKey:
    """Read a key: a bare id, a row of /key/list, or /key/info's {key, info}. `key_id` is the id that was asked for.

    The field `key` is never read: it may hold the secret itself.
    """
    bare = text_of(value)
    if bare is not None:
        return GatewayKey(id=bare)
    outer = _object(value, "a key")
    row = _inner(outer, "info")
    found = key_id or next(filter(None, (text_of(row.get(name)) for name in ("token", "token_id", "id"))), None)
    if found is None:
        raise BadAnswer("a key without an id")
    metadata = metadata_of(row.get("metadata")) or {}
    return GatewayKey(
        id=found,
        name=text_of(row.get("key_name")),
        alias=text_of(row.get("key_alias")),
        user_id=text_of(row.get("user_id")),
        team_id=text_of(row.get("team_id")),
        blocked=_is_true(row.get("blocked")),
        deleted="deleted" in (outer.get("status"), row.get("status")) or bool(row.get("deleted_at")),
        created_by=text_of(row.get("created_by")),
        created_at=text_of(row.get("created_at")),
        last_used_at=text_of(row.get("last_active")) or text_of(row.get("last_used_at")),
        expires=text_of(row.get("expires")),
        spend=number_of(row.get("spend")),
        models=_texts(row.get("models")),
        max_budget=number_of(row.get("max_budget")),
        service_account=text_of(metadata.get("service_account_id")),
        managed=MANAGED in metadata,
    )


def model_from(value: Any) -> str:
    """Read the name of a model: a row of /v1/models, or a bare name.

    Raises:
        BadAnswer: it has no name.
    """
    name = text_of(value.get("id") if isinstance(value, dict) else value)
    if name is None:
        raise BadAnswer("a model without an id")
    return name


def invitation_from(value: Any) -> Invitation:
    """Read an invitation.

    Raises:
        BadAnswer: it has no id.
    """
    row = _object(value, "an invitation")
    found = text_of(row.get("id")) or text_of(row.get("invitation_id"))
    if found is None:
        raise BadAnswer("an invitation without an id")
    accepted = _is_true(row.get("is_accepted")) or bool(row.get("accepted_at"))
    return Invitation(found, text_of(row.get("user_id")), text_of(row.get("user_email")), accepted)


def team_from(value: Any) -> GatewayTeam:
    """Read a team: a flat row, or /team/info's object with `team_info` inside.

    Raises:
        BadAnswer: no id, or no roster: a team that does not show its members proves nothing about them.
    """
    outer = _object(value, "a team")
    row = _inner(outer, "team_info")
    team_id = text_of(row.get("team_id")) or text_of(outer.get("team_id"))
    if team_id is None:
        raise BadAnswer("a team without team_id")
    if "members_with_roles" not in row:
        raise BadAnswer("a team without its roster")
    return GatewayTeam(
        team_id=team_id,
        alias=text_of(row.get("team_alias")),
        members=_roster(row["members_with_roles"]),
        models=_texts(row.get("models")),
        max_budget=number_of(row.get("max_budget")),
        soft_budget=number_of(row.get("soft_budget")),
        budget_duration=text_of(row.get("budget_duration")),
        tpm_limit=number_of(row.get("tpm_limit")),
        rpm_limit=number_of(row.get("rpm_limit")),
        blocked=_is_true(row.get("blocked")),
        metadata=metadata_of(row.get("metadata")) or {},
        shows_roster=_decoded(row["members_with_roles"]) is not None,
        spend=number_of(row.get("spend")),
        budget_reset_at=text_of(row.get("budget_reset_at")),
        shows_metadata="metadata" in row and metadata_of(row["metadata"]) is not None,
    )


def metadata_of(value: Any) -> Mapping[str, Any] | None:
    """Read metadata: null is empty, a JSON text is parsed, anything that is no object is None."""
    if value is None:
        return {}
    value = _decoded(value)
    if value is None:
        return {}
    return value if isinstance(value, dict) else None


def text_of(value: Any) -> str | None:
    """Return a non-empty text, a whole number as text, None for anything else."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def number_of(value: Any) -> float | None:
    """Return a number, also when it came as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if number == number and abs(number) != float("inf") else None


def count_of(value: Any) -> int | None:
    """Return a count (zero or more), None for anything else."""
    number = number_of(value)
    return int(number) if number is not None and number >= 0 and number == int(number) else None


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadAnswer(f"{what} that is not an object")
    return value


def _inner(outer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = outer.get(name)
    return inner if isinstance(inner, dict) else outer


def _is_true(value: Any) -> bool:
    return value is True or value == 1 or (isinstance(value, str) and value.lower() == "true")


def _decoded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _texts(value: Any) -> tuple[str, ...]:
    items = _decoded(value)
    return tuple(filter(None, map(text_of, items))) if isinstance(items, list) else ()


def _team_ids(value: Any) -> tuple[str, ...]:
    """Read team ids, given as ids or as whole teams."""
    items = value if isinstance(value, list) else []
    ids = (text_of(item.get("team_id") if isinstance(item, dict) else item) for item in items)
    return tuple(dict.fromkeys(filter(None, ids)))


def _organizations(value: Any) -> tuple[OrganizationMember, ...]:
    """Read somebody's places in organizations; a row without an id names none."""
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    places = [(text_of(row.get("organization_id")), text_of(row.get("user_role"))) for row in rows]
    return tuple(OrganizationMember(found, plain_role(role) if role else None) for found, role in places if found)


def _roster(value: Any) -> tuple[TeamMember, ...]:
    items = _decoded(value)
    if items is None:
        return ()
    if not isinstance(items, list):
        raise BadAnswer("a team whose roster is not a list")
    return tuple(_member(item) for item in items)


def _member(item: Any) -> TeamMember:
    if not isinstance(item, dict):
        return TeamMember(user_id=text_of(item), email=None, role=None)
    return TeamMember(text_of(item.get("user_id")), text_of(item.get("user_email")), text_of(item.get("role")))
