"""Holds: what a guard keeps back, exactly as its checksum covers it, and the question before it is decided."""

from __future__ import annotations

from collections.abc import Sequence

from idsync.errors import HeldByGuard, NotFound
from idsync.store import glance, ledger
from idsync.store.db import Db
from idsync.store.glance import PAGE, Held, Kept
from idsync.store.ledger import Hold
from idsync.web.page.frame import Draw, Look, Page, badge, banner, empty, pager, pairs, secret, section, table
from idsync.web.page.html import Markup, many, named, tag
from idsync.web.page.words import moment
from idsync.words import count

WORDS = {"approve": "Approve", "reject": "Reject"}
MEANING = {
    "approve": "What is listed here ends at once: keys are deleted and memberships end. A return gives memberships back, never a key.",
    "reject": "What is listed here stays as it is now, for good. Access that has ended already stays ended.",
}
KINDS = {"open": "warn", "approved": "good", "rejected": "note", "emptied": "note"}


def list_page(look: Look) -> Page:
    waiting = glance.holds(look.db, only_open=True, limit=1000)
    decided = glance.holds(look.db, only_open=False, offset=(look.page - 1) * PAGE)
    links = pager(look, "/holds", PAGE, glance.counted_holds(look.db, only_open=False))
    body = many(
        tag("h1", "Holds"),
        tag(
            "p",
            "What a guard keeps back until a person decides. Access of people who were pushed out has ended already.",
        ),
        section("Open", listed(waiting, look.now) if waiting else empty("Nothing waits."), id="open"),
        section("Decided", listed(decided, look.now) if decided else empty("None yet."), links, id="decided"),
    )
    return Page("Holds", body, "/holds")


def listed(found: Sequence[Kept], now: float) -> Markup:
    rows = [
        (
            tag("a", named(hold.reason), href=f"/holds/{hold.id}"),
            badge(KINDS.get(hold.state, "note"), hold.state),
            count(hold.people, "person", "people"),
            moment(hold.created_at, now),
            many(named(hold.decided_by or "–")),
        )
        for hold in found
    ]
    return table("Holds", ("Why", "State", "Concerns", "Since", "Decided by"), rows)


def page(hold_id: str) -> Draw:
    """Return the page of one hold: its plan, all of it, and what may be done with it."""

    def draw(look: Look) -> Page:
        hold = ledger.hold(look.db, hold_id)
        if hold is None:
            return _missing()
        held = ledger.items(look.db, hold.id)
        checksum = ledger.checksum(held)
        facts = pairs(
            ("State", badge(KINDS.get(hold.state, "note"), hold.state)),
            ("Since", moment(hold.created_at)),
            ("Concerns", count(len({item.person_id for item in held}), "person", "people")),
            ("Checksum", tag("code", checksum)),
            ("Decided by", named(hold.decided_by) if hold.decided_by else None),
            ("Decided", moment(hold.decided_at) if hold.decided_at else None),
        )
        plan = section("Plan", _plan(look, hold, f"/holds/{hold.id}", len(held)), id="plan")
        return Page("Hold", many(tag("h1", named(hold.reason)), facts, _choices(look, hold, checksum), plan), "/holds")

    return draw


def _choices(look: Look, hold: Hold, checksum: str) -> Markup | None:
    if hold.state != "open":
        return None
    if not look.session.may_approve:
        return tag(
            "p",
            "Your token may look. Deciding needs one of scope approve, or ",
            tag("code", f"idsync holds approve {hold.id} --checksum {checksum}"),
            ".",
        )
    links = [
        tag("a", f"{word} …", href=f"/holds/{hold.id}/{what}?checksum={checksum}", class_=f"button {what}")
        for what, word in WORDS.items()
    ]
    return tag("p", links, class_="choices")


