"""Spend by day, and the audit log."""

from __future__ import annotations

from typing import Any

from idsync.sandbox.calls import ROUTERO, Call, Endpoint, page_of
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
    return _activity(call, "team_id")


def user_activity(call: Call) -> Any:
    return _activity(call, "user_id")


def _activity(call: Call, name: str) -> Any:
    start, end = call.query.get("start_date"), call.query.get("end_date")
    if not start or not end:
        raise shape_b(400, "Please provide start_date and end_date")
    wanted = call.query.get(name) or call.query.get(f"{name}s")
    uses = [use for use in _between(call, start, end) if not wanted or use.get(name) in wanted.split(",")]
    days = sorted({use["date"] for use in uses}, reverse=True)
    return {
        "results": [_activity_day(day, [use for use in uses if use["date"] == day], name) for day in days],
        "metadata": {"total_spend": _total(uses), "page": 1, "total_pages": 1, "has_more": False},
    }


def _activity_day(day: str, uses: list[Use], name: str) -> dict[str, Any]:
    metrics = {"spend": _total(uses), "api_requests": sum(use["requests"] for use in uses)}
    return {"date": day, "metrics": metrics, "breakdown": {"entities": _by(uses, name)}}


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
    Endpoint("GET", "/audit", audit_log),
    Endpoint("GET", "/audit/{id}", audit_entry),
]
