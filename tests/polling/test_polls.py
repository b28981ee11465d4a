"""Polled people: what a source says ends with keys dead, blocked or untouched as the table says; absence alone with nothing."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from support.directory import mail
from support.fixtures import Opener
from support.gateway import Gateway, Holder
from support.home import Home
from support.polled import Polled

from idsync.errors import HeldByGuard, IncompleteSource, SourceRefused, SourceUnreachable
from idsync.model import Observation
from idsync.store import directory, facts, journal, ledger, people, polled

TEAM = ("ann", "bob", "cy", "dee", "eve", "fay", "gus", "hal", "ida", "jan", "kim", "leo")
OKTA = {"okta": [{"name": "poll", "idp": "okta", "org_url": "https://a.okta.com", "api_token_file": "token"}]}
GRAPH = {"graph": [{"name": "poll", "idp": "okta", "tenant_id": "t", "client_id": "c", "client_secret_file": "token"}]}


@pytest.fixture
def okta() -> Polled:
    source = Polled()
    for login in TEAM:
        source.hire(login, "Data")
    source.hire("leo", "Data", "Web")
    return source


def start(
    opened: Opener, source: Polled, *, sources: dict[str, Any] = OKTA, pushes: bool = False, **changed: Any
) -> Home:
    """Open idsync on a source that is polled (and, with `pushes`, on one of the same directory that pushes)."""
    pushing = {"sources": [{"name": "push", "idp": "okta"}] if pushes else []}
    (opened._folder / "token").write_text("secret")
    tables = {kind: [{**entry, **_file(opened, entry)} for entry in entries] for kind, entries in sources.items()}
    return opened(polled={source.name: source}, scim=pushing, sources=tables, **changed)


def _file(opened: Opener, entry: dict[str, str]) -> dict[str, str]:
    return {key: str(opened._folder / value) for key, value in entry.items() if key.endswith("_file")}


def accounts(gateway: Gateway) -> dict[str, Any]:
    """Leo and Ann have accounts before anybody tells idsync of them: else it would make some of its own."""
    return {login: gateway.account(login) for login in ("leo", "ann")}


def crew(gateway: Gateway, home: Home, seeded: dict[str, Any] | None = None) -> dict[str, Any]:
    """Give Leo and Ann keys after the first poll has brought everybody in."""
    people = seeded or accounts(gateway)
    home.poll("poll")
    home.wait_until_quiet()
    for holder in people.values():
        holder.keys = [gateway.key_of(holder.user_id, team) for team in ("data", None)]
    people["leo"].keys.append(gateway.key_of(people["leo"].user_id, "web"))
    gateway.ready()
    return people


# -- what a source says of somebody -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "recent", "events"])
@pytest.mark.parametrize(
    ("observation", "sources", "ends"),
    [
        (Observation.INACTIVE, OKTA, "gone"),
        (Observation.ABSENT, OKTA, "gone"),
        (Observation.SUSPENDED, OKTA, "blocked"),
        (Observation.UNKNOWN, OKTA, "works"),
        (Observation.INACTIVE, GRAPH, "gone"),
    ],
)
def test_what_a_source_says_ends_as_the_table_says(
    gateway: Gateway,
    opened: Opener,
    okta: Polled,
    kind: str,
    observation: Observation,
    sources: dict[str, Any],
    ends: str,
) -> None:
    home = start(opened, okta, sources=sources)
    people = crew(gateway, home)
    okta.become("leo", observation)
    outcome = home.poll("poll", kind)
    home.wait_until_quiet()
    assert [loss.user for loss in outcome.losses] == ([mail("leo")] if ends != "works" else [])
    if ends == "gone":
        gateway.assert_gone(people["leo"])
    elif ends == "blocked":
        assert all(gateway.is_blocked(key) and gateway.exists(key) for key in people["leo"].keys)
        okta.become("leo", Observation.PRESENT)
        home.poll("poll", kind)
        home.wait_until_quiet()
        gateway.assert_at_work(people["leo"], "data", "web")
    else:
        gateway.assert_at_work(people["leo"], "data", "web")
    gateway.assert_at_work(people["ann"], "data")


def test_the_disabled_lose_access_at_once_and_keys_when_the_configuration_says(
    gateway: Gateway, opened: Opener, okta: Polled
) -> None:
    home = start(opened, okta, sources=GRAPH, policy={"disabled_delete_after": "1h"})
    leo = crew(gateway, home)["leo"]
    okta.become("leo", Observation.INACTIVE)
    home.poll("poll")
    home.wait_until_quiet()
    assert all(gateway.is_blocked(key) and gateway.exists(key) for key in leo.keys)
    assert home.departure("leo").evidence == "disabled"
    assert 3500 < home.departure("leo").delete_at - time.time() < 3601


def test_whoever_leaves_a_group_loses_that_team_alone(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home = start(opened, okta, policy={"group_loss_delete_after": "0s"})
    leo = crew(gateway, home)["leo"]
    okta.part("Web", "leo")
    outcome = home.poll("poll", "recent")
    home.wait_until_quiet()
    assert [(loss.user, loss.departs, loss.teams) for loss in outcome.losses] == [(mail("leo"), False, ("web",))]
    assert gateway.teams_with(leo.user_id) == ["data"]
    assert [gateway.exists(key) for key in leo.keys] == [True, True, False]


def test_whoever_moves_between_groups_is_never_fenced(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home = start(opened, okta)
    ann = crew(gateway, home)["ann"]
    before = gateway.ready()
    okta.part("Data", "ann")
    okta.hire("ann", "Web")
    home.poll("poll")
    home.wait_until_quiet()
    assert gateway.teams_with(ann.user_id) == ["data", "web"], "the roster is left when the time to come back is over"
    assert not ledger.departures_of(home.db, home.person("ann").id)
    assert "/user/update" not in gateway.paths(before)


# -- absence ------------------------------------------------------------------------------------------------------------


def test_a_listing_without_them_removes_nobody_who_is_there(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home = start(opened, okta)
    people = crew(gateway, home)
    okta.hidden = set(okta.users)
    with pytest.raises(IncompleteSource, match="was not whole"):
        home.poll("poll")
    okta.hidden = {"x-leo", "x-ann"}
    assert home.poll("poll").losses == []
    assert sorted(okta.looked_up[-2:]) == ["x-ann", "x-leo"]
    home.wait_until_quiet()
    for holder in people.values():
        gateway.assert_at_work(holder, "data")
    assert ledger.departures(home.db) == []


def test_an_import_that_the_log_tells_of_is_polled_for_at_once(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home = start(opened, okta)
    leo = crew(gateway, home)["leo"]
    okta.become("leo", Observation.INACTIVE)
    okta.told.clear()  # no event of his own
    home.poll("poll", "events")
    gateway.assert_at_work(leo, "data", "web")
    okta.imported = True
    outcome = home.poll("poll", "events")
    home.wait_until_quiet()
    assert [loss.user for loss in outcome.losses] == [mail("leo")]
    gateway.assert_gone(leo)


@pytest.mark.parametrize("error", [IncompleteSource, SourceUnreachable, SourceRefused])
def test_a_source_that_fails_removes_nobody_and_says_so(
    gateway: Gateway, opened: Opener, okta: Polled, error: type[IncompleteSource]
) -> None:
    home = start(opened, okta)
    leo = crew(gateway, home)["leo"]
    okta.become("leo", Observation.INACTIVE)
    okta.error = error("poll: no")
    for kind in ("full", "recent", "events"):
        with pytest.raises(error):
            home.poll("poll", kind)
    assert facts.get(home.db, "source_errors:poll") == 3
    assert home.core.metrics.registry.get_sample_value("idsync_source_consecutive_errors", {"source": "poll"}) == 3
    gateway.assert_at_work(leo, "data", "web")
    okta.error = None
    home.poll("poll", "recent")
    home.wait_until_quiet()
    gateway.assert_gone(leo)
    assert facts.get(home.db, "source_errors:poll") == 0


def test_a_source_that_lags_has_to_say_twice_that_somebody_is_gone(
    gateway: Gateway, opened: Opener, okta: Polled
) -> None:
    okta.patience = 2
    home = start(opened, okta, sources=GRAPH)
    leo = crew(gateway, home)["leo"]
    okta.become("leo", Observation.ABSENT)
    assert home.poll("poll").waiting == ["x-leo"]
    home.wait_until_quiet()
    gateway.assert_at_work(leo, "data", "web")
    home.poll("poll", "recent")
    home.wait_until_quiet()
    gateway.assert_gone(leo)


def test_a_lost_cursor_lists_everybody_anew(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home = start(opened, okta)
    leo = crew(gateway, home)["leo"]
    okta.become("leo", Observation.INACTIVE)
    okta.changed.clear()
    okta.forgotten = True
    assert home.poll("poll", "recent").kind == "full"
    home.wait_until_quiet()
    gateway.assert_gone(leo)


# -- the guard ------------------------------------------------------------------------------------------------------------


def test_more_than_the_guard_allows_waits_for_a_person(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home = start(opened, okta)
    people = crew(gateway, home)
    for login in ("leo", "ann", "bob"):
        okta.become(login, Observation.INACTIVE)
    outcome = home.poll("poll")
    assert [loss.state for loss in outcome.losses] == ["held"] * 3
    home.wait_until_quiet()
    for holder in people.values():
        gateway.assert_at_work(holder, "data")
    hold = ledger.holds(home.db)[0]
    assert "3 of 12 people" in hold.reason
    shown = ledger.checksum(ledger.items(home.db, hold.id))
    home.poll("poll")
    assert ledger.checksum(ledger.items(home.db, hold.id)) == shown, "what is seen again is not another plan"

    okta.become("bob", Observation.PRESENT)
    okta.become("cy", Observation.INACTIVE)
    later = home.poll("poll")
    assert {(loss.user, loss.hold_id == hold.id) for loss in later.losses} == {
        (mail("leo"), True), (mail("ann"), True), (mail("cy"), False)
    }  # fmt: skip
    with pytest.raises(Exception, match="has changed since"):
        home.write(lambda db: home.core.control.approve(db, hold.id, shown, by="test"))
    now = ledger.checksum(ledger.items(home.db, hold.id))
    home.write(lambda db: home.core.control.approve(db, hold.id, now, by="test"))
    home.wait_until_quiet()
    for holder in people.values():
        gateway.assert_gone(holder)
    assert not ledger.departures_of(home.db, home.person("cy").id), "that one waits in a hold of its own"
    assert not ledger.departures_of(home.db, home.person("bob").id)


def test_small_steps_within_a_day_add_up(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home = start(opened, okta)
    crew(gateway, home)
    states = []
    for login in ("ann", "bob", "cy"):
        okta.become(login, Observation.INACTIVE)
        states += [loss.state for loss in home.poll("poll", "recent").losses]
    assert states == ["done", "done", "held"]


def test_half_of_a_large_team_waits_although_few_leave(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home = start(opened, okta, guard={"max_departures": 100, "max_fraction": 1.0})
    crew(gateway, home)
    okta.hire("ann", "Web")
    home.poll("poll")
    for login in TEAM[:6]:
        okta.hire(login, "Web")
        okta.part("Data", login)
    outcome = home.poll("poll")
    assert {(loss.departs, loss.teams, loss.state) for loss in outcome.losses} == {(False, ("data",), "held")}
    assert len(outcome.losses) == 6


def test_what_was_rejected_stays_and_is_not_asked_again(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home = start(opened, okta)
    leo = crew(gateway, home)["leo"]
    for login in ("leo", "bob", "cy"):
        okta.become(login, Observation.INACTIVE)
    home.poll("poll")
    hold = ledger.holds(home.db)[0]
    home.write(lambda db: home.core.control.reject(db, hold.id, by="test"))
    assert {loss.state for loss in home.poll("poll").losses} == {"kept"}
    assert ledger.holds(home.db) == []
    gateway.assert_at_work(leo, "data", "web")


def test_frozen_nothing_of_a_poll_is_written(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home = start(opened, okta)
    leo = crew(gateway, home)["leo"]
    home.write(lambda db: home.core.control.freeze(db, reason="change window", by="test"))
    okta.become("leo", Observation.INACTIVE)
    okta.hire("new", "Data")
    assert home.poll("poll", "recent").frozen
    assert home.poll("poll").frozen
    gateway.assert_at_work(leo, "data", "web")
    assert directory.user_by_name(home.db, "poll", mail("new")) is None
    home.write(lambda db: home.core.control.thaw(db, reason="over", by="test"))
    home.poll("poll")
    home.wait_until_quiet()
    gateway.assert_gone(leo)
    assert directory.user_by_name(home.db, "poll", mail("new")) is not None


# -- the first poll -----------------------------------------------------------------------------------------------------


def test_people_who_left_before_are_taken_only_where_the_gateway_knows_them(
    gateway: Gateway, opened: Opener, okta: Polled
) -> None:
    old = gateway.account("old", None, sso_user_id="x-old")
    okta.hire("old", "Data", observation=Observation.INACTIVE)
    okta.hire("gone", "Data", observation=Observation.INACTIVE)
    home = start(opened, okta)
    outcome = home.poll("poll")
    home.wait_until_quiet()
    assert outcome.ignored == 1
    gateway.assert_gone(old)
    assert directory.user_by_name(home.db, "poll", mail("gone")) is None


# -- a source that pushes and one that is polled, of the same directory ---------------------------------------------------


def both(gateway: Gateway, opened: Opener, okta: Polled) -> tuple[Home, Any]:
    """Leo and Ann are pushed and polled alike."""
    home = start(opened, okta, pushes=True, policy={"group_loss_delete_after": "0s"})
    home.directory.source = "push"
    seeded = accounts(gateway)
    for login in seeded:
        home.directory.hire(login, "Data")
    people = crew(gateway, home, seeded)
    assert len(directory.users_of_person_any(home.db, home.person("leo").id)) == 2, "one person, two records"
    return home, people["leo"]


def test_a_push_during_a_poll_is_newer_than_it(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home, leo = both(gateway, opened, okta)
    okta.asked_at = home.core.clock.now()
    home.directory.part("Data", "leo")
    home.poll("poll")
    home.wait_until_quiet()
    assert "data" not in gateway.teams_with(leo.user_id), "the listing was asked for before the push"
    okta.asked_at = None
    home.poll("poll")
    home.wait_until_quiet()
    assert "data" in gateway.teams_with(leo.user_id), "a listing of later is newer"


def test_a_push_before_the_next_poll_is_not_taken_back(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home, leo = both(gateway, opened, okta)
    okta.part("Web", "leo")
    home.poll("poll")
    home.wait_until_quiet()
    okta.asked_at = home.core.clock.now()
    home.directory.join("Web", "leo")
    home.poll("poll")
    home.wait_until_quiet()
    assert "web" in gateway.teams_with(leo.user_id)
    okta.asked_at = None
    home.poll("poll")
    home.wait_until_quiet()
    assert "web" not in gateway.teams_with(leo.user_id), "the directory says otherwise since, and by id as well"


def test_a_push_that_got_lost_is_found_by_the_poll(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home, leo = both(gateway, opened, okta)
    okta.become("leo", Observation.INACTIVE)
    home.poll("poll")
    home.wait_until_quiet()
    gateway.assert_gone(leo)
    assert home.departure("leo").evidence == "deprovisioned"


def test_a_poll_does_not_bring_back_whom_a_push_has_ended(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home, leo = both(gateway, opened, okta)
    home.directory.leave("leo")
    for number in range(2):
        okta.users["x-leo"] = replace(okta.users["x-leo"], display_name=f"Leo {number}")
        home.poll("poll")
        home.wait_until_quiet()
        gateway.assert_gone(leo)
    home.directory.come_back("leo")
    home.wait_until_quiet()
    assert "data" in gateway.teams_with(leo.user_id)


def test_a_first_listing_does_not_bring_back_whom_a_push_has_ended(
    gateway: Gateway, opened: Opener, okta: Polled
) -> None:
    home = start(opened, okta, pushes=True)
    home.directory.source = "push"
    leo = gateway.account("leo", None)
    home.directory.hire("leo", "Data")
    home.directory.leave("leo")
    home.wait_until_quiet()
    home.poll("poll")
    home.wait_until_quiet()
    gateway.assert_gone(leo)


def test_names_that_change_places_are_told_apart_by_their_ids(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home = start(opened, okta)
    crew(gateway, home)
    ann, bob = okta.users["x-ann"], okta.users["x-bob"]
    okta.users["x-ann"] = replace(ann, user_name=bob.user_name)
    okta.users["x-bob"] = replace(bob, user_name=ann.user_name)
    home.poll("poll")
    known = polled.known_users(home.db, "poll")
    assert (known["x-ann"].user_name, known["x-bob"].user_name) == (mail("bob"), mail("ann"))
    assert ledger.departures(home.db) == []
    assert journal.head(home.db)[0] > 0


# -- a hold, and a world that goes on ---------------------------------------------------------------------------------------


@pytest.fixture
def held(gateway: Gateway, opened: Opener, okta: Polled) -> tuple[Home, Holder, ledger.Hold]:
    """Leo and two others are held, and what listed them is over."""
    home = start(opened, okta)
    leo = crew(gateway, home)["leo"]
    for login in ("leo", "bob", "cy"):
        okta.become(login, Observation.INACTIVE)
    home.poll("poll")
    okta.changed.clear()
    okta.told.clear()
    [hold] = ledger.holds(home.db)
    return home, leo, hold


@pytest.mark.parametrize("kind", ["recent", "events"])
def test_whoever_comes_back_is_let_go_by_the_next_poll_of_any_kind(
    gateway: Gateway, held: tuple[Home, Holder, ledger.Hold], okta: Polled, kind: str
) -> None:
    home, leo, hold = held
    okta.become("leo", Observation.PRESENT)
    home.poll("poll", kind)
    names = {people.person(home.db, item.person_id).label for item in ledger.items(home.db, hold.id)}  # type: ignore[union-attr]
    assert names == {mail("bob"), mail("cy")}
    home.approve(hold)
    home.wait_until_quiet()
    gateway.assert_at_work(leo, "data", "web")
    assert home.state("bob") in ("verified", "settled")


def test_nobody_is_taken_who_came_back_after_the_last_poll(
    gateway: Gateway, held: tuple[Home, Holder, ledger.Hold], okta: Polled
) -> None:
    home, leo, hold = held
    okta.become("leo", Observation.PRESENT)
    with pytest.raises(HeldByGuard, match=f"something else now of {mail('leo')}"):
        home.approve(hold)
    home.wait_until_quiet()
    assert not ledger.departures(home.db), "nothing of it was done"
    home.approve(hold)
    home.wait_until_quiet()
    gateway.assert_at_work(leo, "data", "web")
    assert home.state("bob") in ("verified", "settled")


@pytest.mark.parametrize("answer", ["none", "unknown", "another source"])
def test_what_cannot_be_confirmed_cannot_be_approved(
    gateway: Gateway, held: tuple[Home, Holder, ledger.Hold], okta: Polled, answer: str
) -> None:
    home, leo, hold = held
    if answer == "none":
        okta.error = SourceUnreachable("poll: no answer")
    elif answer == "unknown":
        okta.become("leo", Observation.UNKNOWN)
    else:
        del home.core.poller.sources["poll"]  # type: ignore[attr-defined]
    with pytest.raises((IncompleteSource, HeldByGuard)):
        home.approve(hold)
    home.wait_until_quiet()
    gateway.assert_at_work(leo, "data", "web")
    assert [entry.id for entry in ledger.holds(home.db)] == [hold.id]


# -- what a poll is told and what it makes of it -----------------------------------------------------------------------------


def test_changes_of_strangers_leave_nothing_behind(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home = start(opened, okta)
    crew(gateway, home)
    okta.hire("stranger")
    okta.hire("joiner", "Web")
    home.poll("poll", "recent")
    assert directory.user_by_name(home.db, "poll", mail("stranger")) is None
    assert directory.user_by_name(home.db, "poll", mail("joiner")) is not None


def test_a_fault_of_our_own_is_counted_as_well(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    home = start(opened, okta)
    leo = crew(gateway, home)["leo"]
    okta.become("leo", Observation.INACTIVE)
    okta.error = ZeroDivisionError("secret text")
    with pytest.raises(ZeroDivisionError):
        home.poll("poll")
    assert facts.get(home.db, "source_errors:poll") == 1
    assert facts.get(home.db, "source_problem:poll") == "a fault of idsync: ZeroDivisionError"
    gateway.assert_at_work(leo, "data", "web")


def test_a_dry_run_waits_for_a_second_word_like_the_poll_itself(gateway: Gateway, opened: Opener, okta: Polled) -> None:
    okta.patience = 2
    home = start(opened, okta, sources=GRAPH)
    crew(gateway, home)
    okta.become("leo", Observation.ABSENT)
    for _ in range(2):
        assert home.poll("poll", dry_run=True).losses == [], "the first word; a dry run does not count"
    home.poll("poll")
    assert [loss.user for loss in home.poll("poll", dry_run=True).losses] == [mail("leo")]