def _plan(look: Look, hold: Hold, path: str, total: int) -> Markup:
    """Show what the checksum covers: person, what is taken, the cause, and which version of the evidence."""
    found = glance.held(look.db, hold.id, limit=PAGE, offset=(look.page - 1) * PAGE)
    rows = [
        (_who(item), _what(item), named(item.cause), _now(item), tag("code", named(item.version))) for item in found
    ]
    shown = (
        table("Plan", ("Person", "Takes", "Because", "Access now", "Evidence"), rows)
        if rows
        else empty("Nothing is left in it.")
    )
    return many(shown, pager(look, path, PAGE, total))


def _who(item: Held) -> Markup:
    return (
        tag("a", named(item.label), href=f"/departures/{item.departure_id}") if item.departure_id else named(item.label)
    )


def _what(item: Held) -> Markup:
    if item.team.startswith("@"):
        return many("access given through ", named(item.team[1:]))
    return many("team ", named(item.team), ", and its keys") if item.team else many("all keys and memberships")


def _now(item: Held) -> Markup:
    return badge("good", "ended") if item.access_ended_at is not None else badge("warn", "not ended")


# -- deciding -------------------------------------------------------------------------------------------------------


def question(hold_id: str, what: str) -> Draw:
    """Return the page that asks once more, showing what the answer would cover."""

    def draw(look: Look) -> Page:
        checksum = look.query.get("checksum", "")
        try:
            hold, held = as_shown(look.db, hold_id, checksum)
        except NotFound:
            return _missing()
        except HeldByGuard as error:
            return refusal(hold_id, str(error), 409)(look)
        if not look.session.may_approve:
            return refusal(hold_id, "This token may look only.", 403)(look)
        people = len({item.person_id for item in held})
        body = many(
            tag("h1", f"{WORDS[what]} this?"),
            tag("p", named(hold.reason), class_="lead"),
            banner("warn", tag("strong", f"{count(people, 'person', 'people')}. "), MEANING[what]),
            _sure(look, hold, what, checksum, people),
            section("It covers", _plan(look, hold, f"/holds/{hold.id}/{what}", len(held)), id="plan"),
        )
        return Page(f"{WORDS[what]} a hold", body, "/holds")

    return draw


def _sure(look: Look, hold: Hold, what: str, checksum: str, people: int) -> Markup:
    box = tag("input", type="checkbox", id="sure", name="sure", value="yes", required=True)
    return tag(
        "form",
        secret(look.session),
        tag("input", type="hidden", name="checksum", value=checksum),
        tag(
            "p", box, tag("label", f"I have read whom this concerns (checksum {checksum}).", for_="sure"), class_="sure"
        ),
        tag(
            "p",
            tag("button", f"{WORDS[what]}: {count(people, 'person', 'people')}", class_=what),
            tag("a", "Back, decide nothing", href=f"/holds/{hold.id}", class_="button"),
            class_="choices",
        ),
        tag(
            "p",
            f"In your name, {look.session.operator}: it is written into the audit trail. Sources are asked once more before.",
            class_="hint",
        )
        if what == "approve"
        else None,
        method="post",
        action=f"/holds/{hold.id}/{what}",
    )


def refusal(hold_id: str, why: str, status: int) -> Draw:
    """Return the page that says why nothing was decided."""

    def draw(_: Look) -> Page:
        body = many(
            tag("h1", "Nothing was decided"),
            banner("bad", named(why)),
            tag("p", tag("a", "Look at the hold as it is now", href=f"/holds/{hold_id}")),
        )
        return Page("Nothing was decided", body, "/holds", status)

    return draw


def as_shown(db: Db, hold_id: str, checksum: str) -> tuple[Hold, list[ledger.HoldItem]]:
    """Return an open hold and all that it keeps back, as long as that is what was shown.

    Raises:
        NotFound: no such open hold.
        HeldByGuard: it has changed since.
    """
    hold = ledger.hold(db, hold_id)
    if hold is None or hold.state != "open":
        raise NotFound("This hold is not open any more.")
    held = ledger.items(db, hold.id)
    if ledger.checksum(held) != checksum:
        raise HeldByGuard("The hold has changed since it was shown.")
    return hold, held


def _missing() -> Page:
    body = many(tag("h1", "There is no such open hold"), tag("p", tag("a", "All holds", href="/holds")))
    return Page("Not found", body, "/holds", 404)
