"""Spend by day and by request, and the audit log."""

from __future__ import annotations

from typing import Any

from idsync.sandbox.calls import LITELLM, ROUTERO, Call, Endpoint, page_of
from idsync.sandbox.replies import plain, shape_b
from idsync.sandbox.validate import asked, count

Use = dict[str, Any]


def daily_spend(call: Call) -> Any:
    start, end = asked(call.query, "start_date"), asked(call.query, "end_date")
    uses = _between(call, start, end)
    days = sorted({use["date"] for use in uses})
    return {
        "results": [_day(day, [use for use in uses if use["date"] == day]) for day in days],
        "metadata": {"total_spend": _total(uses)},
    }


def _between(call: Call, start: str, end: str) -> list[Use]:
    return [
        use
        for use in call.state.usage
        if start <= use["date"] <= end and call.organization in (None, use.get("organization_id"))
    ]


def _day(day: str, uses: list[Use]) -> dict[str, Any]:
    return {
        "date": day,
        "spend": _total(uses),
        "requests": sum(use["requests"] for use in uses),
        "breakdown": {"teams": _by(uses, "team_id"), "models": _by(uses, "model")},
    }


def _by(uses: list[Use], name: str) -> dict[str, Any]:
    values = sorted({use[name] for use in uses if use.get(name)})
    groups = {value: [use for use in uses if use.get(name) == value] for value in values}
    return {
        value: {"spend": _total(group), "requests": sum(use["requests"] for use in group)}
        for value, group in groups.items()
    }


def _total(uses: list[Use]) -> float:
    return round(sum(float(use["spend"]) for use in uses), 9)


def team_activity(call: Call) -> Any:
    return _activity(call, "team_id", "team_ids", usual=10)


def user_activity(call: Call) -> Any:
    return _activity(call, "user_id", "user_id", usual=50, most=1000)


def _activity(call: Call, name: str, parameter: str, *, usual: int, most: int | None = None) -> Any:
    """A page is so many rows (one a day, entity, key and model), newest first; what they come to is shown by day."""
    start, end = call.query.get("start_date"), call.query.get("end_date")
    if not start or not end:
        raise shape_b(400, "Please provide start_date and end_date")
    page, size = count(call.query, "page", 1), count(call.query, "page_size", usual, most=most)
    wanted = call.query.get(parameter) or call.query.get(name)
    uses = [use for use in _between(call, start, end) if not wanted or use.get(name) in wanted.split(",")]
    rows = _rows(uses, name)
    shown, pages = page_of(rows, page, size)
    uses = [use for row in shown for use in row]
    days = sorted({use["date"] for use in uses}, reverse=True)
    return {
        "results": [_activity_day(call, day, [use for use in uses if use["date"] == day], name) for day in days],
        "metadata": {
            "total_spend": _total(uses),
            "page": page,
            "total_pages": pages,
            "has_more": page * size < len(rows),
        },
    }


def _rows(uses: list[Use], name: str) -> list[list[Use]]:
    rows: dict[tuple[str, ...], list[Use]] = {}
    for use in uses:
        kind = tuple(str(use.get(column) or "") for column in ("date", name, "api_key", "model"))
        rows.setdefault(kind, []).append(use)
    return [rows[kind] for kind in sorted(rows, reverse=True)]


def _activity_day(call: Call, day: str, uses: list[Use], name: str) -> dict[str, Any]:
    breakdown = {"entities": _shares(call, uses, name, keys=True), "api_keys": _shares(call, uses, "api_key")}
    return {"date": day, "metrics": _metrics(uses), "breakdown": breakdown}


def _shares(call: Call, uses: list[Use], name: str, *, keys: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for value in sorted({str(use.get(name) or "Unassigned") for use in uses}):
        mine = [use for use in uses if str(use.get(name) or "Unassigned") == value]
        found[value] = {"metrics": _metrics(mine), "metadata": _named(call, name, value)}
        if keys:
            found[value]["api_key_breakdown"] = _shares(call, mine, "api_key")
    return found


def _named(call: Call, name: str, value: str) -> dict[str, Any]:
    if name == "team_id" and value in call.state.teams:
        return {"team_alias": call.state.teams[value].team_alias}
    key = call.state.keys.get(value) or call.state.archive.get(value)
    return {"key_alias": key.key_alias, "team_id": key.team_id} if key and name == "api_key" else {}


def _metrics(uses: list[Use]) -> dict[str, Any]:
    return {"spend": _total(uses), "api_requests": sum(use["requests"] for use in uses)}


def request_log(call: Call) -> Any:
    """Requests one by one: those of a user or a key that began between two midnights."""
    start, end = asked(call.query, "start_date"), asked(call.query, "end_date")
    wanted = {"user_id": call.query.get("user_id"), "api_key": call.query.get("api_key")}
    return [
        {"api_key": use.get("api_key"), "user": use.get("user_id"), "team_id": use.get("team_id"), **_told(use)}
        for use in call.state.usage
        if start <= use["date"] < end
        and use.get("at")
        and all(not value or use.get(name) == value for name, value in wanted.items())
    ]


def _told(use: Use) -> dict[str, Any]:
    return {"spend": use["spend"], "model": use["model"], "startTime": use["at"], "endTime": use["at"]}


def audit_log(call: Call) -> Any:
    page = count(call.query, "page", 1)
    size = count(call.query, "limit" if "limit" in call.query else "page_size", 10, most=100)
    rows = [row for row in reversed(call.state.audit) if _visible(call, row)]
    shown, pages = page_of(rows, page, size)
    return {
        "audit_logs": shown,
        "total": len(rows),
        "page": page,
        "page_size": size,
        "total_pages": pages,
    }


def audit_entry(call: Call) -> Any:
    for row in call.state.audit:
        if row["id"] == call.params["id"] and _visible(call, row):
            return row
    raise plain(404, "Audit log not found")


def _visible(call: Call, row: dict[str, Any]) -> bool:
    return call.organization in (None, row["organization_id"])


ENDPOINTS = [
    Endpoint("GET", "/billing/daily-spend", daily_spend, dialects=ROUTERO),
    Endpoint("GET", "/team/daily/activity", team_activity),
    Endpoint("GET", "/user/daily/activity", user_activity),
    Endpoint("GET", "/spend/logs", request_log, dialects=LITELLM),
    Endpoint("GET", "/audit", audit_log),
    Endpoint("GET", "/audit/{id}", audit_entry),
]
