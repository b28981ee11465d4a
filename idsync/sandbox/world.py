"""Everything one sandbox knows, and the few acts that API calls, seeds and faults have in common."""

from __future__ import annotations

import copy
import hashlib
import secrets
import uuid
from collections import deque
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from idsync.sandbox.clock import Clock
from idsync.sandbox.objects import Invitation, Key, Member, Team, User
from idsync.sandbox.options import Options, Settings
from idsync.sandbox.replicas import Fleet, KeyView, TeamView
from idsync.sandbox.state import State

DEFAULT_ORGANIZATION = "org-default"
INVITATION_LIFE = timedelta(days=7)


def digest_of(raw: str) -> str:
    return hashlib.sha256(raw.encode()).hexdigest()


class World:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.clock = Clock(manual=options.clock == "manual")
        self.settings = Settings.from_options(options)
        self.state = State()
        self.fleet = Fleet(options.replicas, self.settings, self.clock)
        self._past: deque[tuple[float, State]] = deque()

    @property
    def routero(self) -> bool:
        return self.options.dialect == "routero"

    @property
    def default_organization(self) -> str | None:
        return DEFAULT_ORGANIZATION if self.routero else None

    # users

    def make_user(self, user_id: str | None = None, email: str | None = None, **fields: Any) -> User:
        now = self.clock.wall()
        organization = fields.pop("organization_id", None) or self.default_organization
        user = User(user_id or str(uuid.uuid4()), now, now, user_email=email, **fields)
        if organization and not user.organizations:
            user.organizations[organization] = user.user_role or "internal_user"
        self.state.add_user(user)
        return user

    def invite(self, user: User, organization: str | None) -> Invitation:
        now = self.clock.wall()
        invitation = Invitation(
            str(uuid.uuid4()), user.user_id, user.user_email, now, now + INVITATION_LIFE, organization
        )
        self.state.invitations[invitation.invitation_id] = invitation
        return invitation

    def accept(self, invitation: Invitation) -> None:
        """Raises ValueError when it is used or too old."""
        now = self.clock.wall()
        if invitation.accepted_at or now >= invitation.expires_at:
            raise ValueError("the invitation is used or has expired")
        invitation.accepted_at = now
        user = self.state.users.get(invitation.user_id)
        if user:
            user.pending = False

    def set_metadata(self, user: User, metadata: dict[str, Any], at: int) -> None:
        user.metadata = metadata
        user.updated_at = self.clock.wall()
        self.fleet.user_changed(user.user_id, at)

    # teams

    def make_team(self, team_id: str | None = None, **fields: Any) -> Team:
        now = self.clock.wall()
        organization = fields.pop("organization_id", None) or self.default_organization
        team = Team(team_id or str(uuid.uuid4()), now, now, organization_id=organization, **fields)
        self.state.teams[team.team_id] = team
        return team

    def join(self, team: Team, user_id: str, role: str = "user", organization: str | None = None) -> Member:
        """Put somebody on the roster; an unknown person comes into being."""
        user = self.state.users.get(user_id) or self.make_user(user_id, organization_id=organization)
        return self.state.add_member(team, user, role)

    # keys

    def make_key(self, raw: str | None = None, **fields: Any) -> tuple[Key, str]:
        """A new key and its raw form, which is kept nowhere."""
        raw = raw or ("sk-v2-" if self.routero else "sk-") + secrets.token_urlsafe(16)
        digest = digest_of(raw)
        now = self.clock.wall()
        fields["organization_id"] = fields.get("organization_id") or self.default_organization
        token = self._decimal_id() if self.routero else digest
        key = Key(token, digest, f"sk-...{raw[-4:]}", now, now, **fields)
        self.state.add_key(key)
        return key, raw

    def _decimal_id(self) -> str:
        while True:
            token = str(10**18 + secrets.randbelow(9 * 10**18))
            if token not in self.state.keys and token not in self.state.archive:
                return token

    def set_blocked(self, key: Key, blocked: bool, by: str | None, at: int) -> None:
        key.blocked, key.updated_by, key.updated_at = blocked, by, self.clock.wall()
        self.fleet.keys_changed([key], at)

    # what a replica reads

    def key_view(self, at: int, digest: str) -> KeyView | None:
        return self.fleet.key(at, digest, lambda: self.read_key(digest))

    def read_key(self, digest: str) -> KeyView | None:
        key = self.state.key_by_digest(digest)
        if key:
            return KeyView.of(key)
        token, until = self.state.grace.get(digest, ("", None))
        successor = self.state.keys.get(token)
        return KeyView.of(successor, until) if successor and until else None

    def fenced(self, at: int, user_id: str) -> bool:
        return self.settings.fence and self.fleet.fenced(at, user_id, lambda: self.read_fence(user_id))

    def read_fence(self, user_id: str) -> bool:
        user = self.state.users.get(user_id)
        return user is not None and user.deactivated

    def team_view(self, at: int, team_id: str) -> TeamView:
        return self.fleet.team(at, team_id, lambda: self.read_team(team_id))

    def read_team(self, team_id: str) -> TeamView:
        team = self.state.teams.get(team_id)
        return TeamView(True, team.blocked, tuple(team.models)) if team else TeamView(False, False, ())

    def warm(self) -> int:
        """Every replica reads every live key, its owner and its team."""
        for at in range(len(self.fleet.replicas)):
            for key in self.state.keys.values():
                self.key_view(at, key.digest)
                if key.user_id is not None:
                    self.fleet.fenced(at, key.user_id, partial(self.read_fence, key.user_id))
                if key.team_id is not None:
                    self.team_view(at, key.team_id)
        return len(self.state.keys)

    # lists that lag

    def remember(self) -> None:
        """Called before each write: keeps the state that delayed lists still show."""
        delay = self.settings.list_delay
        if delay <= 0:
            self._past.clear()
            return
        now = self.clock.now()
        while self._past and self._past[0][0] <= now - delay:
            self._past.popleft()
        self._past.append((now, copy.deepcopy(self.state)))

    def listed(self) -> State:
        """The state that lists show: the one before the first write of the last `list_delay` seconds."""
        seen = self.clock.now() - self.settings.list_delay
        return next((state for at, state in self._past if at > seen), self.state)

    def reset(self) -> None:
        self.state = State()
        self._past.clear()
        self.fleet.forget()


def expiry(now: datetime, duration: timedelta | None) -> datetime | None:
    return now + duration if duration else None
