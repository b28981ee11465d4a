"""What may happen to people and groups in a directory, each with its outcome at the gateway; and what a shell sees of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.daemon import idsync
from support.fixtures import Opener
from support.gateway import Gateway
from support.home import Home

from idsync.errors import IncompleteSource
from idsync.store import ledger
from polling.test_idps import PEOPLE, OktaSite, Site, home, leaver, site

__all__ = ["home", "site"]

LEO = f"{PEOPLE[0]}@corp.example"


def member(site: Site) -> str:
    return "user" if isinstance(site, OktaSite) else "member"


def test_a_renamed_group_changes_nothing(gateway: Gateway, site: Site, home: Home) -> None:
    leo = leaver(gateway, home)
    named = "name" if isinstance(site, OktaSite) else "displayName"
    site.act("rename_group", group="Data", **{named: "Data Science"})
    for kind in ("recent", "full"):
        assert home.poll("poll", kind).losses == []
    home.wait_until_quiet()
    gateway.assert_at_work(leo, "data", "web")


def test_a_group_made_anew_is_another_group(gateway: Gateway, site: Site, home: Home) -> None:
    leo = leaver(gateway, home)
    old = site.ids["Web"]
    site.act("recreate_group", group="Web")
    with pytest.raises(IncompleteSource, match="groups unbind"):
        home.poll("poll")
    home.wait_until_quiet()
    gateway.assert_at_work(leo, "data", "web")
    home.write(lambda db: home.core.control.unbind(db, "web", old, by="test"))
    home.poll("poll")
    home.wait_until_quiet()
    gateway.assert_at_work(leo, "data", "web")  # only the configuration changed: held
    assert len(ledger.holds(home.db)) == 1


def test_another_address_is_the_same_person(gateway: Gateway, site: Site, home: Home) -> None:
    leo = leaver(gateway, home)
    if isinstance(site, OktaSite):
        site.act("change_profile", user=LEO, login="leopold@corp.example", email="leopold@corp.example")
    else:
        site.act("change_user", user=LEO, userPrincipalName="leopold@corp.example", mail="leopold@corp.example")
    assert home.poll("poll", "recent").losses == []
    home.wait_until_quiet()
    gateway.assert_at_work(leo, "data", "web")
    site.act("deactivate" if isinstance(site, OktaSite) else "disable", user="leopold@corp.example")
    home.poll("poll", "recent")
    home.wait_until_quiet()
    gateway.assert_gone(leo)


@pytest.mark.parametrize("site", ["okta"], indirect=True)
def test_a_role_that_was_narrowed_takes_nothing(gateway: Gateway, site: Site, home: Home) -> None:
    leo = leaver(gateway, home)
    site.options(narrowed_to=["Data"])
    with pytest.raises(IncompleteSource):
        home.poll("poll")
    home.wait_until_quiet()
    gateway.assert_at_work(leo, "data", "web")


def test_another_mapping_is_held_whatever_its_size(
    gateway: Gateway, site: Site, home: Home, opened: Opener, tmp_path: Path
) -> None:
    leo = leaver(gateway, home)
    teams = [{"alias": "data", "groups": ["Data"]}, {"alias": "web", "groups": ["Somebody Else"]}]
    again = opened(scim={"sources": []}, sources={site.kind: [site.table(tmp_path)]}, teams=teams)
    assert again.core.poller.is_due("poll", 86400.0), "other groups matter now"
    assert again.poll("poll").losses == []
    again.wait_until_quiet()
    gateway.assert_at_work(leo, "data", "web")
    [hold] = ledger.holds(again.db)
    assert "configuration" in hold.reason


# -- as a shell sees it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["okta"], indirect=True)
def test_each_verdict_has_its_exit_code(gateway: Gateway, site: Site, opened: Opener, home: Home) -> None:
    """0 nothing, 3 changes, 4 held, 6 incomplete; `--json` is one document each time."""
    leaver(gateway, home)
    settings = opened.settings
    opened.close()

    def run(*arguments: str) -> tuple[int, Any, str]:
        done = idsync(settings, *arguments)
        shown = json.loads(done.out) if "--json" in arguments else done.out
        return done.code, shown, done.out

    assert run("reconcile", "--source", "poll")[0] == 0
    act = "deactivate" if isinstance(site, OktaSite) else "disable"
    site.act(act, user=LEO)
    code, plan, _ = run("reconcile", "--dry-run", "--json")
    [loss] = plan["polls"][0]["losses"]
    assert (code, loss["user"], loss["departs"], len(loss["keys"])) == (3, LEO, True, 3)
    assert run("reconcile", "--dry-run", "--json")[1]["checksum"] == plan["checksum"]
    for name in PEOPLE[1:6]:
        site.act(act, user=f"{name}@corp.example")
    code, _, told = run("reconcile", "--dry-run")
    assert code == 4
    assert told.count("HELD") == 6
    assert run("reconcile")[0] == 4
    [hold] = run("holds", "list", "--json")[1]
    assert len(hold["people"]) == 6
    assert run("freeze", "--reason", "test")[0] == 0
    assert "FROZEN" in run("status")[1]
    assert run("thaw", "--reason", "test")[0] == 0
    assert run("holds", "approve", hold["id"], "--checksum", hold["checksum"])[0] == 0
    assert "departed" in run("explain", LEO)[1]
    site.break_with(site.pages[0], status=403)  # which is not tried again
    code, _, told = run("reconcile")
    assert code == 6
    assert "nobody was removed" in told
    assert "INCOMPLETE" in run("status")[1]
    site.mend()
    assert run("drift", "--json")[0] in (0, 3)
    assert run("reconcile", "--source", "nobody")[0] == 1
