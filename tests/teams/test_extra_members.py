"""Extra members: who leaves a team that wants nobody but its groups, who stays, and what is held."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.directory import mail
from support.fixtures import Opener, both_dialects
from support.gateway import Gateway, Holder, Row
from support.home import Home

from idsync.clock import ManualClock
from idsync.store import facts, ledger

STRICT = {"alias": "data", "groups": ["Data"], "extra_members": "remove"}
WEB = {"alias": "web", "groups": ["Web"]}
AT_ONCE = {"group_loss_delete_after": "0s"}


def strict(opened: Opener, *staff: str, **changed: Any) -> Home:
    """Open idsync with one strict team, people of its group in it."""
    home = opened(**{"teams": [STRICT, WEB], "policy": AT_ONCE, **changed})
    home.directory.hire("ann", "Data")
    for login in staff:
        home.directory.hire(login, "Data")
    home.wait_until_quiet()
    return home


def stray(gateway: Gateway, login: str, **fields: Any) -> Holder:
    """Seed an account no source knows, with a key of the team and one of its own, and put it on the team by hand."""
    holder = gateway.account(login, "data", None, **fields)
    gateway.put_on("data", holder.user_id)
    return holder


def said(done: Row) -> dict[str, tuple[str, str]]:
    return {extra["user_id"]: (extra["verdict"], extra["why"]) for extra in done["removals"]}


@both_dialects
def test_they_lose_their_keys_of_the_team_and_the_membership_and_nothing_else(gateway: Gateway, opened: Opener) -> None:
    home = strict(opened)
    guest = stray(gateway, "guest")
    of_team, own = guest.keys
    shared = gateway.key_of(None, "data")
    before = gateway.ready()
    dry = home.run(home.core.commands(alone=True).reconcile(dry_run=True))
    assert [(c["kind"], c["subject"], c["target"]) for c in dry["changes"]] == [("member.remove", "data", guest.email)]
    assert gateway.paths(before, writes=True) == []
    done = home.reconcile()
    assert (done["failed"], done["alive"]) == ({}, False)
    assert gateway.paths(before, writes=True) == ["/key/block", "/key/delete", "/team/member_delete"]
    assert (gateway.answers([of_team]), gateway.answers([own, shared])) == ({401}, {200})
    assert gateway.teams_with(guest.user_id) == []
    assert gateway.teams_with(home.account_of("ann")) == ["data"]
    entries = {event.action: event.detail for event in home.trail() if event.subject == guest.email}
    assert entries["member.removing"]["keys"] == entries["member.removed"]["keys"] == [of_team.id]
    before = gateway.ready()
    assert home.reconcile()["changes"] == []
    assert gateway.paths(before, writes=True) == []


STAYING: dict[str, Callable[[Gateway, Home], str]] = {
    "protected": lambda gateway, _: stray(gateway, "breakglass").user_id,
    "administrator": lambda gateway, _: stray(gateway, "boss", user_role="proxy_admin").user_id,
    "may be the account of zoe": lambda gateway, home: (
        (
            home.directory.hire("zoe"),
            stray(gateway, "zoe-2", user_email=mail("ZOE")),
        )[1].user_id
    ),
}


def _hide(gateway: Gateway, user_id: str) -> None:
    """Listings do not show this account any more."""
    rows = [row for row in gateway.state()["users"] if row["user_id"] != user_id]
    page = {"users": rows, "total": len(rows), "page": 1, "page_size": 100, "total_pages": 1}
    gateway.break_with("/user/list", status=200, body=json.dumps(page), content_type="application/json")


def unlisted_admin(gateway: Gateway, _: Home) -> str:
    boss = stray(gateway, "boss", user_role="proxy_admin").user_id
    _hide(gateway, boss)
    return boss


def admin_of_an_organization(gateway: Gateway, _: Home) -> str:
    gateway.hook("options", {"licence": True})
    boss = stray(gateway, "boss").user_id
    place = {"organization_id": "org-default", "member": {"user_id": boss, "role": "org_admin"}}
    gateway.ok("/organization/member_add", place)
    return boss


STAYING |= {"administrator of the gateway": unlisted_admin, "administrator of an org": admin_of_an_organization}


@pytest.mark.parametrize("why", STAYING)
def test_who_stays(gateway: Gateway, opened: Opener, why: str) -> None:
    home = strict(opened, protected=[{"match": mail("breakglass"), "reason": "break-glass"}])
    account = STAYING[why](gateway, home)
    before = gateway.ready()
    verdict, told = said(home.reconcile())[account]
    assert (verdict, why in told) == ("stays", True)
    assert gateway.paths(before, writes=True) == []


def test_nobody_leaves_before_a_group_is_bound_or_while_idsync_is_frozen(gateway: Gateway, opened: Opener) -> None:
    gateway.team("data")
    for number in range(20):
        stray(gateway, f"old-{number}")
    before = gateway.ready()
    home = opened(teams=[{**STRICT, "adopt": True}], policy=AT_ONCE)
    assert {verdict for verdict, _ in said(home.reconcile()).values()} == {"stays"}
    assert gateway.paths(before, writes=True) == []
    home = strict(opened, guard={"max_departures": 100, "max_fraction": 1.0})
    home.write(lambda db: home.core.control.freeze(db, reason="test", by="test"))
    assert {verdict for verdict, _ in said(home.reconcile()).values()} == {"waits"}
    assert len(gateway.roster("data")) == 21


def test_somebody_whose_group_arrives_in_time_keeps_their_keys(gateway: Gateway, opened: Opener) -> None:
    clock = ManualClock()
    home = opened(teams=[STRICT, WEB], policy={"group_loss_delete_after": "10m"}, clock=clock, working=False)
    home.directory.hire("ann", "Data")
    home.directory.hire("zoe", "Web")
    home.work_off()
    zoe, guest = home.account_of("zoe"), stray(gateway, "guest")
    key = gateway.key_of(zoe, "data")
    gateway.put_on("data", zoe)
    assert {verdict for verdict, _ in said(home.reconcile()).values()} == {"waits"}
    home.directory.join("Data", "zoe")
    clock.advance(600)
    home.reconcile()
    assert set(gateway.teams_with(zoe)) == {"web", "data"}
    assert gateway.answers([key]) == {200}
    assert gateway.teams_with(guest.user_id) == []
    assert gateway.answers(guest.keys[:1]) == {401}


def test_more_than_the_guard_allows_is_a_hold_and_goes_once_it_is_approved(gateway: Gateway, opened: Opener) -> None:
    home = strict(opened)
    guests = [stray(gateway, f"guest-{number}") for number in range(3)]
    before = gateway.ready()
    for _ in range(2):
        assert {verdict for verdict, _ in said(home.reconcile()).values()} == {"held"}
    assert gateway.paths(before, writes=True) == []
    [hold] = home.holds()
    assert len(ledger.items(home.db, hold.id)) == 3
    gateway.ok("/team/member_delete", {"team_id": "data", "user_id": guests[0].user_id})
    gateway.put_on("data", stray(gateway, "late").user_id)
    home.reconcile()
    assert len(ledger.items(home.db, hold.id)) == 3, "who went is dropped, who came is there"
    home.approve(hold)
    home.reconcile()
    assert len(gateway.roster("data")) == 2, "the admin key's own user, and ann"
    assert gateway.answers([key for guest in guests for key in guest.keys[:1]]) == {401}
    gateway.put_on("data", guests[1].user_id)
    assert said(home.reconcile())[guests[1].user_id][0] == "held", "what left within 24 hours counts"


def test_the_guard_counts_all_teams_together(gateway: Gateway, opened: Opener) -> None:
    home = strict(opened, guard={"max_departures": 1, "max_fraction": 1.0})
    stray(gateway, "one")
    home.reconcile()
    assert len(gateway.roster("data")) == 2
    stray(gateway, "two")
    [(verdict, why)] = said(home.reconcile()).values()
    assert (verdict, why) == ("held", "2 extra members would leave teams within 24 hours")


def test_who_was_rejected_stays_for_good(gateway: Gateway, opened: Opener) -> None:
    home = strict(opened)
    for number in range(3):
        stray(gateway, f"guest-{number}")
    home.reconcile()
    [hold] = home.holds()
    home.write(lambda db: home.core.control.reject(db, hold.id, by="test"))
    before = gateway.ready()
    assert {verdict for verdict, _ in said(home.reconcile()).values()} == {"stays"}
    assert (home.holds(), gateway.paths(before, writes=True)) == ([], [])


@pytest.mark.parametrize("fault", [{"status": 500, "when": "after"}, {"delay": 0.001}], ids=["lost answer", "answer"])
def test_a_key_made_while_they_are_taken_off_dies_too_also_when_the_run_broke_off(
    gateway: Gateway, opened: Opener, fault: dict[str, Any]
) -> None:
    """The gateway is one that keeps a member's keys when the membership ends."""
    gateway.hook("options", {"member_delete_keys": False})
    home = strict(opened)
    guest = stray(gateway, "guest")
    made = {"generate_key": {"user_id": guest.user_id, "team_id": "data", "key_alias": "in-between"}}
    gateway.break_with("/team/member_delete", times=1, then=made, **fault)
    failed = home.reconcile()["failed"]
    assert list(failed) == ([f"data: {guest.email}"] if "status" in fault else [])
    assert gateway.teams_with(guest.user_id) == []
    if failed:
        assert home.reconcile()["failed"] == {}
    assert [key["team_id"] for key in gateway.live_keys(guest.user_id)] == [None]
    assert facts.under(home.db, "extra:") == {}


