"""Every team of the gateway and of the configuration, and where each stands. Pure.

the team                                       | state
-----------------------------------------------+-----------
configured, not at the gateway yet             | missing
configured, made by idsync                     | made
configured, taken over                         | adopted
configured, the next pass takes it over        | to adopt
configured, not to be touched as it is         | refused
made or taken over, not configured any more    | left over
its retirement was begun and is not done       | retiring
anybody else's                                 | not ours
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from idsync.engine.admins import people_on
from idsync.model import MANAGED, GatewayTeam
from idsync.plan import WantedTeam, differences, ours_among, plan_teams


@dataclass(frozen=True)
class TeamRow:
    """One team. `members` leaves the gateway's own admin out, who is on every team their key has made. `differs` names settings that are not as configured; `why` says what keeps a refused one."""

    team: str
    team_id: str | None
    state: str
    members: int
    spend: float | None
    max_budget: float | None
    budget_duration: str | None
    models: tuple[str, ...]
    blocked: bool
    differs: tuple[str, ...] = ()
    why: str = ""


def rows(
    shown: Sequence[GatewayTeam], wanted: Sequence[WantedTeam], known: Mapping[str, str], retiring: Mapping[str, str]
) -> list[TeamRow]:
    """Return all teams by name. `known` are ids by alias, `retiring` the names of teams being retired, by id."""
    found = [row for team in wanted for row in _configured(team, shown, known)]
    taken = {row.team_id for row in found}
    left_over = set(known.values())
    for team in shown:
        if team.team_id not in taken:
            state = "left over" if team.team_id in left_over else "not ours"
            found.append(_row(team, team.alias or team.team_id, "retiring" if team.team_id in retiring else state))
    gone = retiring.keys() - {team.team_id for team in shown}
    found += [TeamRow(retiring[i], i, "retiring", 0, None, None, None, (), blocked=True) for i in gone]
    return sorted(found, key=lambda row: (row.team, row.team_id or ""))


def _configured(team: WantedTeam, shown: Sequence[GatewayTeam], known: Mapping[str, str]) -> Iterator[TeamRow]:
    ours = ours_among(team, shown, known)
    refused = next((one for one in plan_teams([team], shown, known) if one.kind == "team.refused"), None)
    if ours is not None and refused is not None:
        yield _row(ours, team.alias, "refused", (), refused.why)
        return
    if ours is not None:
        state = "made" if MANAGED in ours.metadata else "adopted"
        yield _row(ours, team.alias, state, tuple(sorted(differences(team, ours))))
        return
    change = plan_teams([team], shown, known)[0]
    there = next((found for found in shown if found.team_id == change.target), None)
    if there is not None:
        adopts = change.kind == "team.adopt"
        differs = tuple(sorted(differences(team, there))) if adopts else ()
        yield _row(there, team.alias, "to adopt" if adopts else "refused", differs, "" if adopts else change.why)
        return
    yield TeamRow(
        team.alias,
        None,
        "refused" if refused is not None else "missing",
        0,
        None,
        team.max_budget,
        team.budget_duration,
        team.models or (),
        blocked=False,
        why=refused.why if refused is not None else "",
    )


def _row(team: GatewayTeam, alias: str, state: str, differs: tuple[str, ...] = (), why: str = "") -> TeamRow:
    return TeamRow(
        alias,
        team.team_id,
        state,
        people_on(team),
        team.spend,
        team.max_budget,
        team.budget_duration,
        team.models,
        team.blocked,
        differs,
        why,
    )
