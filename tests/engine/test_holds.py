"""What waits for a person: mass departures, an emptied group, a changed configuration, the last admin."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.company import founded
from support.fixtures import Opener
from support.gateway import Gateway, Holder
from support.home import Home
from support.settings import DATA, WEB, write_settings
from support.waiting import until

from idsync.clock import ManualClock
from idsync.errors import HeldByGuard

NOW = {"group_loss_delete_after": "0s"}


def crowd_of(gateway: Gateway, home: Home, count: int) -> list[Holder]:
    """Hire so many into Data, each with a key there and one in no team."""
    holders = [gateway.account(f"c{number:02}") for number in range(count)]
    for holder in holders:
        home.directory.hire(holder.email, "Data")
    home.wait_until_quiet()
    for holder in holders:
        holder.keys = [gateway.key_of(holder.user_id, team) for team in ("data", None)]
    gateway.ready()
    return holders


def held_leaver(gateway: Gateway, opened: Opener) -> tuple[Home, Holder]:
    """Open a guard that lets one leave, and let two: return the second one, who is held."""
    home = opened(guard={"max_push_departures": 1})
    crowd = crowd_of(gateway, home, 2)
    for holder in crowd:
        home.directory.leave(holder.email)
    home.wait_for(crowd[1].email, "held")
    return home, crowd[1]


def assert_only_access_ended(gateway: Gateway, holder: Holder) -> None:
    """Fenced and blocked, nothing destroyed."""
    assert gateway.answers(holder.keys) == {401}
    assert gateway.fenced(holder.user_id)
    assert all(gateway.is_blocked(key) for key in holder.keys)
    assert gateway.teams_with(holder.user_id) == ["data"]


def test_too_many_pushed_departures_end_access_at_once_and_hold_the_deletion(gateway: Gateway, opened: Opener) -> None:
    home = opened(guard={"max_push_departures": 3})
    crowd = crowd_of(gateway, home, 6)
    for holder in crowd:
        home.directory.leave(holder.email)
    for holder in crowd[:3]:
        home.wait_until_verified(holder.email)
        gateway.assert_gone(holder)
    for holder in crowd[3:]:
        home.wait_for(holder.email, "held")
        assert_only_access_ended(gateway, holder)
    (hold,) = home.holds()
    with pytest.raises(HeldByGuard):
        home.write(lambda db: home.core.control.approve(db, hold.id, "0123456789abcdef", by="test"))
    home.approve(hold)
    for holder in crowd[3:]:
        home.wait_until_verified(holder.email)
        gateway.assert_gone(holder)


def test_whoever_comes_back_leaves_the_hold_and_gets_the_same_keys(gateway: Gateway, opened: Opener) -> None:
    home = opened(guard={"max_push_departures": 1})
    crowd = crowd_of(gateway, home, 3)
    for holder in crowd:
        home.directory.leave(holder.email)
    for holder in crowd[1:]:
        home.wait_for(holder.email, "held")
    home.directory.come_back(crowd[1].email)
    home.wait_until_quiet()
    gateway.assert_at_work(crowd[1], "data")
    (hold,) = home.holds()
    home.approve(hold)
    home.wait_until_verified(crowd[2].email)
    home.wait_until_quiet()
    gateway.assert_gone(crowd[2])
    gateway.assert_at_work(crowd[1], "data")


def test_a_revocation_by_hand_does_not_wait_for_the_hold_of_a_push(gateway: Gateway, opened: Opener) -> None:
    home, held = held_leaver(gateway, opened)
    home.revoke(held.email)
    until(lambda: not gateway.live_keys(held.user_id), "the keys are deleted", seconds=3)
    home.wait_until_verified(held.email)
    gateway.assert_gone(held)


@pytest.mark.parametrize("how", ["empty", "delete"])
def test_a_mapped_group_of_ten_that_is_emptied_is_held(gateway: Gateway, opened: Opener, how: str) -> None:
    home = opened(policy=NOW)
    crowd = crowd_of(gateway, home, 10)
    home.directory.join("Web", crowd[0].email)
    home.wait_until_quiet()
    if how == "empty":
        home.directory.empty("Data")
    else:
        home.directory.delete_group("Data")
    for holder in crowd[1:]:
        home.wait_for(holder.email, "held")
        assert_only_access_ended(gateway, holder)
    home.wait_until_quiet()
    (of_data, free) = crowd[0].keys
    assert gateway.answers([of_data]) == {401}, "somebody with another group is at work, without this team's keys"
    assert gateway.answers([free]) == {200}
    assert gateway.exists(of_data)
    for hold in home.holds():
        home.approve(hold)
    for holder in crowd[1:]:
        home.wait_until_verified(holder.email)
        gateway.assert_gone(holder)
    until(lambda: not gateway.exists(of_data), "the keys of the team are deleted")


def test_a_group_of_nine_is_not_held(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy=NOW)
    crowd = crowd_of(gateway, home, 9)
    home.directory.empty("Data")
    home.wait_until_verified(*(holder.email for holder in crowd))
    assert home.holds() == []


def test_what_only_the_configuration_takes_is_held_and_nothing_is_touched(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy=NOW)
    company = founded(gateway, home)
    home.directory.join("Web", "leo")
    home.wait_until_quiet()
    before = gateway.ready()
    home = opened(policy=NOW, teams=[WEB])
    home.reconcile()
    home.wait_until_quiet()
    assert gateway.paths(before, writes=True) == []
    gateway.assert_at_work(company.leo, "data", "web", "lab")
    company.assert_others_work()
    (hold,) = home.holds()
    assert "configuration" in hold.reason


def test_a_rule_that_changes_back_drops_its_hold(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy=NOW)
    company = founded(gateway, home)
    home = opened(policy=NOW, teams=[{**DATA, "groups": ["Somebody else"]}, WEB])
    assert len(home.holds()) == 1
    home = opened(policy=NOW)
    home.reconcile()
    home.wait_until_quiet()
    company.assert_others_work()
    gateway.assert_at_work(company.leo, "data", "lab")


def test_approving_it_takes_what_the_configuration_does_not_give(gateway: Gateway, opened: Opener) -> None:
    """Leo keeps Web; Ann had Data alone, and so loses everything."""
    home = opened(policy=NOW)
    company = founded(gateway, home)
    home.directory.join("Web", "leo")
    home.wait_until_quiet()
    home = opened(policy=NOW, teams=[{**DATA, "groups": ["Somebody else"]}, WEB])
    gateway.ready()
    (hold,) = home.holds()
    home.approve(hold)
    of_data, *others = company.leo.keys
    until(lambda: not gateway.exists(of_data), "the key of the team that is not given any more is deleted")
    home.wait_until_quiet()
    assert gateway.answers(others) == {200}
    assert set(gateway.teams_with(company.leo.user_id)) == {"lab", "web"}


def test_while_the_configuration_holds_something_an_explicit_leave_goes_on(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy=NOW)
    company = founded(gateway, home)
    home = opened(policy=NOW, teams=[{**DATA, "groups": ["Somebody else"]}, WEB])
    home.offboard("leo")
    company.assert_leo_is_gone()


def test_the_last_admin_is_held_access_included_until_approved(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    for row in gateway.state()["users"]:
        if row["user_role"] == "proxy_admin":
            gateway.ok("/user/update", {"user_id": row["user_id"], "user_role": "internal_user"})
    gateway.ok("/user/update", {"user_id": company.leo.user_id, "user_role": "proxy_admin"})
    home.directory.leave("leo")
    home.wait_for("leo", "held")
    home.wait_until_quiet()
    gateway.assert_at_work(company.leo, "data", "lab")
    (hold,) = home.holds()
    assert "last admin" in hold.reason
    home.approve(hold)
    home.wait_until_verified("leo")
    company.assert_leo_is_gone()


def test_an_admin_who_is_not_the_last_goes_like_anybody(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.account("root", user_role="proxy_admin")
    gateway.ok("/user/update", {"user_id": company.leo.user_id, "user_role": "proxy_admin"})
    home.offboard("leo")
    company.assert_leo_is_gone()


def admins_of(gateway: Gateway, home: Home, *logins: str) -> list[Holder]:
    """Make these the gateway's only admins."""
    admins = [gateway.account(login, None, user_role="proxy_admin") for login in logins]
    for holder, login in zip(admins, logins, strict=True):
        home.directory.hire(login)
        home.link(login, holder.user_id)
    home.work_off()
    gateway.ready()
    return admins


