"""Teams at the gateway: made under an id of ours, kept as configured, taken over only when told to."""

from __future__ import annotations

from typing import Any

from support.fixtures import Opener, both_dialects
from support.gateway import Gateway, Row
from support.waiting import until

DATA: dict[str, Any] = {"alias": "data", "groups": ["Data"], "max_budget": 2000, "budget_duration": "30d"}


def team(gateway: Gateway, team_id: str) -> Row:
    return next(row for row in gateway.state()["teams"] if row["team_id"] == team_id)


@both_dialects
def test_a_configured_team_is_made_once(gateway: Gateway, opened: Opener) -> None:
    home = opened(teams=[DATA])
    made = team(gateway, "data")
    assert (made["team_alias"], made["max_budget"], made["budget_duration"]) == ("data", 2000, "30d")
    before = gateway.ready()
    assert home.reconcile()["changes"] == []
    opened(teams=[DATA])
    assert gateway.paths(before, writes=True) == []


@both_dialects
def test_a_budget_changed_by_hand_is_set_back(gateway: Gateway, opened: Opener) -> None:
    home = opened(teams=[DATA])
    gateway.ok("/team/update", {"team_id": "data", "max_budget": 5, "models": ["gpt-5-mini"]})
    (change,) = home.reconcile()["changes"]
    assert (change["kind"], change["fields"]) == ("team.update", {"max_budget": 2000})
    assert team(gateway, "data")["max_budget"] == 2000
    assert team(gateway, "data")["models"] == ["gpt-5-mini"], "what is not configured is left alone"


def test_nobodys_access_waits_for_a_team_that_is_being_set_up(gateway: Gateway, opened: Opener) -> None:
    leo = gateway.account("leo")
    home = opened(teams=[DATA], policy={"on_departure": "block"}, routero={"timeout": "5s"})
    home.directory.hire("leo", "Data")
    home.wait_until_quiet()
    key = gateway.key_of(leo.user_id, None)
    home.offboard("leo")
    gateway.ok("/key/unblock", {"key": key.raw})
    gateway.ok("/team/update", {"team_id": "data", "max_budget": 5})
    gateway.break_with("/team/update", hang=True)
    with home.running(home.core.reconciler.apply()) as going:
        gateway.wait_for_fault("/team/update")
        until(lambda: gateway.is_blocked(key), "the key is blocked again")
        assert not going.done(), "the pass still waits for the team"
        gateway.mend()


def test_a_team_whose_answer_was_lost_is_ours_after_the_next_pass(gateway: Gateway, opened: Opener) -> None:
    gateway.break_with("/team/new", times=1, drop="after")
    home = opened(teams=[DATA])
    home.directory.hire("zoe", "Data")
    home.reconcile()
    home.wait_until_quiet()
    assert gateway.teams_with(home.account_of("zoe")) == ["data"]
    assert len(gateway.state()["teams"]) == 1


def test_a_team_that_is_there_already_is_refused_unless_adopted(gateway: Gateway, opened: Opener) -> None:
    gateway.team("data", max_budget=7)
    home = opened(teams=[DATA])
    (refused,) = home.reconcile()["refused"]
    assert "adopt = true" in refused["why"]
    home.directory.hire("zoe", "Data")
    home.wait_until_idle("zoe")
    assert team(gateway, "data")["max_budget"] == 7
    assert team(gateway, "data")["members_with_roles"] == []
    home = opened(teams=[{**DATA, "adopt": True}])
    home.hurry()
    home.wait_until_quiet()
    assert team(gateway, "data")["max_budget"] == 2000
    assert gateway.teams_with(home.account_of("zoe")) == ["data"]


def test_an_adopted_team_keeps_its_own_id(gateway: Gateway, opened: Opener) -> None:
    gateway.team("t-4711", team_alias="data")
    home = opened(teams=[{**DATA, "adopt": True}])
    home.directory.hire("zoe", "Data")
    home.wait_until_quiet()
    assert gateway.teams_with(home.account_of("zoe")) == ["t-4711"]
    assert len(gateway.state()["teams"]) == 1


