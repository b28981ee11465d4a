"""What a change means for people: access compared with what policy gives now, departures, holds, jobs.

Every function runs inside the store's write transaction, called by `intake` (or, for holds and bans, by `control`).

    what the person had     | policy says now        | written down
    ------------------------+------------------------+----------------------------------------------------------
    access or none          | departed               | a departure; its evidence says when deletion goes
    access                  | suspended              | a suspension: fence and block, never deletion
    a departure             | departed, stronger     | the same departure, hastened
    a departure             | present                | cancelled if nothing was destroyed, else closed; grants follow
    a team                  | not that team          | the team is leaving: blocked now, deleted after the waiting time
    anything                | less, by configuration | nothing is taken: a hold
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from idsync.clock import Clock, new_id
from idsync.model import Access, DepartureState, Evidence, Lane, Observation, Origin, Person, Standing, User
from idsync.policy import ADMIN_ROLES, TEAM_ADMIN, TEAM_USER, Bound, Record, Rules, decide, protection
from idsync.store import canary, directory, exposure, facts, jobs, journal, ledger, people, polled
from idsync.store.db import Db
from idsync.store.ledger import Departure, HoldItem
from idsync.store.people import Grant

PUSH_WINDOW = 600.0
"""Seconds over which pushed departures are counted for `guard.max_push_departures`."""
AT_ONCE = frozenset(
    {Evidence.SCIM_INACTIVE, Evidence.SCIM_DELETE, Evidence.REVOKED, Evidence.DEPROVISIONED, Evidence.DELETED}
)
"""Evidence on which deletion does not wait."""


@dataclass(frozen=True)
class Cause:
    """Why people are looked at again. `mass` carries the reason of a hold when one request hit a whole group."""

    origin: Origin
    what: str
    mass: str | None = None
    configuration: bool = False


class People:
    """Decides about persons in the caller's transaction. Holds no state but the rules, which change between two writes only."""

    def __init__(self, rules: Rules, clock: Clock, *, on_jobs: Callable[[], None] | None = None) -> None:
        self.rules = rules
        self._clock = clock
        self.on_jobs = on_jobs

    def access_of(self, db: Db, person: Person) -> Access:
        """Ask policy what a person may have now, from the rows as they are in this transaction."""
        records = [self._record(db, user) for user in directory.users_of_person_any(db, person.id)]
        groups = frozenset().union(*(record.groups | record.ended.keys() for record in records))
        bound = [
            Bound(binding.kind, binding.target, binding.group_id, binding.spec)
            for binding in people.bindings_of_groups(db, groups)
            if self.rules.still_names(binding.kind, binding.target, binding.spec)
        ]
        ban = people.live_ban(db, person.id)
        shield = self.protected(db, person)
        if ban is not None and shield is not None and not ban.override:
            ban = None
        return decide(
            records,
            bound,
            self.rules,
            banned=ban.reason if ban else None,
            protected=shield,
            ever_had_access=person.ever_had_access,
        )

    def _record(self, db: Db, user: User) -> Record:
        gone = user.deleted_at is not None
        shared = self.rules.share(user.source) and not gone
        return Record(
            user.source,
            user.observation,
            user.observed_at,
            frozenset() if gone else directory.groups_of(db, user.id),
            gone,
            polled.told_at(db, user.id) if shared else {},
            polled.ended(db, user.id) if shared else {},
        )

    def look_again(self, db: Db, persons: Iterable[str], cause: Cause) -> None:
        """Ask policy about these persons again and write down what changed."""
        for person_id in sorted(set(persons)):
            person = people.person(db, person_id)
            if person is not None:
                self._settle(db, person, self.access_of(db, person), cause)

    def _settle(self, db: Db, person: Person, access: Access, cause: Cause) -> None:
        """Write down the difference between what the person had and what policy gives now, and open the job."""
        departure = ledger.open_departure(db, person.id)
        leaves = access.standing in (Standing.DEPARTED, Standing.SUSPENDED)
        lane: Lane | None = None
        if leaves and departure is None and access.evidence is not Evidence.REVOKED and self._is_kept(db, person):
            return
        if access.evidence is Evidence.GROUP_LOSS and self._keeps_something(db, person):
            lane = self._stay(db, person, Access(Standing.PRESENT, role=self._role_kept(person)), departure, cause)
        elif leaves and cause.configuration and departure is None:
            self._hold_everything(db, person, access, cause)
            lane = self._lower(db, person, cause)
        elif leaves:
            lane = self._leave(db, person, access, departure, cause)
        elif access.standing is Standing.PRESENT:
            lane = self._stay(db, person, access, departure, cause)
        elif departure is not None and self._is_here_again(db, person, cause):
            self._come_back(db, departure, cause, self._clock.now())
            lane = Lane.GRANT
        if lane is not None:
            self.open_job(db, person.id, lane)

    def _is_kept(self, db: Db, person: Person) -> bool:
        """Tell whether a hold keeps the whole person, and nothing a source says has changed since."""
        item = ledger.configuration_item(db, person.id)
        return item is not None and item.version == self._evidence_version(db, person)

    def _evidence_version(self, db: Db, person: Person) -> str:
        """Return a fingerprint of what the sources say of a person: observations, and groups that ever counted."""
        mapped = {binding.group_id for binding in people.bindings(db)}
        said = [
            (user.id, user.observation.value, sorted(mapped & directory.groups_of(db, user.id)))
            for user in directory.users_of_person_any(db, person.id)
        ]
        return hashlib.sha256(repr(said).encode()).hexdigest()[:16]

    def _is_here_again(self, db: Db, person: Person, cause: Cause) -> bool:
        """Tell whether somebody who never had access through a group, and had left, is back.

        A source has to say so; for an account no source knows, lifting the ban is what says so.
        """
        users = directory.users_of_person_any(db, person.id)
        if self.protected(db, person) is not None or cause.configuration:
            return False
        present = [user for user in users if user.observation is Observation.PRESENT and user.deleted_at is None]
        named = any(user.source in self.rules.idp_of for user in present)
        return named or (not users and cause.origin.source == "cli")

    def protected(self, db: Db, person: Person) -> str | None:
        """Return why a person is protected, by any of their names, or None."""
        return shield_of(db, person, self.rules, self._clock.now())

    def _keeps_something(self, db: Db, person: Person) -> bool:
        """Tell whether a hold keeps a team that only the configuration would take."""
        return any(grant.state == "granted" and grant.hold_id for grant in people.grants(db, person.id))

    def _role_kept(self, person: Person) -> str | None:
        """Return the role that a hold keeps: being an admin is not held, only a group of theirs makes one."""
        return self.rules.default_role if person.role in self.rules.admins else person.role

    def _lower(self, db: Db, person: Person, cause: Cause) -> Lane | None:
        """Take an admin's role from somebody whom a hold keeps, and whom the configuration gives it no more."""
        role = self._role_kept(person)
        if role == person.role:
            return None
        people.update_person(db, person.id, label=person.label, role=role, ever_had_access=person.ever_had_access)
        self._audit(db, cause.origin, "access.changed", person.label, {"role": role, "cause": cause.what})
        return Lane.REVOKE

    def open_job(self, db: Db, person_id: str, lane: Lane) -> None:
        """Raise the person's generation and open their job for it; nobody works for one who was purged (a canary)."""
        generation = people.bump_generation(db, person_id)
        if not generation:
            return
        jobs.open_job(db, person_id, lane, generation, self._clock.now())
        if self.on_jobs is not None:
            db.after_commit(self.on_jobs)

    def _leave(self, db: Db, person: Person, access: Access, departure: Departure | None, cause: Cause) -> Lane | None:
        now = self._clock.now()
        evidence = access.evidence or Evidence.SCIM_INACTIVE
        kind = "suspension" if access.standing is Standing.SUSPENDED else "departure"
        if departure is not None:
            return self._leave_harder(db, departure, evidence, kind, cause, now)
        waits = self._waits(evidence)
        opened = Departure(
            id=new_id(),
            person_id=person.id,
            label=person.label,
            account_id=person.account_id,
            kind=kind,
            evidence=evidence,
            cause=cause.what,
            source=cause.origin.source,
            state=DepartureState.ACCEPTED,
            received_at=cause.origin.received_at,
            accepted_at=now,
            pushed_at=now,
            delete_at=now + waits,
            hold_id=self._hold_that_goes_on(db, person, evidence),
        )
        ledger.drop_items(db, person.id, "")
        ledger.put_departure(db, opened)
        if opened.hold_id is not None:
            version = f"{opened.accepted_at:.6f}"
            ledger.add_item(db, HoldItem(opened.hold_id, person.id, "", evidence.value, version))
        for grant in people.grants(db, person.id):
            ledger.drop_items(db, person.id, grant.team)
            leaving = replace(grant, state="leaving", evidence=evidence, lost_at=grant.lost_at or now)
            people.put_grant(db, replace(leaving, delete_at=opened.delete_at, hold_id=None))
        people.update_person(db, person.id, label=person.label, role=None, ever_had_access=person.ever_had_access)
        self._guard_push(db, opened, cause, now)
        detail = {"departure": opened.id, "evidence": evidence.value, "kind": kind, "cause": cause.what}
        self._audit(db, cause.origin, "departure.accepted", person.label, detail)
        return Lane.REVOKE

    def _hold_that_goes_on(self, db: Db, person: Person, evidence: Evidence) -> str | None:
        """A mass loss that is held stays held when the person then loses their last group as well."""
        if evidence in AT_ONCE:
            return None
        held = [grant.hold_id for grant in people.grants(db, person.id) if grant.state == "leaving"]
        return next((hold for hold in held if ledger.hold_is_open(db, hold)), None)

    def _leave_harder(
        self, db: Db, departure: Departure, evidence: Evidence, kind: str, cause: Cause, now: float
    ) -> Lane | None:
        """Turn a departure that waits, or a suspension, into one on stronger evidence; never the other way."""
        by_hand = evidence is Evidence.REVOKED and ledger.hold_is_open(db, departure.hold_id)
        weak = {Evidence.GROUP_LOSS, Evidence.SUSPENDED, Evidence.CONFIGURATION}
        stronger = evidence in AT_ONCE or (evidence is Evidence.DISABLED and departure.evidence in weak)
        if kind != "departure" or not stronger or (departure.evidence in AT_ONCE and not by_hand):
            return None
        hastened = replace(
            departure,
            kind="departure",
            evidence=evidence,
            cause=cause.what,
            source=cause.origin.source,
            pushed_at=now,
            delete_at=self._hastened(departure, evidence, now),
            hold_id=None,
        )
        ledger.put_departure(db, hastened)
        ledger.drop_items(db, departure.person_id, "")
        self._guard_push(db, hastened, cause, now)
        detail = {"departure": departure.id, "evidence": evidence.value, "cause": cause.what}
        self._audit(db, cause.origin, "departure.hastened", departure.label, detail)
        return Lane.REVOKE

    def _waits(self, evidence: Evidence) -> float:
        """Return for how many seconds deletion waits (architecture, "Access ends at once; only deletion may wait")."""
        if evidence in AT_ONCE:
            return 0.0
        disabled = evidence is Evidence.DISABLED
        return self.rules.disabled_delete_after if disabled else self.rules.group_loss_delete_after

    def _hastened(self, departure: Departure, evidence: Evidence, now: float) -> float:
        """Return when deletion is due on stronger evidence: never later than it was, unless it was only a suspension."""
        due = now + self._waits(evidence)
        return due if departure.kind == "suspension" else min(departure.delete_at, due)

    def _guard_push(self, db: Db, departure: Departure, cause: Cause, now: float) -> None:
        """Hold the deletion, never the end of access, when a push takes too many people at once.

        The canary of a drill is not held, and does not count.
        """
        if departure.evidence is Evidence.REVOKED or departure.kind != "departure" or departure.hold_id is not None:
            return
        if canary.is_one(db, departure.person_id):
            return
        source, since = cause.origin.source, now - PUSH_WINDOW
        pushed = ledger.pushed_since(db, source, since) - canary.pushed_since(db, source, since)
        if cause.mass is not None:
            self._hold_departure(db, departure, f"group:{source}", cause.mass, now)
        elif (
            source in self.rules.idp_of and source not in self.rules.polled and pushed > self.rules.max_push_departures
        ):
            reason = f"{source} pushed more than {self.rules.max_push_departures} departures in 10 minutes"
            self._hold_departure(db, departure, f"push:{source}", reason, now)

    def _stay(self, db: Db, person: Person, access: Access, departure: Departure | None, cause: Cause) -> Lane | None:
        now = self._clock.now()
        lane: Lane | None = None
        if departure is not None:
            self._come_back(db, departure, cause, now)
            lane = Lane.GRANT
        ledger.drop_items(db, person.id, "")
        had = {grant.team: grant for grant in people.grants(db, person.id)}
        for team in sorted(access.teams):
            role = TEAM_ADMIN if team in access.leads else TEAM_USER
            if self._give(db, Grant(person.id, team, "granted", now, role=role), had.get(team)):
                lowered = team in had and had[team].role == TEAM_ADMIN != role
                lane = Lane.REVOKE if lowered else lane or Lane.GRANT
        for team in sorted(set(had) - access.teams):
            if cause.configuration and self._is_renamed(db, team, access.teams):
                people.drop_grant(db, person.id, team)
                ledger.drop_items(db, person.id, team)
            elif self._take(db, had[team], cause, now):
                lane = Lane.REVOKE
        if access.role != person.role:  # what an admin loses waits for no grant, and for no thaw
            lane = Lane.REVOKE if person.role in ADMIN_ROLES else lane or Lane.GRANT
        people.update_person(db, person.id, label=person.label, role=access.role, ever_had_access=True)
        if lane is not None:
            given = {"teams": sorted(access.teams), "role": access.role, "cause": cause.what}
            given |= {"admin_of": sorted(access.leads)} if access.leads else {}
            self._audit(db, cause.origin, "access.changed", person.label, given)
        return lane

    def _come_back(self, db: Db, departure: Departure, cause: Cause, now: float) -> None:
        """Close a departure: cancelled when nothing was destroyed yet, else it is left as far as it came.

        Teams that do not come back with the person go on leaving, as after the loss of a group.
        """
        cancelled = departure.destroying_at is None
        state = DepartureState.CANCELLED if cancelled else departure.state
        ledger.put_departure(db, replace(departure, state=state, closed_at=now))
        exposure.came_back(db, departure.person_id)
        held = departure.evidence not in AT_ONCE and ledger.hold_is_open(db, departure.hold_id)
        if held or departure.evidence in AT_ONCE:
            later = now + self.rules.group_loss_delete_after
            for grant in people.grants(db, departure.person_id):
                hold = departure.hold_id if held else None
                goes_on = replace(grant, evidence=Evidence.GROUP_LOSS, delete_at=later, hold_id=hold)
                people.put_grant(db, goes_on)
                if hold is not None:
                    ledger.add_item(db, HoldItem(hold, grant.person_id, grant.team, "group", f"{grant.since:.6f}"))
        ledger.drop_items(db, departure.person_id, "")
        detail = {"departure": departure.id, "cancelled": cancelled, "cause": cause.what}
        self._audit(db, cause.origin, "departure.ended", departure.label, detail)

    def _give(self, db: Db, grant: Grant, had: Grant | None) -> bool:
        if had is None:
            people.put_grant(db, grant)
            return True
        if had.hold_id is not None:
            ledger.drop_items(db, grant.person_id, grant.team)
        if had.state == "granted" and had.hold_id is None and had.role == grant.role:
            return False
        people.put_grant(db, replace(grant, since=had.since))
        return had.state == "leaving" or had.role != grant.role

    def _is_renamed(self, db: Db, team: str, given: Iterable[str]) -> bool:
        """Tell whether the configuration gives the same team of the gateway under another name."""
        team_id = facts.get(db, f"team:{team}")
        return team_id is not None and any(self.rules.team_ids.get(other) == team_id for other in given)

    def _take(self, db: Db, grant: Grant, cause: Cause, now: float) -> bool:
        """Begin to take a team away: its keys are blocked at once, deleted after the waiting time."""
        if grant.state == "leaving" or grant.hold_id is not None:
            return False
        if cause.configuration:
            self._hold_grant(db, grant, "configuration", f"only the configuration changed: {cause.what}", now)
            return False
        leaving = replace(
            grant,
            state="leaving",
            evidence=Evidence.GROUP_LOSS,
            lost_at=now,
            delete_at=now + self.rules.group_loss_delete_after,
        )
        people.put_grant(db, leaving)
        if cause.mass is not None:
            self._hold_grant(db, leaving, f"group:{cause.origin.source}", cause.mass, now)
        return True

    # -- holds --------------------------------------------------------------------------------------------------

    def _hold_everything(self, db: Db, person: Person, access: Access, cause: Cause) -> None:
        """Hold what only a changed configuration would take; the person keeps it until somebody decides.

        Somebody a source says has left, and whom only the old configuration kept (a protection that was removed), is
        held as a whole: approving looks at them again.
        """
        now = self._clock.now()
        reason = f"only the configuration changed: {cause.what}"
        granted = [grant for grant in people.grants(db, person.id) if grant.state == "granted"]
        for grant in granted:
            if grant.hold_id is None:
                self._hold_grant(db, grant, "configuration", reason, now)
        if access.evidence is not Evidence.GROUP_LOSS or (not granted and person.role is not None):
            hold = self._join_hold(db, "configuration", reason, now)
            version = self._evidence_version(db, person)
            ledger.add_item(db, HoldItem(hold, person.id, "", str(access.evidence), version))

    def hold_leavers_of(self, db: Db, team: str, reason: str) -> None:
        """Hold the deletions of everybody who is losing this team, unless a hold keeps them back already.

        Raises their generation: a worker that is about to delete has read that nothing holds it.
        """
        now = self._clock.now()
        for grant in people.leaving(db, team):
            departure = ledger.open_departure(db, grant.person_id)
            if departure is None and not ledger.hold_is_open(db, grant.hold_id):
                self._hold_grant(db, grant, "rebind", reason, now)
                self.open_job(db, grant.person_id, Lane.REVOKE)
            elif departure is not None and self._may_be_held(db, departure):
                self._hold_departure(db, departure, "rebind", reason, now)
                self.open_job(db, grant.person_id, Lane.REVOKE)

    @staticmethod
    def _may_be_held(db: Db, departure: Departure) -> bool:
        waits = departure.evidence is Evidence.GROUP_LOSS and departure.destroying_at is None
        return waits and not ledger.hold_is_open(db, departure.hold_id)

    def _hold_grant(self, db: Db, grant: Grant, kind: str, reason: str, now: float) -> None:
        hold = self._join_hold(db, kind, reason, now)
        people.put_grant(db, replace(grant, hold_id=hold))
        version = f"{grant.since:.6f}"
        ledger.add_item(db, HoldItem(hold, grant.person_id, grant.team, kind.partition(":")[0], version))

    def _hold_departure(self, db: Db, departure: Departure, kind: str, reason: str, now: float) -> None:
        hold = self._join_hold(db, kind, reason, now)
        ledger.put_departure(db, replace(departure, hold_id=hold))
        version = f"{departure.accepted_at:.6f}"
        ledger.add_item(db, HoldItem(hold, departure.person_id, "", departure.evidence.value, version))

    def open_hold(self, db: Db, kind: str, reason: str) -> str:
        """Return the open hold of this kind, opening one where there is none."""
        return self._join_hold(db, kind, reason, self._clock.now())

    def _join_hold(self, db: Db, kind: str, reason: str, now: float) -> str:
        hold, is_new = ledger.join_hold(db, kind, reason, now)
        if is_new:
            detail = {"hold": hold.id, "reason": reason}
            journal.append(db, at=now, actor="idsync", action="hold.opened", subject=kind, detail=detail)
        return hold.id

    def _audit(self, db: Db, origin: Origin, action: str, subject: str, detail: dict[str, Any]) -> None:
        note(db, self._clock, origin, action, subject, detail)


def shield_of(db: Db, person: Person, rules: Rules, now: float) -> str | None:
    """Return why a person is protected: by account, userName, e-mail or the name they were revoked under."""
    if not rules.protected:
        return None
    names: list[str | None] = [person.account_id, person.label, *people.further_accounts(db, person.id)]
    for user in directory.users_of_person_any(db, person.id):
        names += [user.user_name, user.email]
    return protection(names, rules, now)


def note(db: Db, clock: Clock, origin: Origin, action: str, subject: str, detail: dict[str, Any]) -> None:
    """Add an audit entry for something a source or a person asked for."""
    journal.append(db, at=clock.now(), actor=origin.who, action=action, subject=subject, detail=detail)
