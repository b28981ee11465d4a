"""What every team spent, in a span of days and against its budget."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from idsync.errors import BadAnswer, Rejected, Unsupported
from idsync.gateway.client import Gateway
from idsync.gateway.spent import added
from idsync.model import DaySpend, GatewayTeam

Dialect = Literal["routero", "litellm"]


@dataclass(frozen=True)
class TeamSpend:
    """One team. `spend` is of the days asked for, None where the gateway does not tell it by team and day.

    `budget_spend` is the gateway's own count since its last reset, which is what it blocks by; `days` has every day that
    something was spent on.
    """

    team_id: str
    team: str
    spend: float | None
    budget_spend: float | None
    max_budget: float | None
    soft_budget: float | None
    budget_duration: str | None
    resets_at: str | None
    days: Mapping[str, float] = field(default_factory=dict)

    @property
    def used(self) -> float | None:
        """Return the part of the budget that is spent; 1.0 is all of it."""
        if self.budget_spend is None or self.max_budget is None or self.max_budget <= 0:
            return None
        return self.budget_spend / self.max_budget


@dataclass(frozen=True)
class Report:
    """What was spent. `told_by` is the endpoint; `elsewhere` is spend of no team, and of teams that are gone."""

    start: str
    end: str
    teams: tuple[TeamSpend, ...]
    total: float | None
    elsewhere: float | None
    told_by: str | None
    notes: tuple[str, ...]


async def read(gateway: Gateway, dialect: Dialect, start: dt.date, end: dt.date) -> Report:
    """Ask the gateway for its teams and what they spent, both days included.

    Raises:
        GatewayError: it could not be asked, or shows no teams.
    """
    teams = await gateway.list_teams()
    days, told_by, notes = await _days(gateway, dialect, start.isoformat(), end.isoformat())
    return report(teams, days, start.isoformat(), end.isoformat(), told_by=told_by, notes=notes)


async def _days(
    gateway: Gateway, dialect: Dialect, start: str, end: str
) -> tuple[list[DaySpend] | None, str | None, list[str]]:
    """Ask where this dialect tells of days, and where the other does; say what could not be used, and why."""
    notes: list[str] = []
    asked = [("GET /team/daily/activity", gateway.team_activity)]
    if dialect == "routero":
        asked.insert(0, ("GET /billing/daily-spend", gateway.daily_spend))
    without_teams: tuple[list[DaySpend], str] | None = None
    for name, ask in asked:
        try:
            days = await ask(start, end)
        except (Unsupported, Rejected, BadAnswer) as error:
            notes.append(f"{name}: {error}")
            continue
        if all(day.shares is not None for day in days):
            return days, name, notes
        notes.append(f"{name} does not tell spend by team")
        without_teams = without_teams or (days, name)
    if without_teams is not None:
        return *without_teams, notes
    notes.append("spend by day is not told; each team's own count against its budget is shown")
    return None, None, notes


def report(
    teams: Sequence[GatewayTeam],
    days: Sequence[DaySpend] | None,
    start: str,
    end: str,
    *,
    told_by: str | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Put teams and days together, the largest spender first."""
    by_team: dict[str, dict[str, float]] = {}
    knows_teams = days is not None and all(day.shares is not None for day in days)
    for day in days or ():
        for team_id, spend in (day.shares or {}).items():
            by_team[team_id] = added(by_team.get(team_id, {}), {day.day: spend})
    rows = [_team(team, by_team.get(team.team_id, {}), known=knows_teams) for team in teams]
    rows.sort(key=lambda row: (-(row.spend or 0.0), -(row.budget_spend or 0.0), row.team, row.team_id))
    total = sum(day.spend for day in days) if days is not None else None
    elsewhere = total - sum(row.spend or 0.0 for row in rows) if total is not None and knows_teams else None
    return Report(start, end, tuple(rows), total, elsewhere, told_by, tuple(notes))


def _team(team: GatewayTeam, days: Mapping[str, float], *, known: bool) -> TeamSpend:
    return TeamSpend(
        team_id=team.team_id,
        team=team.alias or team.team_id,
        spend=sum(days.values()) if known else None,
        budget_spend=team.spend,
        max_budget=team.max_budget,
        soft_budget=team.soft_budget,
        budget_duration=team.budget_duration,
        resets_at=team.budget_reset_at,
        days=days,
    )
