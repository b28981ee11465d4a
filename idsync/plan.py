"""What differs between what should be and what the gateway shows: sorted changes, each with its reason. Pure.

the team at the gateway                   | adopt = false                     | adopt = true
------------------------------------------+-----------------------------------+----------------------------------
none of that id or alias                  | created                           | created
one, made or adopted by idsync before     | its differences are updated       | its differences are updated
one made or adopted, and another id = now | refused: take its id back         | refused: take its id back
one of that id or alias, not ours         | refused, with the setting to make | adopted, its differences updated
two of that alias                         | refused: name one with id = "..." | refused: name one with id = "..."

a setting of ours differs, and the configured value is  | drift = "restore" | drift = "report"
--------------------------------------------------------+-------------------+-----------------------------
another than the one idsync has set or seen there       | updated           | updated: the configuration was changed
the one idsync has set or seen there                    | updated           | shown: somebody has changed it there
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any, Literal

from idsync.model import MANAGED, GatewayKey, GatewayTeam, GatewayUser, GivenRole, Standing
from idsync.policy import ORG_ADMIN, role_to_set, team_role_to_set
from idsync.words import setting

METADATA = "metadata."
"""What the name of a team's setting begins with when it is a key of the metadata."""
RANK = {
    kind: rank
    for rank, kind in enumerate(
        (
            "person.fence",
            "key.block",
            "key.delete",
            "team.leave",
            "organization.leave",
            "member.remove",
            "team.refused",
            "team.create",
            "team.adopt",
            "team.update",
            "team.drift",
            "alerts.set",
            "account.create",
            "account.lift",
            "role.set",
            "team.join",
            "team.role",
            "organization.role",
            "key.refused",
            "key.end",
            "key.rotate",
            "key.adopt",
            "key.make",
            "key.update",
        )
    )
}
"""Revocations first; two runs print the same order."""


@dataclass(frozen=True)
class Limits:
    """What polling may take from people within 24 hours before it waits for a person (`[guard]`)."""

    max_departures: int = 10
    max_fraction: float = 0.10
    max_team_loss: float = 0.50


@dataclass(frozen=True)
class Toll:
    """What one polled loss would take: all access of a person, or these teams."""

    person_id: str
    departs: bool
    teams: frozenset[str]


FEW = 2
"""Departures that are never too large a part of the people."""
TEAM_FLOOR = 10
"""People from which on the loss of a large part of a team is held."""


def over_limits(
    tolls: Sequence[Toll], limits: Limits, *, had: int, taken: Mapping[str, Collection[str]], sizes: Mapping[str, int]
) -> dict[str, str]:
    """Return the persons whose losses wait for somebody to approve them, each with the reason.

    `had` people have access through the source now; `taken` is who lost what through it in the last 24 hours (persons by
    team, "" for departures); `sizes` is how many people have each team now.
    """
    held: dict[str, str] = {}
    gone = set(taken.get("", ()))
    leaving = {toll.person_id for toll in tolls if toll.departs}
    count, base = len(gone | leaving), had + len(gone - leaving)
    if leaving and (count > limits.max_departures or (count > FEW and count > limits.max_fraction * base)):
        reason = f"{count} of {base} people with access would leave within 24 hours"
        held |= dict.fromkeys(leaving, reason)
    for team in sorted({team for toll in tolls for team in toll.teams}):
        losing = {toll.person_id for toll in tolls if team in toll.teams}
        before = set(taken.get(team, ())) - losing
        size, lost = sizes.get(team, 0) + len(before), len(before | losing)
        if size >= TEAM_FLOOR and lost >= limits.max_team_loss * size:
            for person in losing - held.keys():
                held[person] = f"{lost} of {size} people would lose team {team} within 24 hours"
    return held


@dataclass(frozen=True)
class Change:
    """One difference. `subject` is the person or team, `target` what it is about, `why` a sentence."""

    kind: str
    subject: str
    target: str
    why: str
    person_id: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WantedTeam:
    """A team as the configuration describes it. None: idsync leaves that setting alone."""

    alias: str
    team_id: str
    adopt: bool
    max_budget: float | None = None
    soft_budget: float | None = None
    budget_duration: str | None = None
    models: tuple[str, ...] | None = None
    tpm_limit: int | None = None
    rpm_limit: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    drift: Literal["restore", "report"] = "restore"
    extra_members: Literal["report", "remove"] = "report"

    @property
    def settings(self) -> dict[str, Any]:
        """Return what is to be set, by name; a key of the metadata is `metadata.KEY`."""
        every = {
            "max_budget": self.max_budget,
            "soft_budget": self.soft_budget,
            "budget_duration": self.budget_duration,
            "models": None if self.models is None else list(self.models),
            "tpm_limit": self.tpm_limit,
            "rpm_limit": self.rpm_limit,
        }
        every |= {f"{METADATA}{key}": value for key, value in self.metadata.items()}
        return {name: value for name, value in every.items() if value is not None}


