"""A listing of Okta is whole, or it is an error: whatever goes wrong, on whatever page, there is no Snapshot."""

from __future__ import annotations

from typing import Any

import pytest

from idsync.errors import IncompleteSource, SourceRefused, SourceUnreachable
from idsync.model import Observation
from idsync.snapshot import Wanted

from .org import Org, Store

# what is done to a page                   | what becomes of the pass
FAULTS: list[tuple[str, dict[str, Any], type[IncompleteSource]]] = [
    ("answers 500", {"status": 500}, SourceUnreachable),
    ("a gateway's error page", {"html": True, "status": 502}, SourceUnreachable),
    ("hangs up before", {"drop": "before"}, SourceUnreachable),
    ("breaks off", {"truncate": True}, SourceUnreachable),
    ("too many requests for ever", {"throttle": "rate"}, SourceUnreachable),
    ("too many at once for ever", {"throttle": "concurrency"}, SourceUnreachable),
    ("401", {"status": 401}, SourceRefused),
    ("403", {"status": 403}, SourceRefused),
    ("404", {"status": 404}, IncompleteSource),
    ("a redirect", {"status": 302, "headers": {"location": "/"}}, IncompleteSource),
    ("a page of HTML with 200", {"html": True}, IncompleteSource),
    ("half of the JSON", {"damage": "json"}, IncompleteSource),
    ("an error spliced in", {"damage": "splice"}, IncompleteSource),
    ("an object, not a list", {"status": 200, "body": "{}", "content_type": "application/json"}, IncompleteSource),
    ("records without id", {"edit": {"unset": ["id"]}}, IncompleteSource),
    ("next is itself", {"next": "self"}, IncompleteSource),
    ("next is the first", {"next": "first"}, IncompleteSource),
    ("next is elsewhere", {"next": "foreign"}, IncompleteSource),
    ("next is no address", {"next": "http://[::1"}, IncompleteSource),
]
# what no single answer of a listing shows; Okta's own count does, and for groups that bound ones are missing
QUIET: list[tuple[str, dict[str, Any]]] = [
    ("nothing on it", {"items": "none"}),
    ("half of it", {"items": "half"}),
    ("no next", {"next": "none"}),
    ("a role that was narrowed", {"keep": 0.001}),
]
PAGES = {
    "groups": ("/api/v1/groups", 2),
    "data": ("/api/v1/groups/{data}/users", 3),
    "app": ("/api/v1/apps/{app}/users", 2),
}


def spoil(org: Org, listing: str, page: int, rule: dict[str, Any]) -> None:
    path = PAGES[listing][0].format(data=org.ids["data"], app=org.app)
    org.spoil(path, page=page, **rule)


@pytest.mark.parametrize("listing", PAGES)
@pytest.mark.parametrize(("what", "rule", "error"), FAULTS, ids=[row[0] for row in FAULTS])
def test_a_fault_on_any_page(
    org: Org, listing: str, what: str, rule: dict[str, Any], error: type[IncompleteSource]
) -> None:
    for page in range(1, PAGES[listing][1] + 1):
        spoil(org, listing, page, rule)
        with pytest.raises(error) as caught:
            org.snapshot(app_id=org.app)
        assert type(caught.value) is error, (page, what)
        assert caught.value.exit_code == 6
        assert "00sandbox" not in str(caught.value)


@pytest.mark.parametrize("listing", ["groups", "data"])
@pytest.mark.parametrize(("what", "rule"), QUIET, ids=[row[0] for row in QUIET])
def test_a_short_listing_disagrees_with_what_okta_counts(
    org: Org, listing: str, what: str, rule: dict[str, Any]
) -> None:
    everything = frozenset(org.ids[name] for name in ("data", "ml", "sales"))
    last = PAGES[listing][1]
    for page in range(
        1, last if what in ("half of it", "no next") else last + 1
    ):  # the last has one record and no next
        spoil(org, listing, page, rule)
        with pytest.raises(IncompleteSource):
            org.snapshot(Wanted(bound=everything))


@pytest.mark.parametrize("rule", [{"items": "none"}, {"keep": 0.001}])
def test_nobody_is_never_believed(org: Org, rule: dict[str, Any]) -> None:
    org.break_with("/api/v1/apps/*", **rule)
    with pytest.raises(IncompleteSource, match="nobody is assigned"):
        org.snapshot(app_id=org.app)


def test_an_empty_group_is_believed_where_okta_counts_none(org: Org) -> None:
    made = str(org.act("create_group", name="new")["id"])
    found = org.snapshot(Wanted(ids=frozenset({made})))
    assert found.groups[made].members == frozenset()
    org.break_with("/api/v1/groups", edit={"match": {"id": made}, "unset": ["_embedded"]})
    with pytest.raises(IncompleteSource, match="Okta says nothing"):
        org.snapshot(Wanted(ids=frozenset({made})))
    org.spoil("/api/v1/groups", edit={"unset": ["_embedded"]})
    assert len(org.snapshot().groups) == 2, "without a count, members are believed"


def test_an_empty_page_in_the_middle_is_no_end(org: Org) -> None:
    org.break_with("/api/v1/apps/*", page=1, items="none")
    assert org.names(org.snapshot(app_id=org.app).users) == {"cyd"}


