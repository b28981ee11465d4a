"""Retiring a team: shown first, keys dead on every replica, then gone; and continued wherever it broke off."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.site import run as idsync
from support.fixtures import Opener, both_dialects
from support.gateway import Gateway, Key
from support.home import Home

from idsync.audit import first_break
from idsync.errors import IdsyncError, NotFound, StillAlive, UsageError
from idsync.store import facts, people
from idsync.teams.retiring import Retirement

DATA, WEB = {"alias": "data", "groups": ["Data"], "max_budget": 2000}, {"alias": "web", "groups": ["Web"]}
ASKED: dict[str, Any] = {"by": "test", "reason": "the project ended"}


def retirement(home: Home) -> Retirement:
    core = home.core
    return Retirement(core.store, core.gateway, core.clock, core.intake.people, core.reconciler.teams)


def left_over(opened: Opener, gateway: Gateway, **changed: Any) -> tuple[Home, list[Key]]:
    """A team idsync has made, with one person in it, and a configuration that does not name it any more."""
    home = opened(teams=[DATA, WEB])
    home.directory.hire("ann", "Data", "Web")
    home.wait_until_quiet()
    account = home.account_of("ann")
    keys = [gateway.key_of(account, "data", spend=2.5), gateway.key_of(None, "data", key_alias="ds-prod")]
    keys.append(gateway.key_of(account, "web"))
    home = opened(teams=[WEB], **changed)
    gateway.ready()
    return home, keys


@both_dialects
def test_it_is_shown_then_blocked_then_gone_with_its_keys(gateway: Gateway, opened: Opener) -> None:
    home, (own, shared, other) = left_over(opened, gateway)
    view = home.run(retirement(home).show("data"))
    assert [(key["alias"], key["owner"], key["spend"]) for key in view["keys"] if key["key_id"] == own.id] == [
        (None, "ann@corp.example", 2.5)
    ]
    assert {key["alias"] for key in view["keys"]} == {None, "ds-prod"}
    assert {member["email"] for member in view["members"]} >= {"ann@corp.example"}
    assert gateway.paths(writes=True) == []
    done = home.run(retirement(home).run("data", **ASKED))
    assert (done["keys"], done["team_id"]) == (2, "data")
    writes = gateway.paths(writes=True)
    assert writes == ["/team/block", "/key/block", "/key/block", "/key/delete", "/team/delete"]
    assert gateway.answers([own, shared]) == {401}
    assert gateway.answers([other]) == {200}
    assert [row["team_id"] for row in gateway.state()["teams"]] == ["web"]
    told = {event.action: event for event in home.trail() if event.action.startswith("team.reti")}
    assert told["team.retiring"].detail["before"]["max_budget"] == 2000
    assert sorted(told["team.retired"].detail["keys"]) == sorted([own.id, shared.id])
    assert first_break(home.trail()) is None
    assert [grant.team for grant in people.grants(home.db, home.person("ann").id)] == ["web"]
    assert (home.holds(), home.reconcile()["changes"], home.reconcile()["unfinished"]) == ([], [], [])
    with pytest.raises(NotFound):
        home.run(retirement(home).run("data", **ASKED))


def test_nobody_leaves_because_a_team_is_retired(gateway: Gateway, opened: Opener) -> None:
    home = opened(teams=[DATA, WEB])
    home.directory.hire("ann", "Data")
    home.wait_until_quiet()
    key = gateway.key_of(home.account_of("ann"))
    home = opened(teams=[WEB])
    assert home.run(retirement(home).run("data", **ASKED))["held"] == 1
    home.directory.change("ann", display_name="Ann Renamed")
    home.wait_until_quiet()
    assert gateway.answers([key]) == {200}
    [hold] = home.holds()
    home.approve(hold)
    home.wait_for("ann", "blocked")
    assert gateway.answers([key]) == {401}


def test_a_team_that_is_configured_is_refused_and_one_of_several_is_named_by_its_id(
    gateway: Gateway, opened: Opener
) -> None:
    gateway.team("t-1", team_alias="lab")
    gateway.team("t-2", team_alias="lab")
    gateway.team("t-3", team_alias="soon")
    home = opened(teams=[DATA, {"alias": "soon", "groups": ["Soon"]}])
    before = gateway.ready()
    for name, says in (("data", "the configuration names"), ("t-3", "the configuration names"), ("lab", "t-1, t-2")):
        with pytest.raises(UsageError, match=says):
            home.run(retirement(home).run(name, **ASKED))
    assert gateway.paths(before, writes=True) == []
    home.run(retirement(home).run("t-2", **ASKED))
    assert {row["team_id"] for row in gateway.state()["teams"]} == {"t-1", "t-3", "data"}


def test_somebody_protected_in_it_stops_it_unless_that_is_overridden(gateway: Gateway, opened: Opener) -> None:
    shield = [{"match": "ann@corp.example", "reason": "break-glass"}]
    home, keys = left_over(opened, gateway, protected=shield)
    with pytest.raises(UsageError, match="protected"):
        home.run(retirement(home).run("data", **ASKED))
    assert gateway.answers(keys) == {200}
    home.run(retirement(home).run("data", override=True, **ASKED))
    assert gateway.answers(keys[:2]) == {401}


@pytest.mark.parametrize("known", ["by the gateway", "by a source"])
def test_somebody_protected_with_a_key_alone_stops_it_too(gateway: Gateway, opened: Opener, known: str) -> None:
    """They are on no roster, which is where e-mails stand; a source may know a name that the gateway does not."""
    glass = gateway.account("glass", **({"user_email": None} if known == "by a source" else {}))
    home, _ = left_over(opened, gateway, protected=[{"match": "glass@corp.example", "reason": "break-glass"}])
    if known == "by a source":
        home.directory.hire("glass", "Web")
        home.link("glass", glass.user_id)
    key = gateway.key_of(glass.user_id, "data")
    with pytest.raises(UsageError, match="protected"):
        home.run(retirement(home).run("data", **ASKED))
    assert gateway.answers([key]) == {200}


BREAKS: dict[str, dict[str, Any]] = {
    "at the block of a key": {"path": "/key/block", "skip": 1, "times": 1, "status": 500},
    "at the deletion of the keys, done": {"path": "/key/delete", "times": 1, "status": 500, "when": "after"},
    "at the deletion of the team": {"path": "/team/delete", "times": 1, "status": 500},
    "at the deletion of the team, done": {"path": "/team/delete", "times": 1, "status": 500, "when": "after"},
}


@pytest.mark.parametrize("where", BREAKS)
def test_a_run_that_broke_off_is_continued(gateway: Gateway, opened: Opener, where: str) -> None:
    home, keys = left_over(opened, gateway)
    gateway.break_with(**BREAKS[where])
    with pytest.raises(IdsyncError, match="continues"):
        home.run(retirement(home).run("data", **ASKED))
    assert facts.under(home.db, "retiring:")
    home.run(retirement(home).run("data", **ASKED))
    assert gateway.answers(keys[:2]) == {401}
    assert [row["team_id"] for row in gateway.state()["teams"]] == ["web"]
    assert facts.under(home.db, "retiring:") == {}


def test_a_key_made_in_between_dies_too_and_a_team_that_stays_is_told(gateway: Gateway, opened: Opener) -> None:
    home, keys = left_over(opened, gateway)
    gateway.break_with("/team/delete", lie=True)
    gateway.break_with("/key/delete", times=1, delay=0.001, then={"generate_key": {"team_id": "data"}})
    with pytest.raises(StillAlive, match="still shows the team"):
        home.run(retirement(home).run("data", **ASKED))
    assert gateway.answers(keys[:2]) == {401}
    assert [key for key in gateway.state()["keys"] if key["team_id"] == "data"] == []


def test_the_command_line_shows_lists_and_retires(gateway: Gateway, opened: Opener, tmp_path: Path) -> None:
    left_over(opened, gateway)
    opened.close()

    def command(*args: str) -> Any:
        return idsync("-c", str(opened.settings), "teams", *args, cwd=tmp_path)

    listed = {row["team"]: row["state"] for row in json.loads(command("list", "--json").stdout)}
    assert listed == {"data": "left over", "web": "made"}
    dry = command("retire", "data", "--dry-run")
    assert (dry.returncode, "ds-prod" in dry.stdout, "ann@corp.example" in dry.stdout) == (3, True, True)
    done = command("retire", "data", "--yes", "--reason", "over", "--json")
    assert (done.returncode, json.loads(done.stdout)["keys"]) == (0, 2)


def _by_its_id(gateway: Gateway, shared: Key) -> None:
    """The gateway's admin key is a key of the team."""
    gateway.hook("options", {"admin_key": shared.raw})


def _as_the_gateway_says(gateway: Gateway, shared: Key) -> None:
    """Asked without a key, it tells of the caller's own."""
    body = json.dumps({"key": "sk-hidden", "info": {"team_id": "data"}})
    gateway.fault(path="/key/info", status=200, content_type="application/json", body=body)


@pytest.mark.parametrize("ours", [_by_its_id, _as_the_gateway_says])
def test_a_team_with_the_key_that_idsync_calls_with_is_refused(
    gateway: Gateway, opened: Opener, ours: Callable[[Gateway, Key], None]
) -> None:
    home, keys = left_over(opened, gateway, working=False)
    (opened.settings.parent / "admin.key").write_text(keys[1].raw if ours is _by_its_id else gateway.admin_key)
    ours(gateway, keys[1])
    for act in (retirement(home).show("data"), retirement(home).run("data", **ASKED)):
        with pytest.raises(UsageError, match="the key that idsync itself calls the gateway with"):
            home.run(act)
    assert gateway.paths(writes=True) == []
    assert gateway.answers(keys[1:2]) == {200}
