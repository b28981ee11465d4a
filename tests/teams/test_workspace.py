"""The guide's workspace, examples/workspace.toml, applied by the command line and read back at the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli.site import run as idsync
from support.fixtures import both_dialects
from support.gateway import Gateway
from support.stores import url_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "workspace.toml"
GUIDE: dict[str, dict[str, Any]] = {
    "data-science": {"max_budget": 2000, "soft_budget": 1600, "models": [], "budget_duration": "1mo"},
    "customer-ops": {"max_budget": 500, "models": ["smart/balanced"], "tpm_limit": 200000, "rpm_limit": 600},
    "finance": {"max_budget": 800, "models": ["eu/balanced"], "budget_duration": "1mo"},
    "engineering": {"max_budget": 1500, "models": [], "budget_duration": "1mo"},
}


@pytest.fixture
def environ(tmp_path: Path, gateway: Gateway, dialect: str) -> dict[str, str]:
    key = tmp_path / "admin.key"
    key.write_text(gateway.admin_key)
    return {
        "IDSYNC_ROUTERO__BASE_URL": gateway.url,
        "IDSYNC_ROUTERO__ADMIN_KEY_FILE": str(key),
        "IDSYNC_ROUTERO__DIALECT": dialect,
        "IDSYNC_STORE__URL": url_of(tmp_path / "idsync.db"),
    }


@both_dialects
def test_the_workspace_is_there_after_one_run_and_the_next_one_writes_nothing(
    gateway: Gateway, dialect: str, environ: dict[str, str], tmp_path: Path
) -> None:
    gateway.team("t-theirs", team_alias="marketing", max_budget=1)
    before, ours = gateway.ready(), len(GUIDE)

    def reconcile(*args: str) -> tuple[int, str]:
        done = idsync("-c", str(EXAMPLE), "reconcile", *args, cwd=tmp_path, environ=environ)
        return done.returncode, done.stdout + done.stderr

    if dialect == "routero":
        code, told = reconcile("--dry-run")
        assert (code, told.count("create team"), gateway.paths(before, writes=True)) == (3, ours, []), told
        assert "max_budget: 800; budget_duration: 1mo; models: eu/balanced" in told
    code, told = reconcile()
    assert (code, gateway.paths(before, writes=True)) == (0, ["/team/new"] * ours), told
    teams = {row["team_alias"]: row for row in gateway.state()["teams"]}
    for alias, settings in GUIDE.items():
        assert {name: teams[alias][name] for name in settings} == settings
    assert teams["data-science"]["metadata"]["cost_center"] == "4711"
    assert teams["marketing"]["max_budget"] == 1
    before = gateway.ready()
    code, told = reconcile()
    assert (code, "nothing to do" in told, gateway.paths(before, writes=True)) == (0, True, []), told
