"""Spend after a departure: found, told once, by person and key; and nothing of what was only booked late."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs
from support.daemon import Daemon, idsync
from support.fixtures import both_dialects
from support.gateway import Gateway
from support.waiting import until

from .place import HOUR, Place

ASKED = ["/key/list", "/key/list", "/user/daily/activity"]


@both_dialects
def test_a_leavers_key_that_costs_is_an_alarm(founded: Callable[..., Place]) -> None:
    place = founded()
    place.book(place.key, 9.0)
    place.leaves()
    place.book(place.key, 0.7, ago=5)  # a request of before, booked within the time it takes
    place.look()
    assert place.found() == {}
    place.chat(place.company.ann.keys[0])
    place.book(place.key, 1.25)
    with capture_logs() as told:
        place.look()
        place.look()
    assert place.found() == {place.key.id: 1.25}
    assert [entry["log_level"] for entry in told if entry["event"] == "spend.after_departure"] == ["error"]
    (audited,) = place.audited()
    assert (audited["key"], audited["account"], audited["spend"]) == (place.key.id, "u-leo", 1.25)
    assert place.metric("idsync_spend_after_departure") == 1
    assert place.metric("idsync_security_events_total") == 1


def test_what_it_costs_further_is_told_again(founded: Callable[..., Place]) -> None:
    place = founded()
    place.leaves()
    place.look()
    for amount in (1.0, 0.5):
        place.book(place.key, amount)
        place.look()
    assert place.found() == {place.key.id: 1.5}
    assert [entry["spend"] for entry in place.audited()] == [1.0, 1.5]


def test_the_daemon_looks_by_itself(gateway: Gateway, founded: Callable[..., Place]) -> None:
    place = founded()
    place.leaves()
    place.look()
    place.opened.close()
    place.book(place.key, 1.25)
    with Daemon(place.opened.settings) as daemon:
        until(lambda: "spend.after_departure" in daemon.said(), "the daemon has looked")
        (told,) = [event for event in daemon.events() if event["event"] == "spend.after_departure"]
        assert (told["level"], told["spend"]) == ("error", 1.25)
        done = idsync(place.opened.settings, "spend", "--csv")
    assert (done.code, "ALARM leo@corp.example spent 1.2500" in done.err) == (5, True)
    daemon.assert_discreet(place.key.id, "leo@corp.example")


@both_dialects
def test_it_is_seen_from_the_command_line_with_the_exit_code(founded: Callable[..., Place], dialect: str) -> None:
    place = founded()
    place.leaves()
    place.look()
    clean = place.run("spend", "--json")
    assert (clean.code, clean.json["after_departure"]["looked_at"]) == (0, 1)
    place.book(place.key, 1.25)
    live = place.run("spend")
    assert (live.code, place.found()) == (5, {}), "found by asking, before the daemon looked"
    assert "ALARM leo@corp.example spent 1.2500 after access had ended: key sk-..." in live.out
    place.look()
    (found,) = place.run("spend", "--json").json["after_departure"]["found"]
    assert (found["user"], found["key_id"], found["spend"]) == ("leo@corp.example", place.key.id, 1.25)
    assert (found["used_at"] is not None) == (dialect == "litellm"), "only there requests are listed"
    assert place.status() == {"people": 1, "spend": 1.25, "not_told": []}
    place.home.directory.come_back("leo")
    assert place.run("spend").code == 5, "that somebody is back does not undo it"


def test_what_was_booked_hours_late_is_no_alarm_where_requests_are_listed(
    gateway: Gateway, founded: Callable[..., Place]
) -> None:
    place = founded()
    place.leaves()
    place.look()
    place.book(place.key, 3.0, ago=HOUR + 60)
    place.look()
    assert (place.found(), len(gateway.calls("/spend/logs"))) == ({}, 1)
    place.look()
    assert len(gateway.calls("/spend/logs")) == 1, "accounted for, and not asked about again"
    place.book(place.key, 0.5)
    place.look()
    assert place.found() == {place.key.id: 0.5}


@pytest.mark.parametrize("dialect", ["routero"], indirect=True)
@pytest.mark.parametrize("silent", ["/user/daily/activity", "/key/list"])
def test_either_of_two_ways_is_enough(gateway: Gateway, founded: Callable[..., Place], silent: str) -> None:
    """A gateway without one of them is watched by the other, and that is said; without both, that too."""
    place = founded()
    place.leaves()
    gateway.fault(path=silent, status=404)
    place.look()
    place.book(place.key, 2.0, in_archive=True)
    place.look()
    assert place.found() == {place.key.id: 2.0}
    assert silent in place.status()["not_told"][0]


def test_nothing_is_found_before_it_can_be_known(gateway: Gateway, founded: Callable[..., Place]) -> None:
    """Requests under way, the gateway's cache and its batches: until then nobody is asked about."""
    place = founded()
    place.leaves()
    since = gateway.ready()
    place.look(60 + 60 + 900 - 5)
    assert [path for path in gateway.paths(since) if path in ASKED] == []
    place.look(10)
    assert gateway.paths(since).count("/user/daily/activity") == 1


