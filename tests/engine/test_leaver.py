"""One person leaves: the order of the calls, what is ended, and who and what is left alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
from support.company import OWN, founded
from support.daemon import idsync
from support.fixtures import Opener, both_dialects
from support.gateway import Gateway

from idsync.store import ledger

WRITES = ["/user/update", "/key/block", "/key/delete", "/team/member_delete"]


@both_dialects
def test_fence_then_block_then_delete_then_leave_then_look_again(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    before = gateway.ready()
    home.offboard("leo")
    company.assert_leo_is_gone()
    paths = gateway.paths(before)
    assert paths.count("/user/update") == 2
    last = len(paths) - 1 - paths[::-1].index("/user/update")
    assert last > paths.index("/key/delete"), "the dashboard's sessions end with the tidying"
    writes = [path for number, path in enumerate(paths) if path in WRITES and number != last]
    assert list(dict.fromkeys(writes)) == WRITES, "each kind of step begins after the one before"
    assert writes == sorted(writes, key=WRITES.index), "and ends before the next one"
    assert [writes.count(path) for path in WRITES] == [1, 3, 1, 2]
    tidied = max(last, len(paths) - 1 - paths[::-1].index("/team/member_delete"))
    after = paths[tidied:]
    assert {"/key/list", "/team/list"} <= set(after), "nothing is believed that was not read back"


@both_dialects
def test_the_receipt_names_what_is_gone_and_every_call(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    home.offboard("leo")
    departure = home.departure("leo")
    receipt = departure.receipt or {}
    assert {key["id"] for key in receipt["keys"]} == {key.id for key in company.leo.keys}
    assert set(receipt["teams"]) == {"data", "lab"}
    calls, made = ledger.calls_of(home.db, departure.id)
    assert [call.path for call in calls].count("/key/delete") == 1
    assert made == len(calls)
    shown = idsync(opened.settings, "departures", "leo@corp.example")
    assert all(
        line in shown.out for line in ("/key/delete", "gateway       block: used", "gone: 0 keys listed, 3 asked by id")
    )
    assert receipt["evidence"] == "scim_delete" or receipt["evidence"] == "scim_inactive"
    times = [departure.accepted_at, departure.fenced_at, departure.blocked_at, departure.deleted_at]
    assert times == sorted(time for time in times if time is not None)


def test_after_the_cache_time_everything_is_looked_at_once_more(gateway: Gateway, opened: Opener) -> None:
    home = opened(routero={"cache_time": "0.1s"})
    company = founded(gateway, home)
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    company.assert_leo_is_gone()


def test_what_comes_back_before_the_second_look_is_ended_by_it(gateway: Gateway, opened: Opener) -> None:
    """A colleague makes the leaver a key and puts them on a team again."""
    home = opened(routero={"cache_time": "0.3s"})
    company = founded(gateway, home)
    home.offboard("leo")
    company.leo.keys.append(gateway.key_of(company.leo.user_id, "data"))
    gateway.put_on("lab", company.leo.user_id)
    home.wait_for("leo", "settled")
    company.assert_leo_is_gone()


def test_a_sweep_ends_what_came_back_later(gateway: Gateway, opened: Opener) -> None:
    home = opened(routero={"cache_time": "0.05s"})
    company = founded(gateway, home)
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    company.leo.keys.append(gateway.key_of(company.leo.user_id))
    gateway.set_metadata(company.leo.user_id, {"scim_active": True})
    gateway.ready()
    home.reconcile()
    home.wait_until_quiet()
    company.assert_leo_is_gone()


def test_a_key_made_between_listing_and_deletion_is_found_by_the_read_back(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    made = {"generate_key": {"user_id": company.leo.user_id, "raw": "sk-made-in-between-0001"}}
    gateway.break_with("/key/delete", times=1, then=made)
    home.offboard("leo")
    company.assert_leo_is_gone()
    assert set(gateway.tried("sk-made-in-between-0001")) == {401}
    assert len((home.departure("leo").receipt or {})["keys"]) == 4


def test_a_team_joined_between_listing_and_deletion_is_found_by_the_read_back(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.team("late")
    joined = {"member_add": {"team_id": "late", "user_id": company.leo.user_id}}
    gateway.break_with("/team/member_delete", times=1, then=joined)
    home.offboard("leo")
    company.assert_leo_is_gone()


def test_more_keys_than_a_page_holds_are_all_ended(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    rows = [{"user_id": company.leo.user_id, "team_id": "lab"} for _ in range(130)]
    made = gateway.seeded({"keys": rows})
    home.offboard("leo")
    company.assert_leo_is_gone()
    assert len((home.departure("leo").receipt or {})["keys"]) == len(made) + 3


def test_somebody_without_an_account_leaves_without_one_being_made(gateway: Gateway, opened: Opener) -> None:
    """An update of an unknown id would create that user."""
    home = opened()
    home.directory.hire("nil")
    before = gateway.ready()
    home.offboard("nil")
    assert gateway.calls("/user/update", before) == []
    assert gateway.users_called("nil@corp.example") == []


def test_an_account_deleted_by_hand_is_not_made_again_by_its_departure(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.ok("/user/delete", {"user_ids": [company.leo.user_id]})
    before = gateway.ready()
    home.offboard("leo")
    assert gateway.calls("/user/update", before) == []
    assert gateway.user(company.leo.user_id) is None
    company.assert_others_work()


@pytest.mark.parametrize("way", ["inactive", "delete"])
def test_both_ways_to_say_it_end_the_same(gateway: Gateway, opened: Opener, way: str) -> None:
    home = opened()
    company = founded(gateway, home)
    if way == "delete":
        person = home.person("leo").id
        home.directory.delete("leo")
        assert home.person("leo").id == person
    else:
        home.directory.leave("leo")
    home.wait_until_verified("leo")
    company.assert_leo_is_gone()


@both_dialects
def test_metadata_of_others_outlives_fence_and_lift(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    user_id = company.leo.user_id
    home.offboard("leo")
    fenced = (gateway.user(user_id) or {})["metadata"]
    assert fenced == {**OWN, "scim_active": False, "idsync_fence": home.departure("leo").id}
    home.directory.come_back("leo")
    home.wait_until_quiet()
    assert (gateway.user(user_id) or {})["metadata"] == {**OWN, "scim_active": True}


def test_metadata_that_is_no_object_is_not_written_and_keys_end_all_the_same(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    odd = '{"user_id": "u-leo", "user_email": "leo@corp.example", "metadata": ["odd"], "teams": ["data"]}'
    for path in ("/v2/user/info", "/user/info"):
        gateway.break_with(path, match={"user_id": "u-leo"}, status=200, body=odd, content_type="application/json")
    before = gateway.ready()
    home.directory.leave("leo")
    gateway.wait_for_fault("/v2/user/info", 3)
    home.wait_until_idle("leo")
    assert gateway.live_keys(company.leo.user_id) == []
    assert gateway.calls("/user/update", before) == []
    assert home.departure("leo").verified_at is None, "not fenced: no receipt"
    company.assert_leo_goes_after_all(home)
    assert {name: (gateway.user("u-leo") or {})["metadata"].get(name) for name in OWN} == OWN


@both_dialects
def test_a_fence_somebody_else_made_is_not_lifted(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    foreign = {**OWN, "scim_active": False}
    gateway.set_metadata(company.leo.user_id, foreign)
    home.offboard("leo")
    assert (gateway.user(company.leo.user_id) or {})["metadata"] == foreign
    home.directory.come_back("leo")
    home.wait_until_quiet()
    assert (gateway.user(company.leo.user_id) or {})["metadata"] == foreign


def test_a_key_blocked_by_somebody_else_is_not_unblocked_by_a_return(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy={"group_loss_delete_after": "1h"})
    company = founded(gateway, home)
    blocked, *free = company.leo.keys
    gateway.ok("/key/block", {"key": blocked.id})
    home.directory.part("Data", "leo")
    home.wait_for("leo", "blocked")
    home.directory.join("Data", "leo")
    home.wait_until_quiet()
    assert gateway.is_blocked(blocked)
    assert gateway.answers(free) == {200}


@pytest.mark.parametrize("missing", [{"block_supported": False}, {"fence": False}])
@both_dialects
def test_a_gateway_that_lacks_a_feature_still_ends_every_key(
    gateway: Gateway, opened: Opener, missing: dict[str, bool]
) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.hook("options", missing)
    home.offboard("leo")
    company.assert_leo_is_gone()


def test_a_gateway_without_user_updates_is_told_apart_in_the_receipt(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.break_with("/user/update", status=404)
    home.offboard("leo")
    assert home.departure("leo").fence == "unsupported"
    assert gateway.live_keys(company.leo.user_id) == []
    assert gateway.answers(company.leo.keys) == {401}
    assert gateway.teams_with(company.leo.user_id) == []


def test_every_account_of_a_person_is_ended_and_given_back(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy={"group_loss_delete_after": "1h"})
    company = founded(gateway, home)
    second = company.second_account(home, "lab", None)
    home.directory.part("Data", "leo")
    home.wait_for("leo", "blocked")
    assert gateway.answers([*company.leo.keys, *second.keys]) == {401}
    home.directory.join("Data", "leo")
    home.wait_until_quiet()
    assert gateway.answers(company.leo.keys) == {200}
    assert gateway.answers(second.keys) == {200}


def test_a_lost_team_ends_the_keys_of_every_account_of_a_person(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy={"group_loss_delete_after": "1h"})
    company = founded(gateway, home)
    home.directory.join("Web", "leo")
    second = company.second_account(home, "data", None)
    home.directory.part("Data", "leo")
    home.wait_until_quiet()
    assert gateway.answers([company.leo.keys[0], second.keys[0]]) == {401}
    assert gateway.answers([*company.leo.keys[1:], second.keys[1]]) == {200}


def test_every_account_of_a_leaver_is_ended(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    second = company.second_account(home, "lab", None)
    home.offboard("leo")
    company.assert_leo_is_gone()
    gateway.assert_gone(second)


def test_one_failing_person_never_stops_the_others(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    crowd = company.crowd(home, 12)
    gateway.break_with("/user/update", match={"user_id": "u-leo"}, status=500)
    home.directory.leave("leo")
    for holder in crowd:
        home.directory.leave(holder.email)
    home.wait_until_verified(*(holder.email for holder in crowd))
    for holder in crowd:
        gateway.assert_gone(holder)
    assert home.departure("leo").verified_at is None
    company.assert_leo_goes_after_all(home)


def test_the_teams_of_an_account_are_left_one_at_a_time(gateway: Gateway, opened: Opener) -> None:
    """LiteLLM 1.108.0 writes the user's row anew in each, and of two at once forgets one."""
    home = opened()
    company = founded(gateway, home)
    gateway.team("more", company.leo.user_id)
    gateway.break_with("/team/member_delete", delay=0.1)
    home.offboard("leo")
    calls, _ = ledger.calls_of(home.db, home.departure("leo").id)
    spans = sorted((call.at, call.at + call.ms / 1000) for call in calls if call.path == "/team/member_delete")
    assert len(spans) == 3
    assert all(end <= start + 0.01 for (_, end), (start, _) in pairwise(spans))
    company.assert_leo_is_gone()


