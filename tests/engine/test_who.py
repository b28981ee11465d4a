"""Whose account it is: links, bans, protected people, and an e-mail that comes to somebody else."""

from __future__ import annotations

import pytest
from support.company import founded
from support.directory import Directory, mail
from support.fixtures import Opener, both_dialects
from support.gateway import Gateway
from support.waiting import until

from idsync.errors import UsageError
from idsync.model import Lane
from idsync.store import directory, ledger, people
from idsync.store.people import BlockedKey
from idsync.verify import verify

SOON = {"group_loss_delete_after": "0s"}


@both_dialects
def test_a_joiner_gets_an_account_without_a_key_and_their_team(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    home.directory.hire("zoe", "Data")
    home.wait_until_quiet()
    account = home.account_of("zoe")
    assert account == home.person("zoe").id
    assert gateway.teams_with(account) == ["data"]
    assert gateway.live_keys(account) == []


def test_an_account_is_found_by_its_sso_id_before_its_email(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    by_sso = gateway.account("somebody", sso_user_id="x-zoe")
    gateway.account("zoe")
    home.directory.hire("zoe", "Data")
    home.wait_until_quiet()
    assert home.account_of("zoe") == by_sso.user_id


def test_two_accounts_of_one_email_are_a_conflict_and_nothing_is_touched(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    first, second = gateway.account("leo", None), gateway.account("leo", None, user_id="u-leo-2")
    before = gateway.ready()
    home.directory.hire("leo", "Data")
    until(home.conflicts, "a conflict is shown")
    home.directory.leave("leo")
    home.wait_for("leo", "parked")
    assert gateway.paths(before, writes=True) == []
    assert gateway.answers([*first.keys, *second.keys]) == {200}
    (conflict,) = home.conflicts()
    assert (conflict.kind, "idsync link" in conflict.remedy) == ("account", True)
    home.link("leo", first.user_id)
    home.wait_until_verified("leo")
    gateway.assert_gone(first)
    assert home.conflicts() == []
    assert gateway.answers(second.keys) == {200}


def test_an_admin_is_never_linked_by_email(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    boss = gateway.account("boss", None, user_role="proxy_admin")
    before = gateway.ready()
    home.directory.hire("boss", "Data")
    until(home.conflicts, "a conflict is shown")
    assert gateway.paths(before, writes=True) == []
    assert gateway.answers(boss.keys) == {200}


@pytest.mark.parametrize("way", ["leave", "delete", "part"])
def test_a_protected_person_is_never_revoked(gateway: Gateway, opened: Opener, way: str) -> None:
    home = opened(policy=SOON, protected=[{"match": mail("leo"), "reason": "break-glass"}])
    leo = gateway.account("leo", None)
    gateway.team("lab", leo.user_id)
    home.directory.hire("leo", "Data")
    home.directory.hire("ann", "Data")
    home.wait_until_quiet()
    before = gateway.ready()
    if way == "part":
        home.directory.part("Data", "leo")
    else:
        getattr(home.directory, way)("leo")
    home.reconcile()
    home.wait_until_quiet()
    assert gateway.paths(before, writes=True) == []
    gateway.assert_at_work(leo, "lab")
    with pytest.raises(UsageError, match="protected"):
        home.revoke("leo")


def test_who_becomes_protected_before_leaving_keeps_everything(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    home = opened(protected=[{"match": company.leo.user_id, "reason": "break-glass"}])
    home.directory.leave("leo")
    home.reconcile()
    home.wait_until_quiet()
    gateway.assert_at_work(company.leo, "data", "lab")


def test_a_banned_person_stays_out_whatever_the_source_says(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    home.revoke("leo")
    home.wait_until_verified("leo")
    for change in (home.directory.leave, home.directory.come_back):
        change("leo")
        home.wait_until_quiet()
    home.directory.join("Web", "leo")
    home.reconcile()
    home.wait_until_quiet()
    company.assert_leo_is_gone()
    home.write(lambda db: home.core.control.restore(db, mail("leo"), reason="back", by="test"))
    home.wait_until_quiet()
    assert set(gateway.teams_with(company.leo.user_id)) == {"data", "web"}
    assert not gateway.fenced(company.leo.user_id)


def test_a_banned_person_stays_out_when_their_source_deletes_and_makes_them_anew(
    gateway: Gateway, opened: Opener
) -> None:
    """It sends no externalId: the userName is all there is."""
    home = opened(working=False)
    leo = gateway.account("leo", None)
    home.directory.hire("leo", "Data", external_id="")
    home.work_off()
    gateway.ready()
    home.revoke("leo")
    home.work_off()
    home.directory.delete("leo")
    home.directory.hire("leo", "Data", external_id="")
    home.work_off()
    assert [row["user_id"] for row in gateway.users_called(mail("leo"))] == [leo.user_id]
    gateway.assert_gone(leo)
    home.write(lambda db: home.core.control.restore(db, mail("leo"), reason="another one", by="test"))
    home.work_off()
    assert gateway.teams_with(home.account_of("leo")) == ["data"]
    gateway.assert_gone(leo)


def test_an_account_no_source_knows_is_revoked_by_hand(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    stray = gateway.account("stray", None)
    gateway.ready()
    home.revoke(stray.email)
    gateway.wait_until_ended(stray.user_id)
    home.wait_until_quiet()
    gateway.assert_gone(stray)
    company.assert_others_work()


@both_dialects
def test_an_email_that_comes_to_somebody_new_frees_the_old_account_and_never_lifts_its_fence(
    gateway: Gateway, opened: Opener
) -> None:
    home = opened()
    company = founded(gateway, home)
    old = home.person("leo").id
    home.directory.delete("leo")
    home.wait_until_verified("leo")
    home.directory.hire("leo", "Data", external_id="x-another-leo")
    gateway.wait_for_user(mail("leo"))
    home.wait_until_quiet()
    new = home.person("leo")
    assert new.id != old
    assert new.account_id != company.leo.user_id
    assert gateway.teams_with(new.account_id or "") == ["data"]
    assert (gateway.user(company.leo.user_id) or {})["user_email"] == f"departed+{company.leo.user_id}@invalid"
    company.assert_leo_is_gone()


def test_the_old_account_keeps_its_email_until_its_departure_is_verified(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    gateway.break_with("/key/delete", status=500)
    home.directory.delete("leo")
    gateway.wait_for_fault("/key/delete")
    home.directory.hire("leo", "Data", external_id="x-another-leo")
    home.wait_until_idle("leo")
    assert [row["user_id"] for row in gateway.users_called(mail("leo"))] == [company.leo.user_id]
    gateway.mend()
    until(lambda: home.person("leo").account_id, "the new one has an account")
    home.wait_until_quiet()
    company.assert_leo_is_gone()
    assert [row["user_id"] for row in gateway.users_called(mail("leo"))] == [home.account_of("leo")]


def test_a_record_taken_over_by_somebody_else_does_not_give_them_the_leavers_account(
    gateway: Gateway, opened: Opener
) -> None:
    """An identity provider finds the old record by userName and writes another external id into it."""
    home = opened()
    company = founded(gateway, home)
    home.offboard("leo")
    home.directory.set_active("leo", True, external_id="x-another-leo")
    assert people.grants(home.db, home.person("leo").id) == [], "nobody inherits the groups of whoever was there before"
    home.directory.join("Data", "leo")
    until(lambda: home.person("leo").account_id, "the new one has an account")
    home.wait_until_quiet()
    assert home.account_of("leo") != company.leo.user_id
    company.assert_leo_is_gone()


def test_a_leavers_unlinked_account_is_not_taken_by_the_next_one_of_that_email(
    gateway: Gateway, opened: Opener
) -> None:
    """The leaver's first try fails, so the newcomer's job looks for an account before the leaver's is linked."""
    home = opened()
    leo = gateway.account("leo", None)
    home.directory.hire("leo")
    gateway.ready()
    gateway.break_with("/user/list", status=500, times=1)
    home.directory.delete("leo")
    gateway.wait_for_fault("/user/list")
    home.directory.hire("leo", "Data", external_id="x-another-leo")
    home.wait_until_quiet()
    assert gateway.answers(leo.keys) == {401}, "the leaver's key must not live on as the newcomer's"
    assert home.person("leo").account_id != leo.user_id


# -- ids of several directories --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sso_idp", ["", "okta", "hr"], ids=["nobody has said", "okta", "hr"])
def test_an_id_is_an_sso_id_only_in_the_directory_the_gateway_has_them_from(
    gateway: Gateway, opened: Opener, sso_idp: str
) -> None:
    """Somebody else's leaver has the same number: whose account it is, one setting says, else a person."""
    sources = [{"name": "okta"}, {"name": "hr"}]
    home = opened(working=False, scim={"sources": sources}, routero={"sso_idp": sso_idp})
    ann = gateway.account("ann", None, sso_user_id="1001")
    gateway.ready()
    home.directory.hire("ann", external_id="1001")
    hr = Directory(home.core.store, home.core.intake, "hr")
    hr.hire("bob", external_id="1001", active=False)
    home.work_off()
    assert gateway.answers(ann.keys) == {401 if sso_idp == "hr" else 200}
    assert home.state("bob") == {"": "parked", "okta": "verified", "hr": "verified"}[sso_idp]
    assert len(home.conflicts()) == (sso_idp == "")


def test_a_new_account_gets_no_sso_id_of_another_directory(gateway: Gateway, opened: Opener) -> None:
    """Else the one who has that number in the other directory would come in as this one."""
    home = opened(working=False, scim={"sources": [{"name": "okta"}, {"name": "hr"}]}, routero={"sso_idp": "okta"})
    hr = Directory(home.core.store, home.core.intake, "hr")
    hr.hire("bob", "Data", external_id="1001")
    home.directory.hire("ann", "Web", external_id="1001")
    home.work_off()
    made = {login: (gateway.user(home.account_of(login)) or {})["sso_user_id"] for login in ("ann", "bob")}
    assert made == {"ann": "1001", "bob": None}


# -- an address that two people have ---------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [(), ("Data",)], ids=["in no group", "not linked yet"])
def test_a_leaver_does_not_take_the_account_of_who_is_here_and_has_their_address(
    gateway: Gateway, opened: Opener, groups: tuple[str, ...]
) -> None:
    """An old record of the directory carries an address that was given to the next one long ago."""
    home = opened(working=False)
    ann = gateway.account("ann", None)
    gateway.ready()
    home.directory.hire("ann", *groups)
    home.directory.hire("old-ann", email=mail("ann"), active=False)
    home.work_off()
    assert gateway.answers(ann.keys) == {200}
    assert home.state("old-ann") == "parked"
    (conflict,) = home.conflicts()
    here = directory.user_by_name(home.db, "okta", mail("ann"))
    assert here is not None
    assert f"idsync link {here.person_id} {ann.user_id}" in conflict.remedy
    home.write(lambda db: home.core.control.link(db, here.person_id, ann.user_id, by="test"))
    home.hurry()
    home.work_off()
    assert home.departure("old-ann").verified_at
    assert (home.conflicts(), gateway.answers(ann.keys)) == ([], {200})


def test_a_joiner_is_not_given_the_account_of_who_is_here_and_has_their_address(
    gateway: Gateway, opened: Opener
) -> None:
    home = opened(working=False)
    ann = gateway.account("ann", None)
    home.directory.hire("ann")
    before = gateway.ready()
    home.directory.hire("svc", "Data", email=mail("ann"))
    home.work_off()
    assert home.conflicts()
    home.directory.delete("svc")
    home.work_off()
    assert gateway.paths(before, writes=True) == []
    assert gateway.answers(ann.keys) == {200}


def test_whose_address_only_another_directory_claims_without_being_trusted_is_revoked(
    gateway: Gateway, opened: Opener
) -> None:
    """Else whoever may write there would keep anybody from being revoked."""
    home = opened(working=False, scim={"sources": [{"name": "okta", "trust_email": True}, {"name": "hr"}]})
    leo = gateway.account("leo", None)
    gateway.ready()
    hr = Directory(home.core.store, home.core.intake, "hr")
    hr.hire("leo")
    home.directory.hire("leo")
    home.directory.leave("leo")
    home.work_off()
    gateway.assert_gone(leo)


def test_who_is_given_a_leavers_address_after_the_proof_is_left_alone_at_every_later_look(
    gateway: Gateway, opened: Opener
) -> None:
    home = opened(working=False)
    home.directory.hire("leo")
    home.directory.delete("leo")
    home.work_off()
    old = home.departure("leo")
    assert old.verified_at
    home.directory.hire("leo", external_id="x-another-leo")
    new = gateway.account("leo", None, user_id="u-by-sso")
    gateway.ready()
    home.write(lambda db: home.core.intake.people.open_job(db, old.person_id, Lane.REVOKE))
    home.work_off()
    assert gateway.answers(new.keys) == {200}
    assert home.conflicts() == []


# -- names they had before -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [(), ("Data",)], ids=["in no group", "their grant was still waiting"])
def test_a_leaver_who_is_renamed_as_they_leave_is_found_by_the_name_they_had(
    gateway: Gateway, opened: Opener, groups: tuple[str, ...]
) -> None:
    """Identity providers free the name of who leaves by renaming them, in the push that says so."""
    home = opened(working=False)
    leo = gateway.account("leo", None)
    gateway.ready()
    home.directory.hire("leo", *groups)
    scrambled = f"0a1b2c{mail('leo')}"
    home.directory.change("leo", active=False, user_name=scrambled, email=scrambled)
    home.work_off()
    assert home.departure(scrambled).verified_at
    gateway.assert_gone(leo)


def test_a_leaver_is_found_by_the_sso_id_their_record_had_before(gateway: Gateway, opened: Opener) -> None:
    """The mapping of externalId was changed while they were here; the gateway knows them by the old one."""
    home = opened(working=False)
    leo = gateway.account("somebody", None, sso_user_id="x-leo")
    gateway.ready()
    home.directory.hire("leo")
    home.directory.change("leo", external_id="x-by-the-new-mapping")
    home.directory.leave("leo")
    home.work_off()
    gateway.assert_gone(leo)


def test_a_leaver_whose_record_is_taken_over_meanwhile_is_found_all_the_same(gateway: Gateway, opened: Opener) -> None:
    """The gateway failed at the first try; since then their only record is somebody else's."""
    home = opened(working=False)
    leo = gateway.account("leo", None)
    gateway.ready()
    home.directory.hire("leo")
    gateway.break_with("/user/list", status=500)
    home.directory.leave("leo")
    home.work_off()
    gateway.mend()
    home.directory.set_active("leo", True, external_id="x-another-leo")
    home.directory.join("Data", "leo")
    home.hurry()
    home.work_off()
    gateway.assert_gone(leo)
    home.hurry()
    home.work_off()
    assert gateway.teams_with(home.account_of("leo")) == ["data"]
    assert home.account_of("leo") != leo.user_id


def test_nobody_is_given_an_account_by_a_name_they_have_no_more(gateway: Gateway, opened: Opener) -> None:
    home = opened(working=False)
    gateway.account("leo", None)
    home.directory.hire("leo")
    home.directory.change("leo", user_name=mail("leo.new"), email=mail("leo.new"))
    home.directory.join("Data", "leo.new")
    home.work_off()
    assert home.account_of("leo.new") == home.person("leo.new").id


def test_verify_names_an_account_with_an_address_the_leaver_had_before(gateway: Gateway, opened: Opener) -> None:
    home = opened(working=False)
    company = gateway.account("leo")
    home.directory.hire("leo", "Data")
    home.work_off()
    for login in ("leo.married", "leo.new"):
        home.directory.change("leo", email=mail(login))
    home.directory.leave("leo")
    home.work_off()
    gateway.account("leo.married", None, user_id="u-leo-2")
    found = home.run(verify(home.db, home.core.gateway, [home.departure("leo")], home.core.clock.now()))
    assert found[0].checked == (company.user_id,)
    assert any("u-leo-2" in alive for alive in found[0].alive)


def test_that_nothing_is_found_of_who_has_no_name_to_look_by_proves_nothing(gateway: Gateway, opened: Opener) -> None:
    home = opened(working=False)
    home.directory.hire("leo", user_name="leo", email=None, external_id="", active=False)
    home.work_off()
    (departure,) = ledger.open_departures(home.db)
    assert (departure.state.value, departure.verified_at) == ("parked", None)
    assert "idsync link" in home.conflicts()[0].remedy


# -- unlinking -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("further", [False, True], ids=["the first account", "a further one"])
def test_the_keys_of_an_account_that_was_unlinked_are_left_alone(
    gateway: Gateway, opened: Opener, further: bool
) -> None:
    """The link was typed wrongly, and found out while the deletion waited."""
    home = opened(working=False)
    bob = gateway.account("bob", None)
    if further:
        gateway.account("leo")
    home.directory.hire("leo", "Data")
    home.work_off() if further else home.link("leo", bob.user_id)
    if further:
        home.link("leo", bob.user_id)
    home.work_off()
    gateway.ready()
    home.directory.part("Data", "leo")
    home.work_off()
    assert gateway.is_blocked(bob.keys[0])
    told = home.write(lambda db: home.core.control.unlink(db, mail("leo"), bob.user_id, by="test"))
    assert (told["fence"], [key["id"] for key in told["blocked_keys"]]) == (
        home.departure("leo").id,
        [bob.keys[0].id],
    )
    assert people.blocked_keys(home.db, home.person("leo").id) == []
    home.directory.leave("leo")
    home.work_off()
    assert home.departure("leo").verified_at
    assert gateway.exists(bob.keys[0])
    (found,) = home.run(verify(home.db, home.core.gateway, [home.departure("leo")], home.core.clock.now()))
    assert (bob.user_id in found.checked, found.alive) == (False, ())


def test_only_keys_of_the_leavers_own_accounts_are_deleted(gateway: Gateway, opened: Opener) -> None:
    """A row about another account is left over, whatever has left it there."""
    home = opened(working=False)
    gateway.account("leo", None)
    bob = gateway.account("bob", None)
    home.directory.hire("leo", "Data")
    home.work_off()
    row = BlockedKey(bob.keys[0].id, home.person("leo").id, bob.user_id, None, doomed=False)
    home.write(lambda db: people.note_blocked(db, row, 1.0))
    home.directory.leave("leo")
    home.work_off()
    assert home.departure("leo").verified_at
    assert gateway.exists(bob.keys[0])


def test_unlinking_stops_who_is_at_work_on_the_account(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    bob = gateway.account("bob", None, None)
    home.directory.hire("leo")
    home.link("leo", bob.user_id)
    home.wait_until_quiet()
    gateway.ready()
    gateway.break_with("/key/block", delay=0.5)
    home.directory.leave("leo")
    gateway.wait_for_fault("/key/block")
    home.write(lambda db: home.core.control.unlink(db, mail("leo"), bob.user_id, by="test"))
    home.wait_until_verified("leo")
    assert all(gateway.exists(key) for key in bob.keys)
