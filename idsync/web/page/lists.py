"""Long lists of their own: jobs, keys that leavers may know, conflicts."""

from __future__ import annotations

from collections.abc import Sequence

from idsync.store import exposure, glance, people
from idsync.store.db import Db
from idsync.store.glance import PAGE, Known, Open, Work
from idsync.store.spend import After
from idsync.web.page.frame import Look, Page, badge, empty, pager, table
from idsync.web.page.html import Markup, many, named, tag
from idsync.web.page.words import ago, length, moment, money
from idsync.words import count

WHY = {
    "shared": "nobody's own key of a team they were in",
    "service_account": "a service account's key",
    "created_by": "they made it for somebody else",
}


def jobs(look: Look) -> Page:
    counted = glance.counted_jobs(look.db)
    rows = glance.jobs(look.db, offset=(look.page - 1) * PAGE)
    links = pager(look, "/jobs", PAGE, counted.due + counted.waiting)
    told = tag(
        "p",
        f"{counted.due:,} to do, {counted.failing:,} of them failing; {counted.waiting:,} wait on purpose. A job is never dropped: it is tried again, slower and slower.",
    )
    return Page(
        "Jobs", many(tag("h1", "Open jobs"), told, work(rows, look.now) if rows else empty("None."), links), "/"
    )


def work(rows: Sequence[Work], now: float) -> Markup:
    shown = [
        (named(job.label), job.lane, _state(job), moment(job.created_at, now), named(job.last_error or _next(job, now)))
        for job in rows
    ]
    return table("Open jobs", ("Person", "What", "State", "Open since", "More"), shown)


def _state(job: Work) -> Markup:
    if job.alive:
        return badge("bad", "a credential still works")
    if job.running:
        return badge("note", "running")
    if job.waiting:
        return badge("note", "waiting")
    return badge("bad", f"failed {count(job.attempts, 'time')}") if job.last_error else badge("note", "due")


def _next(job: Work, now: float) -> str:
    if job.waiting and job.run_at > now:
        return f"looks again in {length(job.run_at - now)}"
    return ""


def keys(look: Look) -> Page:
    total = sum(exposure.tally(look.db).values())
    rows = glance.exposed(look.db, offset=(look.page - 1) * PAGE)
    told = tag(
        "p",
        "Nothing of these is touched when somebody leaves: others work with them. ",
        tag("code", "idsync keys exposed"),
        " names everybody.",
    )
    links = pager(look, "/keys", PAGE, total)
    return Page(
        "Keys",
        many(tag("h1", "Keys that leavers may know"), told, known(rows, look.now) if rows else empty("None."), links),
        "/",
    )


def known(rows: Sequence[Known], now: float) -> Markup:
    shown = [
        (
            many(named(key.alias or key.name or key.key_id), tag("span", WHY.get(key.why, key.why), class_="hint")),
            named(key.team or "none"),
            many(named(key.one), f" and {key.people - 1:,} more" if key.people > 1 else None),
            badge("warn", "rotation wanted") if key.wants == "rotate" else badge("note", "reported"),
            many(ago(key.last_used_at, now), "; spent ", money(key.spend)),
        )
        for key in rows
    ]
    return table("Keys", ("Key", "Team", "Known to", "What", "Last used"), shown)


def conflicts(look: Look) -> Page:
    rows = glance.conflicts(look.db, offset=(look.page - 1) * PAGE)
    links = pager(look, "/conflicts", PAGE, glance.counted_conflicts(look.db))
    told = tag("p", "What only a person can decide; idsync never guesses.")
    return Page(
        "Conflicts",
        many(tag("h1", "Conflicts"), told, unsettled(rows, look.now) if rows else empty("None."), links),
        "/",
    )


def unsettled(rows: Sequence[Open], now: float) -> Markup:
    shown = [(named(row.detail), named(row.remedy), moment(row.created_at, now)) for row in rows]
    return table("Conflicts", ("What", "What to do", "Since"), shown)


def spent(db: Db, rows: Sequence[After], now: float) -> Markup:
    shown = []
    for one in rows:
        person = people.person(db, one.person_id)
        name = tag(
            "a", named(person.label if person is not None else one.person_id), href=f"/departures/{one.departure_id}"
        )
        key = named(one.key_name or one.key_id or "not told by key")
        shown.append((name, badge("bad", money(one.spend)), key, moment(one.last_at, now)))
    return table("Spend after departure", ("Person", "Spent", "Key", "Last grew"), shown)
