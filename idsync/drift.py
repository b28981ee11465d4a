"""What the gateway has that no source accounts for. Reads only, and needs no more than the gateway.

what is found                                    | kind
-------------------------------------------------+-------------------
an account nobody is linked to                   | account
somebody idsync knows, an admin not by idsync    | admin
somebody idsync knows, in another role than due  | role
a member of a configured team, its admin unasked | team admin
a key of nobody that is no service account's     | key without owner
a key of a user the gateway does not have        | key without owner
somebody on a configured team's roster, unasked  | extra member
a team the configuration does not name           | team
a setting of a team that is not as configured    | team setting
a team of ours that is blocked at the gateway    | team setting
a key somebody who left may know                 | exposed key
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from idsync.engine.admins import MASTER, people_on
from idsync.model import GATEWAY, MANAGED, GatewayKey, GatewayTeam, GivenRole
from idsync.plan import Gatewayscape, WantedTeam, differences
from idsync.policy import ADMIN_ROLES, TEAM_ADMIN, Rules, role_to_set
from idsync.store import exposure, facts, people, roles
from idsync.store.db import Db
from idsync.store.exposure import Exposed
from idsync.words import count, setting


@dataclass(frozen=True)
class Drift:
    """One thing nobody accounts for. `remedy` is what to do about it, if anything is to be done."""

    kind: str
    what: str
    detail: str
    last_used_at: str | None = None
    remedy: str = ""


@dataclass(frozen=True)
class Accounted:
    """What the store knows: linked accounts, ids of teams by alias, who was given which team, keys that are exposed.

    `roles` is what the account of everybody who is here is to be; `leads` who is to be admin of which team, `led` the
    teams of which groups say that; `made` what idsync has made accounts.
    """

    accounts: frozenset[str] = frozenset()
    teams: Mapping[str, str] = field(default_factory=dict)
    given: frozenset[tuple[str, str]] = frozenset()
    exposed: tuple[tuple[str, Exposed], ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    leads: frozenset[tuple[str, str]] = frozenset()
    led: frozenset[str] = frozenset()
    made: Mapping[str, GivenRole] = field(default_factory=dict)


def accounted(db: Db, rules: Rules) -> Accounted:
    """Read what the store knows."""
    persons = people.all_persons(db)
    accounts = {person.id: [person.account_id, *people.further_accounts(db, person.id)] for person in persons}
    labels = {person.id: person.label for person in persons}
    return Accounted(
        frozenset(account for mine in accounts.values() for account in mine if account),
        {alias: str(team_id) for alias, (team_id, _) in facts.under(db, "team:").items()},
        frozenset(
            (account, grant.team)
            for person in persons
            for grant in people.grants(db, person.id)
            for account in accounts[person.id]
            if account
        ),
        tuple((labels.get(key.person_id, key.person_id), key) for key in exposure.listed(db)),
        {
            person.account_id: role
            for person in persons
            if person.account_id and (role := rules.account_role(person.role)) is not None
        },
        frozenset(
            (person.account_id, grant.team)
            for person in persons
            for grant in people.grants(db, person.id)
            if person.account_id and grant.role == TEAM_ADMIN
        ),
        rules.led,
        {account: given for (account, place), given in roles.everything(db).items() if place == GATEWAY},
    )


def drift(scape: Gatewayscape, wanted: Sequence[WantedTeam], known: Accounted) -> list[Drift]:
    """Return everything that is not accounted for, sorted, so that two runs print the same."""
    found = [
        *_accounts(scape, known),
        *_roles(scape, known),
        *_keys(scape),
        *_teams(scape, wanted, known),
        *(
            Drift("exposed key", key.alias or key.name or key.key_id, f"{who} may know it", None, "idsync keys exposed")
            for who, key in known.exposed
        ),
    ]
    return sorted(found, key=lambda one: (one.kind, one.what, one.detail))


def _accounts(scape: Gatewayscape, known: Accounted) -> Iterator[Drift]:
    for user in scape.users.values():
        if user.user_id not in known.accounts and user.user_id != MASTER:
            keys = scape.keys.get(user.user_id, ())
            detail = f"{user.email or 'no e-mail'}, {user.role or 'no role'}, {count(len(keys), 'key')}"
            yield Drift(
                "account",
                user.user_id,
                detail,
                _last(keys),
                f"idsync link USER {user.user_id}, or idsync revoke {user.user_id}",
            )


def _roles(scape: Gatewayscape, known: Accounted) -> Iterator[Drift]:
    """Say who has another role than idsync would give them."""
    for account in known.accounts - {MASTER}:
        user, wanted = scape.users.get(account), known.roles.get(account)
        if user is None or user.fenced or user.role == wanted:
            continue
        given = known.made.get(account)
        who, shown = user.email or "no e-mail", user.role or "no role"
        role = role_to_set(wanted, user.role, given)
        if role is not None:
            yield Drift("role", account, f"{who}, {shown}; policy says {role}", None, "idsync reconcile")
        elif user.role in ADMIN_ROLES:
            remedy = "lower them at the gateway, or name a group of theirs in [[roles]] with allow_admin = true"
            yield Drift("admin", account, f"{who}, {shown}; idsync did not make them that", None, remedy)


def _last(keys: Collection[GatewayKey]) -> str | None:
    return max((key.last_used_at for key in keys if key.last_used_at), default=None)


def _keys(scape: Gatewayscape) -> Iterator[Drift]:
    named = {team.team_id: team.alias or team.team_id for team in scape.teams}
    for key in scape.unowned:
        if key.service_account is None:
            where = f"of team {named.get(key.team_id, key.team_id)}" if key.team_id else "of no team"
            yield Drift("key without owner", key.alias or key.name or key.id, where, key.last_used_at)
    for user_id, keys in scape.keys.items():
        if user_id not in scape.users and user_id != MASTER:
            for key in keys:
                detail = f"of {user_id}, who is no user of the gateway"
                yield Drift("key without owner", key.alias or key.name or key.id, detail, key.last_used_at)


def _teams(scape: Gatewayscape, wanted: Sequence[WantedTeam], known: Accounted) -> Iterator[Drift]:
    ids = {known.teams.get(team.alias, team.team_id): team for team in wanted}
    left_over = set(known.teams.values())
    for team in scape.teams:
        configured = ids.get(team.team_id)
        if configured is None:
            detail = f"{count(people_on(team), 'member')}; not in the configuration"
            remedy = f"idsync teams retire {team.team_id}" if team.team_id in left_over else ""
            yield Drift("team", team.alias or team.team_id, detail, None, remedy)
            continue
        if configured.alias in known.teams or MANAGED in team.metadata:
            yield from _settings(configured, team)
        remedy = "idsync reconcile takes them off" if configured.extra_members == "remove" else ""
        for member in team.members:
            name, leads, alias = member.user_id or member.email or "?", member.role == TEAM_ADMIN, configured.alias
            if member.user_id == MASTER:
                continue
            if (member.user_id, alias) not in known.given:
                detail = f"on team {alias}{' as its admin' if leads else ''}; no source put them there"
                yield Drift("extra member", name, detail, None, remedy)
            elif leads and (member.user_id, alias) not in known.leads:
                todo = "idsync reconcile" if alias in known.led else f"name their group in teams.{alias}.admins"
                yield Drift("team admin", name, f"of team {alias}; no source made them that", None, todo)


def _settings(configured: WantedTeam, team: GatewayTeam) -> Iterator[Drift]:
    left = "configure it so, or change it back at the gateway"
    for name, shown in differences(configured, team).items():
        detail = f"{name} is {setting(shown)} at the gateway, {setting(configured.settings[name])} in the configuration"
        remedy = "idsync reconcile puts it back" if configured.drift == "restore" else left
        yield Drift("team setting", configured.alias, detail, None, remedy)
    if team.blocked:
        detail = "blocked at the gateway: its keys are refused"
        yield Drift("team setting", configured.alias, detail, None, "unblock it at the gateway; idsync does not")
