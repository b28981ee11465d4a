"""A directory that is polled, in memory: what it holds, how it may be read wrongly, and how it is counted."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import replace

from idsync.errors import CursorLost
from idsync.model import Observation
from idsync.snapshot import Changes, Finished, Look, Parts, Progress, Seen, SeenGroup, Snapshot, Wanted, unheard

from .directory import mail


class Polled:
    """One source. Its ids are `x-login` and `g-Name`, the same that a `Directory` pushes."""

    def __init__(self, name: str = "poll", *, patience: int = 1) -> None:
        self.name = name
        self.patience = patience
        self.users: dict[str, Seen] = {}
        self.groups: dict[str, set[str]] = {}
        self.hidden: set[str] = set()
        """Whom listings leave out although they are there."""
        self.error: Exception | None = None
        self.looked_up: list[str] = []
        self.asked_at: float | None = None
        """When the requests of the next listing were sent (now, if None)."""
        self.changed: set[str] = set()
        self.told: set[str] = set()
        self.imported = False
        """The log tells of an import, of which it says no more."""
        self.forgotten = False

    # -- what happens there -------------------------------------------------------------------------------------------

    def hire(self, login: str, *groups: str, observation: Observation = Observation.PRESENT) -> None:
        seen = Seen(f"x-{login}", mail(login), observation, f"status {observation.value}", 0.0, mail(login), login)
        self.users[seen.external_id] = seen
        self.changed.add(seen.external_id)
        for name in groups:
            self.groups.setdefault(name, set()).add(seen.external_id)
            self.changed.add(name)

    def become(self, login: str, observation: Observation) -> None:
        """Change what the source says of somebody; ABSENT: there is nobody of that id any more."""
        self.told.add(f"x-{login}")
        if observation is Observation.ABSENT:
            del self.users[f"x-{login}"]
            for members in self.groups.values():
                members.discard(f"x-{login}")
            return
        self.users[f"x-{login}"] = replace(
            self.users[f"x-{login}"], observation=observation, why=f"status {observation.value}"
        )
        self.changed.add(f"x-{login}")

    def part(self, name: str, *logins: str) -> None:
        self.groups[name] -= {f"x-{login}" for login in logins}
        self.changed.add(name)

    # -- how it is read -----------------------------------------------------------------------------------------------

    async def snapshot(self, wanted: Wanted, _parts: Parts, _progress: Progress = unheard) -> Snapshot:
        self._fail()
        at = self._now()
        names = [name for name in self.groups if name in wanted.names or f"g-{name}" in wanted.bound | wanted.ids]
        groups = {f"g-{name}": self._group(name, at) for name in names}
        shown = frozenset().union(*(group.members for group in groups.values()))
        users = {one: replace(self.users[one], at=at) for one in sorted(shown)}
        return Snapshot(self.name, users, groups, (Finished("all", at, len(users), 1),), self._cursor())

    async def changes(self, _wanted: Wanted, _cursor: str) -> Changes:
        self._fail()
        if self.forgotten:
            self.forgotten = False
            raise CursorLost
        at = self._now()
        users = {one: replace(self.users[one], at=at) for one in sorted(self.changed & self.users.keys())}
        groups = {f"g-{name}": self._group(name, at) for name in sorted(self.changed & self.groups.keys())}
        self.changed.clear()
        return Changes(self.name, at, users, groups, cursor=self._cursor())

    async def events(self, cursor: str) -> Changes:
        self._fail()
        told, self.told = (frozenset(self.told), set()) if cursor else (frozenset[str](), self.told)
        imported, self.imported = self.imported, False
        return Changes(self.name, self._now(), look_up=told, cursor="read", unsaid=imported)

    async def look_up(self, external_id: str, groups: Collection[str]) -> Look:
        self._fail()
        self.looked_up.append(external_id)
        at = time.time()
        gone = Seen(external_id, external_id, Observation.ABSENT, "there is no such user", at)
        user = self.users.get(external_id, gone)
        mine = {f"g-{name}" for name, members in self.groups.items() if external_id in members}
        return Look(replace(user, at=at), frozenset(mine & set(groups)))

    async def check(self) -> list[tuple[str, bool, str]]:
        return []

    async def close(self) -> None: ...

    def _group(self, name: str, at: float) -> SeenGroup:
        return SeenGroup(f"g-{name}", name, frozenset(self.groups[name] - self.hidden), at)

    def _cursor(self) -> str:
        return json.dumps(sorted(self.users))

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error

    def _now(self) -> float:
        return time.time() if self.asked_at is None else self.asked_at