def test_listed_twice_is_listed_once_and_the_same_page_again_is_a_loop(org: Org) -> None:
    org.break_with(f"/api/v1/groups/{org.ids['data']}/users", items="twice")
    assert org.names(org.snapshot().groups[org.ids["data"]].members) == {"ann", "ben", "cyd", "dan", "eve"}
    spoil(org, "data", 2, {"items": "repeat"})
    with pytest.raises(IncompleteSource, match="repeats"):
        org.snapshot()


def test_stalled_and_dripping_answers_end(org: Org) -> None:
    for rule in ({"hang": True}, {"drip": 0.1}):
        spoil(org, "data", 2, rule)
        with pytest.raises(SourceUnreachable, match="in time"):
            org.snapshot(timeout=0.2)


def test_a_redirect_is_not_followed(org: Org) -> None:
    there = f"{org.org_url}/api/v1/groups?limit=2&expand=stats&again=1"
    org.break_with("/api/v1/groups", status=302, headers={"location": there}, times=1)
    with pytest.raises(IncompleteSource, match="302"):
        org.snapshot()
    assert len(org.asked()) == 1


def test_a_short_trouble_costs_nothing_but_time(org: Org) -> None:
    org.break_with("/api/v1/groups*", status=503, times=2)
    org.break_with("/api/v1/groups*", throttle="concurrency", times=5)
    assert len(org.snapshot().users) == 5
    assert len(org.slept) == 7


def test_a_bound_group_that_is_hidden(org: Org) -> None:
    org.options(narrowed_to=["ml"])
    with pytest.raises(IncompleteSource, match=f"{org.ids['data']}.*idsync groups unbind"):
        org.snapshot()
    names = Wanted(names=frozenset({"data", "ml"}), bound=frozenset({org.ids["ml"]}))
    assert org.names(org.snapshot(names).groups) == {"ml"}


def test_a_group_that_is_deleted_while_it_is_read(org: Org) -> None:
    org.break_with("/api/v1/groups", page=2, then={"do": "delete_group", "group": "data"})
    with pytest.raises(IncompleteSource):
        org.snapshot()


def test_a_count_that_is_behind_is_asked_for_again(org: Org) -> None:
    org.break_with("/api/v1/groups", page=2, then={"do": "leave", "group": "data", "user": "eve@example.com"})
    found = org.snapshot()
    assert org.names(found.groups[org.ids["data"]].members) == {"ann", "ben", "cyd", "dan"}


@pytest.mark.parametrize("act", ["deactivate_app", "delete_app"])
def test_without_its_app_nobody_has_left(org: Org, act: str) -> None:
    org.act(act, app="gateway")
    with pytest.raises(IncompleteSource, match="say nothing"):
        org.snapshot(app_id=org.app)


def test_what_a_pass_brings(org: Org) -> None:
    told: list[tuple[str, int, int | None]] = []
    found = org.ask(lambda source: source.snapshot(org.wanted, Store(), lambda *given: told.append(given)))
    assert {group.display_name: org.names(group.members) for group in found.groups.values()} == {
        "data": {"ann", "ben", "cyd", "dan", "eve"},
        "ml": {"ann", "ben"},
    }
    ann = found.users[org.ids["ann"]]
    assert (ann.user_name, ann.email, ann.display_name) == ("ann@example.com", "ann@example.com", "Ann Example")
    assert (ann.observation, ann.why) == (Observation.PRESENT, "status ACTIVE")
    assert found.at == org.clock.now()
    assert told[-1] == ("groups", 2, 2)
    assert len(org.asked()) == 2 + 3 + 2, "three groups in pages of two, five and two members; Okta's own pages end so"


def test_with_an_app_only_its_people_count(org: Org) -> None:
    found = org.snapshot(app_id=org.app)
    assert org.names(found.users) == {"ann", "ben", "cyd"}
    assert org.names(found.groups[org.ids["data"]].members) == {"ann", "ben", "cyd"}


def test_a_pass_goes_on_where_it_ended(org: Org) -> None:
    parts = Store()
    org.break_with(f"/api/v1/groups/{org.ids['ml']}/users", status=403)
    with pytest.raises(SourceRefused):
        org.snapshot(parts=parts, app_id=org.app, concurrency=1)
    began = org.clock.now()
    org.mend()
    org.forget()
    org.pass_time(60)
    found = org.snapshot(parts=parts, app_id=org.app, concurrency=1)
    read = [path for path in org.paths() if path.endswith("/users")]
    assert set(read) == {f"/api/v1/groups/{org.ids['ml']}/users"}, "data and the app were there"
    assert (len(found.users), found.at) == (3, began)
    org.act("suspend", user="ann")
    since_then = org.ask(lambda source: source.changes(org.wanted, found.cursor), overlap=60.0)
    assert org.names(since_then.users) == {"ann"}
    org.forget()
    org.snapshot(parts=parts, app_id=org.app)
    assert f"/api/v1/groups/{org.ids['data']}/users" in org.paths(), "the next pass begins anew"


def test_parts_of_yesterday_are_not_used(org: Org) -> None:
    parts = Store()
    org.break_with(f"/api/v1/groups/{org.ids['ml']}/users", status=403)
    with pytest.raises(SourceRefused):
        org.snapshot(parts=parts, concurrency=1)
    org.mend()
    org.pass_time(86_400)
    assert org.snapshot(parts=parts).at == org.clock.now()
