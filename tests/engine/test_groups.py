"""Out of a group: that team's keys stop at once, are deleted after the waiting time, and come back within it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.company import Company, founded
from support.fixtures import Opener, both_dialects
from support.gateway import Gateway
from support.home import Home
from support.settings import DATA, WEB, write_settings
from support.waiting import until

from idsync.clock import ManualClock

NEVER = {"group_loss_delete_after": "1h"}
SOON = {"group_loss_delete_after": "0.4s"}
AT_ONCE = {"group_loss_delete_after": "0s"}
THREE = [DATA, WEB, {"alias": "core", "groups": ["Core"]}]


def in_both_teams(gateway: Gateway, home: Home) -> Company:
    """Leo is in Data and Web, with a key in each, one in the lab and one in no team."""
    company = founded(gateway, home)
    home.directory.join("Web", "leo")
    home.wait_until_quiet()
    company.leo.keys.append(gateway.key_of(company.leo.user_id, "web"))
    gateway.ready()
    return company


@both_dialects
def test_the_keys_of_a_lost_team_stop_at_once_and_no_others(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy=NEVER)
    company = in_both_teams(gateway, home)
    of_data, *others = company.leo.keys
    home.directory.part("Data", "leo")
    home.wait_until_quiet()
    assert gateway.answers([of_data]) == {401}
    assert gateway.exists(of_data)
    assert gateway.answers(others) == {200}
    assert not gateway.fenced(company.leo.user_id)
    company.assert_others_work()


@both_dialects
def test_back_within_the_waiting_time_the_same_keys_work_again(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy=NEVER)
    company = in_both_teams(gateway, home)
    home.directory.part("Data", "leo")
    home.wait_until_quiet()
    home.directory.join("Data", "leo")
    home.wait_until_quiet()
    gateway.assert_at_work(company.leo, "data", "web", "lab")


@pytest.mark.parametrize("policy", [SOON, AT_ONCE], ids=["soon", "at once"])
@both_dialects
def test_after_the_waiting_time_keys_and_membership_of_that_team_end(
    gateway: Gateway, opened: Opener, policy: dict[str, str]
) -> None:
    home = opened(policy=policy)
    company = in_both_teams(gateway, home)
    of_data, *others = company.leo.keys
    home.directory.part("Data", "leo")
    until(lambda: not gateway.exists(of_data), "the key of the lost team is deleted")
    until(lambda: "data" not in gateway.teams_with(company.leo.user_id), "and the membership")
    home.wait_until_quiet()
    assert gateway.answers([of_data]) == {401}
    assert gateway.answers(others) == {200}
    company.assert_others_work()


@pytest.mark.parametrize("path", ["/team/member_delete", "/team/info"])
def test_a_team_that_cannot_be_left_keeps_nobody_in_another(gateway: Gateway, opened: Opener, path: str) -> None:
    home = opened(policy=AT_ONCE, teams=THREE)
    company = in_both_teams(gateway, home)
    home.directory.join("Core", "leo")
    home.wait_until_quiet()
    gateway.break_with(path, match={"team_id": "data"}, status=500)
    home.directory.part("Data", "leo")
    gateway.wait_for_fault(path)
    home.directory.part("Web", "leo")
    until(lambda: "web" not in gateway.teams_with(company.leo.user_id), "the other team is left")
    assert gateway.answers([company.leo.keys[0], company.leo.keys[-1]]) == {401}
    gateway.mend()
    home.hurry()
    home.wait_until_quiet()
    assert "data" not in gateway.teams_with(company.leo.user_id)
    company.assert_others_work()


@pytest.mark.parametrize("policy", [NEVER, AT_ONCE], ids=["waits", "at once"])
def test_a_key_that_cannot_be_blocked_keeps_no_other_one_working(
    gateway: Gateway, opened: Opener, policy: dict[str, str]
) -> None:
    """Where nothing waits it is deleted all the same: no fence stands behind it."""
    home = opened(policy=policy, teams=THREE)
    company = in_both_teams(gateway, home)
    home.directory.join("Core", "leo")
    home.wait_until_quiet()
    of_data, of_web = company.leo.keys[0], company.leo.keys[-1]
    gateway.break_with("/key/block", match={"key": of_data.id}, status=500)
    home.directory.part("Data", "leo")
    gateway.wait_for_fault("/key/block")
    home.directory.part("Web", "leo")
    until(lambda: gateway.answers([of_web]) == {401}, "the key in the other team is dead")
    home.wait_until_idle("leo")
    assert gateway.exists(of_data) is (policy is NEVER)
    company.assert_others_work()


def test_a_mover_loses_one_team_and_gains_another(gateway: Gateway, opened: Opener) -> None:
    """An identity provider sends the removal first."""
    home = opened(policy=NEVER)
    company = founded(gateway, home)
    home.directory.part("Data", "leo")
    home.directory.join("Web", "leo")
    home.wait_until_quiet()
    of_data, *others = company.leo.keys
    assert gateway.answers([of_data]) == {401}
    assert gateway.answers(others) == {200}, "the fence of the instant between is gone"
    assert not gateway.fenced(company.leo.user_id)
    assert "web" in gateway.teams_with(company.leo.user_id)


@pytest.mark.parametrize("policy", [SOON, AT_ONCE], ids=["soon", "at once"])
def test_the_last_group_lost_is_everything_lost(gateway: Gateway, opened: Opener, policy: dict[str, str]) -> None:
    home = opened(policy=policy)
    company = founded(gateway, home)
    home.directory.part("Data", "leo")
    home.wait_until_verified("leo")
    company.assert_leo_is_gone()
    assert home.departure("leo").evidence.value == "group_loss"


def test_the_last_group_lost_ends_access_at_once_while_deletion_waits(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy=NEVER)
    company = founded(gateway, home)
    home.directory.part("Data", "leo")
    home.wait_for("leo", "blocked")
    assert gateway.answers(company.leo.keys) == {401}
    assert gateway.fenced(company.leo.user_id)
    assert all(gateway.is_blocked(key) for key in company.leo.keys)
    assert gateway.teams_with(company.leo.user_id) == ["data", "lab"]
    home.directory.join("Data", "leo")
    home.wait_until_quiet()
    assert home.state("leo") == "cancelled"
    gateway.assert_at_work(company.leo, "data", "lab")


def test_an_explicit_leave_hastens_a_deletion_that_waits(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy=NEVER)
    company = founded(gateway, home)
    home.directory.part("Data", "leo")
    home.wait_for("leo", "blocked")
    home.offboard("leo")
    company.assert_leo_is_gone()


def test_a_waiting_deletion_outlives_a_restart(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy={"group_loss_delete_after": "1s"})
    company = founded(gateway, home)
    home.directory.part("Data", "leo")
    home.wait_for("leo", "blocked")
    home = opened(policy={"group_loss_delete_after": "1s"})
    home.wait_until_verified("leo")
    company.assert_leo_is_gone()


@pytest.mark.parametrize(("wrong", "waits"), [(5 * 86400.0, 600.0), (300.0, 600.0), (0.0, 600.0)])
def test_a_deletion_waits_no_longer_when_the_clock_was_set_back_before_a_restart(
    tmp_path: Path, gateway: Gateway, wrong: float, waits: float
) -> None:
    settings = write_settings(tmp_path, gateway.sandbox.url, policy={"group_loss_delete_after": f"{waits:g}s"})
    right = ManualClock(time.time())
    leo = gateway.account("leo", None)
    with Home(settings, working=False, clock=ManualClock(right.now() + wrong)) as home:
        home.directory.hire("leo", "Data")
        home.work_off()
        home.directory.part("Data", "leo")
        home.work_off()
        assert home.state("leo") == "blocked"
    for _ in range(2):  # what waits is moved once
        with Home(settings, working=False, clock=right) as home:
            pass
    with Home(settings, working=False, clock=right) as home:
        right.advance(waits - 5)
        home.work_off()
        assert home.state("leo") == "blocked"
        right.advance(10)
        home.work_off()
        assert home.departure("leo").verified_at
    gateway.assert_gone(leo)


def test_what_failed_is_tried_at_once_when_the_clock_was_set_back_before_a_restart(
    tmp_path: Path, gateway: Gateway
) -> None:
    settings = write_settings(tmp_path, gateway.sandbox.url)
    leo = gateway.account("leo", None)
    with Home(settings, working=False, clock=ManualClock(time.time() + 5 * 86400)) as home:
        home.directory.hire("leo", "Data")
        home.work_off()
        gateway.break_with("*", status=500)
        home.directory.leave("leo")
        home.work_off()
    gateway.mend()
    with Home(settings, working=False) as home:
        until(lambda: _worked_off(home), "he is gone")
    gateway.assert_gone(leo)


def _worked_off(home: Home) -> object:
    home.work_off()
    return home.departure("leo").verified_at


@pytest.mark.parametrize("feature", ["block_supported", "fence"])
def test_a_gateway_without_blocks_or_without_a_fence_ends_the_access_of_a_lost_last_group(
    gateway: Gateway, opened: Opener, feature: str
) -> None:
    home = opened(policy=NEVER)
    company = founded(gateway, home)
    gateway.hook("options", {feature: False})
    home.directory.part("Data", "leo")
    until(lambda: gateway.answers(company.leo.keys) == {401}, "no key works")
    home.wait_until_idle("leo")
    company.assert_others_work()
    if feature == "block_supported":
        assert gateway.fenced(company.leo.user_id)


def test_a_gateway_without_blocks_is_no_alarm_while_deletion_waits(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy=NEVER)
    founded(gateway, home)
    gateway.hook("options", {"block_supported": False})
    home.directory.part("Data", "leo")
    until(lambda: gateway.calls("/key/block"), "a block was tried")
    home.wait_until_idle("leo")
    assert home.failed_job("leo") is None
