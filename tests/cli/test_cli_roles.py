"""What the commands say of roles: which rule gives each, who was raised by hand, what the gateway refuses."""

from __future__ import annotations

from typing import Any

import pytest
from support.daemon import idsync
from support.directory import mail
from support.fixtures import Opener, _sandboxes, dialect, gateway, opened  # noqa: F401
from support.gateway import Gateway

from idsync.explain import explain

# ruff: noqa: F811

TEAMS: list[dict[str, Any]] = [{"alias": "data", "groups": ["Data"], "admins": ["Data Leads"]}]
ROLES: list[dict[str, Any]] = [
    {"role": "proxy_admin", "groups": ["Gateway Admins"], "allow_admin": True},
    {"role": "internal_viewer", "groups": ["Auditors"]},
]


@pytest.fixture
def staffed(gateway: Gateway, opened: Opener) -> dict[str, str]:
    """Ann leads data and audits, Bob is in data, Eve is an admin by her group; then somebody changes all of it."""
    gateway.hook("options", {"licence": True})
    gateway.account("root", user_role="proxy_admin")
    home = opened(teams=TEAMS, roles=ROLES)
    home.directory.hire("ann", "Data Leads", "Auditors")
    home.directory.hire("bob", "Data")
    home.directory.hire("eve", "Gateway Admins", "Auditors")
    home.wait_until_quiet()
    accounts = {login: home.account_of(login) for login in ("ann", "bob", "eve")}
    for login, role in (("ann", "internal_user"), ("bob", "proxy_admin")):
        gateway.ok("/user/update", {"user_id": accounts[login], "user_role": role})
    gateway.ok("/team/member_update", {"team_id": "data", "user_id": accounts["bob"], "role": "admin"})
    opened.close()
    return accounts


def test_roles_changed_by_hand_are_in_the_plan_and_in_the_drift(
    gateway: Gateway, opened: Opener, staffed: dict[str, str]
) -> None:
    before = gateway.ready()
    planned = idsync(opened.settings, "reconcile", "--dry-run")
    assert planned.code == 3, planned.err
    assert "internal_user -> internal_user_viewer: member of group" in planned.out
    assert f"role in team   {mail('bob')}  data  (admin -> user: " in planned.out
    assert mail("eve") not in planned.out
    drift = idsync(opened.settings, "drift", "--json")
    found = {(one["kind"], one["what"], one["remedy"].split(" in ")[0]) for one in drift.json}
    assert {one for one in found if one[0] != "account"} == {
        ("role", staffed["ann"], "idsync reconcile"),
        ("admin", staffed["bob"], "lower them at the gateway, or name a group of theirs"),
        ("team admin", staffed["bob"], "idsync reconcile"),
    }
    assert gateway.paths(before, writes=True) == []


def test_explain_names_the_rule_that_gives_each_role(opened: Opener, staffed: dict[str, str]) -> None:
    home = opened(teams=TEAMS, roles=ROLES)
    eve = explain(home.db, home.person("eve"), home.core.engine.rules, home.core.clock)
    assert eve["role_because"] == "[[roles]] proxy_admin: in Gateway Admins (okta); it goes before internal_viewer"
    assert [(one["place"], one["role"], one["before"]) for one in eve["given_roles"]] == [
        ("gateway", "proxy_admin", "internal_user")
    ]
    home.directory.join("Deputies", "ann")
    opened.close()
    done = idsync(opened.settings, "groups", "bind", "data/admin", "g-Deputies")
    assert (done.code, done.out.split(" is bound")[0]) == (0, "admin of team data"), done.err
    ann = idsync(opened.settings, "explain", mail("ann")).out
    assert "admin of it (teams.data.admins: in Data Leads (okta), Deputies (okta))" in ann
    assert (
        "role internal_viewer ([[roles]] internal_viewer: in Auditors (okta); the account is internal_user_viewer)"
        in ann
    )
