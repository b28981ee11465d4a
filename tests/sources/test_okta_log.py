"""The System Log: which event makes whom be looked at, and where the next round begins."""

from __future__ import annotations

import json
from typing import Any

import pytest

from idsync.errors import CursorLost, IncompleteSource
from idsync.snapshot import Changes
from idsync.sources.okta.source import OktaSource

from .org import Org, Store

LOOKED_AT = [
    *(f"user.lifecycle.{step}" for step in ("deactivate", "suspend", "unsuspend", "activate", "reactivate", "create")),
    *("user.lifecycle.delete.initiated", "user.lifecycle.delete.completed", "user.account.update_profile"),
]
IGNORED = ["user.session.end", "user.account.lock", "user.authentication.universal_logout", "system.api_token.revoke"]


def start(org: Org, **changes: Any) -> str:
    return org.ask(lambda source: source.events(""), **changes).cursor


def more(org: Org, cursor: str, **changes: Any) -> Changes:
    return org.ask(lambda source: source.events(cursor), **changes)


@pytest.mark.parametrize("event", LOOKED_AT + IGNORED)
def test_events_of_a_user(org: Org, event: str) -> None:
    cursor = start(org)
    org.act("log", event=event, user="ann")
    org.act("log", event=event, user="ben", result="FAILURE")
    found = more(org, cursor)
    assert org.names(found.look_up) == ({"ann"} if event in LOOKED_AT else set())
    assert (found.users, found.groups) == ({}, {})


def test_of_an_import_it_is_known_only_that_it_was(org: Org) -> None:
    cursor = start(org)
    org.act("log", event="system.import.complete", result="FAILURE")
    assert not more(org, cursor).unsaid
    org.act("import_users", deactivate=["ann@example.com"])
    found = more(org, cursor)
    assert (found.unsaid, found.look_up) == (True, frozenset())
    assert not more(org, found.cursor).unsaid, "it is told once"


def test_memberships_and_assignments(org: Org) -> None:
    cursor = start(org, app_id=org.app)
    org.act("join", group="ml", user="cyd")
    org.act("leave", group="sales", user="eve")
    org.act("unassign", app="gateway", user="ben")

    async def read(source: OktaSource) -> tuple[Changes, Changes]:
        unknowing = await source.events(cursor)
        await source.snapshot(org.wanted, Store())
        return unknowing, await source.events(cursor)

    unknowing, knowing = org.ask(read, app_id=org.app)
    assert org.names(unknowing.look_up) == {"cyd", "eve", "ben"}, "which groups matter is known after a pass"
    assert org.names(knowing.look_up) == {"cyd", "ben"}


def test_a_group_is_read_again(org: Org) -> None:
    cursor = start(org)
    org.act("log", event="group.application_assignment.add", group="ml", app="gateway")
    org.act("log", event="group.application_assignment.add", group="sales", app="gateway")

    async def read(source: OktaSource) -> Changes:
        await source.snapshot(org.wanted, Store())
        return await source.events(cursor)

    found = org.ask(read)
    assert {one.display_name: org.names(one.members) for one in found.groups.values()} == {"ml": {"ann", "ben"}}
    org.act("delete_group", group="ml")

    async def after(source: OktaSource) -> Changes:
        await source.changes(org.wanted, json.dumps({"v": 1, "org": org.org_url, "since": 0}))
        return await source.events(found.cursor)

    gone = org.ask(after)
    assert (gone.groups, gone.cursor != found.cursor) == ({}, True), "a pass will say so; the log goes on"


def test_while_our_app_is_away_the_log_waits(org: Org) -> None:
    cursor = start(org, app_id=org.app)
    org.act("deactivate_app", app="gateway")
    with pytest.raises(IncompleteSource, match="INACTIVE"):
        more(org, cursor, app_id=org.app)
    assert more(org, cursor).look_up == frozenset(), "another app's fate is nobody's business"


def test_a_round_ends_with_a_short_page_and_nothing_is_seen_twice(org: Org) -> None:
    cursor = start(org, log_page=3)
    for name in ("ann", "ben", "cyd", "dan"):
        org.act("suspend", user=name)
    org.forget()
    found = more(org, cursor, log_page=3)
    assert (org.names(found.look_up), found.more, len(org.asked())) == ({"ann", "ben", "cyd", "dan"}, False, 2)
    org.options(log_overlap=2)
    assert more(org, found.cursor).look_up == frozenset(), "two came again"
    org.options(log_overlap=0)
    org.forget()
    assert (more(org, found.cursor).more, len(org.asked())) == (False, 1)


def test_late_events_are_not_missed(org: Org) -> None:
    cursor = start(org)
    org.act("log", event="user.lifecycle.deactivate", user="ann", age=7200)
    assert org.names(more(org, cursor).look_up) == {"ann"}


def test_a_long_log_is_handed_over_in_pieces(org: Org) -> None:
    cursor = start(org, log_page=1)
    for _ in range(12):
        org.act("log", event="user.lifecycle.suspend", user="ann")
    first = more(org, cursor, log_page=1)
    last = more(org, first.cursor, log_page=1)
    assert (first.more, last.more) == (True, False)


def test_a_lost_cursor(org: Org) -> None:
    cursor = json.loads(start(org))
    lost = [
        "{",
        json.dumps(cursor | {"v": 2}),
        json.dumps(cursor | {"next": "https://other.example.com/api/v1/logs?after=1"}),
        json.dumps(cursor | {"next": cursor["next"].replace("after=", "after=x")}),
        json.dumps(cursor | {"at": cursor["at"] - 90 * 86_400}),
    ]
    for written in lost:
        with pytest.raises(CursorLost):
            more(org, written)
    org.break_with("/api/v1/logs", next="none")
    with pytest.raises(CursorLost):
        more(org, json.dumps(cursor))


@pytest.mark.parametrize(
    "rule",
    [
        {"damage": "splice"},
        {"damage": "json"},
        {"html": True},
        {"status": 500},
        {"status": 401},
        {"next": "foreign"},
        {"edit": {"unset": ["uuid"]}},
        {"status": 200, "body": "{}"},
        {"next": "self"},
    ],
)
def test_a_round_that_is_not_whole_keeps_its_cursor(org: Org, rule: dict[str, Any]) -> None:
    cursor = start(org, log_page=1)
    org.act("suspend", user="ann")
    org.break_with("/api/v1/logs", **rule)
    with pytest.raises(IncompleteSource) as caught:
        more(org, cursor, log_page=1)
    assert not isinstance(caught.value, CursorLost)


def test_the_first_round_fails_at_400_without_being_lost(org: Org) -> None:
    org.break_with("/api/v1/logs", status=400)
    with pytest.raises(IncompleteSource) as caught:
        start(org)
    assert not isinstance(caught.value, CursorLost)