def test_lists_that_lag_behind_are_looked_at_again_until_they_agree(gateway: Gateway, opened: Opener) -> None:
    """A key made an instant before, which the gateway's read replica does not list yet."""
    home = opened(routero={"cache_time": "0.8s"})
    company = founded(gateway, home)
    gateway.hook("options", {"list_delay": 0.4})
    made = gateway.ok("/key/generate", {"user_id": company.leo.user_id})
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    company.assert_leo_is_gone()
    assert set(gateway.tried(made["key"])) == {401}


def test_rosters_that_lose_updates_end_right(gateway: Gateway, opened: Opener) -> None:
    """The gateway reads and writes a whole roster: parallel removals put each other's people back."""
    home = opened(routero={"cache_time": "0.3s"})
    company = founded(gateway, home)
    crowd = [gateway.account(f"c{number}", "lab") for number in range(8)]
    for holder in crowd:
        home.directory.hire(holder.email)
        gateway.put_on("lab", holder.user_id)
    gateway.ready()
    gateway.hook("options", {"lost_updates": True})
    for holder in crowd:
        home.directory.leave(holder.email)
    for holder in crowd:
        home.wait_for(holder.email, "settled")
    gateway.hook("options", {"lost_updates": False})
    home.reconcile()
    home.wait_until_quiet()
    for holder in crowd:
        gateway.assert_gone(holder)
    company.assert_others_work()


@both_dialects
def test_where_departures_only_block_the_keys_are_there_and_dead(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy={"on_departure": "block"})
    company = founded(gateway, home)
    home.offboard("leo")
    assert gateway.answers(company.leo.keys) == {401}
    assert all(gateway.is_blocked(key) for key in company.leo.keys)
    assert gateway.fenced(company.leo.user_id)
    assert idsync(opened.settings, "verify").code == 0
    company.assert_others_work()
    home.directory.come_back("leo")
    home.wait_until_quiet()
    gateway.assert_at_work(company.leo, "data", "lab")
