"""One API call as a handler sees it, and the table entry that leads to the handler."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from idsync.sandbox.clock import stamp
from idsync.sandbox.masking import masked
from idsync.sandbox.objects import DASHBOARD_TEAM, Key, Team, User
from idsync.sandbox.replicas import KeyView
from idsync.sandbox.state import State
from idsync.sandbox.world import World, digest_of

ADMIN_USER = "default_user_id"  # the person behind the admin key
DIALECTS = frozenset({"litellm", "routero"})
LITELLM = frozenset({"litellm"})
ROUTERO = frozenset({"routero"})


@dataclass(frozen=True, slots=True)
class Caller:
    kind: str  # "admin", "key" or "none"
    user_id: str | None = None
    key: KeyView | None = None
    organization: str | None = None  # the one this caller administers


@dataclass(slots=True)
class Call:
    world: World
    replica: int
    query: Mapping[str, str]
    body: dict[str, Any]
    headers: Mapping[str, str]
    caller: Caller
    organization: str | None  # None: all of them
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def state(self) -> State:
        return self.world.state

    @property
    def is_admin(self) -> bool:
        return self.caller.kind == "admin"

    @property
    def actor(self) -> str:
        """Who is written down as the one who did it."""
        changed_by = self.headers.get("litellm-changed-by")
        if changed_by and self.world.settings.changed_by_header:
            return changed_by
        return ADMIN_USER if self.is_admin else self.caller.user_id or "unknown"

    # What lies in another organization does not exist for the caller.

    def sees_user(self, user: User) -> bool:
        return self.organization is None or self.organization in user.organizations

    def sees(self, thing: Team | Key) -> bool:
        return self.organization is None or thing.organization_id == self.organization

    def user(self, user_id: str) -> User | None:
        user = self.state.users.get(user_id)
        return user if user and self.sees_user(user) else None

    def team(self, team_id: str) -> Team | None:
        team = self.state.teams.get(team_id)
        return team if team and self.sees(team) else None

    def key(self, raw_or_id: str) -> Key | None:
        key = self.state.keys.get(raw_or_id) or self.state.key_by_digest(digest_of(raw_or_id))
        return key if key and self.sees(key) else None

    def audit(self, action: str, table: str, object_id: str, before: object, after: object) -> None:
        """Write an audit row. The other dialect has them only with a licence."""
        if not self.world.routero:
            return
        key = self.caller.key
        self.state.audit.append(
            {
                "id": str(uuid.uuid4()),
                "updated_at": stamp(self.world.clock.wall()),
                "changed_by": self.actor,
                "changed_by_api_key": key.key_name if key else "sk-admin-...",
                "action": action,
                "table_name": table,
                "object_id": object_id,
                "before_value": masked(before),
                "updated_values": masked(after),
                "organization_id": self.organization or self.world.default_organization,
            }
        )


USER_TABLE = "LiteLLM_UserTable"
TEAM_TABLE = "LiteLLM_TeamTable"
KEY_TABLE = "LiteLLM_VerificationToken"

Handler = Callable[[Call], Any]


@dataclass(frozen=True)
class Endpoint:
    """`access`: open (no key), person (any live key) or admin. `refusal`: status for a person's key."""

    method: str
    path: str
    handler: Handler
    access: str = "admin"
    refusal: int = 401
    dialects: frozenset[str] = DIALECTS
    needs_body: bool = True  # of a call that is not a GET
    roster_of: str | None = None  # the body field that names the team whose roster it writes
    offline: bool = False  # answers with the database down


def shown(keys: list[Key]) -> list[Key]:
    """Keys without the dashboard's session keys, which listings hide."""
    return [key for key in keys if key.team_id != DASHBOARD_TEAM]


def page_of(rows: list[Any], page: int, size: int) -> tuple[list[Any], int]:
    """One page and the number of pages."""
    start = (page - 1) * size
    return rows[start : start + size], -(-len(rows) // size)
