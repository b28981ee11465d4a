"""What somebody who left may still know although it is not theirs: reported, never ended because they left.

    the key                                                   | why it is reported
    ----------------------------------------------------------+-------------------
    somebody else's or nobody's, made by one of their accounts | created_by
    nobody's, in a team they were in, of a service account     | service_account
    nobody's, in a team they were in                           | shared

Each team and account is counted once, by the first complete listing that began after the person's access had ended.
What shows later is none they know: a rotated key has another id. So a pass asks the store who is to be counted before it
reads the gateway, and answers afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from idsync.clock import epoch_of
from idsync.engine.admins import MASTER
from idsync.engine.desk import Desk
from idsync.gateway.client import Gateway
from idsync.model import DepartureState, GatewayKey, GatewayTeam, Person
from idsync.plan import Gatewayscape
from idsync.policy import Rules
from idsync.store import exposure, facts, journal, ledger, people, teamkeys
from idsync.store.db import Db
from idsync.store.exposure import Exposed, Left, Subject, Why
from idsync.store.ledger import Departure

FRESH = 30.0
"""Seconds for which one reading of all keys serves every departure that looks a second time."""


@dataclass(frozen=True)
class Keyring:
    """One complete listing of keys, as far as people may know keys that are not theirs. `began`: epoch seconds."""

    began: float
    shared: Mapping[str, Sequence[GatewayKey]]
    made: Mapping[str, Sequence[GatewayKey]]

    @classmethod
    def of(cls, keys: Iterable[GatewayKey], began: float) -> Keyring:
        """Sort keys that are nobody's by team, and those made for others by who made them."""
        shared: dict[str, list[GatewayKey]] = {}
        made: dict[str, list[GatewayKey]] = {}
        for key in keys:
            if key.user_id is None and key.team_id is not None:
                shared.setdefault(key.team_id, []).append(key)
            if key.created_by not in (None, MASTER, key.user_id):
                made.setdefault(str(key.created_by), []).append(key)
        return cls(began, shared, made)

    def known_by(self, subject: Subject) -> Sequence[GatewayKey]:
        """Return the keys of a team, or those an account has made for others."""
        kind, name = subject
        return (self.made if kind == "account" else self.shared).get(name, ())


@dataclass(frozen=True)
class Names:
    """What keys carry only the ids of: aliases of teams, which teams want their keys rotated, when idsync made which."""

    teams: Mapping[str, str]
    rotating: frozenset[str]
    made: Mapping[str, float]

    @classmethod
    def of(cls, db: Db, rules: Rules, shown: Iterable[GatewayTeam] = ()) -> Names:
        """Take what the gateway shows; without that, what idsync knows of its own teams."""
        ours = {str(team_id): alias for alias, (team_id, _) in facts.under(db, "team:").items()}
        aliases = {team.team_id: team.alias for team in shown if team.alias is not None}
        rotating = frozenset(team for team, alias in ours.items() if alias in rules.rotating)
        return cls(ours | aliases, rotating, teamkeys.made(db))

    def could_know(self, key: GatewayKey, since: float) -> bool:
        """Tell whether somebody whose access ended then may know a key: not one that idsync has made since."""
        return self.made.get(key.id, 0.0) < since


@dataclass(frozen=True)
class Knower:
    """Somebody whose keys are to be counted. `since` is when access ended; `settled`: nothing comes after this count."""

    person_id: str
    departure_id: str | None
    left_at: float
    since: float
    accounts: frozenset[str]
    subjects: frozenset[Subject]
    settled: bool = False


@dataclass(frozen=True)
class Census:
    """What counting for one person has turned up, by what it was counted by; nothing is written yet."""

    knower: Knower
    began: float
    found: Mapping[Subject, tuple[Exposed, ...]]

    @property
    def keys(self) -> list[Exposed]:
        """Return every key once, of two reasons the surer one."""
        every = sorted((key for keys in self.found.values() for key in keys), key=lambda key: key.why, reverse=True)
        return list({key.key_id: key for key in every}.values())


def count(knower: Knower, ring: Keyring, names: Names, now: float) -> Census:
    """Find what one person may know; their own keys are not it, on whichever of their accounts."""
    found = {
        subject: tuple(
            _exposed(knower, subject, key, names, now)
            for key in ring.known_by(subject)
            if key.user_id not in knower.accounts and names.could_know(key, knower.since)
        )
        for subject in sorted(knower.subjects)
    }
    return Census(knower, ring.began, found)


def _exposed(knower: Knower, subject: Subject, key: GatewayKey, names: Names, now: float) -> Exposed:
    why: Why = "created_by" if subject[0] == "account" else "service_account" if key.service_account else "shared"
    bare = Exposed(
        key_id=key.id,
        person_id=knower.person_id,
        why=why,
        departure_id=knower.departure_id,
        team_id=None,
        team=None,
        owner=None,
        alias=None,
        name=None,
        last_used_at=None,
        spend=None,
        wants="report",
        left_at=knower.left_at,
        noted_at=now,
    )
    return _shown(bare, key, names)