def test_two_teams_of_one_alias_are_refused(gateway: Gateway, opened: Opener) -> None:
    gateway.team("t-1", team_alias="data")
    gateway.team("t-2", team_alias="data")
    before = gateway.ready()
    home = opened(teams=[{**DATA, "adopt": True}])
    (refused,) = home.reconcile()["refused"]
    assert "2 teams" in refused["why"]
    assert gateway.paths(before, writes=True) == []
    home = opened(teams=[{**DATA, "adopt": True, "id": "t-2"}])
    home.directory.hire("zoe", "Data")
    home.wait_until_quiet()
    assert gateway.teams_with(home.account_of("zoe")) == ["t-2"]


def test_somebody_put_on_a_roster_by_hand_is_left_there(gateway: Gateway, opened: Opener) -> None:
    home = opened(teams=[DATA])
    guest = gateway.account("guest", None)
    gateway.put_on("data", guest.user_id)
    before = gateway.ready()
    assert home.reconcile()["extra_members"] == {"data": 1}
    assert gateway.paths(before, writes=True) == []
    gateway.assert_at_work(guest, "data")


def test_a_member_taken_off_by_hand_is_put_back(gateway: Gateway, opened: Opener) -> None:
    home = opened(teams=[DATA])
    home.directory.hire("zoe", "Data")
    home.wait_until_quiet()
    account = home.account_of("zoe")
    gateway.ok("/team/member_delete", {"team_id": "data", "user_id": account})
    home.reconcile()
    home.wait_until_quiet()
    assert gateway.teams_with(account) == ["data"]


def test_one_failing_team_never_stops_the_others(gateway: Gateway, opened: Opener) -> None:
    gateway.break_with("/team/new", match={"team_id": "data"}, status=500)
    home = opened(teams=[DATA, {"alias": "web", "groups": ["Web"]}])
    home.directory.hire("zoe", "Web")
    home.wait_until_quiet()
    assert gateway.teams_with(home.account_of("zoe")) == ["web"]
    assert set(home.reconcile()["failed"]) == {"data"}


def test_the_first_role_of_the_configuration_wins_and_an_admin_is_never_lowered(
    gateway: Gateway, opened: Opener
) -> None:
    home = opened(teams=[DATA], roles=[{"role": "internal_viewer", "groups": ["Auditors"]}])
    admin = gateway.account("boss", user_role="proxy_admin")
    home.directory.hire("ann", "Auditors", "Data")
    home.directory.hire("boss")
    home.link("boss", admin.user_id)
    home.directory.join("Auditors", "boss")
    home.wait_until_quiet()
    assert (gateway.user(home.account_of("ann")) or {})["user_role"] == "internal_user_viewer"
    assert (gateway.user(admin.user_id) or {})["user_role"] == "proxy_admin"


def test_a_team_under_another_name_is_the_same_team(gateway: Gateway, opened: Opener) -> None:
    at_once = {"group_loss_delete_after": "0s"}
    home = opened(teams=[DATA], policy=at_once)
    for login in ("ann", "zoe"):
        home.directory.hire(login, "Data")
    home.wait_until_quiet()
    accounts = {login: home.account_of(login) for login in ("ann", "zoe")}
    keys = {login: gateway.key_of(account, "data") for login, account in accounts.items()}
    before = gateway.ready()
    home = opened(teams=[{**DATA, "alias": "data-science", "id": "data"}], policy=at_once)
    home.wait_until_quiet()
    assert home.reconcile()["changes"] == []
    assert (home.holds(), gateway.paths(before, writes=True)) == ([], [])
    assert gateway.answers(list(keys.values())) == {200}
    home.directory.part("Data", "zoe")
    home.wait_until_quiet()
    assert (gateway.answers([keys["zoe"]]), gateway.teams_with(accounts["zoe"])) == ({401}, [])
    assert (gateway.answers([keys["ann"]]), gateway.teams_with(accounts["ann"])) == ({200}, ["data"])
