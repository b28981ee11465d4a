"""What the gateway has that no source accounts for. Reads only, and needs no more than the gateway.

what is found                                    | kind
-------------------------------------------------+-------------------
an account nobody is linked to                   | account
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

from idsync.engine.admins import MASTER
from idsync.model import MANAGED, GatewayKey, GatewayTeam
from idsync.plan import Gatewayscape, WantedTeam, differences
from idsync.store import exposure, facts, people
from idsync.store.db import Db
from idsync.store.exposure import Exposed


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
    """What the store knows: linked accounts, ids of teams by alias, who was given which team, keys that are exposed."""

    accounts: frozenset[str] = frozenset()
    teams: Mapping[str, str] = field(default_factory=dict)
    given: frozenset[tuple[str, str]] = frozenset()
    exposed: tuple[tuple[str, Exposed], ...] = ()


def accounted(db: Db) -> Accounted:
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
    )


def drift(scape: Gatewayscape, wanted: Sequence[WantedTeam], known: Accounted) -> list[Drift]:
    """Return everything that is not accounted for, sorted, so that two runs print the same."""
    found = [
        *_accounts(scape, known),
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
            detail = f"{user.email or 'no e-mail'}, {user.role or 'no role'}, {len(keys)} key(s)"
            yield Drift(
                "account",
                user.user_id,
                detail,
                _last(keys),
                f"idsync link USER {user.user_id}, or idsync revoke {user.user_id}",
            )


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
            detail = f"{len(team.members)} member(s); not in the configuration"
            remedy = f"idsync teams retire {team.team_id}" if team.team_id in left_over else ""
            yield Drift("team", team.alias or team.team_id, detail, None, remedy)
            continue
        if configured.alias in known.teams or MANAGED in team.metadata:
            yield from _settings(configured, team)
        remedy = "idsync reconcile takes them off" if configured.extra_members == "remove" else ""
        for member in team.members:
            if member.user_id != MASTER and (member.user_id, configured.alias) not in known.given:
                detail = f"on team {configured.alias}; no source put them there"
                yield Drift("extra member", member.user_id or member.email or "?", detail, None, remedy)


def _settings(configured: WantedTeam, team: GatewayTeam) -> Iterator[Drift]:
    left = "configure it so, or change it back at the gateway"
    for name, shown in differences(configured, team).items():
        detail = f"{name} is {shown!r}, and {configured.settings[name]!r} in the configuration"
        remedy = "idsync reconcile puts it back" if configured.drift == "restore" else left
        yield Drift("team setting", configured.alias, detail, None, remedy)
    if team.blocked:
        detail = "blocked at the gateway: its keys are refused"
        yield Drift("team setting", configured.alias, detail, None, "unblock it at the gateway; idsync does not")
