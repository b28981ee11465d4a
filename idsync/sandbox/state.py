"""The rows of the gateway and the indexes over them. No HTTP, no caches, no time of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from idsync.sandbox.objects import Invitation, Key, Member, Team, User


@dataclass
class State:
    users: dict[str, User] = field(default_factory=dict)
    teams: dict[str, Team] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)  # by id
    archive: dict[str, Key] = field(default_factory=dict)  # deleted keys by id
    invitations: dict[str, Invitation] = field(default_factory=dict)
    audit: list[dict[str, Any]] = field(default_factory=list)
    usage: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, dict[str, Any]] = field(default_factory=dict)  # sections of /config/update
    grace: dict[str, tuple[str, datetime]] = field(default_factory=dict)  # old digest -> (new id, until)
    _emails: dict[str, str] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)
    _aliases: dict[str, str] = field(default_factory=dict)
    _by_user: dict[str, dict[str, None]] = field(default_factory=dict)
    _by_team: dict[str, dict[str, None]] = field(default_factory=dict)

    # users

    def add_user(self, user: User) -> None:
        self.users[user.user_id] = user
        self._index_email(user)

    def change_email(self, user: User, email: str | None) -> None:
        self._forget_email(user)
        user.user_email = email
        self._index_email(user)

    def user_by_email(self, email: str) -> User | None:
        """Letter case does not matter."""
        return self.users.get(self._emails.get(email.lower(), ""))

    def drop_user(self, user: User, rosters: bool = True) -> list[Key]:
        """Remove the row and all keys it owns, unarchived; returns those keys."""
        keys = self.drop_keys(self.keys_of_user(user.user_id))
        if rosters:
            self._leave_rosters(user.user_id)
        for invitation in self.invitations_of(user.user_id):
            del self.invitations[invitation.invitation_id]
        self._forget_email(user)
        del self.users[user.user_id]
        return keys

    def invitations_of(self, user_id: str) -> list[Invitation]:
        return [i for i in self.invitations.values() if i.user_id == user_id]

    def _leave_rosters(self, user_id: str) -> None:
        for team in self.teams.values():
            if team.member(user_id):
                team.members = [m for m in team.members if m.user_id != user_id]

    def _index_email(self, user: User) -> None:
        if user.user_email:
            self._emails[user.user_email.lower()] = user.user_id

    def _forget_email(self, user: User) -> None:
        email = (user.user_email or "").lower()
        if self._emails.get(email) == user.user_id:
            del self._emails[email]

    # teams

    def add_member(self, team: Team, user: User, role: str = "user") -> Member:
        member = Member(user.user_id, user.user_email, role)
        team.members.append(member)
        if team.team_id not in user.teams:
            user.teams.append(team.team_id)
        return member

    def remove_member(self, team: Team, user_id: str) -> None:
        team.members = [m for m in team.members if m.user_id != user_id]
        user = self.users.get(user_id)
        if user and team.team_id in user.teams:
            user.teams.remove(team.team_id)

    def drop_team(self, team: Team) -> None:
        """Remove the team and every mention of it; its keys are the caller's to archive."""
        for member in list(team.members):
            self.remove_member(team, member.user_id)
        del self.teams[team.team_id]

    # keys

    def add_key(self, key: Key) -> None:
        self.keys[key.token] = key
        self._digests[key.digest] = key.token
        self._index_key(key)

    def key_by_digest(self, digest: str) -> Key | None:
        return self.keys.get(self._digests.get(digest, ""))

    def key_by_alias(self, alias: str) -> Key | None:
        return self.keys.get(self._aliases.get(alias, ""))

    def keys_of_user(self, user_id: str) -> list[Key]:
        return [self.keys[token] for token in self._by_user.get(user_id, ())]

    def keys_of_team(self, team_id: str) -> list[Key]:
        return [self.keys[token] for token in self._by_team.get(team_id, ())]

    def move_key(self, key: Key, **changes: Any) -> None:
        """Change key_alias, user_id or team_id, which the indexes follow."""
        self._unindex_key(key)
        for name, value in changes.items():
            setattr(key, name, value)
        self._index_key(key)

    def drop_keys(self, keys: Iterable[Key]) -> list[Key]:
        gone = list(keys)
        for key in gone:
            self._unindex_key(key)
            del self._digests[key.digest]
            del self.keys[key.token]
        return gone

    def archive_keys(self, keys: Iterable[Key], at: datetime, by: str | None) -> list[Key]:
        gone = self.drop_keys(keys)
        for key in gone:
            key.deleted_at, key.deleted_by = at, by
            self.archive[key.token] = key
        return gone

    def _index_key(self, key: Key) -> None:
        for index, value in self._key_places(key):
            index.setdefault(value, {})[key.token] = None
        if key.key_alias:
            self._aliases[key.key_alias] = key.token

    def _unindex_key(self, key: Key) -> None:
        for index, value in self._key_places(key):
            index[value].pop(key.token, None)
            if not index[value]:
                del index[value]
        if key.key_alias:
            self._aliases.pop(key.key_alias, None)

    def _key_places(self, key: Key) -> Iterator[tuple[dict[str, dict[str, None]], str]]:
        if key.user_id is not None:
            yield self._by_user, key.user_id
        if key.team_id is not None:
            yield self._by_team, key.team_id
