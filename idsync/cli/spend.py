"""`idsync spend`."""

from __future__ import annotations

import asyncio
import csv
import io
import sys
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import click

from idsync.cli.client import JSON, reading, say, settings, show, table
from idsync.errors import ConfigError, NotFound, UsageError
from idsync.words import count

if TYPE_CHECKING:
    from idsync.config import Config
    from idsync.spend.teams import Report, TeamSpend
    from idsync.spend.watch import Found

DAY = click.DateTime(formats=["%Y-%m-%d"])
HEAD = ("TEAM", "SPEND", "BUDGET", "SPENT OF IT", "RESETS", "")
COLUMNS = (
    "team",
    "team_id",
    "from",
    "to",
    "spend",
    "budget_spend",
    "max_budget",
    "soft_budget",
    "used",
    "budget_duration",
    "resets_at",
)
WIDTH = 20
"""Characters of a bar."""
PARTS = " ▏▎▍▌▋▊▉█"
STEPS = "▁▂▃▄▅▆▇█"


@click.command()
@click.option("--from", "start", type=DAY, help="First day (UTC); the first of this month.")
@click.option("--to", "end", type=DAY, help="Last day, included; today.")
@click.option("--team", metavar="ALIAS", help="Only this team, by alias or id.")
@click.option("--csv", "as_csv", is_flag=True, help="One line a team, with a head.")
@JSON
@click.pass_context
def spend(
    ctx: click.Context, start: datetime | None, end: datetime | None, team: str | None, as_csv: bool, as_json: bool
) -> int:
    """Spend by team against its budget, and what leavers spent after their access had ended.

    Asks the gateway; a daemon may run or not. Exit code 5: a leaver's key or account has cost something that was not
    booked late.
    """
    if as_csv and as_json:
        raise UsageError("choose --csv or --json")
    first, last = _days(start, end)
    report, found = asyncio.run(_ask(settings(ctx), first, last))
    rows = [row for row in report.teams if team is None or team in (row.team, row.team_id)]
    if team is not None and not rows:
        raise NotFound(f"the gateway has no team {team!r}; without --team all are listed")
    if as_json:
        show(_view(report, rows, found))
    elif as_csv:
        _print_csv(report, rows, found)
    else:
        _print(report, rows, found, whole=team is None)
    return _exit_code(found)


def _exit_code(found: Found | None) -> int:
    """Return 5 for spend after a departure, 1 where not every leaver could be asked about."""
    if found is None:
        return 0
    return 5 if found.after else int(found.problem is not None)


def _days(start: datetime | None, end: datetime | None) -> tuple[date, date]:
    today = datetime.now(UTC).date()
    last = end.date() if end is not None else today
    first = start.date() if start is not None else last.replace(day=1)
    if first > last:
        raise UsageError(f"--from {first} is after --to {last}")
    return first, last


async def _ask(config: Config, first: date, last: date) -> tuple[Report, Found | None]:
    from idsync.app import gateway_of, start_problems, watch_settings
    from idsync.app.parts import store_password
    from idsync.clock import SystemClock
    from idsync.spend import teams, watch
    from idsync.store import facts
    from idsync.store.opening import exists

    problems = [problem for problem in start_problems(config) if problem[0].startswith("routero")]
    if problems:
        raise ConfigError(problems)
    clock = SystemClock()
    if not exists(config.store.url, store_password(config)):
        async with gateway_of(config, clock) as gateway:
            return await teams.read(gateway, config.routero.dialect, first, last), None
    with reading(config) as db:
        learned = {name: str(value) for name, (value, _) in facts.under(db, "verb:").items()}
        async with gateway_of(config, clock, learned=learned) as gateway:
            report = await teams.read(gateway, config.routero.dialect, first, last)
            return report, await watch.find(db, gateway, watch_settings(config), clock.now())


# -- for programs -------------------------------------------------------------------------------------------------


def _view(report: Report, rows: list[TeamSpend], found: Found | None) -> dict[str, Any]:
    return {
        "from": report.start,
        "to": report.end,
        "told_by": report.told_by,
        "notes": list(report.notes),
        "total": report.total,
        "elsewhere": report.elsewhere,
        "teams": [_team_view(report, row) | {"days": dict(row.days)} for row in rows],
        "after_departure": None if found is None else _after_view(found),
    }


def _team_view(report: Report, row: TeamSpend) -> dict[str, Any]:
    return {
        "team": row.team,
        "team_id": row.team_id,
        "from": report.start,
        "to": report.end,
        "spend": row.spend,
        "budget_spend": row.budget_spend,
        "max_budget": row.max_budget,
        "soft_budget": row.soft_budget,
        "used": row.used,
        "budget_duration": row.budget_duration,
        "resets_at": row.resets_at,
    }


