"""Memberships of organizations: the last thing a departure ends, and the first a return gives back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.company import Company, founded
from support.daemon import idsync
from support.directory import mail
from support.fixtures import Opener
from support.gateway import Gateway
from support.home import Home
from support.settings import SOURCE
from support.waiting import until

from idsync.model import Lane
from idsync.store import ledger, organizations

LEAVE, JOIN = "/organization/member_delete", "/organization/member_add"
ACME, OURS = "acme", "org-default"


@dataclass(frozen=True)
class Ground:
    """A gateway, and the organization that idsync is confined to ("": none). `theirs` are those Leo is in."""

    dialect: str
    confined: str
    theirs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.dialect}-{self.confined or 'any'}"

    @property
    def ended(self) -> set[str]:
        return {self.confined} if self.confined else set(self.theirs)

    def settings(self, **more: Any) -> dict[str, Any]:
        return {"cache_time": "0.1s", "organization_id": self.confined, **more}


GROUNDS = [
    Ground("litellm", "", (ACME, "rival")),
    Ground("litellm", ACME, (ACME, "rival")),
    Ground("routero", "", (OURS,)),
    Ground("routero", OURS, (OURS,)),
]
everywhere = pytest.mark.parametrize(
    ("dialect", "ground"), [(g.dialect, g) for g in GROUNDS], indirect=["dialect"], ids=str
)
confined = pytest.mark.parametrize(("dialect", "ground"), [("routero", GROUNDS[3])], indirect=["dialect"], ids=str)
openly = pytest.mark.parametrize(("dialect", "ground"), [("routero", GROUNDS[2])], indirect=["dialect"], ids=str)


def at_work(gateway: Gateway, opened: Opener, ground: Ground, **changed: Any) -> tuple[Home, Company]:
    """Leo and Ann are in their organizations."""
    gateway.hook("options", {"licence": True})
    home = opened(**{"routero": ground.settings(), **changed})
    company = founded(gateway, home)
    for holder in (company.leo, company.ann):
        for name in ground.theirs:
            if name not in gateway.organizations_of(holder.user_id):
                member = {"user_id": holder.user_id, "role": "internal_user"}
                gateway.ok(JOIN, {"organization_id": name, "member": member})
    gateway.ready()
    return home, company


def settled(gateway: Gateway, opened: Opener, ground: Ground, **changed: Any) -> tuple[Home, Company]:
    home, company = at_work(gateway, opened, ground, **changed)
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    return home, company


def inside(gateway: Gateway, company: Company) -> set[str]:
    return set(gateway.organizations_of(company.leo.user_id))


def receipt_of(home: Home, login: str = "leo") -> dict[str, Any]:
    return dict(home.departure(login).receipt or {})


def noted(home: Home) -> list[organizations.Left]:
    return organizations.of_person(home.db, home.person("leo").id)


# -- leaving ------------------------------------------------------------------------------------------------------------


@everywhere
def test_a_membership_ends_last_of_all_and_is_told(gateway: Gateway, opened: Opener, ground: Ground) -> None:
    home, company = at_work(gateway, opened, ground)
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    assert inside(gateway, company) == set(ground.theirs) - ground.ended
    assert set(gateway.organizations_of(company.ann.user_id)) == set(ground.theirs)
    ends = [number for number, path in enumerate(gateway.paths()) if path == LEAVE]
    assert set(gateway.paths()[max(ends) + 1 :]) == {"/user/info"}, "nothing but the read-back comes after it"
    assert gateway.paths()[: min(ends)].count("/team/list") >= 2, "everything was looked at twice before"
    company.assert_leo_is_gone()
    departure, receipt = home.departure("leo"), receipt_of(home)
    assert (set(receipt["organizations"]), receipt["features"]["organization"]) == (ground.ended, "used")
    assert departure.fence == "assumed"
    entries = home.told("organization.left")
    assert {entry["organization"] for entry in entries} == ground.ended
    assert {(entry["account"], entry["before"], entry["after"]) for entry in entries} == {
        ("u-leo", "internal_user", None)
    }
    shown = idsync(opened.settings, "departures", mail("leo")).out
    assert all(f"left organization {name}" in shown for name in ground.ended)


@everywhere
def test_the_blast_radius_names_what_ends(gateway: Gateway, opened: Opener, ground: Ground) -> None:
    at_work(gateway, opened, ground)
    opened.close()
    (account,) = idsync(opened.settings, "revoke", mail("leo"), "--dry-run", "--json").json["accounts"]
    assert set(account["organizations"]) == ground.ended
    assert "organizations: " in idsync(opened.settings, "revoke", mail("leo"), "--dry-run").out


@everywhere
def test_whoever_is_outside_is_no_doubt_and_nothing_to_do(gateway: Gateway, opened: Opener, ground: Ground) -> None:
    home, _ = settled(gateway, opened, ground)
    assert [change for change in home.reconcile()["changes"] if change["person_id"] == home.person("leo").id] == []
    home.write(lambda db: home.core.intake.people.open_job(db, home.person("leo").id, Lane.REVOKE))
    home.wait_until_quiet()
    assert home.state("leo") == "settled"
    assert len(home.told("organization.left")) == len(ground.ended)
    assert home.conflicts() == []
    assert ledger.unverified(home.db, time.time()) == 0
    assert idsync(opened.settings, "verify").code == 0


@everywhere
def test_where_departures_only_block_the_membership_stays(gateway: Gateway, opened: Opener, ground: Ground) -> None:
    home, company = settled(gateway, opened, ground, policy={"on_departure": "block"})
    assert inside(gateway, company) == set(ground.theirs)
    assert noted(home) == []


@everywhere
def test_every_account_of_a_person_is_put_outside_and_let_in(gateway: Gateway, opened: Opener, ground: Ground) -> None:
    home, company = at_work(gateway, opened, ground)
    second = company.second_account(home, None)
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    expected = ground.ended if ground.dialect == "routero" else set()
    assert expected.isdisjoint(gateway.organizations_of(second.user_id))
    home.directory.come_back("leo")
    home.wait_until_quiet()
    assert set(gateway.organizations_of(second.user_id)) >= expected
    assert not gateway.fenced(second.user_id)


# -- coming back --------------------------------------------------------------------------------------------------------


@everywhere
def test_a_return_gives_it_back(gateway: Gateway, opened: Opener, ground: Ground) -> None:
    home, company = settled(gateway, opened, ground)
    before = gateway.ready()
    home.directory.come_back("leo")
    home.wait_until_quiet()
    assert gateway.organizations_of("u-leo") == dict.fromkeys(ground.theirs, "internal_user")
    assert gateway.paths(before, writes=True)[0] == JOIN
    assert not gateway.fenced("u-leo")
    assert "data" in gateway.teams_with("u-leo")
    assert {(e["organization"], e["before"], e["after"]) for e in home.told("organization.joined")} == {
        (name, None, "internal_user") for name in ground.ended
    }
    assert noted(home) == []
    assert "/user/new" not in gateway.paths(before)
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    assert ground.ended.isdisjoint(inside(gateway, company)), "and a second departure ends it again"
    assert home.told("departure.reasserted") == []


@everywhere
@pytest.mark.parametrize("fault", [{"lie": True}, {"drop": "before"}, {"drop": "after"}], ids=str)
def test_a_return_the_gateway_lied_about_is_given_back_after_all(
    gateway: Gateway, opened: Opener, ground: Ground, fault: dict[str, Any]
) -> None:
    home, _ = settled(gateway, opened, ground)
    gateway.break_with(JOIN, times=1, **fault)
    home.directory.come_back("leo")
    until(lambda: home.failed_job("leo"), "it is noticed")
    home.hurry()
    home.wait_until_quiet()
    assert gateway.organizations_of("u-leo") == dict.fromkeys(ground.theirs, "internal_user")
    assert (noted(home), home.conflicts()) == ([], [])


@everywhere
def test_a_leave_after_half_a_return_is_no_security_event(gateway: Gateway, opened: Opener, ground: Ground) -> None:
    home, company = settled(gateway, opened, ground)
    gateway.break_with(JOIN, times=1, drop="after")
    home.directory.come_back("leo")
    until(lambda: home.failed_job("leo"), "they are in again, and nobody knows")
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    assert ground.ended.isdisjoint(inside(gateway, company))
    assert home.told("departure.reasserted") == []


@everywhere
def test_what_somebody_gave_back_by_hand_is_left_alone(gateway: Gateway, opened: Opener, ground: Ground) -> None:
    """A second time is a 500 at the gateway."""
    home, _ = settled(gateway, opened, ground)
    for name in ground.ended:
        gateway.ok(JOIN, {"organization_id": name, "member": {"user_id": "u-leo", "role": "internal_user_viewer"}})
    home.directory.come_back("leo")
    home.wait_until_quiet()
    roles = gateway.organizations_of("u-leo")
    assert {roles[name] for name in ground.ended} == {"internal_user_viewer"}
    assert (home.told("organization.joined"), noted(home)) == ([], [])


@everywhere
def test_nobody_comes_back_as_an_admin(gateway: Gateway, opened: Opener, ground: Ground) -> None:
    home, company = at_work(gateway, opened, ground)
    for name in ground.theirs:
        change = {"organization_id": name, "user_id": company.leo.user_id, "role": "org_admin"}
        gateway.call("PATCH", "/organization/member_update", change)
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    assert {entry["before"] for entry in home.told("organization.left")} == {"org_admin"}
    home.directory.come_back("leo")
    home.wait_until_quiet()
    roles = gateway.organizations_of("u-leo")
    assert {roles[name] for name in ground.ended} == {"internal_user"}


@openly
@pytest.mark.parametrize(
    ("was", "becomes"), [("org_admin", "internal_user_viewer"), ("internal_user", "internal_user")]
)
def test_whoever_has_no_role_by_policy_comes_back_as_what_they_were(
    gateway: Gateway, opened: Opener, ground: Ground, was: str, becomes: str
) -> None:
    """In no group that is bound to anything: a source said that they had left, and says that they are here."""
    home = opened(routero=ground.settings())
    gateway.account("max", None, organizations={OURS: was})
    home.directory.hire("max")
    home.directory.leave("max")
    home.wait_for("max", "settled")
    assert gateway.organizations_of("u-max") == {}
    home.directory.come_back("max")
    home.wait_until_quiet()
    assert gateway.organizations_of("u-max") == {OURS: becomes}


@everywhere
def test_an_account_that_was_deleted_meanwhile_is_made_anew(gateway: Gateway, opened: Opener, ground: Ground) -> None:
    home, company = settled(gateway, opened, ground)
    gateway.ok("/user/delete", {"user_ids": ["u-leo"]})
    before = gateway.ready()
    home.directory.come_back("leo")
    home.wait_until_quiet()
    unseen = ground.dialect == "routero" and ground.confined  # nobody could tell that it was deleted
    assert gateway.paths(before, writes=True)[0] == (JOIN if unseen else "/user/new")
    assert (gateway.user("u-leo") or {})["user_email"] == company.leo.email
    assert "data" in gateway.teams_with("u-leo")


def test_a_membership_the_gateway_will_not_give_back_waits_for_a_person(gateway: Gateway, opened: Opener) -> None:
    home, _ = settled(gateway, opened, GROUNDS[0])
    gateway.break_with(JOIN, status=404)
    home.directory.come_back("leo")
    until(lambda: home.conflicts(), "a person has to decide")
    assert "does not take leo@corp.example back into organization acme" in home.conflicts()[0].detail
    gateway.mend()
    home.hurry()
    home.wait_until_quiet()
    assert (home.conflicts(), set(gateway.organizations_of("u-leo"))) == ([], {ACME, "rival"})


# -- gateways that cannot, will not, or lie -----------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("refusal", ["no licence", 404, 405, 400, 403])
def test_a_gateway_that_does_not_end_memberships_is_said_to_be_one(
    gateway: Gateway, opened: Opener, ground: Ground, refusal: Any
) -> None:
    home, company = at_work(gateway, opened, ground)
    if refusal == "no licence":
        licence = '{"detail": {"error": "You must be a LiteLLM Enterprise user to use this feature."}}'
        gateway.break_with(LEAVE, status=403, body=licence, content_type="application/json")
    elif refusal in (400, 403):
        body = '{"detail": {"error": "not in your organization"}}'
        gateway.break_with(LEAVE, status=refusal, body=body, content_type="application/json")
    else:
        gateway.break_with(LEAVE, status=refusal)
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    assert inside(gateway, company) == set(ground.theirs)
    receipt = receipt_of(home)
    how = "refused" if refusal in (400, 403) else "missing"
    assert (receipt["features"]["organization"], receipt["organizations"]) == (how, [])
    assert any("membership of organizations stays" in line for line in receipt["left_standing"])
    assert home.failed_job("leo") is None
    assert (noted(home), home.told("organization.left")) == ([], [])
    gateway.mend()
    home.directory.come_back("leo")
    home.wait_until_quiet()
    assert "data" in gateway.teams_with("u-leo")


def test_a_gateway_that_does_not_show_memberships_is_said_to_be_one(gateway: Gateway, opened: Opener) -> None:
    home, _ = at_work(gateway, opened, GROUNDS[0])
    gateway.break_with("/user/info", status=404)
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    assert receipt_of(home)["features"]["organization"] == "missing"


@everywhere
def test_a_200_that_ended_nothing_is_not_believed(gateway: Gateway, opened: Opener, ground: Ground) -> None:
    home, company = at_work(gateway, opened, ground)
    gateway.break_with(LEAVE, lie=True)
    home.directory.leave("leo")
    until(lambda: home.failed_job("leo"), "the lie is noticed")
    assert home.state("leo") == "verified"
    assert (home.told("departure.settled"), home.told("organization.left")) == ([], [])
    found = idsync(opened.settings, "verify", mail("leo"))
    assert (found.code, "member of organization" in found.out) == (5, True)
    gateway.mend()
    home.hurry()
    home.wait_for("leo", "settled")
    assert ground.ended.isdisjoint(inside(gateway, company))


@everywhere
@pytest.mark.parametrize("drop", ["before", "after"])
def test_an_answer_that_is_lost_loses_no_membership(
    gateway: Gateway, opened: Opener, ground: Ground, drop: str
) -> None:
    """Confined, nobody can read afterwards whether it has ended; it was written down before."""
    home, company = at_work(gateway, opened, ground)
    gateway.break_with(LEAVE, drop=drop, times=2)
    home.directory.leave("leo")
    until(lambda: home.failed_job("leo") or home.state("leo") == "settled", "the call has failed")
    gateway.mend()
    home.hurry()
    home.wait_for("leo", "settled")
    assert ground.ended.isdisjoint(inside(gateway, company))
    assert set(receipt_of(home)["organizations"]) == ground.ended
    assert len(home.told("organization.left")) == len(ground.ended)
    home.directory.come_back("leo")
    home.wait_until_quiet()
    assert gateway.organizations_of("u-leo") == dict.fromkeys(ground.theirs, "internal_user")


# -- afterwards ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dialect", "ground"), [(g.dialect, g) for g in GROUNDS[2:]], indirect=["dialect"], ids=str)
def test_a_sweep_ends_what_somebody_has_given_back(gateway: Gateway, opened: Opener, ground: Ground) -> None:
    home, company = settled(gateway, opened, ground)
    gateway.ok(JOIN, {"organization_id": OURS, "member": {"user_id": "u-leo", "role": "internal_user"}})
    home.reconcile()
    until(lambda: home.told("departure.reasserted"), "it is told")
    home.wait_for("leo", "settled")
    home.wait_until_quiet()
    assert inside(gateway, company) == set()
    assert [entry["what"] for entry in home.told("departure.reasserted")] == [["organization"]]


@confined
def test_a_key_made_for_somebody_outside_is_ended(gateway: Gateway, opened: Opener, ground: Ground) -> None:
    home, company = settled(gateway, opened, ground)
    company.leo.keys.append(gateway.key_of("u-leo", "data"))
    home.reconcile()
    until(lambda: home.told("departure.reasserted"), "it is told")
    home.wait_for("leo", "settled")
    home.wait_until_quiet()
    company.assert_leo_is_gone()
    assert home.departure("leo").fence == "assumed"
    assert inside(gateway, company) == set()


@confined
def test_a_namesake_of_somebody_outside_is_no_doubt(
    gateway: Gateway, opened: Opener, ground: Ground, tmp_path: Path
) -> None:
    """Their own account was there, and is where we have put it; e-mail links nobody here."""
    source = {"name": SOURCE, "token_file": str(tmp_path / "source.token"), "trust_email": False}
    home = opened(routero=ground.settings(), scim={"sources": [source]})
    bob = gateway.account("bob", None, user_email="robert@corp.example")
    home.directory.hire("bob")
    home.link("bob", bob.user_id)
    namesake = gateway.account("namesake", None, user_email=mail("bob"))
    home.wait_until_quiet()
    home.directory.leave("bob")
    home.wait_for("bob", "settled")
    bob.keys.append(gateway.key_of(bob.user_id))
    home.reconcile()
    until(lambda: home.told("departure.reasserted"), "it is told")
    home.wait_for("bob", "settled")
    gateway.assert_gone(bob)
    assert gateway.answers(namesake.keys) == {200}
    assert home.conflicts() == []


@confined
def test_the_address_of_somebody_outside_is_free_for_somebody_new(
    gateway: Gateway, opened: Opener, ground: Ground
) -> None:
    home, company = settled(gateway, opened, ground)
    home.directory.delete("leo")
    home.directory.hire("leo", "Data", external_id="another-leo")
    home.wait_until_quiet()
    assert home.conflicts() == []
    assert (gateway.user("u-leo") or {})["user_email"] == "departed+u-leo@invalid"
    assert inside(gateway, company) == set()
    assert "data" in gateway.teams_with(home.account_of("leo"))
    assert gateway.fenced("u-leo")