def _shown(known: Exposed, key: GatewayKey, names: Names) -> Exposed:
    """Return what is known of a key as the gateway shows it now. Only keys that are nobody's may be rotated."""
    return replace(
        known,
        team_id=key.team_id,
        team=names.teams.get(key.team_id or ""),
        owner=key.user_id,
        alias=key.alias,
        name=key.name,
        last_used_at=epoch_of(key.last_used_at),
        spend=key.spend,
        wants="rotate" if key.user_id is None and key.team_id in names.rotating else "report",
    )


# -- writing ------------------------------------------------------------------------------------------------------


def note(db: Db, census: Census, now: float, *, actor: str = "engine") -> list[str]:
    """Write down what a census has found, unless it was counted before or the person is back; return the new keys."""
    knower = census.knower
    left = [subject for subject in census.found if _is_still_left(db, knower, subject)]
    fresh = [subject for subject in left if subject not in exposure.counted(db, knower.person_id)]
    new = {key.key_id for subject in fresh for key in census.found[subject] if exposure.put(db, key)}
    for subject in fresh:
        exposure.mark_counted(db, knower.person_id, subject, knower.left_at, census.began)
    if knower.settled and knower.departure_id is not None and _is_open(db, knower.departure_id):
        exposure.mark_counted(db, knower.person_id, ("departure", knower.departure_id), knower.left_at, census.began)
    if new:
        person = people.person(db, knower.person_id)
        detail = {"departure": knower.departure_id, "keys": sorted(new)}
        subject_name = person.label if person is not None else knower.person_id
        journal.append(db, at=now, actor=actor, action="keys.exposed", subject=subject_name, detail=detail)
    return sorted(new)


def _is_still_left(db: Db, knower: Knower, subject: Subject) -> bool:
    if knower.departure_id is not None:
        return _is_open(db, knower.departure_id)
    return exposure.is_left(db, knower.person_id, subject[1], knower.left_at)


def _is_open(db: Db, departure_id: str) -> bool:
    departure = ledger.departure(db, departure_id)
    return departure is not None and departure.closed_at is None


# -- one departure, at its second look ------------------------------------------------------------------------------


async def census(
    desk: Desk, person: Person, departure: Departure, teams: Iterable[str], accounts: Iterable[str]
) -> Census:
    """Find what a leaver may still know: of these teams (the gateway's ids) and these accounts, and of earlier teams.

    Reads all keys once; departures that settle together share that reading. `note` writes it down.

    Raises:
        GatewayError: the keys could not be listed in full.
    """
    knower = _knower_of(desk.db, departure, person, frozenset(teams), frozenset(accounts))
    ring = await _shared_ring(desk, knower.since)
    return count(knower, ring, Names.of(desk.db, desk.rules), desk.clock.now())


def _knower_of(
    db: Db, departure: Departure, person: Person | None, teams: Collection[str], accounts: Collection[str]
) -> Knower:
    """Gather all that is known of where a leaver was, whoever asks."""
    receipt = departure.receipt or {}
    linked = {person.account_id if person is not None else None, departure.account_id}
    own = {*accounts, *receipt.get("accounts", []), *linked, *people.further_accounts(db, departure.person_id)} - {None}
    left = {*teams, *receipt.get("teams", []), *exposure.teams_left(db, departure.person_id)} if own else set()
    subjects: set[Subject] = {*(("account", str(account)) for account in own), *(("team", str(team)) for team in left)}
    ended = (departure.fenced_at, departure.blocked_at, departure.deleted_at, departure.verified_at)
    return Knower(
        person_id=departure.person_id,
        departure_id=departure.id,
        left_at=departure.accepted_at,
        since=min((at for at in ended if at is not None), default=departure.accepted_at),
        accounts=frozenset(str(account) for account in own),
        subjects=frozenset(subjects) - exposure.counted(db, departure.person_id),
        settled=departure.state is DepartureState.SETTLED,
    )


@dataclass(frozen=True)
class _Reading:
    began: float
    task: asyncio.Task[Keyring]

    def serves(self, since: float, now: float) -> bool:
        """Tell whether it began after somebody's access had ended, and is no older than it may be."""
        failed = self.task.done() and (self.task.cancelled() or self.task.exception() is not None)
        return not failed and since <= self.began and now < self.began + FRESH


_readings: WeakKeyDictionary[Gateway, _Reading] = WeakKeyDictionary()
"""The reading of all keys that is under way, or was just made, of each gateway."""


async def _shared_ring(desk: Desk, since: float) -> Keyring:
    """Return one reading of all keys, made for everybody whose access had ended when it began."""
    reading = _readings.get(desk.gateway)
    while reading is not None and not reading.serves(since, desk.clock.now()) and not reading.task.done():
        await asyncio.wait([reading.task])  # never two at a time: whoever waits shares the next one
        reading = _readings.get(desk.gateway)
    if reading is None or not reading.serves(since, desk.clock.now()):
        reading = _readings[desk.gateway] = _begin(desk)
    return await asyncio.shield(reading.task)


