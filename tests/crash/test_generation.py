"""Two changes of one person cross: a leave wins over a grant under way, a return over a leave that destroyed nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from support.company import OWN, Company, founded
from support.fixtures import Opener, both_dialects
from support.gateway import Gateway
from support.home import Home

STOP = 0.15
"""Seconds a call is held up, for something to be committed while it is on its way."""


@dataclass(frozen=True)
class Call:
    """A call of a run; `skip` lets so many of the same path pass first."""

    path: str
    skip: int = 0

    def __str__(self) -> str:
        return f"{self.path} {self.skip}" if self.skip else self.path

    def hold_up(self, gateway: Gateway) -> None:
        gateway.break_with(self.path, delay=STOP, times=1, skip=self.skip)


CREATING = [
    Call("/v2/user/info"),
    Call("/user/list"),
    Call("/user/list", 1),
    Call("/user/list", 2),
    Call("/user/new"),
    Call("/v2/user/info", 1),
    Call("/team/info"),
    Call("/team/info", 1),
    Call("/team/member_add"),
    Call("/team/member_add", 1),
    Call("/team/info", 2),
]
"""Every gateway call of a joiner without an account, who is granted two teams."""
FINDING = [
    *(call for call in CREATING if call.path not in ("/user/new", "/user/list")),
    Call("/user/list"),
    Call("/user/list", 1),
    Call("/user/update"),
]
"""The same for somebody who has an account, and keys, and another role than the one they should have."""
HARMLESS = [Call("/v2/user/info"), Call("/user/update"), Call("/key/list"), Call("/key/block"), Call("/key/block", 2)]
"""Calls of a leaver up to which nothing is destroyed."""
FINAL = [Call("/key/delete"), Call("/team/member_delete"), Call("/team/list"), Call("/key/info"), Call("/key/info", 2)]
"""Calls of a leaver from which nothing comes back but the teams."""
ENDING = [Call("/user/info"), Call("/organization/member_delete"), Call("/user/info", 1)]
"""The last calls of a leaver, at the second look, by which they leave the organization."""
GIVING_BACK = [
    Call("/user/info"),
    Call("/organization/member_add"),
    Call("/user/info", 1),
    Call("/v2/user/info"),
    Call("/user/update"),
    Call("/team/member_add"),
]
"""The first calls for somebody who returns after that."""


def granted_and_left(gateway: Gateway, home: Home, call: Call, *groups: str) -> None:
    """Joe gets these groups; while this call is on its way, his leave is committed."""
    call.hold_up(gateway)
    home.directory.hire("joe", *groups)
    gateway.wait_for_fault(call.path)
    home.directory.leave("joe")


def left_and_back(gateway: Gateway, opened: Opener, call: Call) -> tuple[Home, Company]:
    """Leo leaves; while this call is on its way, his return is committed. Nothing is left to do."""
    home = opened()
    company = founded(gateway, home)
    call.hold_up(gateway)
    home.directory.leave("leo")
    gateway.wait_for_fault(call.path)
    home.directory.come_back("leo")
    home.wait_until_quiet()
    return home, company


@pytest.mark.parametrize("call", CREATING, ids=str)
@both_dialects
def test_a_leave_committed_while_an_account_is_made_wins(gateway: Gateway, opened: Opener, call: Call) -> None:
    home = opened()
    granted_and_left(gateway, home, call, "Data", "Web")
    assert_never_in(gateway, home, "joe")


@pytest.mark.parametrize("call", FINDING, ids=str)
def test_a_leave_committed_while_teams_are_given_wins(gateway: Gateway, opened: Opener, call: Call) -> None:
    home = opened()
    joe = gateway.account("joe", None, user_role="internal_user_viewer")
    gateway.ready()
    granted_and_left(gateway, home, call, "Data", "Web")
    assert_never_in(gateway, home, "joe")
    gateway.assert_gone(joe)


@pytest.mark.parametrize("call", [call for call in CREATING[:7] if call.path != "/user/new"], ids=str)
def test_nothing_is_given_any_more_once_a_leave_is_committed(gateway: Gateway, opened: Opener, call: Call) -> None:
    """The generation is read again before every call that gives something."""
    home = opened()
    granted_and_left(gateway, home, call, "Data")
    after = gateway.log()[-1]["n"]
    assert_never_in(gateway, home, "joe")
    assert {"/user/new", "/team/member_add"}.isdisjoint(gateway.paths(after))


@pytest.mark.parametrize(
    ("call", "lifts"),
    [(Call("/v2/user/info", 1), "/user/update"), (Call("/v2/user/info", 2), "/key/unblock")],
    ids=["fence", "blocks"],
)
@both_dialects
def test_nothing_is_lifted_any_more_once_a_leave_is_committed(
    gateway: Gateway, opened: Opener, call: Call, lifts: str
) -> None:
    """The same before a fence or a block of ours is lifted."""
    home = opened(policy={"group_loss_delete_after": "1h"})
    company = founded(gateway, home)
    home.directory.part("Data", "leo")
    home.wait_for("leo", "blocked")
    gateway.ready()
    call.hold_up(gateway)
    home.directory.join("Data", "leo")
    gateway.wait_for_fault(call.path)
    before = gateway.log()[-1]["n"]
    home.directory.leave("leo")
    home.wait_until_verified("leo")
    bodies = [row["body"] for row in gateway.calls(lifts, before)]
    assert not any("key" in body or body.get("metadata", {}).get("scim_active") for body in bodies)
    company.assert_leo_is_gone()


def assert_never_in(gateway: Gateway, home: Home, login: str) -> None:
    """Settled: on no roster, no live key, and an account, if there is one, that is fenced."""
    home.wait_until_verified(login)
    home.wait_until_quiet()
    for row in gateway.users_called(f"{login}@corp.example"):
        assert gateway.fenced(row["user_id"])
        assert gateway.live_keys(row["user_id"]) == []
    people = [str(team["members_with_roles"]) for team in gateway.state()["teams"]]
    assert not any(login in roster or home.person(login).id in roster for roster in people)


@pytest.mark.parametrize("call", HARMLESS, ids=str)
@both_dialects
def test_a_return_before_anything_is_destroyed_gives_the_same_keys_back(
    gateway: Gateway, opened: Opener, call: Call
) -> None:
    home, company = left_and_back(gateway, opened, call)
    assert home.state("leo") == "cancelled"
    gateway.assert_at_work(company.leo, "data", "lab")
    company.assert_others_work()
    row = gateway.user(company.leo.user_id)
    assert row is not None
    assert {name: row["metadata"].get(name) for name in OWN} == OWN


@pytest.mark.parametrize("call", FINAL, ids=str)
@both_dialects
def test_a_return_after_a_deletion_was_sent_gives_the_teams_back_and_no_key(
    gateway: Gateway, opened: Opener, call: Call
) -> None:
    home, company = left_and_back(gateway, opened, call)
    assert gateway.live_keys(company.leo.user_id) == []
    assert gateway.answers(company.leo.keys) == {401}
    assert not gateway.fenced(company.leo.user_id)
    assert "data" in gateway.teams_with(company.leo.user_id)
    departure = home.departure("leo")
    assert (departure.state.value, departure.closed_at is not None) == ("verified", True), (
        "not cancelled: it had effect"
    )
    company.assert_others_work()


everywhere = pytest.mark.parametrize("confined", ["", "org-default"], ids=["anywhere", "confined"])
"""Confined, whoever is outside of that organization is 404 for idsync."""
at_routero = pytest.mark.parametrize("dialect", ["routero"], indirect=True)


@at_routero
@everywhere
@pytest.mark.parametrize("call", ENDING, ids=str)
def test_a_return_committed_while_a_membership_ends_wins(
    gateway: Gateway, opened: Opener, call: Call, confined: str
) -> None:
    home = opened(routero={"cache_time": "0.1s", "organization_id": confined})
    company = founded(gateway, home)
    was = gateway.organizations_of(company.leo.user_id)
    call.hold_up(gateway)
    home.directory.leave("leo")
    gateway.wait_for_fault(call.path)
    home.directory.come_back("leo")
    home.wait_until_quiet()
    assert (gateway.organizations_of(company.leo.user_id), len(was)) == (was, 1)
    assert not gateway.fenced(company.leo.user_id)
    assert "data" in gateway.teams_with(company.leo.user_id)
    assert home.conflicts() == []


@at_routero
@everywhere
@pytest.mark.parametrize("call", GIVING_BACK, ids=str)
def test_a_leave_committed_while_a_membership_is_given_back_wins(
    gateway: Gateway, opened: Opener, call: Call, confined: str
) -> None:
    home = opened(routero={"cache_time": "0.1s", "organization_id": confined})
    company = founded(gateway, home)
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    call.hold_up(gateway)
    home.directory.come_back("leo")
    gateway.wait_for_fault(call.path)
    home.directory.leave("leo")
    home.wait_for("leo", "settled")
    assert gateway.organizations_of(company.leo.user_id) == {}
    company.assert_leo_is_gone()
    assert home.conflicts() == []


@pytest.mark.parametrize("seed", range(6))
def test_whatever_was_committed_last_holds(gateway: Gateway, opened: Opener, seed: int) -> None:
    """Leave and return, again and again, each some calls of the gateway after the one before."""
    chance = random.Random(seed)
    home = opened()
    company = founded(gateway, home)
    gateway.hook("options", {"latency": 0.002})
    for turn in range(9):
        change = home.directory.come_back if turn % 2 else home.directory.leave
        change("leo")
        gateway.wait_for_calls(chance.randrange(14), unless=lambda: not home.busy())
    home.wait_until_verified("leo")
    home.wait_until_quiet()
    company.assert_leo_is_gone()
    home.directory.come_back("leo")
    home.wait_until_quiet()
    assert not gateway.fenced(company.leo.user_id)
    assert "data" in gateway.teams_with(company.leo.user_id)


@pytest.mark.parametrize("seed", range(4))
def test_the_group_pushed_last_holds(gateway: Gateway, opened: Opener, seed: int) -> None:
    """Out of a group and in again: the same keys, unless the waiting time ran out in between."""
    chance = random.Random(seed)
    home = opened(policy={"group_loss_delete_after": "1h"})
    company = founded(gateway, home)
    home.directory.join("Web", "leo")
    home.wait_until_quiet()
    for turn in range(8):
        change = home.directory.join if turn % 2 else home.directory.part
        change("Data", "leo")
        gateway.wait_for_calls(chance.randrange(9), unless=lambda: not home.busy())
    home.wait_until_quiet()
    gateway.assert_at_work(company.leo, "data", "web", "lab")
