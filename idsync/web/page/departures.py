"""Departures: the list, and the page of one with its receipt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from idsync.clock import epoch_of
from idsync.control import find_person
from idsync.errors import UsageError
from idsync.store import glance, ledger, spend
from idsync.store.glance import PAGE, Line
from idsync.store.ledger import Departure
from idsync.views import departure_view
from idsync.web.page import lists
from idsync.web.page.draw import STAGES, Step, dots, said, steps, timeline
from idsync.web.page.frame import Draw, Look, Page, badge, bullets, empty, pager, pairs, section, table
from idsync.web.page.html import Child, Markup, many, named, tag
from idsync.web.page.words import ago, length, moment
from idsync.words import count

KINDS = {
    "settled": "good",
    "verified": "good",
    "held": "warn",
    "parked": "warn",
    "cancelled": "note",
}
"""How a state is coloured; every other one is on its way."""


def list_page(look: Look) -> Page:
    asked = look.query.get("user", "").strip()[:300]
    total = glance.counted_departures(look.db)
    if asked:
        lines, problem = _of(look, asked)
        links = None
    else:
        lines, problem = glance.departures(look.db, offset=(look.page - 1) * PAGE), None
        links = pager(look, "/departures", PAGE, total)
    search = tag(
        "form",
        tag("label", "Find a person", for_="user"),
        tag(
            "input",
            id="user",
            name="user",
            value=asked,
            placeholder="e-mail, userName or gateway user_id",
            maxlength=300,
        ),
        tag("button", "Find"),
        method="get",
        action="/departures",
        class_="search",
        role="search",
    )
    told = many("Departures of ", named(asked)) if asked else f"{count(total, 'departure')}, the newest first"
    body = listed(lines, look.now, "Departures") if lines else empty(problem or "None.")
    return Page("Departures", many(tag("h1", "Departures"), search, tag("p", told, "."), body, links), "/departures")


def _of(look: Look, asked: str) -> tuple[list[Line], str | None]:
    try:
        person = find_person(look.db, asked)
    except UsageError as error:
        return [], str(error)
    if person is None:
        return [], "Nobody is called that here."
    lines = glance.departures_of(look.db, [person.id])
    return lines, None if lines else f"{person.label} has not left."


def listed(lines: Sequence[Line], now: float, caption: str) -> Markup:
    rows = [
        (_name(line), _state(line), dots(_steps(line)), _took(line), moment(line.received_at, now)) for line in lines
    ]
    key = tag("p", f"Stages, filled when done: {', '.join(STAGES)}.", class_="hint")
    return many(table(caption, ("Person", "State", "Stages", "Took", "Left"), rows), key)


def _name(line: Line) -> Markup:
    return many(
        tag("a", named(line.label), href=f"/departures/{line.id}"),
        tag("span", named(line.problem), class_="problem") if line.problem else None,
    )


def _state(line: Line | Departure) -> Markup:
    state = str(line.state)
    word = "suspended" if line.kind == "suspension" and state not in KINDS else state
    if state not in KINDS and line.access_ended_at is not None:
        return badge("good" if line.kind == "suspension" else "note", f"{word}, access ended")
    return badge(KINDS.get(state, "bad"), word)


def _took(line: Line) -> str:
    if line.verified_at is not None:
        return length(line.verified_at - line.received_at)
    return (
        f"access ended after {length(line.access_ended_at - line.received_at)}" if line.access_ended_at else "not over"
    )


def _steps(line: Line | Departure) -> list[Step]:
    stages = {
        "accepted": line.accepted_at,
        "fenced": line.fenced_at,
        "blocked": line.blocked_at,
        "deleted": line.deleted_at,
        "verified": line.verified_at,
        "settled": line.settled_at,
    }
    unwanted: set[str] = set()
    if line.kind == "suspension":
        unwanted |= {"deleted", "verified", "settled"}
    if str(line.state) == "cancelled" or getattr(line, "closed_at", None) is not None:
        unwanted |= set(stages)
    if line.verified_at is not None:
        unwanted |= {"fenced", "blocked", "deleted"}  # there was nothing to do in these
    return steps(line.received_at, stages, frozenset(unwanted))


# -- one ------------------------------------------------------------------------------------------------------------


def page(departure_id: str) -> Draw:
    def draw(look: Look) -> Page:
        departure = ledger.departure(look.db, departure_id)
        if departure is None:
            return Page(
                "Not found",
                many(tag("h1", "There is no such departure"), tag("p", tag("a", "All departures", href="/departures"))),
                "/departures",
                404,
            )
        view = departure_view(look.db, departure)
        body = many(
            tag("h1", named(departure.label)),
            _drawn(departure),
            _about(departure, look.now),
            _spent(look, departure),
            *_receipt(view["receipt"]),
        )
        return Page(f"Departure of {departure.label}", body, "/departures")

    return draw


def _about(departure: Departure, now: float) -> Markup:
    took = None if departure.verified_at is None else length(departure.verified_at - departure.received_at)
    hold = tag("a", "a hold", href=f"/holds/{departure.hold_id}") if departure.hold_id else None
    return pairs(
        ("State", _state(departure)),
        ("In the way", tag("span", named(departure.problem), class_="problem") if departure.problem else None),
        ("Time to revoke", took),
        ("Request received", many(moment(departure.received_at), f", {ago(departure.received_at, now)}")),
        ("Evidence", f"{departure.evidence.value} ({departure.kind})"),
        ("Cause", named(departure.cause)),
        ("Source", named(departure.source)),
        ("Gateway account", named(departure.account_id or "none")),
        ("Fence", departure.fence),
        ("Waits for", hold),
    )


def _spent(look: Look, departure: Departure) -> Markup | None:
    found = spend.after_of(look.db, departure.id)
    return section("Spend after departure", lists.spent(look.db, found, look.now), id="spent") if found else None


def _drawn(departure: Departure) -> Markup:
    line = _steps(departure)
    told = tag("ol", [tag("li", step.name, ": ", said(step)) for step in line], class_="unseen")
    return section("Stages", tag("figure", timeline(line), timeline(line, upright=True)), told, id="stages")


def _receipt(receipt: Mapping[str, Any]) -> Iterator[Markup]:
    """Yield the parts of a receipt: what is left, what ended, how that was seen, and every call."""
    if not receipt:
        yield section("Receipt", empty("Nothing was done at the gateway yet."), id="receipt")
        return
    yield section("Left standing", bullets(_left(receipt)), id="left")
    yield section("Ended", _ended(receipt), id="ended")
    yield section("Read back", _looks(receipt.get("read_backs", [])), id="looks")
    calls = receipt.get("calls", [])
    if calls:
        summary = tag("summary", count(len(calls), "call"), " to the gateway")
        missing = receipt.get("calls_left_out")
        note = tag("p", f"{count(missing, 'call')} in the middle left out.", class_="hint") if missing else None
        yield section("Calls", tag("details", summary, _calls(calls), note), id="calls")


def _left(receipt: Mapping[str, Any]) -> Iterator[Child]:
    for key in receipt.get("shared_keys") or []:
        yield many(badge("warn", "may be known to them"), " key ", _key(key))
    for account in receipt.get("other_accounts") or []:
        yield many(badge("warn", "another account"), " with their e-mail: ", named(account))
    for sentence in receipt.get("left_standing", []):
        yield named(sentence)


def _key(key: Mapping[str, Any]) -> Markup:
    return many(named(key["alias"] or key["name"] or key["id"]), " (team ", named(key["team_id"] or "none"), ")")


def _ended(receipt: Mapping[str, Any]) -> Markup:
    ended: list[Child] = [many("key ", _key(key)) for key in receipt.get("keys", [])]
    for what, word in (
        ("teams", "team"),
        ("roles", "role"),
        ("organizations", "organization"),
        ("invitations", "invitation"),
        ("deleted_accounts", "account"),
    ):
        ended += [many(f"{word} ", named(one)) for one in receipt.get(what, [])]
    means = [(what, how) for what, how in sorted(receipt.get("features", {}).items())]
    how = many(tag("h3", "By which means"), pairs(*[(what, named(word)) for what, word in means])) if means else None
    return many(bullets(ended) if ended else empty("They had nothing there."), how)


def _looks(looks: Sequence[Mapping[str, Any]]) -> Markup:
    if not looks:
        return empty("Not yet.")
    rows = [
        (
            _at(look["at"]),
            badge("good" if look["verdict"] == "gone" else "bad", str(look["verdict"])),
            f"{look['keys_listed']} listed, {look['keys_asked_by_id']} asked by id",
            str(look["teams"]),
            "yes" if look["fenced"] else "no",
        )
        for look in looks
    ]
    return table("Read-backs", ("When", "Verdict", "Keys", "Teams", "Fenced"), rows)


def _calls(calls: Sequence[Mapping[str, Any]]) -> Markup:
    rows = [
        (
            _at(call["at"]),
            tag("code", f"{call['method']} {call['path']}"),
            named(call["target"]),
            str(call["status"] if call["status"] is not None else "no answer"),
            f"{call['ms']} ms",
        )
        for call in calls
    ]
    return table("Calls", ("When", "Call", "About", "Answer", "Took"), rows)


def _at(text: str) -> Child:
    at = epoch_of(text)
    return text if at is None else moment(at)
