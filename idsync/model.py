"""The values that cross borders between modules: frozen, typed, without behaviour that needs I/O.

The words are those of the README's glossary: a *User*, *Group* and *Membership* belong to a source's directory,
a *Person* is the human, *Access* is what policy says they may have, an *Account* is what the gateway shows.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

FENCE_FLAG = "scim_active"
"""Metadata key that the gateway's own authentication reads: `false` refuses every key of the user."""
MANAGED = "idsync"
"""Metadata key that marks a team or a key that idsync has made."""
FENCE_TAG = "idsync_fence"
"""Metadata key that says the fence is ours, and for which departure."""
DRILL = "drill"
"""The source that `idsync drill` pushes as: reserved, without a live token but while a drill runs, never counted."""

# -- the directory ----------------------------------------------------------------------------------------------


def fold(text: str) -> str:
    """Return the form in which names are compared: composed (NFC) and case-folded (RFC 7643 §4.1.1, RFC 8265 §3.3)."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


class Observation(StrEnum):
    """What a source says of a user on direct look-up. Never a bool: `unknown` decides nothing."""

    PRESENT = "present"
    INACTIVE = "inactive"
    SUSPENDED = "suspended"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class User:
    """One user record of one source. `doc` holds the SCIM attributes as last accepted, without id, meta and groups."""

    id: str
    source: str
    external_id: str | None
    user_name: str
    active: bool
    email: str | None
    display_name: str | None
    doc: Mapping[str, Any]
    created_at: float
    updated_at: float
    version: int
    person_id: str
    observation: Observation
    observed_at: float
    deleted_at: float | None = None

    @property
    def address(self) -> str | None:
        """The e-mail, or a userName that looks like one."""
        return self.email or (self.user_name if "@" in self.user_name else None)


@dataclass(frozen=True)
class Group:
    """One group record of one source; its members are rows of their own."""

    id: str
    source: str
    external_id: str | None
    display_name: str
    doc: Mapping[str, Any]
    created_at: float
    updated_at: float
    version: int
    deleted_at: float | None = None


@dataclass(frozen=True)
class UserFacts:
    """What an edit wants a user record to say. `doc` is everything SCIM keeps, without id, meta, groups, password."""

    user_name: str
    external_id: str | None
    active: bool
    email: str | None
    display_name: str | None
    doc: Mapping[str, Any]


@dataclass(frozen=True)
class GroupFacts:
    """What an edit wants a group record to say, members aside."""

    display_name: str
    external_id: str | None
    doc: Mapping[str, Any]


@dataclass(frozen=True)
class Membership:
    """One row: `member_type` is "User" or "Group", `label` the member's userName or displayName."""

    group_id: str
    member_id: str
    member_type: str
    label: str


@dataclass(frozen=True)
class Origin:
    """Where a change comes from: the source, who acted (a token's id, a CLI user, `operator:NAME`), when the request came in."""

    source: str
    actor: str
    received_at: float

    @property
    def who(self) -> str:
        """Return who acted as the audit trail names them: `source/token`, `cli/user` or `operator/name`."""
        kind, _, name = self.actor.partition(":")
        return f"operator/{name}" if kind == "operator" and self.source == "cli" else f"{self.source}/{self.actor}"


@dataclass(frozen=True)
class Person:
    """The human behind one or several user records, and their account at the gateway (None: not known yet)."""

    id: str
    label: str
    account_id: str | None
    generation: int
    role: str | None
    ever_had_access: bool
    created_at: float


# -- the decision -----------------------------------------------------------------------------------------------


class Evidence(StrEnum):
    """Why somebody loses something. Decides how fast (architecture: "Access ends at once; only deletion may wait")."""

    SCIM_INACTIVE = "scim_inactive"
    SCIM_DELETE = "scim_delete"
    REVOKED = "revoked"
    GROUP_LOSS = "group_loss"
    CONFIGURATION = "configuration"
    SUSPENDED = "suspended"
    DEPROVISIONED = "deprovisioned"
    DELETED = "deleted"
    DISABLED = "disabled"


class Standing(StrEnum):
    """Where a person stands as a whole."""

    PRESENT = "present"
    DEPARTED = "departed"
    SUSPENDED = "suspended"
    UNMANAGED = "unmanaged"


@dataclass(frozen=True)
class Reason:
    """One sentence of `idsync explain`: which rule or record gave or took what."""

    what: str
    why: str


@dataclass(frozen=True)
class Access:
    """What policy says a person may have now."""

    standing: Standing
    teams: frozenset[str] = frozenset()
    role: str | None = None
    leads: frozenset[str] = frozenset()
    """Teams of these of which they are admin."""
    evidence: Evidence | None = None
    reasons: tuple[Reason, ...] = ()


# -- the ledger -------------------------------------------------------------------------------------------------


class DepartureState(StrEnum):
    """States of a departure; the first six in order, the others beside them."""

    ACCEPTED = "accepted"
    FENCED = "fenced"
    BLOCKED = "blocked"
    DELETED = "deleted"
    VERIFIED = "verified"
    SETTLED = "settled"
    HELD = "held"
    PARKED = "parked"
    CANCELLED = "cancelled"


class Lane(StrEnum):
    """Revocations go before grants."""

    REVOKE = "revoke"
    GRANT = "grant"


# -- what people are told ---------------------------------------------------------------------------------------


