"""People on the roster of a configured team whom no source put there.

who is on the roster                                       | extra_members = "remove"
-----------------------------------------------------------+------------------------------------------------------
the admin key's own user                                   | is no extra member
an entry without user_id, an administrator of the gateway  | stays, told
somebody protected                                         | stays, told
somebody idsync is at work for, or who is departing        | waits: that work comes first
an account that may be that of somebody a source knows     | stays, told: `idsync link` settles it
anybody, while no group is bound to the team               | stays, told: nobody can be given the team yet
seen for less than policy.group_loss_delete_after          | waits: their group may be about to arrive
anybody, while idsync is frozen                            | waits
more than the guard allows                                 | a hold
anybody else                                               | their keys of the team end, then the membership

With "report" they are counted and left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from idsync.engine.admins import MASTER
from idsync.model import GatewayTeam, Person, TeamMember
from idsync.plan import FEW, Gatewayscape, Limits, WantedTeam
from idsync.policy import ADMIN_ROLES, Rules, protection
from idsync.standing import shield_of
from idsync.store import canary, directory, facts, jobs, ledger, people
from idsync.store.db import Db

SEEN = "extra:"
"""Facts of that prefix: since when somebody is seen as an extra member, and whether they are being taken off."""
REMOVED = "removed:"
"""Facts of that prefix: who was taken off which team in the last 24 hours."""
WINDOW = 86400.0
"""Seconds over which removals are counted, and for which an approval counts."""
Verdict = Literal["reported", "stays", "waits", "held", "goes"]


@dataclass(frozen=True)
class Extra:
    """Somebody on a roster whom no source put there. `why` says why they do not go, or why they do."""

    team: str
    team_id: str
    user_id: str | None
    label: str
    verdict: Verdict = "reported"
    why: str = ""

    @property
    def fact(self) -> str:
        """The name under which the store keeps what is known of them."""
        return f"{self.team}\n{self.user_id}"


@dataclass(frozen=True)
class House:
    """What decides about extra members. `wait` is in seconds, `now` in epoch seconds."""

    rules: Rules
    limits: Limits
    wait: float
    now: float


def look(db: Db, scape: Gatewayscape, teams: Iterable[WantedTeam], ids: Mapping[str, str], house: House) -> list[Extra]:
    """Return every extra member of the teams that are ours, sorted, each with what becomes of them."""
    given = _given(db, ids)
    shown = {team.team_id: team for team in scape.teams}
    found: list[Extra] = []
    for team in sorted(teams, key=lambda team: team.alias):
        roster = shown.get(ids.get(team.alias, ""))
        if roster is None:
            continue
        extras = list(_strangers(db, team.alias, roster, given))
        if team.extra_members == "remove":
            judge = _Judge(db, scape, house, team.alias)
            extras = [replace(extra, **judge.verdict(extra)) for extra in extras]
            extras += _begun(db, team.alias, roster, given, {extra.user_id for extra in extras})
        found += extras
    return _guarded(db, found, house, {alias: len(shown[i].members) for alias, i in ids.items() if i in shown})


def still_goes(db: Db, extra: Extra, house: House) -> bool:
    """Look once more, right before somebody is taken off: what idsync knows may have changed since the listing."""
    person = people.person_of_account(db, extra.user_id or "")
    if facts.get(db, facts.FROZEN):
        return False
    if person is None:
        return protection([extra.user_id, extra.label], house.rules, house.now) is None
    given = any(grant.team == extra.team for grant in people.grants(db, person.id))
    return not given and _work(db, person) is None and shield_of(db, person, house.rules, house.now) is None


def _given(db: Db, ids: Mapping[str, str]) -> frozenset[tuple[str | None, str]]:
    return frozenset(
        (person.account_id, grant.team)
        for person in people.all_persons(db)
        for grant in people.grants(db, person.id)
        if grant.team in ids
    )


def _strangers(db: Db, alias: str, roster: GatewayTeam, given: frozenset[tuple[str | None, str]]) -> Iterator[Extra]:
    for member in roster.members:
        if member.user_id != MASTER and (member.user_id, alias) not in given and not _by_further(db, alias, member):
            label = member.email or member.user_id or "?"
            yield Extra(alias, roster.team_id, member.user_id, label)


def _by_further(db: Db, alias: str, member: TeamMember) -> bool:
    """Tell whether the entry is a further account of somebody who has the team."""
    owner = people.person_of_account(db, member.user_id) if member.user_id else None
    return owner is not None and any(grant.team == alias for grant in people.grants(db, owner.id))


def _begun(
    db: Db, alias: str, roster: GatewayTeam, given: frozenset[tuple[str | None, str]], listed: set[str | None]
) -> Iterator[Extra]:
    """Yield whom a run that was broken off has begun to take off: they may be off the roster and have a key left."""
    for noted, _ in facts.under(db, SEEN).values():
        account = noted["account"]
        if noted["going"] and noted["team"] == alias and account not in listed and (account, alias) not in given:
            yield Extra(alias, roster.team_id, account, noted["label"], "goes", "begun by an earlier run")


def _work(db: Db, person: Person) -> str | None:
    if ledger.open_departure(db, person.id) is not None:
        return "their departure takes them off"
    return "idsync is at work for them" if jobs.get(db, person.id) is not None else None


class _Judge:
    """Says what becomes of one extra member of one team, the guard aside."""

    def __init__(self, db: Db, scape: Gatewayscape, house: House, alias: str) -> None:
        self._db = db
        self._scape = scape
        self._house = house
        self._alias = alias
        self._bound = any((one.kind, one.target) == ("team", alias) for one in people.bindings(db))
        self._canaries = canary.persons(db)

    def verdict(self, extra: Extra) -> dict[str, Any]:
        person = people.person_of_account(self._db, extra.user_id) if extra.user_id else None
        if why := self._stays(extra, person):
            return {"verdict": "stays", "why": why}
        if why := self._waits(extra, person):
            return {"verdict": "waits", "why": why}
        return {"verdict": "goes", "why": "no source put them there"}

    def _stays(self, extra: Extra, person: Person | None) -> str | None:
        if extra.user_id is None:
            return "the roster has no user_id for them; take them off at the gateway"
        user = self._scape.users.get(extra.user_id)
        if user is not None and user.role in ADMIN_ROLES:
            return "an administrator of the gateway"
        names = [extra.user_id, extra.label, user.email if user else None]
        shield = protection(names, self._house.rules, self._house.now)
        if shield is None and person is not None:
            shield = shield_of(self._db, person, self._house.rules, self._house.now)
        if shield is not None:
            return f"protected: {shield}"
        if person is not None and person.id in self._canaries:
            return "the canary of a drill"
        if not self._bound:
            return "no group is bound to the team yet: idsync groups list"
        return self._maybe_known(extra) if person is None else None

    def _maybe_known(self, extra: Extra) -> str | None:
        """Say whose account it may be, where nobody is linked to it: what comes for that person comes for it."""
        user = self._scape.users.get(extra.user_id or "")
        emails = {email for email in (extra.label, user.email if user else None) if email and "@" in email}
        records = [record for email in sorted(emails) for record in directory.find_users_any(self._db, email)]
        if user is not None and user.sso_user_id:
            records += directory.users_by_external_any(self._db, sorted(self._house.rules.sources), user.sso_user_id)
        known = next((record.user_name for record in records if record.deleted_at is None), None)
        return None if known is None else f"may be the account of {known}: idsync link {known} {extra.user_id}"

    def _waits(self, extra: Extra, person: Person | None) -> str | None:
        if person is not None and (work := _work(self._db, person)):
            return work
        if facts.get(self._db, facts.FROZEN):
            return "frozen: idsync thaw"
        noted = facts.get(self._db, SEEN + extra.fact)
        since = noted["since"] if noted else self._house.now
        left = since + self._house.wait - self._house.now
        return f"in {left:.0f} s, if no source puts them there until then" if left > 0 else None


# -- the guard ----------------------------------------------------------------------------------------------------


def kind_of(alias: str) -> str:
    """Return the kind of the holds that keep extra members of a team."""
    return f"extra:{alias}"


def _guarded(db: Db, extras: Sequence[Extra], house: House, sizes: Mapping[str, int]) -> list[Extra]:
    """Hold what is more than the guard allows within 24 hours, what was approved aside; who was rejected stays.

    An approval counts for one removal: whoever is put back afterwards asks anew.
    """
    gone = removed_since(db, house.now - WINDOW)
    decided = {alias: ledger.decisions(db, kind_of(alias)) for alias in {extra.team for extra in extras}}
    used = set(gone)
    judged = [
        extra if (extra.team, extra.user_id) in used else _decided(extra, decided[extra.team], house.now)
        for extra in extras
    ]
    asking = {extra for extra in judged if extra.verdict == "goes" and not extra.why.startswith(FREE)}
    reasons = {alias: _over(alias, asking, gone, house.limits, sizes) for alias in {extra.team for extra in asking}}
    return [
        replace(extra, verdict="held", why=reason) if extra in asking and (reason := reasons[extra.team]) else extra
        for extra in judged
    ]


FREE = ("approved", "begun")
"""How the reasons begin that no guard holds."""


def _decided(extra: Extra, decided: Mapping[str, tuple[str, float]], now: float) -> Extra:
    state, at = decided.get(extra.user_id or "", ("", 0.0))
    if extra.verdict not in ("goes", "waits"):
        return extra
    if state == "rejected":
        return replace(extra, verdict="stays", why="somebody has rejected their removal")
    if state == "approved" and extra.verdict == "goes" and at > now - WINDOW:
        return replace(extra, why="approved by hand")
    return extra


def _over(
    alias: str, asking: Iterable[Extra], gone: Sequence[tuple[str, str]], limits: Limits, sizes: Mapping[str, int]
) -> str | None:
    everybody = {(extra.team, extra.user_id) for extra in asking} | set(gone)
    here = {user for team, user in everybody if team == alias}
    size = sizes.get(alias, 0) + sum(team == alias for team, _ in gone)
    if len(everybody) > limits.max_departures:
        return f"{len(everybody)} extra members would leave teams within 24 hours"
    if len(here) > FEW and len(here) > limits.max_fraction * size:
        return f"{len(here)} of {size} people on team {alias} would leave it as extra members within 24 hours"
    return None


def removed_since(db: Db, since: float) -> list[tuple[str, str]]:
    """Return who was taken off which team since then."""
    noted = facts.under(db, REMOVED).values()
    return sorted((value["team"], value["account"]) for value, at in noted if at > since)