def _begin(desk: Desk) -> _Reading:
    """Read all keys, in a context of its own: the calls belong to no single receipt, and are not urgent."""
    began = desk.clock.now()

    async def read() -> Keyring:
        return Keyring.of(await desk.gateway.list_keys(), began)

    loop = asyncio.get_running_loop()
    reading = _Reading(began, loop.create_task(read(), context=Context()))

    def forget() -> None:
        if _readings.get(desk.gateway) is reading:
            del _readings[desk.gateway]

    def ended(task: asyncio.Task[Keyring]) -> None:
        if task.cancelled() or task.exception() is not None:
            forget()
        else:
            loop.call_later(FRESH, forget)

    reading.task.add_done_callback(ended)
    return reading


# -- everybody, in a pass -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """Whom a pass has to count, asked before it reads the gateway; `moved`: teams people left who may be back."""

    began: float
    knowers: tuple[Knower, ...]
    moved: tuple[tuple[Left, frozenset[str]], ...]


@dataclass(frozen=True)
class Answer:
    """What the listing says to that, and of the keys that were noted before."""

    began: float
    censuses: tuple[Census, ...]
    back: tuple[Left, ...]
    changed: tuple[Exposed, ...]
    gone: tuple[str, ...]


def ask(db: Db, now: float) -> Question:
    """Ask the store whose keys are to be counted by the listing that begins after this."""
    knowers = [_knower_of(db, departure, people.person(db, departure.person_id), (), ()) for departure in _due(db)]
    for left in exposure.movers(db):
        accounts = _accounts(db, left.person_id)
        subjects: frozenset[Subject] = frozenset({("team", left.team_id)})
        knowers.append(Knower(left.person_id, None, left.left_at, left.left_at, accounts, subjects))
    return Question(now, tuple(knowers), tuple((left, _accounts(db, left.person_id)) for left in exposure.moved(db)))


def _due(db: Db) -> list[Departure]:
    found = (ledger.departure(db, departure_id) for departure_id in exposure.leavers(db))
    return [departure for departure in found if departure is not None]


def _accounts(db: Db, person_id: str) -> frozenset[str]:
    person = people.person(db, person_id)
    primary = person.account_id if person is not None else None
    return frozenset(filter(None, (primary, *people.further_accounts(db, person_id))))


def answer(db: Db, question: Question, scape: Gatewayscape, rules: Rules) -> Answer:
    """Compare; for a thread of its own, as the comparison of people is."""
    names = Names.of(db, rules, scape.teams)
    ring = Keyring.of(scape.every_key(), question.began)
    rosters = _rosters(question, scape.teams)
    knowers = [_with_rosters(knower, rosters, exposure.counted(db, knower.person_id)) for knower in question.knowers]
    back = [left for left, accounts in question.moved if left.team_id in _teams_of(accounts, rosters)]
    known = exposure.every(db)
    wanted = {key.key_id for key in known}
    shown = {key.id: key for key in scape.every_key() if key.id in wanted}
    fresh = {key: _shown(key, shown[key.key_id], names) for key in known if key.key_id in shown}
    return Answer(
        question.began,
        tuple(count(knower, ring, names, question.began) for knower in knowers),
        tuple(back),
        tuple({now.key_id: now for before, now in fresh.items() if before != now}.values()),
        tuple(sorted(wanted - set(shown))),
    )


def _rosters(question: Question, teams: Iterable[GatewayTeam]) -> dict[str, set[str]]:
    """Return the teams that the accounts in question are in, with one look at every roster."""
    asked = {account for knower in question.knowers for account in knower.accounts}
    asked |= {account for _, accounts in question.moved for account in accounts}
    found: dict[str, set[str]] = {}
    for team in teams:
        for member in team.members:
            if member.user_id in asked:
                found.setdefault(member.user_id, set()).add(team.team_id)
    return found


def _teams_of(accounts: Iterable[str], rosters: Mapping[str, set[str]]) -> set[str]:
    return {team for account in accounts for team in rosters.get(account, ())}


def _with_rosters(knower: Knower, rosters: Mapping[str, set[str]], counted: frozenset[Subject]) -> Knower:
    """Add the teams a leaver is still in: their deletion waits, or is not wanted."""
    if knower.departure_id is None:
        return knower
    still: set[Subject] = {("team", team) for team in _teams_of(knower.accounts, rosters)}
    return replace(knower, subjects=(knower.subjects | still) - counted)


def write(db: Db, told: Answer, now: float) -> None:
    """Write down what a pass has found."""
    for left in told.back:
        if exposure.is_left(db, left.person_id, left.team_id, left.left_at):
            exposure.is_in(db, left.person_id, left.team_id)
    for key_id in told.gone:
        exposure.gone(db, key_id, told.began)
    for key in told.changed:
        exposure.refresh(db, key)
    for found in told.censuses:
        note(db, found, now, actor="reconcile")
