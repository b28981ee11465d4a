"""Statuses of Okta, one person by id, and what changed since: the table in okta_records.py, line by line."""

from __future__ import annotations

from typing import Any

import pytest

from idsync.errors import CursorLost, IncompleteSource, SourceRefused, SourceUnreachable
from idsync.model import Observation
from idsync.snapshot import Changes, Wanted
from idsync.sources.okta.source import OktaSource

from .org import Org, Store

STATUSES = {
    "ACTIVE": ("present", "status ACTIVE"),
    "RECOVERY": ("present", "status RECOVERY"),
    "PASSWORD_EXPIRED": ("present", "status PASSWORD_EXPIRED"),
    "LOCKED_OUT": ("present", "status LOCKED_OUT"),
    "STAGED": ("unknown", "status STAGED: not activated yet, which gives nothing and takes nothing"),
    "PROVISIONED": ("unknown", "status PROVISIONED: not activated yet, which gives nothing and takes nothing"),
    "SUSPENDED": ("suspended", "status SUSPENDED"),
    "DEPROVISIONED": ("inactive", "status DEPROVISIONED"),
    "PARTED": ("unknown", "status 'PARTED', which idsync does not know"),
}
ODD: list[tuple[dict[str, Any], str, str]] = [
    ({"transitioningToStatus": "DEPROVISIONED"}, "inactive", "status ACTIVE, transitioning to DEPROVISIONED"),
    ({"transitioningToStatus": "ACTIVE", "status": "STAGED"}, "unknown", "status STAGED: not activated"),
    ({"transitioningToStatus": "PARTED"}, "unknown", "transitioning to 'PARTED', which idsync does not know"),
    ({"transitioningToStatus": 1}, "unknown", "an odd record: no status"),
    ({"status": None}, "unknown", "an odd record: no status"),
    ({"status": 1}, "unknown", "an odd record: no status"),
    ({"status": ["DEPROVISIONED"]}, "unknown", "an odd record: no status"),
    ({"status": "deprovisioned"}, "unknown", "status 'deprovisioned'"),
    ({"profile": None}, "unknown", "an odd record: no login"),
    ({"profile": {"login": ""}}, "unknown", "an odd record: no login"),
    ({"profile": {"login": 7, "email": "ann@example.com"}}, "unknown", "an odd record: no login"),
    ({"profile": {"login": "ann", "firstName": 1, "email": ""}}, "present", "status ACTIVE"),
]


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_in_a_listing_by_id_and_as_a_change(org: Org, status: str) -> None:
    before = org.snapshot()
    org.pass_time(600)
    org.act("status", user="ann", status=status)
    expected = (Observation(STATUSES[status][0]), STATUSES[status][1])
    changes = org.ask(lambda source: source.changes(org.wanted, before.cursor))
    for seen in (org.snapshot().users[org.ids["ann"]], org.look("ann").user, changes.users[org.ids["ann"]]):
        assert (seen.observation, seen.why, seen.user_name) == (*expected, "ann@example.com")


@pytest.mark.parametrize(("shown", "observation", "why"), ODD, ids=[str(row[0]) for row in ODD])
def test_one_odd_record_never_costs_the_page(org: Org, shown: dict[str, Any], observation: str, why: str) -> None:
    org.act("odd", user="ann", **shown)
    for users in (org.snapshot().users, org.snapshot(app_id=org.app).users):
        seen = users[org.ids["ann"]]
        assert (seen.observation, why in seen.why) == (Observation(observation), True), seen
        assert users[org.ids["ben"]].observation is Observation.PRESENT
    assert org.look("ann").user.observation is Observation(observation)


def test_an_assignment_that_does_not_show_its_user_is_unknown(org: Org) -> None:
    org.break_with("/api/v1/apps/*", edit={"match": {"id": org.ids["ann"]}, "unset": ["_embedded"]})
    found = org.snapshot(Wanted(names=frozenset({"sales"})), app_id=org.app)
    assert {found.users[org.ids[name]].observation.value for name in ("ann",)} == {"unknown"}
    assert found.users[org.ids["ben"]].observation is Observation.PRESENT


# by id


