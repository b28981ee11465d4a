"""What once went wrong at the gateway, each proved by a reader before it was mended; see also the intake's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.company import founded
from support.directory import mail
from support.fixtures import Opener
from support.gateway import Gateway, Key
from support.home import Home
from support.settings import WEB
from support.waiting import until

from idsync.errors import UsageError
from idsync.model import Lane
from idsync.store import jobs, people, tokens

NOW = {"group_loss_delete_after": "0s"}
OTHER_RULE: dict[str, Any] = {"teams": [{"alias": "data", "groups": ["Somebody else"]}, WEB]}


def crowd_in_data(gateway: Gateway, home: Home) -> tuple[list[str], Key]:
    """Hire ten into Data, the fewest whose loss of a group is held; return them and a key of the first."""
    logins = [f"p{number}" for number in range(10)]
    for login in logins:
        gateway.account(login)
        home.directory.hire(login, "Data")
    home.wait_until_quiet()
    return logins, gateway.key_of("u-p0", "data")


def until_tried(home: Home, login: str) -> None:
    """Wait for the end of a try that failed."""
    until(lambda: home.failed_job(login), f"a try for {login} fails")


def assert_no_keys(gateway: Gateway, keys: list[Key]) -> None:
    assert [key for key in keys if gateway.exists(key)] == []
    assert gateway.answers(keys) == {401}


# -- a fence that cannot be written or read ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "status"), [(["/user/update"], 500), (["/user/update"], 400), (["/v2/user/info", "/user/info"], 500)]
)
def test_without_a_fence_the_keys_end_all_the_same_and_nothing_is_verified(
    gateway: Gateway, opened: Opener, paths: list[str], status: int
) -> None:
    home = opened()
    company = founded(gateway, home)
    for path in paths:
        gateway.break_with(path, status=status)
    home.directory.leave("leo")
    until_tried(home, "leo")
    assert_no_keys(gateway, company.leo.keys)
    departure = home.departure("leo")
    assert departure.verified_at is None
    assert departure.problem
    company.assert_leo_goes_after_all(home)


def test_keys_are_blocked_before_they_are_deleted_without_a_fence_too(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.hook("options", {"member_delete_keys": False})  # the teams are left all the same
    gateway.break_with("/user/update", status=500)
    gateway.break_with("/key/delete", status=500)
    home.directory.leave("leo")
    until_tried(home, "leo")
    assert all(gateway.is_blocked(key) for key in company.leo.keys)
    assert gateway.answers(company.leo.keys) == {401}


# -- somebody no group ever gave access -------------------------------------------------------------------------------


def test_somebody_never_managed_who_returns_is_not_departed_any_more(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    bob = gateway.account("bob", None)
    home.directory.hire("bob")
    home.wait_until_quiet()
    home.offboard("bob")
    home.directory.come_back("bob")
    home.wait_until_quiet()
    made = gateway.key_of(bob.user_id)
    home.reconcile()
    home.wait_until_quiet()
    assert home.departure("bob").closed_at is not None
    assert not gateway.fenced(bob.user_id)
    assert gateway.answers([made]) == {200}


def test_an_account_no_source_knows_is_given_back_by_restore(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    bob = gateway.account("bob", None)
    home.revoke("bob")
    home.wait_until_verified("bob")
    assert gateway.fenced(bob.user_id)
    home.write(lambda db: home.core.control.restore(db, mail("bob"), reason="by mistake", by="test"))
    home.wait_until_quiet()
    assert not gateway.fenced(bob.user_id)
    home.reconcile()
    home.wait_until_quiet()
    assert not gateway.fenced(bob.user_id)


def test_somebody_who_returns_before_their_groups_do_is_let_in(gateway: Gateway, opened: Opener) -> None:
    """Okta says inactive, takes the group, says active, and gives the group."""
    home = opened()
    company = founded(gateway, home)
    home.offboard("leo")
    home.directory.part("Data", "leo")
    home.directory.come_back("leo")
    home.directory.join("Data", "leo")
    home.wait_until_quiet()
    assert not gateway.fenced(company.leo.user_id)
    assert "data" in gateway.teams_with(company.leo.user_id)


# -- protections and holds --------------------------------------------------------------------------------------------


def test_a_new_protection_holds_nothing(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    home = opened(protected=[{"match": mail("leo"), "reason": "break-glass"}])
    assert home.holds() == []
    home.wait_until_quiet()
    gateway.assert_at_work(company.leo, "data", "lab")


def test_approving_a_hold_never_takes_the_keys_of_somebody_protected_since(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy=NOW)
    company = founded(gateway, home)
    home = opened(policy=NOW, **OTHER_RULE)
    home = opened(policy=NOW, protected=[{"match": mail("leo"), "reason": "break-glass"}], **OTHER_RULE)
    (hold,) = home.holds()
    gateway.ready()
    home.approve(hold)
    home.wait_until_verified("ann")
    home.wait_until_quiet()
    gateway.assert_at_work(company.leo, "data", "lab")
    gateway.assert_gone(company.ann)


def test_a_gateway_account_of_a_protected_email_is_not_revoked_by_its_user_id(gateway: Gateway, opened: Opener) -> None:
    home = opened(protected=[{"match": mail("breakglass"), "reason": "break-glass"}])
    glass = gateway.account("breakglass", None)
    before = gateway.ready()
    asked: dict[str, Any] = {"user": glass.user_id, "reason": "test", "by": "test", "override": False}
    with pytest.raises(UsageError, match="protected"):
        home.run(home.core.commands(alone=False).revoke(**asked))
    home.wait_until_quiet()
    assert gateway.paths(before, writes=True) == []
    assert gateway.answers(glass.keys) == {200}


def test_a_held_mass_loss_stays_held_when_the_last_group_is_lost_as_well(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy=NOW)
    logins, key = crowd_in_data(gateway, home)
    home.directory.join("Web", *logins)
    home.wait_until_quiet()
    home.directory.empty("Data")
    home.wait_until_quiet()
    home.directory.part("Web", "p0")
    home.wait_for("p0", "held")
    home.wait_until_quiet()
    assert gateway.is_blocked(key)
    assert "data" in gateway.teams_with("u-p0")


def test_a_held_mass_loss_stays_held_when_another_group_brings_somebody_back(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy=NOW)
    _, key = crowd_in_data(gateway, home)
    home.directory.empty("Data")
    home.wait_for("p0", "held")
    home.directory.join("Web", "p0")
    home.wait_until_quiet()
    assert gateway.is_blocked(key)
    assert set(gateway.teams_with("u-p0")) == {"data", "web"}
    for hold in home.holds():
        home.approve(hold)
    until(lambda: not gateway.exists(key), "the key of the lost team is deleted")
    home.wait_until_quiet()
    assert gateway.teams_with("u-p0") == ["web"]


# -- whose account it is ----------------------------------------------------------------------------------------------


def test_an_unlinked_account_is_not_linked_again_and_left_alone_by_its_leaver(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    leo = gateway.account("leo", None)
    home.directory.hire("leo", "Data")
    home.wait_until_quiet()
    home.write(lambda db: home.core.control.unlink(db, mail("leo"), leo.user_id, by="test"))
    before = gateway.ready()
    home.offboard("leo")
    assert home.person("leo").account_id is None
    assert gateway.paths(before, writes=True) == []
    assert gateway.answers(leo.keys) == {200}


def test_a_leaver_whose_untrusted_email_has_an_account_of_nobody_is_parked_until_it_is_linked(
    gateway: Gateway, opened: Opener, tmp_path: Path
) -> None:
    """With sources of two directories no e-mail is trusted unless the configuration says so."""
    first = {"name": "okta", "idp": "okta", "token_file": str(tmp_path / "source.token")}
    home = opened(scim={"sources": [first, {"name": "entra", "idp": "entra"}]})
    leo = gateway.account("leo", None)
    home.directory.hire("leo")
    before = gateway.ready()
    home.directory.leave("leo")
    home.wait_for("leo", "parked")
    assert home.departure("leo").verified_at is None
    assert gateway.paths(before, writes=True) == []
    (conflict,) = home.conflicts()
    assert (conflict.kind, "idsync link" in conflict.remedy) == ("account", True)
    assert leo.user_id in str(home.departure("leo").problem)
    home.link("leo", leo.user_id)
    home.wait_until_verified("leo")
    gateway.assert_gone(leo)
    assert home.conflicts() == []


def test_an_admin_matched_by_sso_id_is_revoked_when_another_admin_remains(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    boss = gateway.account("boss", None, user_role="proxy_admin", sso_user_id="x-boss")
    gateway.account("root", user_role="proxy_admin")
    gateway.ready()
    home.directory.hire("boss")
    home.offboard("boss")
    gateway.assert_gone(boss)


def test_whoever_takes_a_record_over_joins_no_team_of_the_one_before(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    home.offboard("leo")
    home.directory.set_active("leo", True, external_id="x-another-leo")
    home.wait_until_quiet()
    assert people.grants(home.db, home.person("leo").id) == []
    company.assert_leo_is_gone()


# -- further accounts -------------------------------------------------------------------------------------------------


def test_a_sweep_ends_what_came_back_on_a_further_account(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    second = company.second_account(home, "lab")
    home.offboard("leo")
    second.keys.append(gateway.key_of(second.user_id, "lab"))
    gateway.set_metadata(second.user_id, {})
    home.reconcile()
    home.wait_until_quiet()
    gateway.assert_gone(second)
    company.assert_leo_is_gone()


def test_a_mover_loses_the_keys_of_the_lost_team_on_every_account(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy={"group_loss_delete_after": "1h"})
    company = founded(gateway, home)
    second = company.second_account(home, "data")
    home.directory.join("Web", "leo")
    home.wait_until_quiet()
    home.directory.part("Data", "leo")
    home.wait_until_quiet()
    assert gateway.is_blocked(company.leo.keys[0])
    assert gateway.is_blocked(second.keys[0])
    assert gateway.answers(company.leo.keys[1:]) == {200}


def test_a_return_from_a_held_departure_lifts_the_fence_of_every_account(gateway: Gateway, opened: Opener) -> None:
    home = opened(guard={"max_push_departures": 1})
    company = founded(gateway, home)
    second = company.second_account(home, "lab")
    home.directory.leave("ann")
    home.directory.leave("leo")
    home.wait_for("leo", "held")
    home.wait_until_quiet()
    assert gateway.fenced(second.user_id)
    home.directory.come_back("leo")
    home.wait_until_quiet()
    gateway.assert_at_work(company.leo, "data", "lab")
    gateway.assert_at_work(second)


def test_one_account_that_fails_does_not_stop_the_other(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    second = company.second_account(home, "lab")
    gateway.break_with("/user/update", status=400, match={"user_id": company.leo.user_id})
    home.directory.leave("leo")
    until_tried(home, "leo")
    assert gateway.fenced(second.user_id)
    assert_no_keys(gateway, [*company.leo.keys, *second.keys])
    assert home.departure("leo").verified_at is None


# -- how the gateway is treated ---------------------------------------------------------------------------------------


def test_a_retry_after_of_zero_is_no_hot_loop(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    founded(gateway, home)
    gateway.break_with("/user/update", status=429, headers={"Retry-After": "0"})
    before = gateway.ready()
    home.directory.leave("leo")
    gateway.wait_for_fault("/user/update", 3)
    first, second, third = gateway.calls("/user/update", before)[:3]
    assert second["t"] - first["t"] >= 0.4
    assert third["t"] - second["t"] >= 0.8, "and each pause is longer"
    assert len(gateway.paths(before)) < 20


def test_a_block_set_by_somebody_else_is_not_lifted_by_a_later_try(gateway: Gateway, opened: Opener) -> None:
    home = opened(guard={"max_push_departures": 1})
    company = founded(gateway, home)
    home.directory.leave("ann")
    home.directory.leave("leo")
    home.wait_for("leo", "held")
    home.wait_until_quiet()
    gateway.break_with("/team/info", status=500)
    home.directory.come_back("leo")
    until_tried(home, "leo")
    blocked, *free = company.leo.keys
    assert not gateway.is_blocked(blocked), "lifted by the try that failed later on"
    gateway.ok("/key/block", {"key": blocked.id})
    gateway.mend()
    home.hurry()
    home.wait_until_quiet()
    assert gateway.is_blocked(blocked)
    assert gateway.answers(free) == {200}


def test_a_gateway_without_key_info_lets_a_mover_go(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy=NOW)
    company = founded(gateway, home)
    home.directory.join("Web", "leo")
    home.wait_until_quiet()
    nothing = {"status": 404, "body": '{"detail":"Not Found"}', "content_type": "application/json"}
    gateway.break_with("/key/info", **nothing)
    home.directory.part("Data", "leo")
    home.wait_until_idle("leo")
    assert home.failed_job("leo") is None
    assert set(gateway.teams_with(company.leo.user_id)) == {"lab", "web"}
    assert not gateway.exists(company.leo.keys[0])


def test_a_gateway_without_key_info_lets_a_leaver_go(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    nothing = {"status": 404, "body": '{"detail":"Not Found"}', "content_type": "application/json"}
    gateway.break_with("/key/info", **nothing)
    home.offboard("leo")
    company.assert_leo_is_gone()


# -- the configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [["okta", "okta-eu"], ["okta-eu", "okta"]])
def test_token_files_of_sources_whose_names_begin_alike_are_both_live(
    opened: Opener, tmp_path: Path, order: list[str]
) -> None:
    """At the first start and at the next one."""
    for name in order:
        (tmp_path / f"{name}.secret").write_text(f"idsync_token-of-{name}-0123456789-0123456789")
    sources = [{"name": name, "idp": name, "token_file": str(tmp_path / f"{name}.secret")} for name in order]
    for _ in range(2):
        home = opened(scim={"sources": sources})
        assert sorted(token.name for token in tokens.live_tokens(home.db)) == ["okta", "okta-eu"]


def test_access_by_a_role_alone_that_the_configuration_took_is_kept_through_unrelated_edits(
    gateway: Gateway, opened: Opener
) -> None:
    home = opened(roles=[{"role": "internal_viewer", "groups": ["Auditors"]}], policy=NOW)
    eve = gateway.account("eve", None)
    home.directory.hire("eve", "Auditors")
    home.wait_until_quiet()
    home = opened(roles=[], policy=NOW)
    gateway.ready()
    home.directory.join("Unrelated", "eve")
    home.wait_until_quiet()
    assert [hold.kind for hold in home.holds()] == ["configuration"]
    assert gateway.answers(eve.keys) == {200}


def test_a_receipt_names_the_keys_that_a_run_deleted_before_it_was_cut_off(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    leo = gateway.account("leo", None, "data")
    home.directory.hire("leo", "Data")
    home.wait_until_quiet()
    gateway.break_with("/key/delete", status=500, when="after", times=1)
    home.offboard("leo")
    named = {entry["id"]: entry["name"] for entry in (home.departure("leo").receipt or {})["keys"]}
    assert set(named) == {key.id for key in leo.keys}
    assert all(named.values()), "an id alone tells nobody which key it was"


def test_a_team_that_is_not_set_up_keeps_nobody_from_their_role(gateway: Gateway, opened: Opener) -> None:
    gateway.team("web")  # there already, and not ours: refused
    home = opened(
        teams=[{"alias": "data", "groups": ["Data"]}, WEB], roles=[{"role": "internal_viewer", "groups": ["Data"]}]
    )
    leo = gateway.account("leo", user_role="internal_user")
    home.directory.hire("leo", "Data", "Web")
    until(lambda: home.failed_job("leo"), "the refused team is told")
    (shown,) = [user for user in gateway.state()["users"] if user["user_id"] == leo.user_id]
    assert (shown["user_role"], gateway.teams_with(leo.user_id)) == ("internal_user_viewer", ["data"])


def test_the_deletion_is_timed_before_it_was_read_back(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    founded(gateway, home)
    home.offboard("leo")
    departure = home.departure("leo")
    assert departure.blocked_at
    assert departure.deleted_at
    assert departure.verified_at
    assert departure.blocked_at < departure.deleted_at < departure.verified_at


def test_a_deletion_that_did_nothing_is_timed_all_the_same(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    founded(gateway, home)
    gateway.break_with("/key/delete", lie=True)
    home.directory.leave("leo")
    until(lambda: home.failed_job("leo"), "the read-back found the keys")
    departure = home.departure("leo")
    assert (departure.state.value, departure.verified_at) == ("deleted", None)
    assert departure.deleted_at


def test_a_pass_puts_a_mover_who_keeps_an_old_key_before_those_who_only_join(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    leo = gateway.account("leo", "data")
    home.directory.hire("leo", "Data", "Web")
    home.directory.hire("zoe", "Web")
    home.wait_until_quiet()
    home.directory.part("Data", "leo")
    home.wait_until_idle("leo")
    zoe = home.account_of("zoe")
    home = opened(working=False)
    gateway.hook("act", {"unblock": {"user_id": leo.user_id}})
    for account in (leo.user_id, zoe):
        gateway.ok("/team/member_delete", {"team_id": "web", "user_id": account})
    home.run(home.core.reconciler.apply())
    lanes = {job.person_id: job.lane for job in jobs.all_jobs(home.db)}
    assert lanes == {home.person("leo").id: Lane.REVOKE, home.person("zoe").id: Lane.GRANT}


def test_nothing_more_is_ended_of_a_leaver_who_is_protected_since(gateway: Gateway, opened: Opener) -> None:
    """The hold of their deletion is approved for others; neither that nor a later pass may delete their keys."""
    home = opened(policy=NOW)
    logins, key = crowd_in_data(gateway, home)
    home.directory.empty("Data")
    home.wait_for(logins[0], "held")
    home = opened(policy=NOW, protected=[{"match": mail(logins[0]), "reason": "break-glass"}])
    for hold in home.holds():
        home.approve(hold)
    home.wait_until_verified(*logins[1:])
    home.reconcile()
    home.wait_until_idle(logins[0])
    assert gateway.exists(key)
    assert home.departure(logins[0]).verified_at is None
    home.run(
        home.core.commands(alone=False).revoke(
            user=mail(logins[0]), reason="decided", by="test", override=True, wait=20.0
        )
    )
    assert not gateway.exists(key)


def test_a_pass_beside_a_departure_does_not_make_it_begin_again(gateway: Gateway, opened: Opener) -> None:
    """A daemon that was stopped after such a pass left the rest of the departure to its next start."""
    home = opened()
    company = founded(gateway, home)
    before = home.person("leo").generation
    gateway.break_with("/key/delete", delay=1.0)
    home.directory.leave("leo")
    gateway.wait_for_fault("/key/delete")
    planned = home.run(home.core.reconciler.apply())
    assert any(change.person_id == home.person("leo").id for change in planned.changes), "it was before the end"
    home.wait_until_verified("leo")
    company.assert_leo_is_gone()
    assert home.person("leo").generation == before + 1, "nobody asked anew"
