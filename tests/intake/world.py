"""A store with an intake over it, driven the way a source drives it, and read the way a test wants to ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from support.stores import url_of

from idsync.app import rules_of
from idsync.audit import AuditEvent, first_break
from idsync.clock import ManualClock
from idsync.config import Config
from idsync.control import Control
from idsync.intake import Intake
from idsync.model import Group, GroupFacts, Lane, Origin, Person, User, UserFacts
from idsync.store import directory, jobs, journal, ledger, people
from idsync.store.db import Db
from idsync.store.jobs import Job
from idsync.store.ledger import Departure, Hold, HoldItem
from idsync.store.opening import store_of
from idsync.store.people import Conflict

T = TypeVar("T")
CONFIG: Mapping[str, Any] = {
    "routero": {"base_url": "https://gateway.example.com"},
    "scim": {
        "sources": [
            {"name": "okta", "idp": "okta", "trust_email": True},
            {"name": "okta-2", "idp": "okta", "trust_email": True},
            {"name": "entra", "trust_email": True},
            {"name": "shy", "trust_email": False},
        ]
    },
    "teams": [{"alias": "data", "groups": ["Data"]}, {"alias": "web", "groups": ["Web"]}],
    "roles": [{"role": "internal_viewer", "groups": ["Auditors"]}],
    "guard": {"max_push_departures": 3},
}
LATE = 0.25
"""Seconds between the request and its transaction."""


class World:
    """Changes are commits of their own; everything that is asked is read from what was committed."""

    def __init__(self, folder: Path, **tables: Any) -> None:
        self.clock = ManualClock()
        self.store = store_of(url_of(folder / "idsync.db"))
        self.store.open()
        self.woken = 0
        self.configure(**tables)

    def configure(self, **tables: Any) -> bool:
        """Start again with another configuration; tables replace those of `CONFIG`."""
        config = Config.model_validate({**CONFIG, **tables})
        self.intake = Intake(rules_of(config), self.clock, on_jobs=self._wake)
        self.control = Control(self.intake, config, self.clock)
        return self.write(self.control.adopt_configuration)

    def _wake(self) -> None:
        self.woken += 1

    def close(self) -> None:
        self.store.close()

    def write(self, work: Callable[[Db], T]) -> T:
        return self.store.write(work)

    @property
    def db(self) -> Db:
        return self.store.reader()

    def origin(self, source: str) -> Origin:
        return Origin(source, "token-1", self.clock.now() - LATE)

    # -- what a source pushes -------------------------------------------------------------------------------------

    def user(
        self,
        name: str,
        *groups: Group,
        source: str = "okta",
        external: str | None = None,
        email: str | None = None,
        active: bool = True,
    ) -> User:
        """Create a user and put it into groups."""
        facts = UserFacts(name, external, active, email, None, {"userName": name})
        made = self.write(lambda db: self.intake.create_user(db, facts, self.origin(source)))
        for group in groups:
            self.add(group, made)
        return made

    def change(self, user: User, **changes: Any) -> User:
        """Give a user other facts than it has now."""

        def work(db: Db) -> User:
            now = directory.user(db, user.source, user.id)
            assert now is not None
            old = UserFacts(now.user_name, now.external_id, now.active, now.email, now.display_name, now.doc)
            return self.intake.replace_user(db, now, replace(old, **changes), self.origin(user.source))

        return self.write(work)

    def delete(self, user: User) -> None:
        def work(db: Db) -> None:
            now = directory.user(db, user.source, user.id)
            assert now is not None
            self.intake.delete_user(db, now, self.origin(user.source))

        self.write(work)

    def group(self, name: str, *members: User | Group | str, source: str = "okta") -> Group:
        facts, values = GroupFacts(name, None, {"displayName": name}), ids(members)
        return self.write(lambda db: self.intake.create_group(db, facts, values, self.origin(source)))

    def add(self, group: Group, *members: User | Group | str) -> Group:
        return self._members(group, ids(members), [])

    def remove(self, group: Group, *members: User | Group | str) -> Group:
        return self._members(group, [], ids(members))

    def swap(self, group: Group, add: Sequence[User | Group | str], remove: Sequence[User | Group | str]) -> Group:
        return self._members(group, ids(add), ids(remove))

    def _members(self, group: Group, add: Sequence[str], remove: Sequence[str]) -> Group:
        origin = self.origin(group.source)
        return self.write(lambda db: self.intake.change_members(db, self._now(db, group), add, remove, origin))

    def replace_group(self, group: Group, members: Sequence[User | Group | str] | None = None, **changes: Any) -> Group:
        def work(db: Db) -> Group:
            now = self._now(db, group)
            facts = replace(GroupFacts(now.display_name, now.external_id, now.doc), **changes)
            listed = None if members is None else ids(members)
            return self.intake.replace_group(db, now, facts, listed, self.origin(group.source))

        return self.write(work)

    def delete_group(self, group: Group) -> None:
        origin = self.origin(group.source)
        self.write(lambda db: self.intake.delete_group(db, self._now(db, group), origin))

    def _now(self, db: Db, group: Group) -> Group:
        found = directory.group(db, group.source, group.id)
        assert found is not None
        return found

    # -- what an operator does ------------------------------------------------------------------------------------

    def revoke(self, user: str, *, override: bool = False) -> None:
        asked: dict[str, Any] = {"reason": "left", "override": override, "by": "op", "received_at": self.clock.now()}
        self.write(lambda db: self.control.revoke(db, user, **asked))

    def restore(self, user: str) -> None:
        self.write(lambda db: self.control.restore(db, user, reason="came back", by="op"))

    def finish_jobs(self) -> None:
        """Close every job, as the engine does when the gateway agrees."""

        def work(db: Db) -> None:
            for lane in Lane:
                for job in jobs.claim(db, lane, "engine", self.clock.now(), 60.0, 1000):
                    assert jobs.close(db, job.person_id, "engine", job.wanted)

        self.write(work)

    def destroy(self, user: User) -> None:
        """Note that the engine has begun to delete, as it does before the first call."""
        gone = replace(self.departure(user), destroying_at=self.clock.now())
        self.write(lambda db: ledger.put_departure(db, gone))

    # -- what is so now -------------------------------------------------------------------------------------------

    def person(self, user: User) -> Person:
        """Return the person of a record, also of a tombstone."""
        row = self.db.one("SELECT person_id FROM users WHERE id = :id", id=user.id)
        assert row is not None
        found = people.person(self.db, row["person_id"])
        assert found is not None
        return found

    def left(self, user: User) -> Departure | None:
        return ledger.open_departure(self.db, self.person(user).id)

    def departure(self, user: User) -> Departure:
        found = self.left(user)
        assert found is not None
        return found

    def teams(self, user: User, state: str = "granted") -> set[str]:
        return {grant.team for grant in people.grants(self.db, self.person(user).id) if grant.state == state}

    def grant(self, user: User, team: str) -> people.Grant:
        [found] = [grant for grant in people.grants(self.db, self.person(user).id) if grant.team == team]
        return found

    def job(self, user: User) -> Job | None:
        return jobs.get(self.db, self.person(user).id)

    def live(self, user: User) -> User:
        found = directory.user(self.db, user.source, user.id)
        assert found is not None
        return found

    def members(self, group: Group) -> set[str]:
        return {row.member_id for row in directory.members(self.db, group.id)}

    def waiting(self, group: Group) -> list[str]:
        return directory.pending_of(self.db, group.id)

    def version(self, group: Group) -> int:
        return self._now(self.db, group).version

    def held(self) -> dict[str, list[HoldItem]]:
        """Return what the open holds keep back, by their kind."""
        return {hold.kind: ledger.items(self.db, hold.id) for hold in ledger.holds(self.db)}

    def hold(self, kind: str) -> Hold:
        [found] = [hold for hold in ledger.holds(self.db) if hold.kind == kind]
        return found

    def approve(self, kind: str) -> None:
        hold = self.hold(kind)
        seen = ledger.checksum(ledger.items(self.db, hold.id))
        self.write(lambda db: self.control.approve(db, hold.id, seen, by="op"))

    def conflicts(self) -> list[Conflict]:
        return people.conflicts(self.db)

    def bound(self) -> set[tuple[str, str]]:
        """Return the bindings as (team or role, group id)."""
        return {(binding.target, binding.group_id) for binding in people.bindings(self.db)}

    def trail(self, *kinds: str) -> list[AuditEvent]:
        """Return the audit entries whose action begins with one of these, having checked the chain."""
        events = list(journal.events(self.db))
        assert first_break(events) is None
        return [event for event in events if event.action.startswith(kinds or ("",))]


def ids(members: Sequence[User | Group | str]) -> list[str]:
    return [member if isinstance(member, str) else member.id for member in members]