def test_groups_of_one_person(org: Org) -> None:
    look = org.look("ann")
    assert look.groups is not None
    assert org.names(look.groups) == {"data", "ml"}
    org.act("leave", group="ml", user="ann")
    look = org.look("ann")
    assert look.groups is not None
    assert org.names(look.groups) == {"data"}


def test_deleted_is_absent_and_nothing_else_is(org: Org) -> None:
    org.act("delete", user="ann")
    look = org.look("ann")
    assert (look.user.observation, look.user.why, look.groups) == (Observation.ABSENT, "404 E0000007", frozenset())


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        ({"status": 404, "body": '{"errorCode":"E0000022"}'}, IncompleteSource),
        ({"status": 404, "body": "Not Found"}, IncompleteSource),
        ({"status": 404, "html": True}, IncompleteSource),
        ({"status": 404, "body": "[]"}, IncompleteSource),
        ({"status": 410, "body": '{"errorCode":"E0000007"}'}, IncompleteSource),
        ({"status": 200, "body": "{}"}, IncompleteSource),
        ({"status": 200, "body": "[]"}, IncompleteSource),
        ({"status": 200, "body": '{"id":"00uother","status":"DEPROVISIONED"}'}, IncompleteSource),
        ({"status": 200, "body": '{"id":"00u","status":"ACTIVE","status":"DEPROVISIONED"}'}, IncompleteSource),
        ({"status": 403}, SourceRefused),
        ({"status": 500}, SourceUnreachable),
    ],
)
def test_an_odd_answer_by_id_says_nothing(org: Org, rule: dict[str, Any], error: type[Exception]) -> None:
    org.break_with(f"/api/v1/users/{org.ids['ann']}", **rule)
    with pytest.raises(error) as caught:
        org.look("ann")
    assert type(caught.value) is error


@pytest.mark.parametrize("external_id", ["..", "../groups", "ann@example.com", "a/b?c#d", "%2e%2e", ""])
def test_an_id_that_cannot_be_oktas_is_not_asked_for(org: Org, external_id: str) -> None:
    look = org.ask(lambda source: source.look_up(external_id, []))
    assert (look.user.observation, look.groups, org.paths()) == (Observation.UNKNOWN, None, [])


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("covered", ["ml", "sales"])
def test_a_narrowed_role_is_no_departure(org: Org, status: int, covered: str) -> None:
    """Out of the role are data, and with it dan; of eve only sales is left."""
    org.options(narrowed_to=[covered], narrowed_status=status)
    for name in ("dan", "eve"):
        with pytest.raises(IncompleteSource):
            org.look(name, ("data",))


def test_many_lost_groups_are_looked_at_by_one_listing(org: Org) -> None:
    groups = [org.act("create_group", name=f"team-{n}")["id"] for n in range(30)]
    org.forget()
    look = org.ask(lambda source: source.look_up(org.ids["ann"], groups), page=200)
    assert look.groups == frozenset()
    assert len(org.asked()) == 3
    with pytest.raises(IncompleteSource, match="0gone"):
        org.ask(lambda source: source.look_up(org.ids["ann"], [*groups, "00g0gone"]), page=200)


def test_an_app_decides_who_counts(org: Org) -> None:
    assert org.names(org.look("ann", app_id=org.app).groups) == {"data", "ml"}
    look = org.look("dan", app_id=org.app)
    assert (look.user.observation, look.groups) == (Observation.PRESENT, frozenset())
    assert look.user.why == f"status ACTIVE, not assigned to app {org.app}"
    org.act("deactivate_app", app="gateway")
    with pytest.raises(IncompleteSource, match="INACTIVE"):
        org.look("dan", app_id=org.app)


# what has changed


def test_a_quiet_pass_takes_two_requests(org: Org) -> None:
    cursor = org.snapshot().cursor
    org.pass_time(600)
    org.forget()
    quiet = org.ask(lambda source: source.changes(org.wanted, cursor))
    assert (quiet.users, quiet.groups, len(org.asked())) == ({}, {}, 2)