@dataclass(frozen=True)
class TeamRole:
    """What somebody is to be in a team. `led`: groups say who is its admin; `given`: idsync made them one."""

    role: str
    led: bool
    given: bool


@dataclass(frozen=True)
class OrganizationRole:
    """Whether somebody is to be admin of the organization, and whether idsync has made them one."""

    organization_id: str
    admin: bool
    given: bool


@dataclass(frozen=True)
class WantedPerson:
    """A person as policy and the ledger have them. `teams`, `leaving` and `team_roles` are by gateway team id.

    `role` is that of the account, and `given` what idsync has made it beyond a user's.

    `strangers` are accounts linked to nobody that carry a departed person's trusted e-mail: made after they left.
    `outside` are the organizations that a departure has taken an account out of, and whether the gateway had stopped
    to show it then.
    """

    person_id: str
    label: str
    account_id: str | None
    standing: Standing
    why: str
    further: tuple[str, ...] = ()
    teams: frozenset[str] = frozenset()
    leaving: Mapping[str, bool] = field(default_factory=dict)
    role: str | None = None
    given: GivenRole | None = None
    team_roles: Mapping[str, TeamRole] = field(default_factory=dict)
    organization: OrganizationRole | None = None
    delete_now: bool = False
    own_fences: frozenset[str] = frozenset()
    strangers: tuple[str, ...] = ()
    outside: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)


@dataclass(frozen=True)
class Gatewayscape:
    """Everything the gateway shows, read in one pass."""

    users: Mapping[str, GatewayUser]
    keys: Mapping[str, Sequence[GatewayKey]]
    teams: Sequence[GatewayTeam]
    unowned: Sequence[GatewayKey] = ()

    @classmethod
    def of(cls, users: Iterable[GatewayUser], keys: Iterable[GatewayKey], teams: Iterable[GatewayTeam]) -> Gatewayscape:
        by_user: dict[str, list[GatewayKey]] = {}
        unowned: list[GatewayKey] = []
        for key in keys:
            (unowned if key.user_id is None else by_user.setdefault(key.user_id, [])).append(key)
        return cls({user.user_id: user for user in users}, by_user, tuple(teams), tuple(unowned))

    @cached_property
    def by_id(self) -> Mapping[str, GatewayTeam]:
        return {team.team_id: team for team in self.teams}

    def every_key(self) -> Iterator[GatewayKey]:
        """Yield all keys, those of nobody too."""
        return chain(self.unowned, chain.from_iterable(self.keys.values()))


def in_order(changes: Iterable[Change]) -> list[Change]:
    return sorted(changes, key=lambda change: (RANK[change.kind], change.subject, change.target))


def checksum(changes: Sequence[Change], lost: Sequence[str] = ()) -> str:
    """Return the fingerprint of a plan; two runs that would do the same have the same. `lost` is what polls would take."""
    lines = [f"{change.kind}|{change.subject}|{change.target}|{sorted(change.fields.items())}" for change in changes]
    return hashlib.sha256("\n".join([*lines, *lost]).encode()).hexdigest()[:16]


# -- teams --------------------------------------------------------------------------------------------------------


Applied = Mapping[str, Mapping[str, Any]]
"""By alias, the settings of a team as idsync has last set or seen them at the gateway."""


def plan_teams(
    wanted: Iterable[WantedTeam], shown: Sequence[GatewayTeam], known: Mapping[str, str], applied: Applied | None = None
) -> list[Change]:
    """Return what to do about teams. `known` maps aliases to the ids idsync has made or adopted."""
    return in_order(
        change for team in wanted for change in _plan_team(team, shown, known, (applied or {}).get(team.alias, {}))
    )