def _after_view(found: Found) -> dict[str, Any]:
    from idsync.clock import rfc3339

    def when(at: float | None) -> str | None:
        return None if at is None else rfc3339(at)

    return {
        "looked_at": found.looked_at,
        "problem": found.problem,
        "not_told": list(found.untold),
        "found": [
            {
                "user": user,
                "departure": one.departure_id,
                "gateway_user_id": one.account_id or None,
                "key_id": one.key_id or None,
                "key": one.key_name,
                "spend": one.spend,
                "used_at": when(one.used_at),
                "first_seen": when(one.first_at),
                "last_grown": when(one.last_at),
            }
            for user, one in found.after
        ],
    }


def _print_csv(report: Report, rows: list[TeamSpend], found: Found | None) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in _team_view(report, row).items()} for row in rows)
    for line in text.getvalue().splitlines():
        say(line)
    for note in (*report.notes, *_alarms(found)):
        say(f"idsync: {note}", err=True)


def _cell(value: Any) -> Any:
    """Write a name that a spreadsheet would take for a formula so that it is text, on one line."""
    if not isinstance(value, str):
        return value
    value = " ".join(value.split())
    return f"'{value}" if value[:1] in "=+-@" and value else value


# -- for people ---------------------------------------------------------------------------------------------------


def _print(report: Report, rows: list[TeamSpend], found: Found | None, *, whole: bool) -> None:
    drawn = sys.stdout.isatty() and "utf" in (sys.stdout.encoding or "").lower()
    say(f"{report.start} to {report.end}" + (f", told by {report.told_by}" if report.told_by else ""))
    table([_row(row, drawn=drawn) for row in rows], HEAD if drawn else HEAD[:-1])
    if whole and report.total is not None:
        rest = (
            f", {report.elsewhere:.2f} of it in no team of these"
            if report.elsewhere and report.elsewhere > 1e-6
            else ""
        )
        say(f"total {report.total:.2f}{rest}")
    if drawn and (line := _by_day(report, rows)):
        say(f"by day  {line}")
    for note in report.notes:
        say(f"note: {note}")
    for line in _alarms(found):
        say(line)


def _row(row: TeamSpend, *, drawn: bool) -> tuple[str, ...]:
    budget = "-" if row.max_budget is None else f"{row.max_budget:.2f}"
    spent = "-" if row.budget_spend is None else f"{row.budget_spend:.2f}"
    if row.used is not None:
        spent += f" ({row.used:.0%})"
    elif row.max_budget == 0:
        spent += " (all)"
    reset = row.resets_at[:10] if row.resets_at else "-"
    told = "-" if row.spend is None else f"{row.spend:.2f}"
    cells = (row.team, told, f"{budget}/{row.budget_duration}" if row.budget_duration else budget, spent, reset)
    return (*cells, bar(row.used)) if drawn else cells


def bar(used: float | None) -> str:
    """Draw how much of a budget is spent; what is over it is marked."""
    if used is None:
        return ""
    eighths = round(min(max(used, 0.0), 1.0) * WIDTH * 8)
    full, part = divmod(eighths, 8)
    drawn = "█" * full + (PARTS[part] if part else "")
    return f"[{drawn.ljust(WIDTH, '·')}]" + (" OVER" if used >= 1 else "")


def _by_day(report: Report, rows: list[TeamSpend]) -> str:
    """Draw each day of the span as a step."""
    first, last = date.fromisoformat(report.start), date.fromisoformat(report.end)
    days = [date.fromordinal(number).isoformat() for number in range(first.toordinal(), last.toordinal() + 1)]
    sums = [sum(row.days.get(day, 0.0) for row in rows) for day in days]
    most = max(sums, default=0.0)
    if most <= 0 or len(days) > 100:
        return ""
    return "".join(STEPS[round(max(spent, 0.0) / most * (len(STEPS) - 1))] for spent in sums)


def _alarms(found: Found | None) -> list[str]:
    """Return what to say of leavers; nothing was watched without a store."""
    from idsync.clock import rfc3339

    if found is None:
        return ["after departures: there is no store here, so no departure is known"]
    lines = []
    for user, one in found.after:
        what = f"key {one.key_name or one.key_id}" if one.key_id else f"account {one.account_id}"
        used = f", last at {rfc3339(one.used_at)}" if one.used_at is not None else ""
        lines.append(f"ALARM {user} spent {one.spend:.4f} after access had ended: {what}{used}")
    if lines:
        lines.append("  -> idsync verify says what still works; docs/spend.md says what else it can be")
    if found.problem is not None:
        lines.append(f"after departures: not everybody could be asked about: {found.problem}")
    elif not found.after:
        lines.append(
            f"after departures: {count(found.looked_at, 'leaver')} looked at, nothing spent"
            if found.looked_at
            else "after departures: no leaver to look at yet (each one once spend.booked_within has passed)"
        )
    return [*lines, *(f"note: not told, so watched only in part: {what}" for what in found.untold)]
