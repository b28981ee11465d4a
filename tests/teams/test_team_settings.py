"""Every setting of a team: set, put back or shown when somebody changes it, and never half applied."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.fixtures import Opener, both_dialects
from support.gateway import Gateway, Row

from idsync.store import facts

SETTINGS: dict[str, Any] = {
    "max_budget": 2000,
    "soft_budget": 1500,
    "budget_duration": "1mo",
    "models": ["gpt-5-mini"],
    "tpm_limit": 100000,
    "rpm_limit": 500,
    "metadata": {"cost_center": "4711", "critical": True},
}
BY_HAND: dict[str, Any] = {
    "max_budget": 5,
    "soft_budget": 1,
    "budget_duration": "7d",
    "models": [],
    "tpm_limit": 1,
    "rpm_limit": 2,
    "metadata": {"cost_center": "0", "critical": 1, "theirs": {"keep": ["me"]}},
}
DATA = {"alias": "data", "groups": ["Data"], **SETTINGS}
NAMES = sorted([*(SETTINGS.keys() - {"metadata"}), "metadata.cost_center", "metadata.critical"])


def team(gateway: Gateway, team_id: str = "data") -> Row:
    return next(row for row in gateway.state()["teams"] if row["team_id"] == team_id)


def shown(gateway: Gateway) -> dict[str, Any]:
    return {name: team(gateway)[name] for name in SETTINGS}


def kinds(done: Row) -> list[tuple[str, list[str]]]:
    return [(change["kind"], sorted(change["fields"])) for change in done["changes"]]


@both_dialects
def test_what_is_changed_by_hand_is_put_back_and_what_is_not_ours_is_left(gateway: Gateway, opened: Opener) -> None:
    home = opened(teams=[DATA])
    assert shown(gateway) == {**SETTINGS, "metadata": {"idsync": "managed", **SETTINGS["metadata"]}}
    gateway.ok("/team/update", {"team_id": "data", **BY_HAND})
    assert kinds(home.run(home.core.commands(alone=True).reconcile(dry_run=True))) == [("team.update", NAMES)]
    assert shown(gateway) == BY_HAND, "a dry run changes nothing"
    assert home.reconcile()["failed"] == {}
    assert shown(gateway) == {**SETTINGS, "metadata": {"theirs": {"keep": ["me"]}, **SETTINGS["metadata"]}}
    before = gateway.ready()
    assert home.reconcile()["changes"] == []
    assert gateway.paths(before, writes=True) == []
    [update] = [event for event in home.trail() if event.action == "team.update"]
    assert update.detail["before"] == {
        **{name: BY_HAND[name] for name in NAMES if "." not in name},
        "metadata.cost_center": "0",
        "metadata.critical": 1,
    }


def test_under_report_it_is_shown_and_left_until_the_configuration_changes(gateway: Gateway, opened: Opener) -> None:
    reporting = {**DATA, "drift": "report"}
    home = opened(teams=[reporting])
    home.reconcile()
    gateway.ok("/team/update", {"team_id": "data", **BY_HAND})
    before = gateway.ready()
    for _ in range(2):
        assert kinds(home.reconcile()) == [("team.drift", NAMES)]
    assert gateway.paths(before, writes=True) == []
    assert facts.get(home.db, "drift:teams") == {"data": NAMES}
    home = opened(teams=[{**reporting, "max_budget": 3000}])
    assert team(gateway)["max_budget"] == 3000, "what the configuration changes is applied"
    assert {**shown(gateway), "max_budget": 5} == BY_HAND, "and nothing else"


def test_an_adoption_that_broke_off_is_continued_under_report_too(gateway: Gateway, opened: Opener) -> None:
    gateway.team("data", max_budget=7)
    gateway.break_with("/team/update", status=500)
    home = opened(teams=[{**DATA, "adopt": True, "drift": "report"}])
    assert set(home.reconcile()["failed"]) == {"data"}
    gateway.mend()
    assert home.reconcile()["failed"] == {}
    assert team(gateway)["max_budget"] == 2000
    assert home.reconcile()["changes"] == []


def test_another_id_under_the_same_alias_is_told_and_neither_team_is_changed(gateway: Gateway, opened: Opener) -> None:
    opened(teams=[{"alias": "data", "groups": ["Data"]}])
    gateway.team("other")
    before = gateway.ready()
    home = opened(teams=[{**DATA, "id": "other", "adopt": True}])
    assert [one["subject"] for one in home.reconcile()["refused"]] == ["data"]
    assert gateway.paths(before, writes=True) == []


def test_a_team_of_somebody_else_that_was_not_listed_does_not_become_ours(gateway: Gateway, opened: Opener) -> None:
    """It came up between the listing and the creation, or the admin key is not shown it."""
    gateway.team("data", max_budget=7)
    nothing = json.dumps({"teams": [], "total": 0, "page": 1, "page_size": 100, "total_pages": 0})
    gateway.break_with("/v2/team/list", times=2, status=200, body=nothing, content_type="application/json")
    home = opened(teams=[{**DATA, "extra_members": "remove"}])
    assert "whose it is" in home.reconcile()["failed"]["data"]
    assert facts.under(home.db, "team:") == {}
    done = home.reconcile()
    assert ([one["subject"] for one in done["refused"]], team(gateway)["max_budget"]) == (["data"], 7)


def test_metadata_somebody_else_writes_at_the_same_time_does_not_lose_ours(gateway: Gateway, opened: Opener) -> None:
    home = opened(teams=[DATA])
    gateway.ok("/team/update", {"team_id": "data", "metadata": {}})
    overtaken = {"set_team": {"team_id": "data", "metadata": {"theirs": 1}}}
    gateway.break_with(
        "/team/update", match={"metadata": {"cost_center": "4711"}}, times=1, delay=0.001, then=overtaken
    )
    assert home.reconcile()["failed"] == {}
    assert team(gateway)["metadata"] == {"theirs": 1, **SETTINGS["metadata"]}


@pytest.mark.parametrize("path", ["/team/new", "/team/update"])
def test_a_gateway_that_says_yes_and_does_nothing_is_not_believed(gateway: Gateway, opened: Opener, path: str) -> None:
    gateway.break_with(path, lie=True)
    if path == "/team/update":
        gateway.team("data", max_budget=7)
    home = opened(teams=[{"alias": "data", "groups": ["Data"], "max_budget": 2000, "adopt": True}])
    [(name, why)] = home.reconcile()["failed"].items()
    assert (name, "show" in why) == ("data", True)


# -- models -------------------------------------------------------------------------------------------------------

WEB = {"alias": "web", "groups": ["Web"], "models": ["openai/*", "all-proxy-models", "claude-sonnet"]}
TYPO = {"alias": "data", "groups": ["Data"], "max_budget": 7, "models": ["gpt-5-mini", "gtp-5"]}


@both_dialects
def test_a_team_with_an_unknown_model_is_not_touched_and_the_others_are(gateway: Gateway, opened: Opener) -> None:
    home = opened(teams=[TYPO, WEB])
    [refused] = home.reconcile()["refused"]
    assert (refused["subject"], "no model gtp-5" in refused["why"]) == ("data", True)
    assert [row["team_id"] for row in gateway.state()["teams"]] == ["web"]
    gateway.team("data", max_budget=5)
    before = gateway.ready()
    opened(teams=[{**TYPO, "adopt": True}, WEB])
    assert gateway.paths(before, writes=True) == [], "neither its budget is set, nor is it adopted"
    assert "team:data" not in facts.under(opened(teams=[WEB]).db, "")


@pytest.mark.parametrize("status", [404, 401, 403, 500])
def test_where_models_are_not_listed_names_are_not_checked_and_nothing_else_suffers(
    gateway: Gateway, opened: Opener, status: int
) -> None:
    auth = '{"error": {"message": "no", "type": "auth_error", "param": "None", "code": "401"}}'
    gateway.break_with("/v1/models", status=status, **({"body": auth} if status in (401, 403) else {}))
    gateway.break_with("/models", status=status, **({"body": auth} if status in (401, 403) else {}))
    home = opened(teams=[])
    home = opened(teams=[TYPO], working=False)
    done = home.reconcile()
    assert (done["failed"], done["changes"]) == ({}, [])
    gateway.ok("/team/update", {"team_id": "data", "models": []})
    [note] = home.reconcile()["notes"]
    assert ("does not list its models" in note, "not checked" in note) == (status != 500, True)
    assert team(gateway)["models"] == TYPO["models"]
    assert home.core.gateway.closed_for() == 0


def test_models_are_not_asked_for_when_none_is_to_be_set(gateway: Gateway, opened: Opener) -> None:
    home = opened(teams=[WEB])
    before = gateway.ready()
    home.reconcile()
    opened(teams=[{**WEB, "models": ["nowhere"]}], routero={"check_models": False})
    assert team(gateway, "web")["models"] == ["nowhere"]
    assert "/v1/models" not in gateway.paths(before)
