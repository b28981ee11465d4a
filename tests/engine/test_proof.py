"""What a receipt says is true: nobody is verified on a guess, and what comes back is ended again and told."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from support.company import LAB, OWN, Company, founded
from support.daemon import idsync
from support.directory import mail
from support.fixtures import Opener, both_dialects
from support.gateway import Gateway
from support.home import Home
from support.waiting import until

from idsync.model import DepartureState, Lane
from idsync.store import ledger, people, verdicts

SOON: dict[str, Any] = {"routero": {"cache_time": "0.1s"}}
LATER: dict[str, Any] = {"policy": {"group_loss_delete_after": "1h"}}


def events(home: Home) -> dict[str, float]:
    """Return the counters of security events by kind."""
    lines = home.core.metrics.text().decode().splitlines()
    counted = [line for line in lines if line.startswith("idsync_security_events_total{")]
    return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in counted}


def timed(home: Home) -> float:
    lines = home.core.metrics.text().decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2]) for line in lines if line.startswith("idsync_time_to_revoke_seconds_count")
    )


def settled(gateway: Gateway, opened: Opener, **settings: Any) -> tuple[Home, Company]:
    home = opened(**(settings or SOON))
    company = founded(gateway, home)
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    return home, company


# -- what came back -----------------------------------------------------------------------------------------------------


def lift_the_fence(gateway: Gateway, company: Company) -> None:
    gateway.set_metadata(company.leo.user_id, {**OWN, "scim_active": True})


def make_a_key(gateway: Gateway, company: Company) -> None:
    company.leo.keys.append(gateway.key_of(company.leo.user_id, "data"))


def put_on_a_team(gateway: Gateway, company: Company) -> None:
    gateway.put_on("lab", company.leo.user_id)


@both_dialects
@pytest.mark.parametrize(
    ("act", "what"),
    [(lift_the_fence, "fence"), (make_a_key, "key"), (put_on_a_team, "member")],
    ids=["fence", "key", "team"],
)
def test_what_comes_back_is_ended_again_and_told(gateway: Gateway, opened: Opener, act: Any, what: str) -> None:
    home, company = settled(gateway, opened)
    act(gateway, company)
    home.reconcile()
    until(lambda: home.told("departure.reasserted"), "it is told")
    home.wait_until_quiet()
    company.assert_leo_is_gone()
    assert [(entry["what"], entry["evidence"]) for entry in home.told("departure.reasserted")] == [
        ([what], home.departure("leo").evidence.value)
    ]
    assert events(home) == {what: 1.0}


def test_a_key_unblocked_while_its_deletion_waits_is_blocked_again_and_told(gateway: Gateway, opened: Opener) -> None:
    home = opened(**LATER)
    company = founded(gateway, home)
    home.directory.part("Data", "leo")
    home.wait_for("leo", "blocked")
    assert home.told("access.ended")
    gateway.ok("/key/unblock", {"key": company.leo.keys[0].id})
    home.reconcile()
    until(lambda: home.told("departure.reasserted"), "it is told")
    assert gateway.is_blocked(company.leo.keys[0])
    assert events(home) == {"key": 1.0}


def test_a_key_that_only_its_id_still_finds_is_ended_by_the_second_look(gateway: Gateway, opened: Opener) -> None:
    """Listings may hide it; the gateway said it was gone."""
    home = opened(routero={"cache_time": "0.3s"})
    company = founded(gateway, home)
    home.offboard("leo")
    back = company.leo.keys[0].id
    alive = f'{{"key": "{back}", "info": {{"token": "{back}", "user_id": "u-leo", "key_name": "sk-...back"}}}}'
    gateway.break_with(
        "/key/info", times=1, match={"key": back}, status=200, body=alive, content_type="application/json"
    )
    before = gateway.ready()
    home.wait_for("leo", "settled")
    assert [entry["what"] for entry in home.told("departure.reasserted")] == [["key"]]
    assert gateway.calls("/key/delete", before)


@pytest.mark.parametrize(("shown", "fence"), [("proven", "assumed"), ("unsupported", "unsupported")])
def test_looking_again_at_what_is_settled_says_nothing_new(
    gateway: Gateway, opened: Opener, shown: verdicts.Verdict, fence: str
) -> None:
    """What a drill shows afterwards proves nothing of what was verified before it, but may show it wrong."""
    home, _ = settled(gateway, opened)
    name, now = home.core.gateway.name, time.time()
    home.write(lambda db: verdicts.put_fence(db, name, verdicts.Fence(shown, 0.1, now)))
    before = home.departure("leo")
    home.write(lambda db: home.core.intake.people.open_job(db, before.person_id, Lane.REVOKE))
    home.wait_until_quiet()
    after = home.departure("leo")
    assert (after.state, after.settled_at, after.settle_at) == (before.state, before.settled_at, None)
    assert (before.fence, after.fence) == ("assumed", fence)
    assert len(home.told("departure.settled")) == 1


# -- where policy wants keys blocked ------------------------------------------------------------------------------------


def test_where_departures_only_block_that_is_proven_told_and_looked_at_again(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy={"on_departure": "block"}, **SOON)
    company = founded(gateway, home)
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    assert len(home.told("departure.verified")) == len(home.told("departure.settled")) == 1
    assert timed(home) == 1
    gateway.ok("/key/unblock", {"key": company.leo.keys[0].id})
    home.reconcile()
    until(lambda: home.told("departure.reasserted"), "it is told")
    assert all(gateway.is_blocked(key) for key in company.leo.keys)
    assert gateway.answers(company.leo.keys).isdisjoint({200})


@pytest.mark.parametrize("settings", [{"policy": {"on_departure": "block"}}, LATER], ids=["block only", "waits"])
def test_a_fence_a_drill_has_seen_ignored_stands_for_no_block(
    gateway: Gateway, opened: Opener, settings: dict[str, Any]
) -> None:
    home = opened(**settings)
    company = founded(gateway, home)
    name, now = home.core.gateway.name, time.time()
    home.write(lambda db: verdicts.put_fence(db, name, verdicts.Fence("unsupported", None, now)))
    gateway.hook("options", {"block_supported": False, "fence": False})
    home.directory.part("Data", "leo")
    until(lambda: home.failed_job("leo"), "it is not taken for done")
    departure = home.departure("leo")
    assert gateway.answers(company.leo.keys) == {200}
    assert (departure.verified_at, departure.access_ended_at) == (None, None)
    assert "3 keys open" in str(departure.problem)


# -- who they are at the gateway -----------------------------------------------------------------------------------------


def test_a_link_to_an_account_that_never_was_proves_nothing(gateway: Gateway, opened: Opener) -> None:
    """Somebody mistyped the id; the account with the same trusted e-mail is found and ended."""
    home = opened(**SOON)
    bob = gateway.account("bob", None)
    home.directory.hire("bob")
    home.link("bob", "u-bob-typo")
    home.wait_until_quiet()
    home.offboard("bob")
    gateway.assert_gone(bob)
    assert (home.departure("bob").receipt or {})["accounts"] == ["u-bob", "u-bob-typo"]


def test_a_link_nobody_can_confirm_waits_for_a_person(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    home.directory.hire("bob")
    home.link("bob", "u-nobody")
    home.wait_until_quiet()
    home.directory.leave("bob")
    home.wait_for("bob", "parked")
    assert "u-nobody, which the gateway has never shown" in str(home.departure("bob").problem)
    assert home.departure("bob").verified_at is None


def test_an_account_that_was_there_once_and_is_deleted_is_gone(gateway: Gateway, opened: Opener) -> None:
    home = opened(**SOON)
    company = founded(gateway, home)
    gateway.ok("/user/delete", {"user_ids": [company.leo.user_id]})
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    assert home.departure("leo").fence == "none"


def test_people_without_an_account_are_not_timed(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    home.directory.hire("nil")
    home.offboard("nil")
    assert timed(home) == 0
    assert home.departure("nil").fenced_at is None


def test_an_account_made_later_with_their_e_mail_is_ended_by_the_sweep(gateway: Gateway, opened: Opener) -> None:
    home, company = settled(gateway, opened)
    again = gateway.account("leo-again", None, user_email=company.leo.email.upper())
    assert gateway.answers(again.keys) == {200}
    home.reconcile()
    until(lambda: home.told("departure.reasserted"), "it is told")
    gateway.assert_gone(again)
    assert events(home)["account"] == 1.0


def test_an_address_that_somebody_new_has_now_is_theirs(gateway: Gateway, opened: Opener) -> None:
    """Their account is not linked yet: it has no SSO id, and nobody is asked to link by e-mail."""
    home, company = settled(gateway, opened)
    home.directory.delete("leo")
    home.directory.hire("leo", external_id="another-leo")
    home.wait_until_quiet()
    assert home.person("leo").account_id is None
    theirs = gateway.account("somebody-new", None, user_email=company.leo.email)
    home.reconcile()
    home.wait_until_quiet()
    assert gateway.answers(theirs.keys) == {200}
    assert home.told("departure.reasserted") == []


# -- while another account may be theirs ----------------------------------------------------------------------------------


def doubted(gateway: Gateway, company: Company) -> None:
    """Two accounts of nobody appear, with the e-mail of the leaver."""
    for name in ("leo-x", "leo-y"):
        gateway.account(name, user_email=company.leo.email)


def test_a_doubt_about_another_account_spares_no_known_one(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    second = company.second_account(home)
    gateway.hook("options", {"fence": False})
    gateway.ok("/user/delete", {"user_ids": [second.user_id]})
    doubted(gateway, company)
    home.directory.leave("leo")
    departure = home.wait_for("leo", "parked")
    company.assert_leo_is_gone()
    receipt = departure.receipt or {}
    assert (departure.verified_at, departure.access_ended_at) == (None, None)
    assert "2 gateway accounts" in str(departure.problem)
    assert [entry["id"] for entry in receipt["keys"]] == sorted(key.id for key in company.leo.keys)
    assert (receipt["teams"], receipt["read_backs"][-1]["verdict"]) == (["data", "lab"], "in doubt")
    assert ledger.unverified(home.db, time.time()) == 1
    home.write(lambda db: home.core.control.unlink(db, mail("leo"), second.user_id, by="test"))
    for name in ("u-leo-x", "u-leo-y"):
        home.link("leo", name)
    home.wait_until_verified("leo")
    assert (home.departure("leo").receipt or {})["teams"] == ["data", "lab"]


def test_an_account_nobody_can_choose_spares_no_further_one(gateway: Gateway, opened: Opener) -> None:
    """The first account was never linked; another one was."""
    home = opened(scim={"sources": [{"name": "okta", "trust_email": True}]})
    gateway.account("bob-x", user_email=mail("bob"))
    gateway.account("bob-y", user_email=mail("bob"))
    further = gateway.account("bob-z", None)
    home.directory.hire("bob")
    home.write(lambda db: people.add_further_account(db, home.person("bob").id, further.user_id, time.time()))
    home.directory.leave("bob")
    home.wait_for("bob", "parked")
    gateway.assert_gone(further)


def test_a_doubt_stops_no_sweep(gateway: Gateway, opened: Opener) -> None:
    home, company = settled(gateway, opened)
    doubted(gateway, company)
    gateway.hook("options", {"fence": False})
    make_a_key(gateway, company)
    put_on_a_team(gateway, company)
    home.reconcile()
    until(lambda: home.told("departure.reasserted"), "it is told")
    home.wait_until_idle("leo")
    company.assert_leo_is_gone()
    departure = home.departure("leo")
    assert "2 gateway accounts" in str(departure.problem)
    assert (departure.state.value, departure.verified_at is not None) == ("settled", True)


# -- what an error proves -------------------------------------------------------------------------------------------------

GONE = '{"error": {"message": "no such user", "type": "not_found", "param": null, "code": "404"}}'


@pytest.mark.parametrize("body", [GONE, '{"error": "not found"}'])
@both_dialects
def test_one_way_of_asking_proves_no_account_gone(gateway: Gateway, opened: Opener, body: str) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.break_with("/v2/user/info", status=404, body=body, content_type="application/json", times=40)
    home.directory.leave("leo")
    until(lambda: home.departure("leo").verified_at or home.failed_job("leo"), "something comes of it")
    assert gateway.answers(company.leo.keys) == {401}
    assert home.departure("leo").verified_at is None or gateway.fenced(company.leo.user_id)
    company.assert_leo_goes_after_all(home)


@both_dialects
def test_one_answer_that_there_is_no_such_endpoint_ends_no_search(gateway: Gateway, opened: Opener) -> None:
    """Some replica of a new version, for a moment."""
    home = opened()
    company = founded(gateway, home)
    for path in ("/user/update", "/key/block", "/key/info"):
        gateway.break_with(path, status=404, times=1)
    home.offboard("leo")
    company.assert_leo_is_gone()
    departure = home.departure("leo")
    features = (departure.receipt or {})["features"]
    assert departure.fence == "assumed"
    assert {features[means] for means in ("fence", "block", "key_info")} == {"used"}


def test_a_key_that_is_listed_as_nobodys_is_ended(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.hook("options", {"member_delete_keys": False})
    rows = [{"token": key.id, "key_name": "sk-...x", "user_id": None, "team_id": None} for key in company.leo.keys]
    listing = json.dumps({"keys": rows, "total_count": len(rows)})
    gateway.break_with("/key/list", status=200, body=listing, content_type="application/json")
    home.offboard("leo")
    company.assert_leo_is_gone()


def hide_rosters(gateway: Gateway, *teams: str) -> None:
    """No listing has these teams, and their rosters are null; leaving one does nothing."""
    gateway.break_with("/team/list", status=200, body="[]", content_type="application/json")
    for team in teams:
        row = json.dumps({"team_id": team, "team_info": {"team_id": team, "members_with_roles": None}})
        gateway.break_with("/team/info", match={"team_id": team}, status=200, body=row, content_type="application/json")
    gateway.break_with("/team/member_delete", lie=True)


def test_a_roster_of_null_proves_no_leaver_gone(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    hide_rosters(gateway, "data", LAB)
    home.directory.leave("leo")
    until(lambda: home.failed_job("leo") or home.departure("leo").verified_at, "something comes of it")
    assert home.departure("leo").verified_at is None
    assert "2 team memberships" in str(home.departure("leo").problem)
    company.assert_leo_goes_after_all(home)


def test_a_roster_of_null_proves_no_mover_out(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy={"group_loss_delete_after": "0s"})
    company = founded(gateway, home)
    home.directory.join("Web", "leo")
    home.wait_until_quiet()
    hide_rosters(gateway, "data")
    home.directory.part("Data", "leo")
    home.wait_until_idle("leo")
    assert home.failed_job("leo") is not None
    gateway.mend()
    home.hurry()
    home.wait_until_quiet()
    assert set(gateway.teams_with(company.leo.user_id)) == {LAB, "web"}


def test_a_fence_that_a_drill_has_proven_is_not_given_up(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    name, now = home.core.gateway.name, time.time()
    home.write(lambda db: verdicts.put_fence(db, name, verdicts.Fence("proven", 0.1, now)))
    gateway.break_with("/user/update", status=404)
    home.directory.leave("leo")
    until(lambda: home.failed_job("leo"), "it is tried again")
    assert gateway.answers(company.leo.keys) == {401}
    assert home.departure("leo").verified_at is None
    company.assert_leo_goes_after_all(home)


def test_a_key_that_lives_is_seen_beside_one_that_cannot_be_asked_for(gateway: Gateway, opened: Opener) -> None:
    """The deletion did nothing, the listing lags, and a replica does not look keys up yet."""
    home = opened()
    company = founded(gateway, home)
    gateway.hook("options", {"member_delete_keys": False})
    empty = '{"keys": [], "total_count": 0}'
    gateway.break_with("/key/delete", lie=True)
    gateway.break_with("/key/list", skip=1, status=200, body=empty, content_type="application/json")
    gateway.break_with("/key/info", match={"key": company.leo.keys[0].id}, status=404)
    home.directory.leave("leo")
    until(lambda: home.failed_job("leo") or home.departure("leo").verified_at, "something comes of it")
    assert home.departure("leo").verified_at is None
    company.assert_leo_goes_after_all(home)


# -- what else they hold -------------------------------------------------------------------------------------------------


@both_dialects
def test_a_dashboard_session_ends_though_the_gateway_ignores_the_fence(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    hidden = gateway.key_of(company.leo.user_id, "litellm-dashboard")
    gateway.hook("options", {"fence": False})
    gateway.ready()
    assert gateway.answers([hidden]) == {200}
    home.offboard("leo")
    assert not gateway.exists(hidden)
    assert (home.departure("leo").receipt or {})["features"]["sessions"] == "used"


@both_dialects
def test_an_admin_is_none_any_more(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.account("root", user_role="proxy_admin")
    gateway.ok("/user/update", {"user_id": company.leo.user_id, "user_role": "proxy_admin"})
    home.offboard("leo")
    assert (gateway.user(company.leo.user_id) or {})["user_role"] == "internal_user_viewer"
    assert (home.departure("leo").receipt or {})["roles"] == ["proxy_admin"]
    company.assert_leo_is_gone()


@pytest.mark.parametrize("dialect", ["routero"], indirect=True)
def test_a_pending_invitation_lets_nobody_in(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    made = gateway.ok("/invitation/new", {"user_id": company.leo.user_id})
    others = gateway.ok("/invitation/new", {"user_id": company.ann.user_id})
    home.offboard("leo")
    left = {one["id"] for one in gateway.state()["invitations"]}
    assert (made["id"] in left, others["id"] in left) == (False, True)
    assert made["id"] in (home.departure("leo").receipt or {})["invitations"]


@pytest.mark.parametrize("dialect", ["routero"], indirect=True)
@pytest.mark.parametrize("status", [404, 403, 405])
def test_a_gateway_without_invitations_or_passwords_is_said_to_be_one(
    gateway: Gateway, opened: Opener, status: int
) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.break_with("/invitation/list", status=404 if status == 403 else status)
    home.offboard("leo")
    company.assert_leo_is_gone()
    assert (home.departure("leo").receipt or {})["features"]["invitations"] == "missing"


@both_dialects
def test_the_row_itself_goes_last_where_policy_wants_it(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy={"delete_user": True}, **SOON)
    company = founded(gateway, home)
    before = gateway.ready()
    home.offboard("leo")
    assert gateway.user(company.leo.user_id) is not None, "not before the second look"
    home.wait_for("leo", "settled")
    assert gateway.user(company.leo.user_id) is None
    assert gateway.paths(before, writes=True)[-1] == "/user/delete"
    assert (home.departure("leo").receipt or {})["deleted_accounts"] == [company.leo.user_id]
    gateway.assert_gone(company.leo)
    company.assert_others_work()
    home.directory.come_back("leo")
    home.wait_until_quiet()
    assert "data" in gateway.teams_with(home.account_of("leo"))


@both_dialects
def test_no_row_goes_while_a_key_is_seen(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy={"delete_user": True}, routero={"cache_time": "0.3s"})
    company = founded(gateway, home)
    home.offboard("leo")
    gateway.break_with("/key/delete", lie=True)
    company.leo.keys.append(gateway.key_of(company.leo.user_id))
    gateway.wait_for_fault("/key/delete")
    home.wait_until_idle("leo")
    assert gateway.fenced(company.leo.user_id), "the row is there, with its fence"
    gateway.mend()
    home.hurry()
    home.wait_for("leo", "settled")
    assert gateway.user(company.leo.user_id) is None
    company.assert_leo_is_gone()


def test_a_row_that_holds_back_sessions_nobody_can_end_stays(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy={"delete_user": True}, **SOON)
    company = founded(gateway, home)
    hidden = gateway.key_of(company.leo.user_id, "litellm-dashboard")
    gateway.ready()
    gateway.break_with("/user/update", status=400, skip=1)  # the fence is written, a password is not
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    assert gateway.exists(hidden)
    assert gateway.fenced(company.leo.user_id)
    assert 200 not in gateway.answers([hidden])
    assert "kept" in (home.departure("leo").receipt or {})["features"]["user_delete"]


# -- times and figures -----------------------------------------------------------------------------------------------------


def test_no_stage_has_a_time_that_was_not_reached(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.break_with("/user/update", status=404)
    gateway.hook("options", {"block_supported": False})
    home.offboard("leo")
    departure = home.departure("leo")
    assert (departure.fence, departure.fenced_at, departure.blocked_at) == ("unsupported", None, None)
    assert departure.deleted_at is not None
    assert (departure.receipt or {})["features"] | {"sessions": "", "invitations": ""} == {
        "fence": "unsupported",
        "block": "missing",
        "key_info": "used",
        "sessions": "",
        "invitations": "",
    }
    assert gateway.live_keys(company.leo.user_id) == []


def test_whoever_waits_for_deletion_with_open_keys_is_unverified(gateway: Gateway, opened: Opener) -> None:
    """Deletion may wait, access may not."""
    home = opened(**LATER)
    company = founded(gateway, home)
    gateway.break_with("/user/update", status=500)
    gateway.break_with("/key/block", status=500)
    home.directory.part("Data", "leo")
    until(lambda: home.failed_job("leo"), "ending access has failed")
    assert gateway.answers(company.leo.keys) == {200}
    assert ledger.unverified(home.db, time.time()) == 1
    gateway.mend()
    home.hurry()
    home.wait_for("leo", "blocked")
    assert ledger.unverified(home.db, time.time()) == 0


def test_a_long_receipt_keeps_its_beginning_and_its_end(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.hook("seed", {"keys": [{"user_id": company.leo.user_id} for _ in range(600)]})
    home.offboard("leo")
    calls, made = ledger.calls_of(home.db, home.departure("leo").id)
    assert made > 1200 > len(calls)
    paths = [call.path for call in calls]
    assert "/user/update" in paths[:5]
    assert len((home.departure("leo").receipt or {})["keys"]) == 603


def test_the_calls_of_a_run_that_failed_are_kept(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.break_with("/key/delete", status=500, times=1)
    home.directory.leave("leo")
    gateway.wait_for_fault("/key/delete")
    company.assert_leo_goes_after_all(home)
    calls, _ = ledger.calls_of(home.db, home.departure("leo").id)
    assert [call.status for call in calls if call.path == "/key/delete"] == [500, 200]


# -- metadata ---------------------------------------------------------------------------------------------------------------


@both_dialects
def test_what_others_write_before_the_fence_is_kept(gateway: Gateway, opened: Opener) -> None:
    """They write after the account was read first, while the gateway is asked whether it has another admin."""
    home = opened()
    company = founded(gateway, home)
    gateway.account("root", user_role="proxy_admin")
    gateway.ok("/user/update", {"user_id": company.leo.user_id, "user_role": "proxy_admin"})
    theirs = {"set_metadata": {"user_id": company.leo.user_id, "metadata": {**OWN, "theirs": "new"}}}
    gateway.break_with("/user/list", times=1, then=theirs)
    home.offboard("leo")
    assert gateway.fired("/user/list") == 1
    metadata = (gateway.user(company.leo.user_id) or {})["metadata"]
    assert {name: metadata.get(name) for name in (*OWN, "theirs")} == {**OWN, "theirs": "new"}
    assert metadata["scim_active"] is False


@both_dialects
def test_a_stale_writer_after_the_fence_does_not_lift_it(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    stale = {"set_metadata": {"user_id": company.leo.user_id, "metadata": {**OWN, "theirs": "new"}}}
    gateway.break_with("/user/update", times=1, then=stale)
    home.offboard("leo")
    metadata = (gateway.user(company.leo.user_id) or {})["metadata"]
    assert (metadata.get("theirs"), metadata["scim_active"]) == ("new", False)


@both_dialects
def test_a_lift_the_gateway_lied_about_is_lifted_after_all(gateway: Gateway, opened: Opener) -> None:
    home = opened(**LATER)
    company = founded(gateway, home)
    home.directory.part("Data", "leo")
    home.wait_for("leo", "blocked")
    gateway.break_with("/user/update", times=1, lie=True)
    home.directory.join("Data", "leo")
    gateway.wait_for_fault("/user/update")
    until(lambda: home.failed_job("leo"), "the lie is noticed")
    home.hurry()
    home.wait_until_quiet()
    assert not gateway.fenced(company.leo.user_id)
    assert home.departure("leo").state is DepartureState.CANCELLED
    assert gateway.answers(company.leo.keys) == {200}


def test_verify_and_the_ledger_agree(gateway: Gateway, opened: Opener) -> None:
    settled(gateway, opened)
    assert idsync(opened.settings, "verify", mail("leo")).code == 0
