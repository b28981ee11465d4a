"""The first page: is everybody who left out, what waits for a person, how fast, and what idsync looks at.

A section is a function from a Look to its markup, or None when it has nothing to show; `SECTIONS` is their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from idsync.config import expired
from idsync.doctor.measured import measured
from idsync.status import WINDOW, source_view, store_view
from idsync.store import exposure, facts, glance, ledger, notices, spend, teamkeys
from idsync.web.page import departures, holds, lists
from idsync.web.page.draw import ENDS, histogram
from idsync.web.page.frame import Look, Page, badge, banner, bullets, empty, pairs, section, table
from idsync.web.page.html import Child, Markup, many, named, tag
from idsync.web.page.words import ago, length, money
from idsync.words import count

FEW = 8
"""Entries of a list on the first page."""
STALE = 3
"""Intervals after which a polled source is called stale."""


def page(look: Look) -> Page:
    return Page(
        "Overview",
        many(tag("h1", "Who left, and is it over?"), *_verdicts(look), [draw(look) for draw in SECTIONS]),
        "/",
    )


def _verdicts(look: Look) -> Iterator[Markup]:
    """Yield what to know first, the worst of it first."""
    db, now = look.db, look.now
    open_now, jobs = ledger.unverified(db, now), glance.counted_jobs(db)
    waiting, unsettled = glance.counted_holds(db, only_open=True), glance.counted_conflicts(db)
    if jobs.alive:
        yield banner(
            "bad",
            tag("strong", f"{count(jobs.alive, 'credential')} still works that should be dead. "),
            tag("a", "See the jobs", href="/jobs"),
        )
    if open_now:
        what = count(open_now, "person may", "people may")
        yield banner(
            "bad",
            tag("strong", f"{what} still have access. "),
            "It is being ended, or something is in the way: see below.",
        )
    spent = spend.after_since(db, now - spend.SHOWN)
    if spent:
        who = count(spend.spenders(spent), "person", "people")
        total = money(sum(one.spend for one in spent))
        yield banner(
            "bad", tag("strong", f"{who} spent {total} after their access had ended. "), tag("code", "idsync spend")
        )
    if frozen := facts.get(db, facts.FROZEN):
        why = many("by ", named(frozen["by"]), ", ", ago(frozen["at"], now), ": ", named(frozen["reason"]))
        yield banner(
            "warn", tag("strong", "Frozen "), why, ". Polled departures and grants wait; leavers who are pushed do not."
        )
    if waiting:
        inside = glance.still_inside(db)
        yield banner(
            "warn",
            tag("strong", f"{count(waiting, 'hold')} {'waits' if waiting == 1 else 'wait'} for a person. "),
            many(
                count(inside, "person", "people"),
                " in it still have access. " if waiting == 1 else " in them still have access. ",
            )
            if inside
            else None,
            tag("a", "Look and decide", href="/holds"),
        )
    if unsettled:
        yield banner(
            "warn",
            tag("strong", f"{count(unsettled, 'conflict')} only a person can settle. "),
            tag("a", "See them", href="/conflicts"),
        )
    if not open_now and not jobs.alive:
        yield banner(
            "good",
            tag("strong", "Access has ended for every departure that was accepted: "),
            "read back at the gateway, not assumed.",
        )


# -- the sections ---------------------------------------------------------------------------------------------------


def _speed(look: Look) -> Markup:
    took = glance.took(look.db, look.now - WINDOW, ENDS)
    if took is None:
        return section("Time to revoke", empty("No departures in 30 days."), id="speed")
    upto = (0, *took.upto, took.count)
    figures = tag(
        "div",
        _figure("half within (p50)", length(took.p50)),
        _figure("99 of 100 within (p99)", length(took.p99)),
        _figure(f"departure{'s' * (took.count != 1)} in 30 days", f"{took.count:,}"),
        class_="figures",
    )
    note = tag(
        "p",
        "From the request to the read-back that proves it; each bar: up to so long. Without what waited on purpose.",
        class_="hint",
    )
    return section(
        "Time to revoke",
        tag(
            "div",
            figures,
            tag("figure", histogram([last - first for first, last in pairwise(upto)]), tag("figcaption", note)),
            class_="speed",
        ),
        id="speed",
    )


def _figure(name: str, value: str) -> Markup:
    return tag("div", tag("span", value, class_="value"), tag("span", name, class_="label"), class_="figure")


def _still_open(look: Look) -> Markup | None:
    lines = glance.unverified(look.db, look.now, limit=FEW)
    if not lines:
        return None
    return section(
        "May still have access",
        departures.listed(lines, look.now, "Departures that are not proven"),
        more=("/jobs", "Jobs"),
        id="open",
    )


def _spent(look: Look) -> Markup | None:
    found = spend.after_since(look.db, look.now - spend.SHOWN)
    if not found:
        return None
    shown = sorted(found, key=lambda one: one.last_at, reverse=True)[:FEW]
    return section("Spend after departure", lists.spent(look.db, shown, look.now), id="spent")


def _holds(look: Look) -> Markup | None:
    found = glance.holds(look.db, only_open=True, limit=FEW)
    if not found:
        return None
    return section("Waiting for a person", holds.listed(found, look.now), more=("/holds", "All holds"), id="holds")


def _departures(look: Look) -> Markup:
    lines = glance.departures(look.db, limit=FEW)
    body = departures.listed(lines, look.now, "Last departures") if lines else empty("Nobody has left yet.")
    return section(
        "Last departures",
        body,
        more=("/departures", f"All {glance.counted_departures(look.db):,}") if lines else None,
        id="departures",
    )


def _jobs(look: Look) -> Markup:
    counted = glance.counted_jobs(look.db)
    told = f"{count(counted.due, 'job')} to do, {counted.failing:,} of them failing; {counted.waiting:,} waiting on purpose."
    rows = glance.jobs(look.db, limit=FEW)
    return section(
        "Open jobs",
        tag("p", told),
        lists.work(rows, look.now) if rows else None,
        more=("/jobs", "All jobs") if rows else None,
        id="jobs",
    )


def _sources(look: Look) -> Markup:
    rows = [_source(look, name) for name in sorted(look.config.source_names)]
    return section("Sources", table("Sources", ("Source", "State", "Last heard", "What"), rows), id="sources")


def _source(look: Look, name: str) -> tuple[Child, ...]:
    view = source_view(look.db, name, look.config.polled, look.now)
    age = view["age_seconds"]
    heard = "never" if age is None else f"{length(age)} ago"
    if "polled" not in view:
        live = view["live_tokens"]
        state = (
            badge("good", "pushes")
            if live and age is not None
            else badge("note", "nothing yet")
            if live
            else badge("bad", "no live token")
        )
        return (named(name), state, heard, f"SCIM; {count(live, 'live token')}")
    full = view["full_age_seconds"]
    told = [view["polled"], "never listed in full" if full is None else f"everybody listed {length(full)} ago"]
    told += [f"listing now: {view['under_way']}"] if view["under_way"] else []
    if view["errors"]:
        told.append(f"{view['problem']}; nobody is removed by it")
        return (named(name), badge("bad", f"incomplete {count(view['errors'], 'time')}"), heard, named("; ".join(told)))
    pace = next(source.every for source in look.config.sources.every if source.name == name)
    stale = age is not None and age > STALE * pace + 60
    state = (
        badge("warn", "stale") if stale else badge("note", "not polled yet") if age is None else badge("good", "fresh")
    )
    return (named(name), state, heard, named("; ".join(told)))


def _replicas(look: Look) -> Markup | None:
    """Show who shares the store; of a file there is nobody else."""
    if not look.db.shared:
        return None
    view = store_view(look.db, look.now)
    rows = [
        (
            named(one["host"]),
            badge("good", "leads") if one["leads"] else badge("note", one["role"]),
            named(one["release"]),
            f"up for {length(one['age_seconds'])}",
        )
        for one in view["replicas"]
    ]
    told: list[Child] = [] if view["leader"] else [badge("bad", "nobody leads"), " No polls, sweeps or full passes."]
    waiting = count(view["audit_unlinked"], "audit entry is", "audit entries are")
    unlinked = tag("p", f"{waiting} committed and not linked into the chain yet.") if view["audit_unlinked"] else None
    listed = table("Replicas", ("Host", "Role", "Release", "Since"), rows)
    return section("Replicas", tag("p", *told) if told else None, listed, unlinked, id="replicas")


def _exposed(look: Look) -> Markup | None:
    tally = exposure.tally(look.db)
    total = sum(tally.values())
    if not total:
        return None
    told = f"{count(total, 'shared key works', 'shared keys work')} on that somebody who left may know; rotation is wanted for {tally['rotate']:,}."
    return section(
        "Keys that leavers may know",
        tag("p", told),
        lists.known(glance.exposed(look.db, limit=FEW), look.now),
        more=("/keys", "All of them"),
        id="keys",
    )


def _team_keys(look: Look) -> Markup | None:
    """Show the shared keys that idsync makes: those that fail first, then those that are renewed next."""
    known = teamkeys.every(look.db)
    if not known:
        return None
    known.sort(key=lambda key: (key.error is None, key.rotate_at or float("inf"), key.alias))
    rows = [(named(key.alias), named(key.team), *_renewal(key, look.now)) for key in known[:FEW]]
    told = f"{count(len(known), 'key')}; {sum(key.error is not None for key in known):,} failing."
    heads = ("Key", "Team", "State", "Next")
    return section("Shared keys of teams", tag("p", told), table("Shared keys of teams", heads, rows), id="team-keys")


def _renewal(key: teamkeys.TeamKey, now: float) -> tuple[Markup, Child]:
    if key.error is not None:
        return badge("bad", f"failing for {length(now - (key.failing_since or now))}"), named(key.error)
    if key.key_id is None:
        return badge("note", "not made yet"), "made by the next pass"
    if key.rotate_at is None:
        return badge("good", "works"), "does not expire"
    due = key.rotate_at <= now
    return badge("note", "due") if due else badge("good", "works"), (
        "renewed by the next pass" if due else f"renewed in {length(key.rotate_at - now)}"
    )


def _untold(look: Look) -> Markup | None:
    found = notices.undelivered(look.db)
    if not found:
        return None
    told = [
        named(f"{one.receiver}: {count(one.waiting, 'notice')} waiting; {one.error or 'to be sent'}") for one in found
    ]
    return section("Notifications that nobody got yet", bullets(told), id="untold")


def _conflicts(look: Look) -> Markup | None:
    found = glance.conflicts(look.db, limit=FEW)
    return (
        section("Conflicts", lists.unsettled(found, look.now), more=("/conflicts", "All conflicts"), id="conflicts")
        if found
        else None
    )


def _gateway(look: Look) -> Markup:
    names = {"fence": "Fence", "cache": "Worst case", "drill": "Last drill"}
    checks = [
        (
            names[check.name],
            many(badge("good" if check.ok else "bad", "well" if check.ok else "wrong"), " ", check.says)
            if check.ok is not None
            else check.says,
        )
        for check in measured(look.db, look.config, look.gateway, look.now)
    ]
    verbs = facts.under(look.db, "verb:")
    learnt = ", ".join(f"{name} {value}" for name, (value, _) in sorted(verbs.items())) or None
    where = many(named(look.config.routero.base_url), f" ({look.config.routero.dialect})")
    return section("Gateway", pairs(("Address", where), *checks, ("Verbs learnt", learnt)), id="gateway")


def _notes(look: Look) -> Markup | None:
    found = [named(f"{path}: {what}") for path, what in expired(look.config, look.now)]
    return section("Protections that have expired", bullets(found), id="notes") if found else None


SECTIONS: tuple[Callable[[Look], Markup | None], ...] = (
    _still_open,
    _spent,
    _holds,
    _speed,
    _departures,
    _jobs,
    _sources,
    _replicas,
    _exposed,
    _team_keys,
    _conflicts,
    _untold,
    _gateway,
    _notes,
)
