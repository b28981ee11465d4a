"""What each replica remembers of keys, people and teams, and who hears of a change.

A replica trusts what it read for `cache_ttl` seconds, counted from the read; use does not prolong it.
Key, person and team are remembered apart: that is why a fenced person's deleted but unblocked key
comes back to life on other replicas once the person's row is gone.

    change                              redis          off             all
    block, update, user, member, team   every replica  receiver only   every replica
    key/delete                          receiver only  receiver only   every replica
    team/block                          nobody         nobody          nobody
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from idsync.sandbox.clock import Clock
from idsync.sandbox.objects import Key
from idsync.sandbox.options import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key as it was when a replica read it."""

    token: str
    user_id: str | None
    team_id: str | None
    organization_id: str | None
    blocked: bool
    expires: datetime | None
    models: tuple[str, ...]
    key_name: str

    @classmethod
    def of(cls, key: Key, expires: datetime | None = None) -> KeyView:
        return cls(
            key.token,
            key.user_id,
            key.team_id,
            key.organization_id,
            bool(key.blocked),
            expires or key.expires,
            tuple(key.models),
            key.key_name,
        )


@dataclass(frozen=True, slots=True)
class TeamView:
    exists: bool
    blocked: bool
    models: tuple[str, ...]


class Shelf(Generic[T]):
    """Values with an end of life."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[float, T]] = {}

    def get(self, name: str, now: float) -> T | None:
        entry = self._entries.get(name)
        return entry[1] if entry and now < entry[0] else None

    def put(self, name: str, value: T, until: float) -> None:
        self._entries[name] = (until, value)

    def evict(self, name: str) -> None:
        self._entries.pop(name, None)

    def clear(self) -> None:
        self._entries.clear()


@dataclass
class Replica:
    keys: Shelf[KeyView] = field(default_factory=Shelf)  # by digest
    fences: Shelf[bool] = field(default_factory=Shelf)  # by user_id
    teams: Shelf[TeamView] = field(default_factory=Shelf)  # by team_id

    def forget(self) -> None:
        for shelf in (self.keys, self.fences, self.teams):
            shelf.clear()


class Fleet:
    """All replicas. `at` is always the number of the one that got the call."""

    def __init__(self, count: int, settings: Settings, clock: Clock) -> None:
        self.replicas = [Replica() for _ in range(count)]
        self._settings = settings
        self._clock = clock

    def keys_changed(self, keys: Iterable[Key], at: int) -> None:
        digests = [key.digest for key in keys]
        self._evict(self._heard_by(at), digests)

    def keys_deleted(self, keys: Iterable[Key], at: int) -> None:
        everywhere = self._settings.broadcast == "all"
        self._evict(self.replicas if everywhere else [self.replicas[at]], [key.digest for key in keys])

    def user_changed(self, user_id: str, at: int) -> None:
        for replica in self._heard_by(at):
            replica.fences.evict(user_id)

    def team_changed(self, team_id: str, at: int) -> None:
        for replica in self._heard_by(at):
            replica.teams.evict(team_id)

    def forget(self) -> None:
        for replica in self.replicas:
            replica.forget()

    def key(self, at: int, digest: str, read: Callable[[], KeyView | None]) -> KeyView | None:
        return self._remember(self.replicas[at].keys, digest, read)

    def fenced(self, at: int, user_id: str, read: Callable[[], bool]) -> bool:
        fenced = self._remember(self.replicas[at].fences, user_id, read)
        return fenced is True

    def team(self, at: int, team_id: str, read: Callable[[], TeamView]) -> TeamView:
        view = self._remember(self.replicas[at].teams, team_id, read)
        return view or read()

    def _remember(self, shelf: Shelf[T], name: str, read: Callable[[], T | None]) -> T | None:
        now = self._clock.now()
        value = shelf.get(name, now)
        if value is None:
            value = read()
            if value is not None:
                shelf.put(name, value, now + self._settings.cache_ttl)
        return value

    def _heard_by(self, at: int) -> list[Replica]:
        return [self.replicas[at]] if self._settings.broadcast == "off" else self.replicas

    def _evict(self, replicas: list[Replica], digests: list[str]) -> None:
        for replica in replicas:
            for digest in digests:
                replica.keys.evict(digest)