def test_of_two_admins_who_leave_at_the_same_moment_the_later_one_is_held(gateway: Gateway, opened: Opener) -> None:
    home = opened(working=False)
    first, last = admins_of(gateway, home, "amy", "bea")
    home.directory.leave("amy")
    home.directory.leave("bea")
    home.work_off()
    assert [home.state(login) for login in ("amy", "bea")] == ["verified", "held"]
    gateway.assert_gone(first)
    gateway.assert_at_work(last)
    (hold,) = home.holds()
    home.approve(hold)
    home.work_off()
    gateway.assert_gone(last)


def test_an_approval_counts_whatever_the_clock_says(tmp_path: Path, gateway: Gateway) -> None:
    clock = ManualClock(time.time())
    with Home(write_settings(tmp_path, gateway.sandbox.url), working=False, clock=clock) as home:
        (boss,) = admins_of(gateway, home, "boss")
        home.directory.leave("boss")
        home.work_off()
        (hold,) = home.holds()
        clock.advance(-3600)
        home.approve(hold)
        home.work_off()
        gateway.assert_gone(boss)
        assert home.holds() == []


def test_a_rejected_hold_keeps_access_ended_and_everything_there(gateway: Gateway, opened: Opener) -> None:
    home, held = held_leaver(gateway, opened)
    (hold,) = home.holds()
    home.write(lambda db: home.core.control.reject(db, hold.id, by="test"))
    home.reconcile()
    home.wait_until_quiet()
    assert_only_access_ended(gateway, held)
