"""Spend as the gateway tells it, read into days, requests and where alerts go. Tolerant, and never a guess.

Routero's /billing/daily-spend is documented without an answer (withdrawn 26 July 2026), so what LiteLLM answers to
/team/daily/activity is read, and what is near to it:

    the answer                a list of days, or an object with one under `results`, `data`, `days` or `daily_spend`
    a day                     `date` or `day`; its amount is `spend`, `total_spend`, `cost` or `amount`, in `metrics` or beside it
    by whom                   `entities`, `teams` or `users`, in `breakdown` or beside it: by id, or a list of rows
    a row of one team         a day with `team_id` in it

Whatever else it is, is a BadAnswer that says what is missing: an amount that is not understood is never shown as none.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from idsync.clock import epoch_of
from idsync.errors import BadAnswer
from idsync.gateway.parse import number_of, text_of
from idsync.model import Alerting, DaySpend, LoggedRequest

ROWS = ("results", "data", "days", "daily_spend")
DAYS = ("date", "day")
AMOUNTS = ("spend", "total_spend", "cost", "amount")
GROUPS = ("entities", "teams", "users")
IDS = ("team_id", "user_id", "id")
OWNERS = ("user", "user_id")
"""Where a logged request says whose it is (LiteLLM has `user`, source)."""


def days_from(value: Any, what: str) -> list[DaySpend]:
    """Read what was spent by day.

    Raises:
        BadAnswer: it cannot be understood; the message says what is missing.
    """
    return [_day(row, what) for row in rows_from(value, what)]


def rows_from(value: Any, what: str) -> list[Any]:
    """Return the list in an answer, whatever it is under."""
    if isinstance(value, list):
        return value
    held = value if isinstance(value, dict) else {}
    for name in ROWS:
        if isinstance(held.get(name), list):
            rows: list[Any] = held[name]
            return rows
    raise BadAnswer(f"{what}: the answer cannot be understood: it holds no list of days")


def of_one(value: Any, entity: str, what: str) -> list[DaySpend]:
    """Read what one user spent by day; nothing that the answer itself shows to be somebody else's.

    Where it does not say whose it is, the filter may have been ignored: `shares` is None, and only `keys` tell.
    """
    found = []
    for row in rows_from(value, what):
        day = _day(row, what)
        mine = _entity(row, entity)
        if day.shares is None:
            found.append(DaySpend(day.day, day.spend, None, _keys(_breakdown(row).get("api_keys"))))
        elif entity in day.shares:
            keys = _keys(mine.get("api_key_breakdown")) if isinstance(mine, dict) else {}
            found.append(DaySpend(day.day, day.shares[entity], {entity: day.shares[entity]}, keys))
    return found


def together(days: Iterable[DaySpend]) -> list[DaySpend]:
    """Add up what several pages, or several rows, tell of one day; sorted by day."""
    sums: dict[str, DaySpend] = {}
    for day in days:
        known = sums.get(day.day)
        sums[day.day] = day if known is None else _sum(known, day)
    return [sums[day] for day in sorted(sums)]


def requests_from(value: Any, user_id: str) -> list[LoggedRequest]:
    """Read the gateway's log of a user's requests; a row without a time or an amount is left out.

    So is one of somebody else: the filter may have been ignored.

    Raises:
        BadAnswer: it is no list.
    """
    found = []
    for row in rows_from(value, "spend/logs"):
        if isinstance(row, dict) and next(filter(None, (text_of(row.get(name)) for name in OWNERS)), None) == user_id:
            at, spend = epoch_of(text_of(row.get("startTime"))), number_of(row.get("spend"))
            if at is not None and spend is not None:
                found.append(LoggedRequest(text_of(row.get("api_key")), at, spend))
    return found


def alerting_from(value: Any) -> Alerting:
    """Read where alerts go. Older releases show Slack alone, and only while it is one of the destinations."""
    held = value if isinstance(value, dict) else {}
    alerts = held.get("alerts")
    if not isinstance(alerts, list):
        raise BadAnswer("get/config/callbacks: the answer does not say where alerts go")
    named = {text_of(row.get("name")): row for row in alerts if isinstance(row, dict)}
    slack = named.get("slack") or {}
    variables, types = slack.get("variables"), slack.get("active_alerts")
    return Alerting(
        _texts(held.get("active_alerting_destinations")),
        _texts(types),
        text_of(variables.get("SLACK_WEBHOOK_URL")) if isinstance(variables, dict) else None,
    )


def _texts(value: Any) -> tuple[str, ...] | None:
    return tuple(filter(None, map(text_of, value))) if isinstance(value, list) else None


def _day(row: Any, what: str) -> DaySpend:
    if not isinstance(row, dict):
        raise BadAnswer(f"{what}: the answer cannot be understood: a day is no object")
    day = next(filter(None, (_date(row.get(name)) for name in DAYS)), None)
    if day is None:
        raise BadAnswer(f"{what}: the answer cannot be understood: a row shows no date")
    spend = _amount(row)
    if spend is None:
        raise BadAnswer(f"{what}: the answer cannot be understood: a day shows no amount")
    return DaySpend(day, spend, _shares(row, spend))


def _date(value: Any) -> str | None:
    try:
        return dt.date.fromisoformat(str(value)[:10]).isoformat()
    except ValueError:
        return None


def _amount(value: Any) -> float | None:
    if not isinstance(value, dict):
        return number_of(value)
    metrics = value.get("metrics")
    held = metrics if isinstance(metrics, dict) else value
    return next((number for number in (number_of(held.get(name)) for name in AMOUNTS) if number is not None), None)


def _breakdown(row: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = row.get("breakdown")
    return inner if isinstance(inner, dict) else row


def _shares(row: Mapping[str, Any], spend: float) -> dict[str, float] | None:
    held = _breakdown(row)
    group = next((held[name] for name in GROUPS if isinstance(held.get(name), (dict, list))), None)
    if isinstance(group, dict):
        return _keys(group)
    if isinstance(group, list):
        rows = [one for one in group if isinstance(one, dict)]
        return {
            name: amount for name, amount in ((_id(one), _amount(one)) for one in rows) if name and amount is not None
        }
    own = text_of(row.get("team_id")) or text_of(row.get("user_id"))
    return {own: spend} if own else None


def _id(row: Mapping[str, Any]) -> str | None:
    return next(filter(None, (text_of(row.get(name)) for name in IDS)), None)


def _entity(row: Any, entity: str) -> Any:
    held = _breakdown(row)
    group: dict[str, Any] = next((held[name] for name in GROUPS if isinstance(held.get(name), dict)), {})
    return group.get(entity)


def _keys(value: Any) -> dict[str, float]:
    held = value if isinstance(value, dict) else {}
    return {str(name): amount for name, amount in ((n, _amount(v)) for n, v in held.items()) if amount is not None}


def _sum(one: DaySpend, other: DaySpend) -> DaySpend:
    shares = None if one.shares is None or other.shares is None else added(one.shares, other.shares)
    return DaySpend(one.day, one.spend + other.spend, shares, added(one.keys, other.keys))


def added(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Add amounts under the same name."""
    return {name: one.get(name, 0.0) + other.get(name, 0.0) for name in sorted({*one, *other})}
