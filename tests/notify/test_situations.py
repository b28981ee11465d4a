"""What is true, read from a real store: each event begins with what makes it true, and ends with what ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.stores import url_of

from idsync.model import DepartureState, Event, Evidence, Lane
from idsync.notify.situations import DAY, Ending, Watched, situations
from idsync.store import facts, jobs, journal, ledger, notices, people, teamkeys, tokens
from idsync.store.db import Db, Store
from idsync.store.ledger import Departure, HoldItem
from idsync.store.notices import Notice
from idsync.store.opening import store_of

NOW = 1_800_000_000.0
CERTIFICATE = Ending("the certificate of source entra", NOW + 13 * DAY, "upload another")
Write = Callable[[Db], object]
LONG_UP = Watched({"okta-poll": 300.0}, {"okta-push": 7 * DAY}, NOW - 30 * DAY)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = store_of(url_of(tmp_path / "idsync.db"))
    found.open()
    yield found
    found.close()


def told(store: Store, watched: Watched = LONG_UP, now: float = NOW) -> list[tuple[Event, str]]:
    return [(one.event, one.summary) for one in situations(store.reader(), watched, now)]


def person(db: Db, name: str = "ada@example.com") -> str:
    return people.new_person(db, name, NOW - DAY)


def leave(db: Db, *, received: float = NOW - 301, **more: object) -> str:
    """Let somebody leave whose access has not ended."""
    who = person(db)
    given = {"state": DepartureState.ACCEPTED, **more}
    one = Departure(
        "d1", who, "ada@example.com", "u1", "departure", Evidence.SCIM_DELETE, "c", "okta-push",
        received_at=received, accepted_at=received, pushed_at=received, delete_at=received, **given,  # type: ignore[arg-type]
    )  # fmt: skip
    ledger.put_departure(db, one)
    return who


def still_alive(db: Db) -> None:
    """Let the gateway show what it said was gone."""
    who = leave(db, received=NOW - 1)
    jobs.open_job(db, who, Lane.REVOKE, 1, NOW)
    db.execute("UPDATE jobs SET alive = 1, last_error = 'key sk-abcdefghijkl is still listed'")


def polled(errors: int, ago: float) -> Write:
    def work(db: Db) -> None:
        facts.put(db, "source_errors:okta-poll", errors, NOW)
        facts.put(db, "source_problem:okta-poll", "no answer in time", NOW)
        facts.put(db, "source_success:okta-poll", NOW - ago, NOW)

    return work


def pushed(ago: float, used: float | None = None) -> Write:
    def work(db: Db) -> None:
        facts.put(db, "source_success:okta-push", NOW - ago, NOW)
        tokens.put_token(db, id="t", kind="source", name="okta-push", scope="scim", digest="d", at=0.0)
        if used is not None:
            tokens.touch_token(db, "t", NOW - used)

    return work


def in_the_trail(action: str, ago: float) -> Write:
    detail = {"what": ["key", "fence"], "departure": "d1"}
    return lambda db: journal.append(
        db, at=NOW - ago, actor="engine", action=action, subject="ada@example.com", detail=detail
    )


def rotating(ago: float) -> Write:
    failing = teamkeys.TeamKey("ci", "data", error="the sink says no", failing_since=NOW - ago)
    return lambda db: teamkeys.put(db, failing)


def hold(db: Db) -> None:
    made, _ = ledger.join_hold(db, "push", "60 departures in 10 minutes", NOW)
    ledger.add_item(db, HoldItem(made.id, person(db), "", "scim_delete", "1"))


def hold_approved(db: Db) -> None:
    hold(db)
    for one in ledger.holds(db):
        ledger.decide_hold(db, one.id, "approved", "op", NOW)


TRUE: dict[str, tuple[Write, Event, str]] = {
    "a key is alive": (
        still_alive,
        Event.VERIFICATION_FAILED,
        "ada@example.com: the gateway still shows what it said was gone (key *** is still listed)",
    ),
    "access has not ended for 5 min": (
        leave,
        Event.VERIFICATION_FAILED,
        "ada@example.com: access is not proven to have ended",
    ),
    "the trail is broken": (
        lambda db: facts.put(db, journal.BROKEN, {"entry": 7, "at": NOW}, NOW),
        Event.AUDIT_BROKEN,
        "the audit trail breaks at entry 7: it was altered, removed or inserted",
    ),
    "a key came back": (
        in_the_trail("departure.reasserted", DAY - 1),
        Event.SECURITY_EVENT,
        "ada@example.com has left, and something of theirs had come back and was ended again: fence, key",
    ),
    "spent after": (
        in_the_trail("spend.after_departure", 5.0),
        Event.SPEND_AFTER_DEPARTURE,
        "something was spent in the name of ada@example.com after their access had ended",
    ),
    "a hold": (hold, Event.HOLD_OPENED, "a hold waits for a decision: 60 departures in 10 minutes (1 person)"),
    "three polls failed": (
        polled(3, 60.0),
        Event.SOURCE_FAILING,
        "source okta-poll: no whole poll since 2027-01-15T07:59:00.000Z; 3 failed in a row: no answer in time",
    ),
    "no poll was whole": (
        polled(0, 901.0),
        Event.SOURCE_FAILING,
        "source okta-poll: no whole poll since 2027-01-15T07:44:59.000Z",
    ),
    "a source is silent": (
        pushed(8 * DAY, 7.5 * DAY),
        Event.SOURCE_FAILING,
        "source okta-push: nothing was heard of it since 2027-01-07T20:00:00.000Z",
    ),
    "a key is not renewed": (
        rotating(901.0),
        Event.ROTATION_FAILED,
        "the key ci of team data is not renewed since 2027-01-15T07:44:59.000Z: the sink says no",
    ),
    "a conflict": (
        lambda db: people.open_conflict(db, "account", "p", "two accounts match ada", "idsync link", NOW),
        Event.CONFLICT_OPENED,
        "two accounts match ada",
    ),
}
UNTRUE: dict[str, Write] = {
    "access ended a moment ago": lambda db: leave(db, received=NOW - 10_000, access_ended_at=NOW, verified_at=NOW),
    "access has not ended for a minute": lambda db: leave(db, received=NOW - 60),
    "two polls failed": polled(2, 60.0),
    "a source is quiet, but reads": pushed(8 * DAY, 60.0),
    "a source never came": lambda _: None,
    "a key is not renewed, for a minute": rotating(60.0),
    "came back two days ago": in_the_trail("departure.reasserted", 2 * DAY),
    "something else in the trail": in_the_trail("departure.verified", 5.0),
    "a hold was approved": hold_approved,
}


@pytest.fixture
def fresh(store: Store) -> Store:
    """A store in which polling goes well, so that a test sees its own alone."""
    store.write(polled(0, 60.0))
    return store


@pytest.mark.parametrize(("make", "event", "summary"), TRUE.values(), ids=TRUE)
def test_it_is_true(fresh: Store, make: Write, event: Event, summary: str) -> None:
    fresh.write(make)
    assert told(fresh) == [(event, summary)]


@pytest.mark.parametrize("make", UNTRUE.values(), ids=UNTRUE)
def test_it_is_not(fresh: Store, make: Write) -> None:
    fresh.write(make)
    assert told(fresh) == []


def test_a_gateway_that_is_down_later_on_has_proven_nothing(fresh: Store) -> None:
    fresh.write(still_alive)
    (one,) = situations(fresh.reader(), LONG_UP, NOW)
    fresh.write(lambda db: notices.put(db, Notice("ops", one.event, one.subject, one.summary, "", NOW, told_at=NOW)))
    fresh.write(lambda db: db.execute("UPDATE jobs SET alive = 0, last_error = 'no connection to the gateway'"))
    ((event, summary),) = told(fresh)
    assert (event, "no connection" in summary) == (Event.VERIFICATION_FAILED, True)
    fresh.write(lambda db: db.execute("DELETE FROM jobs"))
    fresh.write(lambda db: db.execute("UPDATE departures SET access_ended_at = :now, verified_at = :now", now=NOW))
    assert told(fresh) == []


def test_nothing_is_late_right_after_a_start(fresh: Store) -> None:
    fresh.write(polled(0, 10_000.0))
    fresh.write(pushed(8 * DAY))
    assert told(fresh, Watched(LONG_UP.polled, LONG_UP.pushed, NOW - 60.0)) == []


@pytest.mark.parametrize(("now", "word"), [(NOW - 2 * DAY, None), (NOW, "ends"), (NOW + 14 * DAY, "has ended")])
def test_a_credential_is_told_of_before_it_ends_and_until_it_is_replaced(
    fresh: Store, now: float, word: str | None
) -> None:
    said = [summary for _, summary in told(fresh, Watched({}, {}, now, [CERTIFICATE]), now)]
    assert said == ([f"{CERTIFICATE.what} {word} at 2027-01-28T08:00:00.000Z"] if word else [])


def test_a_token_is_told_of_until_another_one_outlives_it(fresh: Store) -> None:
    def make(name: str, ends: float | None) -> None:
        told_of = {"kind": "source", "name": "okta-push", "scope": "scim", "digest": name, "at": 0.0}
        fresh.write(lambda db: tokens.put_token(db, id=name, **told_of, expires_at=ends))  # type: ignore[arg-type]

    make("old", NOW + DAY)
    ((event, summary),) = told(fresh)
    assert (event, "the token old of source okta-push ends at" in summary) == (Event.CREDENTIAL_EXPIRING, True)
    assert "has ended" in told(fresh, now=NOW + 2 * DAY)[-1][1]
    make("next", NOW + 90 * DAY)
    assert told(fresh) == []


@pytest.mark.needs_file("asks SQLite for its plan")
def test_entries_that_are_told_are_found_without_reading_the_trail(store: Store) -> None:
    sql = (
        "EXPLAIN QUERY PLAN SELECT * FROM audit WHERE action IN ('departure.reasserted', 'spend.after_departure')"
        " AND at > :since ORDER BY at, seq"
    )
    assert "audit_told" in " ".join(row["detail"] for row in store.reader().all(sql, since=NOW))
