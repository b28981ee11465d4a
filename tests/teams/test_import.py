"""`idsync config import`: what a gateway has, as a configuration that changes nothing of it."""

from __future__ import annotations

import string
import tomllib
from pathlib import Path
from typing import Any

from cli.site import run as idsync
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fixtures import Opener, both_dialects
from support.gateway import Gateway
from support.home import Home

from idsync import config
from idsync.config.checks import cross_checks
from idsync.model import GatewayTeam, GatewayUser
from idsync.teams.found import found, toml

ODD = 'R&D "quotes" \\ back\ttab\nline \x7f ‮ ünïcode 🦀 # not a comment'


@both_dialects
def test_what_it_writes_is_accepted_and_changes_nothing(
    gateway: Gateway, opened: Opener, tmp_path: Path, dialect: str
) -> None:
    gateway.team("t-1", team_alias="twin", models=["smart/balanced"])
    gateway.team("t-2", team_alias="twin", max_budget=12.5, budget_duration="30d")
    gateway.team("t-3", team_alias=ODD, max_budget=2000, soft_budget=10.25, tpm_limit=1000, rpm_limit=10)
    gateway.team("t-4", team_alias="web")
    gateway.team("t-5", team_alias="odd", max_budget=-1, budget_duration="monthly", metadata={"api": "sk-secret"})
    gateway.team("t-6", soft_budget=7, max_budget=5)
    gateway.account("auditor", user_role="internal_user_viewer")
    gateway.account("boss", user_role="proxy_admin")
    opened(teams=[{"alias": "web", "groups": ["Web"], "adopt": True}])
    opened.close()
    path, written = opened.settings, tmp_path / "found.toml"
    before = gateway.ready()
    done = idsync("-c", str(path), "config", "import", "--output", str(written), cwd=tmp_path)
    assert (done.returncode, gateway.paths(before, writes=True)) == (0, []), done.stderr
    assert "team web: configured already" in done.stderr
    assert "secret" not in written.read_text()
    path.write_text(path.read_text() + written.read_text())
    teams = {team.alias: team for team in config.load(str(path), {}).config.teams}
    assert teams.keys() == {"twin t-1", "twin t-2", ODD, "web", "odd", "t-6"}
    assert (teams["twin t-2"].team_id, teams[ODD].soft_budget, teams["odd"].max_budget) == ("t-2", 10.25, None)
    if dialect == "litellm":
        dry = idsync("-c", str(path), "reconcile", "--dry-run", cwd=tmp_path)
        assert (dry.returncode, "nothing to do" in dry.stdout) == (0, True), dry.stdout
    with Home(path) as home:
        assert (home.reconcile()["changes"], gateway.paths(before, writes=True)) == ([], [])


NAMES = st.text(min_size=1, max_size=12) | st.text(string.punctuation + "\r\n\t", min_size=1, max_size=5)
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(st.tuples(NAMES, NAMES | st.none()), max_size=4, unique_by=lambda pair: pair[0]),
    numbers=st.tuples(NUMBERS, NUMBERS, NUMBERS),
    models=st.lists(NAMES, max_size=2),
    duration=st.none() | NAMES | st.just("1mo"),
)
def test_whatever_the_gateway_says_the_file_is_a_configuration(
    names: list[tuple[str, str | None]], numbers: tuple[Any, Any, Any], models: list[str], duration: str | None
) -> None:
    teams = [
        GatewayTeam(
            team_id,
            alias,
            models=tuple(models),
            max_budget=numbers[0],
            soft_budget=numbers[1],
            tpm_limit=numbers[2],
            budget_duration=duration,
            metadata={name: 1 for name, _ in names},
        )
        for team_id, alias in names
    ]
    users = [GatewayUser(team_id, None, team_id, None) for team_id, _ in names]
    text = toml(found(teams, users, named=(), ids=(), roles=()))
    tree = tomllib.loads(text)
    read = config.Config.model_validate({**tree, "routero": {"base_url": "https://gateway.example.com"}})
    assert cross_checks(read) == []
    assert {team.team_id for team in read.teams} == {name for name, _ in names}
    assert all(team.adopt for team in read.teams)
