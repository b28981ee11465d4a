"""Users, teams, keys and invitations, and the rows the API shows for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from idsync.sandbox.clock import stamp

DASHBOARD_TEAM = "litellm-dashboard"  # session keys live in it; lists leave them out

Row = dict[str, Any]


@dataclass
class User:
    user_id: str
    created_at: datetime
    updated_at: datetime
    user_email: str | None = None
    user_alias: str | None = None
    user_role: str | None = "internal_user"
    sso_user_id: str | None = None
    teams: list[str] = field(default_factory=list)
    metadata: Row = field(default_factory=dict)
    organizations: dict[str, str] = field(default_factory=dict)  # organization id -> role in it
    max_budget: float | None = None
    spend: float = 0.0
    pending: bool = False

    @property
    def deactivated(self) -> bool:
        return self.metadata.get("scim_active") is False


@dataclass
class Member:
    user_id: str
    user_email: str | None
    role: str = "user"
    limits: Row = field(default_factory=dict)


@dataclass
class Team:
    team_id: str
    created_at: datetime
    updated_at: datetime
    team_alias: str | None = None
    organization_id: str | None = None
    members: list[Member] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    max_budget: float | None = None
    soft_budget: float | None = None
    budget_duration: str | None = None
    budget_reset_at: datetime | None = None
    tpm_limit: int | None = None
    rpm_limit: int | None = None
    metadata: Row = field(default_factory=dict)
    member_permissions: list[str] = field(default_factory=list)
    blocked: bool = False
    spend: float = 0.0

    def member(self, user_id: str) -> Member | None:
        return next((m for m in self.members if m.user_id == user_id), None)


@dataclass
class Key:
    token: str  # the id the API shows
    digest: str  # of the raw key, which nobody keeps
    key_name: str
    created_at: datetime
    updated_at: datetime
    key_alias: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    organization_id: str | None = None
    models: list[str] = field(default_factory=list)
    metadata: Row = field(default_factory=dict)
    blocked: bool | None = None
    expires: datetime | None = None
    max_budget: float | None = None
    spend: float = 0.0
    last_active: datetime | None = None
    created_by: str | None = None
    updated_by: str | None = None
    deleted_at: datetime | None = None
    deleted_by: str | None = None


@dataclass
class Invitation:
    invitation_id: str
    user_id: str
    user_email: str | None
    created_at: datetime
    expires_at: datetime
    organization_id: str | None = None
    accepted_at: datetime | None = None


def user_row(user: User) -> Row:
    row: Row = {
        "user_id": user.user_id,
        "user_email": user.user_email,
        "user_alias": user.user_alias,
        "user_role": user.user_role,
        "sso_user_id": user.sso_user_id,
        "teams": list(user.teams),
        "metadata": user.metadata,
        "max_budget": user.max_budget,
        "spend": user.spend,
        "created_at": stamp(user.created_at),
        "updated_at": stamp(user.updated_at),
    }
    if user.organizations:
        row["organization_memberships"] = [
            {"user_id": user.user_id, "organization_id": org, "user_role": role}
            for org, role in user.organizations.items()
        ]
    if user.pending:
        row["status"] = "pending"
    return row


def member_row(member: Member) -> Row:
    return {"user_id": member.user_id, "user_email": member.user_email, "role": member.role}


def membership_row(team: Team, member: Member) -> Row:
    return {"user_id": member.user_id, "team_id": team.team_id, "spend": 0.0, **member.limits}


def team_row(team: Team) -> Row:
    return {
        "team_id": team.team_id,
        "team_alias": team.team_alias,
        "organization_id": team.organization_id,
        "members_with_roles": [member_row(member) for member in team.members],
        "models": team.models,
        "max_budget": team.max_budget,
        "soft_budget": team.soft_budget,
        "budget_duration": team.budget_duration,
        "budget_reset_at": stamp(team.budget_reset_at),
        "tpm_limit": team.tpm_limit,
        "rpm_limit": team.rpm_limit,
        "metadata": team.metadata,
        "team_member_permissions": team.member_permissions,
        "blocked": team.blocked,
        "spend": team.spend,
        "created_at": stamp(team.created_at),
        "updated_at": stamp(team.updated_at),
    }


def key_row(key: Key) -> Row:
    row: Row = {
        "token": key.token,
        "token_id": key.token,
        "key_name": key.key_name,
        "key_alias": key.key_alias,
        "user_id": key.user_id,
        "team_id": key.team_id,
        "organization_id": key.organization_id,
        "models": key.models,
        "metadata": key.metadata,
        "blocked": key.blocked,
        "expires": stamp(key.expires),
        "max_budget": key.max_budget,
        "spend": key.spend,
        "last_active": stamp(key.last_active),
        "created_by": key.created_by,
        "updated_by": key.updated_by,
        "created_at": stamp(key.created_at),
        "updated_at": stamp(key.updated_at),
    }
    if key.deleted_at:
        row |= {"status": "deleted", "deleted_at": stamp(key.deleted_at), "deleted_by": key.deleted_by}
    return row


def invitation_row(invitation: Invitation) -> Row:
    return {
        "id": invitation.invitation_id,
        "invitation_id": invitation.invitation_id,
        "user_id": invitation.user_id,
        "user_email": invitation.user_email,
        "organization_id": invitation.organization_id,
        "is_accepted": invitation.accepted_at is not None,
        "accepted_at": stamp(invitation.accepted_at),
        "created_at": stamp(invitation.created_at),
        "expires_at": stamp(invitation.expires_at),
    }