def _plan_team(
    team: WantedTeam, shown: Sequence[GatewayTeam], known: Mapping[str, str], applied: Mapping[str, Any]
) -> list[Change]:
    ours = ours_among(team, shown, known)
    if ours is not None and team.team_id not in (team.alias, ours.team_id):
        why = f"team {ours.team_id} is the one of this alias; take its id, or give {team.team_id} another alias"
        return [Change("team.refused", team.alias, ours.team_id, why)]
    if ours is not None:
        return _update(team, ours, applied if team.drift == "report" else {})
    same_id = [found for found in shown if found.team_id == team.team_id]
    candidates = same_id or [found for found in shown if found.alias == team.alias]
    if not candidates:
        fields = {"team_id": team.team_id, **team.settings}
        why = "; ".join(
            ["the configuration names it", *(f"{name}: {setting(value)}" for name, value in team.settings.items())]
        )
        return [Change("team.create", team.alias, team.team_id, why, fields=fields)]
    if len(candidates) > 1:
        ids = ", ".join(sorted(found.team_id for found in candidates))
        why = f'the gateway has {len(candidates)} teams of this alias ({ids}); name one with id = "..."'
        return [Change("team.refused", team.alias, ids, why)]
    return _take_over(team, candidates[0])


def ours_among(team: WantedTeam, shown: Iterable[GatewayTeam], known: Mapping[str, str]) -> GatewayTeam | None:
    """Return the team that idsync has made or adopted under this alias, where the gateway shows it."""
    return next((found for found in shown if found.team_id == known.get(team.alias)), None)


def _take_over(team: WantedTeam, found: GatewayTeam) -> list[Change]:
    fields = {"team_id": found.team_id}
    if MANAGED in found.metadata:
        made = Change("team.adopt", team.alias, found.team_id, "idsync made it earlier", fields=fields)
        return [made, *_update(team, found, {})]
    if not team.adopt:
        why = f"team {found.team_id} is there already and not ours; set adopt = true to take it over"
        return [Change("team.refused", team.alias, found.team_id, why)]
    adopted = Change("team.adopt", team.alias, found.team_id, "adopt = true", fields=fields)
    return [adopted, *_update(team, found, {})]


def _update(team: WantedTeam, found: GatewayTeam, applied: Mapping[str, Any]) -> list[Change]:
    """Return the update of what differs; what was `applied` as it is configured was changed by somebody else."""
    differing = differences(team, found)
    theirs = {name for name in differing if name in applied and _same(team.settings[name], applied[name])}
    changes = []
    for kind, names, between in (
        ("team.update", differing.keys() - theirs, "->"),
        ("team.drift", theirs, "there, here"),
    ):
        if names:
            told = (
                f"{name}: {setting(differing[name])} {between} {setting(team.settings[name])}" for name in sorted(names)
            )
            why = "; ".join(told)
            fields = {name: value for name, value in team.settings.items() if name in names}
            changes.append(Change(kind, team.alias, found.team_id, why, fields=fields))
    return changes


def differences(team: WantedTeam, found: GatewayTeam) -> dict[str, Any]:
    """Return, by name, what the gateway shows of each setting that is configured otherwise."""
    shown = {name: _shown(found, name) for name in team.settings if _shows(found, name)}
    return {name: value for name, value in shown.items() if not _same(team.settings[name], value)}


def agreed(team: WantedTeam, found: GatewayTeam) -> dict[str, Any]:
    """Return the settings of which the gateway shows what is configured."""
    differing = differences(team, found)
    return {name: v for name, v in team.settings.items() if name not in differing and _shows(found, name)}


def _shows(found: GatewayTeam, name: str) -> bool:
    return found.shows_metadata or not name.startswith(METADATA)


def _shown(found: GatewayTeam, name: str) -> Any:
    if name.startswith(METADATA):
        return found.metadata.get(name.removeprefix(METADATA))
    value = getattr(found, name)
    return list(value) if name == "models" else value


def _same(wanted: Any, shown: Any) -> bool:
    """Compare two values of a setting; the order of a list of names means nothing."""
    if isinstance(wanted, list) and isinstance(shown, list):
        return sorted(map(repr, wanted)) == sorted(map(repr, shown))
    if isinstance(wanted, bool) or isinstance(shown, bool):
        return wanted is shown
    return bool(wanted == shown)


# -- people -------------------------------------------------------------------------------------------------------


def plan_people(wanted: Iterable[WantedPerson], scape: Gatewayscape) -> list[Change]:
    """Return what the gateway shows otherwise than it should be, for people idsync knows."""
    return in_order(change for person in wanted for change in _plan_person(person, scape))


def _plan_person(person: WantedPerson, scape: Gatewayscape) -> list[Change]:
    if person.standing in (Standing.DEPARTED, Standing.SUSPENDED):
        return _plan_leaver(person, scape)
    if person.standing is Standing.PRESENT:
        return _plan_member(person, scape)
    return []