def test_calls_grow_with_leavers_and_not_with_people(gateway: Gateway, founded: Callable[..., Place]) -> None:
    place = founded(spend={"watch": "2d"})
    place.company.crowd(place.home, 12)
    place.leaves()
    since = gateway.ready()
    place.look()
    assert sorted(gateway.paths(since)) == ASKED
    place.look(60)
    assert len(gateway.paths(since)) == len(ASKED), "not due again"
    place.look(2 * 24 * HOUR)
    assert len(gateway.paths(since)) == len(ASKED), "too long ago"


def test_whoever_is_back_is_watched_no_more(founded: Callable[..., Place]) -> None:
    place = founded()
    place.leaves()
    place.look()
    place.home.directory.come_back("leo")
    place.home.wait_until_quiet()
    place.book(place.key, 1.0)
    place.look()
    assert place.found() == {}


def test_an_answer_about_everybody_accuses_nobody(gateway: Gateway, founded: Callable[..., Place]) -> None:
    """A gateway that ignores whom it was asked about."""
    place = founded()
    place.leaves()
    everybody = '{"results": [{"date": "2099-01-01", "metrics": {"spend": 900}, "breakdown": {"api_keys": {}}}]}'
    gateway.fault(path="/user/daily/activity", status=200, body=everybody, content_type="application/json")
    place.look()
    place.look()
    assert place.found() == {}


def test_a_gateway_that_is_down_is_asked_later(gateway: Gateway, founded: Callable[..., Place]) -> None:
    place = founded()
    place.leaves()
    gateway.fault(path="/user/daily/activity", status=503, times=2)
    place.look()
    asked = place.run("spend", "--json")
    assert (asked.code, asked.json["after_departure"]["looked_at"]) == (1, 0)
    place.look(400)
    place.book(place.key, 1.0)
    place.look()
    assert place.found() == {place.key.id: 1.0}


def test_requests_of_others_are_no_alarm_where_the_gateway_lists_everybodys(
    gateway: Gateway, founded: Callable[..., Place]
) -> None:
    place = founded()
    place.book(place.key, 0.5)
    place.leaves()
    place.look()
    place.book(place.company.ann.keys[0], 3.0, ago=5)
    rows = gateway.call("GET", "/spend/logs?start_date=2000-01-01&end_date=9999-01-01").body
    gateway.break_with("/spend/logs", status=200, body=json.dumps(rows), content_type="application/json")
    place.book(place.key, 0.25)
    place.look()
    assert place.found() == {place.key.id: 0.25}


@pytest.mark.parametrize("when", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_a_request_of_no_time_keeps_nobody_from_being_looked_at(
    gateway: Gateway, founded: Callable[..., Place], when: str
) -> None:
    place = founded()
    place.leaves()
    place.look()
    rows = [{"api_key": place.key.id, "user": "u-leo", "spend": 1.0, "startTime": when}]
    gateway.break_with("/spend/logs", status=200, body=json.dumps(rows), content_type="application/json")
    place.book(place.key, 1.25)
    place.look()
    assert place.found() == {place.key.id: 1.25}