def test_a_mover_is_seen_by_the_groups_that_changed(org: Org) -> None:
    cursor = org.snapshot().cursor
    org.pass_time(600)
    org.act("leave", group="ml", user="ben")
    org.act("join", group="ml", user="eve")
    org.act("leave", group="sales", user="eve")
    changes = org.ask(lambda source: source.changes(org.wanted, cursor))
    assert {group.display_name: org.names(group.members) for group in changes.groups.values()} == {"ml": {"ann", "eve"}}
    assert org.ids["eve"] in changes.users
    assert changes.at == org.clock.now()


def test_a_group_gets_a_name_that_is_wanted(org: Org) -> None:
    cursor = org.snapshot().cursor
    org.pass_time(600)
    org.act("rename_group", group="sales", name="new")
    changes = org.ask(lambda source: source.changes(Wanted(names=frozenset({"new"})), cursor))
    assert [group.display_name for group in changes.groups.values()] == ["new"]


def test_with_an_app_changed_groups_show_only_its_people(org: Org) -> None:
    cursor = org.snapshot(app_id=org.app).cursor
    org.pass_time(600)
    org.act("join", group="ml", user="dan")
    org.act("join", group="ml", user="cyd")
    changes = org.ask(lambda source: source.changes(org.wanted, cursor), app_id=org.app)
    assert org.names(changes.groups[org.ids["ml"]].members) == {"ann", "ben", "cyd"}


def test_with_an_app_who_was_unassigned_meanwhile_does_not_count(org: Org) -> None:
    async def read(source: OktaSource) -> Changes:
        cursor = (await source.snapshot(org.wanted, Store())).cursor
        org.pass_time(600)
        org.act("unassign", app="gateway", user="ann")
        org.act("assign", app="gateway", user="dan")
        for name in ("ann", "dan"):
            await source.look_up(org.ids[name], [])
        org.act("join", group="ml", user="dan")
        return await source.changes(org.wanted, cursor)

    changes = org.ask(read, app_id=org.app)
    assert org.names(changes.groups[org.ids["ml"]].members) == {"ben", "dan"}


def test_with_an_app_many_strangers_are_looked_at_by_one_listing(org: Org) -> None:
    cursor = org.snapshot(app_id=org.app).cursor
    org.pass_time(600)
    for n in range(30):
        org.act("create_user", login=f"more{n}@example.com")
        org.act("join", group="ml", user=f"more{n}@example.com")
    org.act("assign", app="gateway", user="more7")
    org.forget()
    changes = org.ask(lambda source: source.changes(org.wanted, cursor), app_id=org.app, page=200, app_page=500)
    assert len(changes.groups[org.ids["ml"]].members) == 3
    assert len(org.asked()) == 5, "users, groups, members, the app and its people"


def test_changes_overlap_and_go_by_oktas_own_clock(org: Org) -> None:
    org.pass_time(2 * 86_400)
    org.options(clock_skew=-86_400.0)  # Okta is a day behind, or we are ahead
    cursor = org.snapshot().cursor
    org.act("suspend", user="ann")
    org.pass_time(299)
    first = org.ask(lambda source: source.changes(org.wanted, cursor))
    again = org.ask(lambda source: source.changes(org.wanted, first.cursor))
    assert org.names(first.users) == org.names(again.users) == {"ann"}
    org.pass_time(400)
    last = org.ask(lambda source: source.changes(org.wanted, again.cursor))
    assert org.names(org.ask(lambda source: source.changes(org.wanted, last.cursor)).users) == set()


@pytest.mark.parametrize("cursor", ["", "{", "[]", '{"v":2}', '{"v":1,"org":"https://other.example.com","since":0}'])
def test_a_cursor_of_something_else_is_lost(org: Org, cursor: str) -> None:
    with pytest.raises(CursorLost):
        org.ask(lambda source: source.changes(org.wanted, cursor))


@pytest.mark.parametrize("path", ["/api/v1/users", "/api/v1/groups"])
@pytest.mark.parametrize("rule", [{"damage": "splice"}, {"next": "foreign"}, {"html": True}])
def test_changes_that_are_not_whole_are_an_error(org: Org, path: str, rule: dict[str, Any]) -> None:
    cursor = org.snapshot().cursor
    org.act("suspend", user="ann")
    org.break_with(path, **rule)
    with pytest.raises(IncompleteSource):
        org.ask(lambda source: source.changes(org.wanted, cursor))