def _plan_leaver(person: WantedPerson, scape: Gatewayscape) -> list[Change]:
    changes = [_about(person, "person.fence", account) for account in person.strangers]
    for account in _accounts(person):
        user = scape.users.get(account)
        if user is not None and not user.fenced:
            changes.append(_about(person, "person.fence", account))
        changes += _end_keys(person, scape.keys.get(account, ()), delete=person.delete_now)
        if person.delete_now:
            changes += [_about(person, "team.leave", team) for team in _teams_with(account, scape)]
            changes += [_about(person, "organization.leave", name) for name in _back_inside(person, account, scape)]
    return changes


def _back_inside(person: WantedPerson, account: str, scape: Gatewayscape) -> list[str]:
    """Return the organizations that an account is in again after a departure has taken it out."""
    user = scape.users.get(account)
    if user is None:
        return []
    shown = {place.organization_id for place in user.organizations}
    return sorted(name for name, hidden in person.outside.get(account, {}).items() if hidden or name in shown)


def _accounts(person: WantedPerson) -> tuple[str, ...]:
    return (person.account_id, *person.further) if person.account_id is not None else person.further


def _end_keys(person: WantedPerson, keys: Iterable[GatewayKey], *, delete: bool) -> list[Change]:
    blocks = [_about(person, "key.block", _key_name(key)) for key in keys if not key.blocked]
    return blocks + ([_about(person, "key.delete", _key_name(key)) for key in keys] if delete else [])


def _plan_member(person: WantedPerson, scape: Gatewayscape) -> list[Change]:
    user = scape.users.get(person.account_id) if person.account_id else None
    if user is None:
        if not person.teams and person.role is None:
            return []
        made = _about(person, "account.create", person.account_id or person.person_id)
        return [made, *_joins(person, person.teams)]
    changes = []
    if user.fenced and user.fence_tag in person.own_fences:
        changes.append(_about(person, "account.lift", user.user_id))
    inside = set(_teams_with(user.user_id, scape))
    changes += _joins(person, person.teams - inside)
    changes += _plan_roles(person, user, scape)
    for account in _accounts(person):
        changes += _plan_leaving(person, account, scape)
    return changes


def _joins(person: WantedPerson, teams: frozenset[str]) -> list[Change]:
    """Join teams; an admin of one says so."""
    roles = {team: person.team_roles[team].role for team in teams if team in person.team_roles}
    return [
        replace(_about(person, "team.join", team), fields={"role": "admin"} if roles.get(team) == "admin" else {})
        for team in sorted(teams)
    ]


def _plan_roles(person: WantedPerson, user: GatewayUser, scape: Gatewayscape) -> list[Change]:
    role = role_to_set(person.role, user.role, person.given)
    changes = [_role(person, "role.set", role, user.role, role)] if role is not None else []
    for team_id, wanted in person.team_roles.items():
        shown = scape.by_id[team_id].role_of(user.user_id) if team_id in scape.by_id else None
        in_team = team_role_to_set(wanted.role, shown, led=wanted.led, given=wanted.given)
        if in_team is not None:
            changes.append(_role(person, "team.role", team_id, shown, in_team))
    place = person.organization
    if place is not None and _differs(place, user):
        before, after = (None, "org_admin") if place.admin else ("org_admin", person.role or "member")
        changes.append(_role(person, "organization.role", place.organization_id, before, after))
    return changes


def _differs(place: OrganizationRole, user: GatewayUser) -> bool:
    """Tell whether somebody's place in the organization is to change; where listings hide it, by what was given."""
    shown = [entry.role for entry in user.organizations if entry.organization_id == place.organization_id]
    is_admin = ORG_ADMIN in shown if shown else place.given
    return is_admin != place.admin and (place.admin or place.given)


def _role(person: WantedPerson, kind: str, target: str, before: str | None, after: str) -> Change:
    fields = {"before": before, "after": after}
    return Change(kind, person.label, target, f"{before or 'none'} -> {after}: {person.why}", person.person_id, fields)


def _plan_leaving(person: WantedPerson, account: str, scape: Gatewayscape) -> list[Change]:
    """End one account's keys and memberships of the teams the person is losing."""
    changes = []
    inside = _teams_with(account, scape)
    for team, due in sorted(person.leaving.items()):
        keys = [key for key in scape.keys.get(account, ()) if key.team_id == team]
        changes += _end_keys(person, keys, delete=due)
        changes += [_about(person, "team.leave", team)] if due and team in inside else []
    return changes


def _teams_with(account: str, scape: Gatewayscape) -> list[str]:
    return [team.team_id for team in scape.teams if team.has_member(account)]


def _about(person: WantedPerson, kind: str, target: str) -> Change:
    return Change(kind, person.label, target, person.why, person_id=person.person_id)


def _key_name(key: GatewayKey) -> str:
    return key.alias or key.name or key.id
