"""One pass: what should be, what the gateway shows, the plan between them, and its application.

Teams are created, adopted and updated here; people are never changed here, only looked at: whoever differs gets a job,
and the engine converges them as it would after a push.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from idsync.alerts import NAME, Alerts
from idsync.clock import Clock
from idsync.engine import exposed
from idsync.engine.accounts import addresses_ever, is_in_use
from idsync.errors import GatewayError
from idsync.gateway.client import Gateway
from idsync.model import (
    ADMINS,
    GATEWAY,
    DepartureState,
    GatewayUser,
    GivenRole,
    Lane,
    Person,
    Standing,
    fold,
    organization_place,
    team_place,
)
from idsync.plan import (
    Change,
    Gatewayscape,
    Limits,
    OrganizationRole,
    TeamRole,
    WantedPerson,
    WantedTeam,
    in_order,
    plan_people,
    plan_teams,
)
from idsync.policy import TEAM_ADMIN
from idsync.standing import People
from idsync.store import facts, jobs, ledger, organizations, people, refusals, roles
from idsync.store.db import Db, Store
from idsync.store.ledger import Departure
from idsync.store.people import Grant
from idsync.store.turns import turn
from idsync.teams import extras as extra_members
from idsync.teams.extras import Extra
from idsync.teams.models import refuse_unknown
from idsync.teams.removing import Remover
from idsync.teams.setting import TeamSetter, applied_settings, known_teams
from idsync.teams.sparing import look_closer

T = TypeVar("T")
TAKING = frozenset({"person.fence", "key.block", "key.delete", "team.leave", "organization.leave"})

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Pass:
    """What a pass found and, unless it was a dry run, did.

    `failed` maps a team, or a team and somebody on it, to why it could not be set up, or emptied of them. `notes` are
    sentences about what was not checked. `alive`: a key that was deleted still lives.
    """

    changes: tuple[Change, ...]
    failed: Mapping[str, str]
    held: int
    extras: tuple[Extra, ...] = ()
    notes: tuple[str, ...] = ()
    alive: bool = False

    @property
    def refused(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.kind == "team.refused")


@dataclass(frozen=True)
class RoleBook:
    """Which roles idsync has given, by account and place, and what the gateway has refused to give within a day."""

    given: Mapping[tuple[str, str], GivenRole]
    refused: frozenset[str]


class Reconciler:
    """Reads the gateway once a pass; holds no state but what the configuration wants."""

    def __init__(
        self,
        store: Store,
        gateway: Gateway,
        standing: People,
        clock: Clock,
        teams: Sequence[WantedTeam],
        *,
        deletes: bool = True,
        alerts: Alerts | None = None,
        limits: Limits | None = None,
        check_models: bool = True,
    ) -> None:
        """`deletes` is false under `policy.on_departure = "block"`: keys of leavers stay, blocked.

        `limits` guard extra members; `check_models` asks the gateway for its models before one is set.
        """
        self._deletes = deletes
        self._alerts = alerts
        self._limits = limits or Limits()
        self._check_models = check_models
        self._setter = TeamSetter(store, gateway, clock, teams)
        self._remover = Remover(store, gateway, clock, standing.open_job)
        self._store = store
        self._gateway = gateway
        self._standing = standing
        self._clock = clock
        self._teams = teams
        self.between_passes = asyncio.Lock()
        """Held by whoever changes what passes go by: a pass ends with the configuration it began with."""

    @property
    def teams(self) -> Sequence[WantedTeam]:
        """The teams that the configuration names."""
        return self._teams

    def follow(self, teams: Sequence[WantedTeam], limits: Limits, *, deletes: bool) -> None:
        """Go by another configuration; the caller holds `between_passes`."""
        self._teams, self._limits, self._deletes = teams, limits, deletes
        self._setter = TeamSetter(self._store, self._gateway, self._clock, teams)

    async def plan(self) -> Pass:
        """Return what differs, changing nothing.

        Raises:
            GatewayError: the gateway could not be read in full, so there is no plan.
        """
        scape = await self._scape()
        planned = await asyncio.to_thread(self._compare, scape, *await self._plan_teams(scape))
        return await self._with_alerts(await self._looked_closer(planned))

    async def unlinked(self) -> frozenset[str]:
        """Return the SSO ids of gateway accounts that nobody is linked to; none while the gateway cannot be read."""
        try:
            users = await self._gateway.list_users()
        except GatewayError as error:
            log.warning("accounts.not_listed", error=str(error))
            return frozenset()
        db = self._store.reader()
        named = [user for user in users if user.sso_user_id]
        return frozenset(str(u.sso_user_id) for u in named if people.person_of_account(db, u.user_id) is None)

    async def _report(self, question: exposed.Question, scape: Gatewayscape) -> None:
        """Note what people who left may still know, from the same reading of the gateway."""
        rules = self._standing.rules
        told = await asyncio.to_thread(lambda: exposed.answer(self._store.reader(), question, scape, rules))
        await self._write(lambda db: exposed.write(db, told, self._clock.now()))

    async def _plan_teams(self, scape: Gatewayscape) -> tuple[list[Change], list[str]]:
        """Return what to do about teams, without what names a model the gateway does not have, and what to say."""
        db = self._store.reader()
        changes = plan_teams(self._teams, scape.teams, known_teams(db), applied_settings(db))
        return await refuse_unknown(self._gateway, changes) if self._check_models else (changes, [])

    def _compare(self, scape: Gatewayscape, teams: Sequence[Change], notes: Sequence[str]) -> Pass:
        """Compare everybody; in a thread of its own, because a large company takes seconds."""
        db = self._store.reader()
        ids = known_teams(db) | {
            str(c.subject): str(c.target) for c in teams if c.kind in ("team.create", "team.adopt")
        }
        changes = [*teams, *plan_people(self._wanted(db, ids, scape), scape)]
        extras = extra_members.look(db, scape, self._teams, ids, self._house())
        return Pass(tuple(in_order(changes)), {}, len(ledger.holds(db)), tuple(extras), tuple(notes))

    async def _looked_closer(self, planned: Pass) -> Pass:
        """Add the removals of extra members, but for those whose account shows by itself why they stay."""
        extras = await look_closer(self._gateway, planned.extras, self._house())
        gone = [Change("member.remove", one.team, one.label, one.why) for one in extras if one.verdict == "goes"]
        return replace(planned, changes=tuple(in_order([*planned.changes, *gone])), extras=tuple(extras))

    def _house(self) -> extra_members.House:
        rules = self._standing.rules
        return extra_members.House(rules, self._limits, rules.group_loss_delete_after, self._clock.now())

    async def _with_alerts(self, planned: Pass) -> Pass:
        """Add what differs in the gateway's own alerts; one that cannot be asked about them does not stop the rest."""
        if self._alerts is None:
            return planned
        try:
            changes, notes = await self._alerts.plan()
        except GatewayError as error:
            changes, notes = [], [f"{NAME}: {error}"]
        return replace(planned, changes=tuple(in_order([*planned.changes, *changes])), notes=(*planned.notes, *notes))

    async def apply(self) -> Pass:
        """Open a job for everybody who has too much at the gateway, set the teams up, then one for who has too little."""
        async with self.between_passes, turn(self._store, "pass"):
            return await self._apply()

    async def _apply(self) -> Pass:
        question = await asyncio.to_thread(lambda: exposed.ask(self._store.reader(), self._clock.now()))
        scape = await self._scape()
        teams, notes = await self._plan_teams(scape)
        planned = await asyncio.to_thread(self._compare, scape, teams, notes)
        planned = await self._with_alerts(await self._looked_closer(planned))
        losing = [change for change in planned.changes if _takes(change)]
        await self._write(lambda db: self._open_jobs(db, losing, Lane.REVOKE))  # nobody's access waits for a team
        kept, alive = await self._remover.carry_out(planned.extras, self._house())
        failed = await self._setter.carry_out(planned.changes)
        await self._setter.settle(scape.teams, planned.changes)
        gaining = [change for change in planned.changes if not _takes(change)]
        await self._write(lambda db: self._open_jobs(db, gaining, Lane.GRANT))
        failed |= await self._set_alerts(planned.changes)
        await self._report(question, scape)
        await self._write(lambda db: facts.put(db, "pass:reconcile", len(planned.changes), self._clock.now()))
        held = len(ledger.holds(self._store.reader()))
        return replace(planned, failed={**kept, **failed}, held=held, alive=alive)

    async def _set_alerts(self, changes: Iterable[Change]) -> dict[str, str]:
        """Set the gateway's alerts where they differ; return why that failed, under their name."""
        wanted = [change for change in changes if change.kind == "alerts.set"]
        if self._alerts is None or not wanted:
            return {}
        reason = await self._alerts.apply(wanted[0])
        return {} if reason is None else {NAME: reason}

    async def _scape(self) -> Gatewayscape:
        teams = await self._gateway.list_teams()  # alone: after an outage the gate lets one call through to ask
        users, keys = await asyncio.gather(self._gateway.list_users(), self._gateway.list_keys())
        return Gatewayscape.of(users, keys, teams)

    async def _write(self, work: Callable[[Db], T]) -> T:
        return await asyncio.wrap_future(self._store.submit(work))

    # -- people ---------------------------------------------------------------------------------------------------

    def _open_jobs(self, db: Db, changes: Iterable[Change], lane: Lane) -> None:
        """Open a job for everybody concerned, but for leavers whose own is still before its reading back."""
        for person_id in sorted({change.person_id for change in changes if change.person_id is not None}):
            if lane is Lane.GRANT or not _is_under_way(db, person_id):
                self._standing.open_job(db, person_id, lane)

    def _wanted(self, db: Db, ids: Mapping[str, str], scape: Gatewayscape) -> Iterable[WantedPerson]:
        by_address: dict[str, list[GatewayUser]] = {}
        for user in scape.users.values():
            if user.email:
                by_address.setdefault(fold(user.email), []).append(user)
        book = RoleBook(roles.everything(db), frozenset(refusals.standing(db, self._clock.now())))
        for person in people.all_persons(db):
            yield self._wanted_one(db, person, ids, by_address, book)

    def _wanted_one(
        self,
        db: Db,
        person: Person,
        ids: Mapping[str, str],
        by_address: Mapping[str, Sequence[GatewayUser]],
        book: RoleBook,
    ) -> WantedPerson:
        departure = ledger.open_departure(db, person.id)
        if departure is not None:
            return self._departed(db, person, departure, by_address)
        now = self._clock.now()
        grants = people.grants(db, person.id)
        granted = frozenset(ids[grant.team] for grant in grants if grant.state == "granted" and grant.team in ids)
        leaving = {
            ids[grant.team]: (grant.delete_at or now) <= now and not ledger.hold_is_open(db, grant.hold_id)
            for grant in grants
            if grant.state == "leaving" and grant.team in ids
        }
        return WantedPerson(
            person_id=person.id,
            label=person.label,
            account_id=person.account_id,
            standing=Standing.PRESENT if grants or person.role else Standing.UNMANAGED,
            why=", ".join(reason.why for reason in self._standing.access_of(db, person).reasons) or "policy",
            further=tuple(people.further_accounts(db, person.id)),
            teams=granted,
            leaving=leaving,
            role=self._standing.rules.account_role(person.role),
            own_fences=ledger.departure_ids(db, person.id),
            given=book.given.get((person.account_id or "", GATEWAY)),
            team_roles=self._team_roles(person, grants, ids, book),
            organization=self._organization_role(person, book),
        )

    def _team_roles(
        self, person: Person, grants: Sequence[Grant], ids: Mapping[str, str], book: RoleBook
    ) -> dict[str, TeamRole]:
        """Return what somebody is to be in each team, but for an admin's right that the gateway has just refused."""
        return {
            ids[grant.team]: TeamRole(
                grant.role,
                grant.team in self._standing.rules.led,
                (person.account_id or "", team_place(ids[grant.team])) in book.given,
            )
            for grant in grants
            if grant.state == "granted"
            and grant.team in ids
            and not (grant.role == TEAM_ADMIN and refusals.TEAM_ADMIN in book.refused)
        }

    def _organization_role(self, person: Person, book: RoleBook) -> OrganizationRole | None:
        organization = self._gateway.organization_id
        wanted = self._standing.rules.is_org_admin(person.role)
        given = (person.account_id or "", organization_place(organization)) in book.given
        if not organization or not (wanted or given) or (wanted and refusals.ORG_ADMIN in book.refused):
            return None
        return OrganizationRole(organization, wanted, given)

    def _departed(
        self, db: Db, person: Person, departure: Departure, by_address: Mapping[str, Sequence[GatewayUser]]
    ) -> WantedPerson:
        held = departure.state is DepartureState.HELD and departure.destroying_at is None
        delete_now = (
            not ledger.hold_is_open(db, departure.hold_id)
            and departure.kind == "departure"
            and self._deletes
            and departure.delete_at <= self._clock.now()
        )
        return WantedPerson(
            person_id=person.id,
            label=person.label,
            account_id=None if held and not departure.fenced_at else person.account_id,
            standing=Standing.DEPARTED,
            why=f"{departure.evidence.value}: {departure.cause}",
            further=() if held and not departure.fenced_at else tuple(people.further_accounts(db, person.id)),
            delete_now=delete_now,
            strangers=self._strangers(db, person, by_address) if departure.verified_at is not None else (),
            outside=_outside(db, person),
        )

    def _strangers(self, db: Db, person: Person, by_address: Mapping[str, Sequence[GatewayUser]]) -> tuple[str, ...]:
        """Find accounts of nobody we know that carry a leaver's trusted e-mail."""
        emails = addresses_ever(db, person.id, self._standing.rules.trust_email)
        return tuple(
            sorted(
                account.user_id
                for email in emails
                for account in by_address.get(fold(email), ())
                if not account.fenced
                and people.person_of_account(db, account.user_id) is None
                and not facts.get(db, f"unlinked:{person.id}:{account.user_id}")
                and not is_in_use(db, person.id, email)
            )
        )


def _is_under_way(db: Db, person_id: str) -> bool:
    """Tell whether a departure's own job will find whatever is left: to ask anew would only make it begin again."""
    departure, job = ledger.open_departure(db, person_id), jobs.get(db, person_id)
    if departure is None or departure.verified_at is not None or job is None:
        return False
    return job.lane is Lane.REVOKE and job.leased


def _takes(change: Change) -> bool:
    """Tell whether a change takes something from somebody: access, or an admin's right."""
    return change.kind in TAKING or change.fields.get("before") in ADMINS


def _outside(db: Db, person: Person) -> dict[str, dict[str, bool]]:
    """Return the organizations that departures have taken a person's accounts out of, by account."""
    found: dict[str, dict[str, bool]] = {}
    for left in organizations.of_person(db, person.id):
        found.setdefault(left.account_id, {})[left.organization_id] = left.hidden
    return found