class Event(StrEnum):
    """What notifications are about; the most urgent first."""

    VERIFICATION_FAILED = "verification_failed"
    AUDIT_BROKEN = "audit_broken"
    SECURITY_EVENT = "security_event"
    SPEND_AFTER_DEPARTURE = "spend_after_departure"
    HOLD_OPENED = "hold_opened"
    SOURCE_FAILING = "source_failing"
    ROTATION_FAILED = "rotation_failed"
    CREDENTIAL_EXPIRING = "credential_expiring"
    CONFLICT_OPENED = "conflict_opened"


# -- the gateway ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OrganizationMember:
    """Somebody's place in an organization of the gateway."""

    organization_id: str
    role: str | None


@dataclass(frozen=True)
class GatewayUser:
    """A user row as the gateway shows it. `metadata` is None when it was not an object (an odd read).

    `organizations` is empty also in rows that do not show them (`Gateway.organizations_of` asks where they are shown).
    """

    user_id: str
    email: str | None
    role: str | None
    metadata: Mapping[str, Any] | None
    teams: tuple[str, ...] = ()
    sso_user_id: str | None = None
    organizations: tuple[OrganizationMember, ...] = ()

    @property
    def fenced(self) -> bool:
        return self.metadata is not None and self.metadata.get(FENCE_FLAG) is False

    @property
    def fence_tag(self) -> str | None:
        tag = (self.metadata or {}).get(FENCE_TAG)
        return tag if isinstance(tag, str) else None


@dataclass(frozen=True)
class GatewayKey:
    """A virtual key without its secret. `id` is opaque; `name` is the gateway's own masked form."""

    id: str
    name: str | None = None
    alias: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    blocked: bool = False
    deleted: bool = False
    created_by: str | None = None
    created_at: str | None = None
    last_used_at: str | None = None
    expires: str | None = None
    spend: float | None = None
    service_account: str | None = None
    models: tuple[str, ...] = ()
    max_budget: float | None = None
    managed: bool = False
    """Whether idsync has made it."""


@dataclass(frozen=True)
class Invitation:
    """A single-use link by which somebody may still come in (Routero, members page: good for seven days)."""

    id: str
    user_id: str | None
    email: str | None
    accepted: bool


@dataclass(frozen=True)
class TeamMember:
    user_id: str | None
    email: str | None
    role: str | None


@dataclass(frozen=True)
class GatewayTeam:
    """A team with its roster. Budgets are in the gateway's currency (USD).

    Where the gateway says null for a roster, `shows_roster` is false and nobody is on it: that proves nothing about
    somebody whose own row names the team. In the same way `shows_metadata` is false for metadata that is absent or no
    object: what was not read must not be written back. `spend` is what counts against the budget, since its last reset.
    """

    team_id: str
    alias: str | None
    members: tuple[TeamMember, ...] = ()
    models: tuple[str, ...] = ()
    max_budget: float | None = None
    soft_budget: float | None = None
    budget_duration: str | None = None
    tpm_limit: float | None = None
    rpm_limit: float | None = None
    blocked: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    shows_roster: bool = True
    spend: float | None = None
    budget_reset_at: str | None = None
    shows_metadata: bool = True

    def has_member(self, user_id: str) -> bool:
        return any(member.user_id == user_id for member in self.members)

    def role_of(self, user_id: str) -> str | None:
        """Return a member's role in the team; None for somebody else, and where the roster does not say."""
        return next((member.role for member in self.members if member.user_id == user_id), None)

    def may_have_member(self, user_id: str) -> bool:
        """Tell whether somebody is on the roster, or might be: it was answered as null."""
        return self.has_member(user_id) or not self.shows_roster


ADMINS = frozenset({"proxy_admin", "proxy_admin_viewer", "org_admin", "admin"})
"""Everything that makes somebody an admin somewhere."""
GATEWAY = "gateway"
"""The place of a role that an account has at the gateway as a whole."""


def team_place(team_id: str) -> str:
    """Return the place of a role that somebody has in a team."""
    return f"team:{team_id}"


def organization_place(organization_id: str) -> str:
    """Return the place of a role that somebody has in an organization."""
    return f"organization:{organization_id}"


@dataclass(frozen=True)
class GivenRole:
    """A role that idsync gave an account in one place: `GATEWAY`, a team or an organization.

    `before` is what they were until then, `noted_at` (epoch seconds) when it was written down, which is before the
    call; `given_at` is None until it was read back.
    """

    account_id: str
    place: str
    person_id: str
    role: str
    before: str | None
    noted_at: float
    given_at: float | None = None

    @property
    def is_kept(self) -> bool:
        """Tell whether it stays written down once it is given: an admin's right, to be taken back some day."""
        return self.role in ADMINS and self.role != self.before


@dataclass(frozen=True)
class Call:
    """One call to the gateway as a receipt shows it: no bodies, no secrets. `at` is epoch seconds, `ms` its length."""

    at: float
    method: str
    path: str
    target: str
    status: int | None
    ms: float


@dataclass(frozen=True)
class DaySpend:
    """What the gateway has booked on one day (its own; LiteLLM's are UTC), in its currency.

    `shares` is by team or user, None where the answer does not say by whom; `keys` is by the id of the key.
    """

    day: str
    spend: float
    shares: Mapping[str, float] | None = None
    keys: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LoggedRequest:
    """One request in the gateway's own log. `at` is when it began, epoch seconds."""

    key_id: str | None
    at: float
    spend: float


@dataclass(frozen=True)
class Alerting:
    """Where the gateway sends alerts. None: not told. `webhook` is a secret: never shown, by no `repr` either."""

    destinations: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    webhook: str | None = field(default=None, repr=False)