def test_a_key_that_survives_its_deletion_is_told(gateway: Gateway, opened: Opener) -> None:
    home = strict(opened)
    stray(gateway, "guest")
    gateway.break_with("/key/delete", lie=True)
    done = home.reconcile()
    [why] = done["failed"].values()
    assert (done["alive"], "deleted key" in why) == (True, True)


def test_whoever_stays_after_all_gets_back_the_keys_that_a_run_had_blocked(gateway: Gateway, opened: Opener) -> None:
    home = strict(opened, guard={"max_departures": 100, "max_fraction": 1.0})
    home.directory.hire("zoe", "Web")
    home.wait_until_quiet()
    zoe, guest = home.account_of("zoe"), stray(gateway, "guest")
    mine, blocked_before = gateway.key_of(zoe, "data"), gateway.key_of(zoe, "data")
    gateway.ok("/key/block", {"key": blocked_before.id})
    gateway.put_on("data", zoe)
    gateway.break_with("/key/delete", status=500)
    assert len(home.reconcile()["failed"]) == 2
    assert gateway.answers([mine, guest.keys[0]]) == {401}
    home.directory.join("Data", "zoe")
    home = opened(teams=[{**STRICT, "extra_members": "report"}, WEB], policy=AT_ONCE)
    home.wait_until_quiet()
    assert gateway.answers([mine, *guest.keys]) == {200}
    assert gateway.is_blocked(blocked_before)
    home.reconcile()
    assert facts.under(home.db, "extra:") == {}


def test_a_leaver_gets_back_nothing_that_a_run_had_blocked(gateway: Gateway, opened: Opener) -> None:
    home = strict(opened, policy={**AT_ONCE, "on_departure": "block"})
    home.directory.hire("zoe", "Web")
    home.wait_until_quiet()
    key = gateway.key_of(home.account_of("zoe"), "data")
    gateway.put_on("data", home.account_of("zoe"))
    gateway.break_with("/key/delete", status=500)
    home.reconcile()
    home.directory.leave("zoe")
    home.wait_until_quiet()
    gateway.ok("/team/member_delete", {"team_id": "data", "user_id": home.account_of("zoe")})
    for _ in range(2):
        home.reconcile()
        home.wait_until_quiet()
    assert gateway.answers([key]) == {401}
