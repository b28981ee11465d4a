"""Roles that groups give: of the account, in teams, in the organization; taken back only where idsync gave them."""

from __future__ import annotations

from typing import Any

import pytest
from support.fixtures import Opener, both_dialects
from support.gateway import Gateway
from support.home import Home

from idsync.clock import SystemClock
from idsync.doctor.measured import measured
from idsync.errors import ConfigError
from idsync.status import status_of
from idsync.store import refusals, roles

DATA: dict[str, Any] = {"alias": "data", "groups": ["Data"]}
LED = {**DATA, "admins": ["Data Leads"]}
ADMINS: dict[str, Any] = {"role": "proxy_admin", "groups": ["Gateway Admins"], "allow_admin": True}
VIEWERS = {"role": "proxy_admin_viewer", "groups": ["Watchers"], "allow_admin": True}
AUDITORS = {"role": "internal_viewer", "groups": ["Auditors"]}
DAY = 86400.0


@pytest.fixture(autouse=True)
def _licence(gateway: Gateway) -> None:
    """With a licence LiteLLM knows admins of teams and organizations, as Routero does."""
    gateway.hook("options", {"licence": True})


def role(gateway: Gateway, home: Home, login: str) -> str:
    return str((gateway.user(home.account_of(login)) or {})["user_role"])


def in_team(gateway: Gateway, home: Home, login: str, team: str = "data") -> str | None:
    """Return what somebody is in a team, None for who is not in it."""
    rows = next(row for row in gateway.state()["teams"] if row["team_id"] == team)["members_with_roles"]
    return next((str(row["role"]) for row in rows if row["user_id"] == home.account_of(login)), None)


def settled(home: Home) -> None:
    """Let a whole pass go over everything, and everybody it finds something about be served."""
    home.reconcile()
    home.wait_until_quiet()


def changes_of(home: Home, login: str) -> list[tuple[str | None, str]]:
    """Return every role that the audit trail says somebody was given, with the one before."""
    label = home.person(login).label
    entries = [one for one in home.trail() if (one.action, one.subject) == ("role.set", label)]
    return [(one.detail["before"], one.detail["after"]) for one in entries]


def nothing_to_do(home: Home, gateway: Gateway) -> bool:
    before = gateway.ready()
    return home.reconcile()["changes"] == [] and gateway.paths(before, writes=True) == []


# -- teams ------------------------------------------------------------------------------------------------------------


@both_dialects
def test_a_group_makes_admins_of_a_team_and_whoever_leaves_it_stays_a_member(gateway: Gateway, opened: Opener) -> None:
    home = opened(teams=[LED])
    home.directory.hire("lea", "Data Leads", "Data")
    home.directory.hire("leo", "Data Leads")
    home.directory.hire("ann", "Data")
    home.wait_until_quiet()
    assert [in_team(gateway, home, one) for one in ("lea", "leo", "ann")] == ["admin", "admin", "user"]
    assert nothing_to_do(home, gateway)
    key = gateway.key_of(home.account_of("lea"), "data")
    home.directory.part("Data Leads", "lea")
    home.directory.join("Data Leads", "ann")
    home.wait_until_quiet()
    assert [in_team(gateway, home, one) for one in ("lea", "leo", "ann")] == ["user", "admin", "admin"]
    assert gateway.answers([key]) == {200}
    assert changes_of(home, "lea") == [(None, "admin"), ("admin", "user")]


@pytest.mark.parametrize(("led", "left"), [(LED, ["admin", "user"]), (DATA, ["user", "admin"])], ids=["led", "not led"])
def test_admins_of_a_team_made_by_hand_are_put_right_where_groups_say_who_is_one(
    gateway: Gateway, opened: Opener, led: dict[str, Any], left: list[str]
) -> None:
    """Without `admins` nobody has said who is one: then they are left alone."""
    home = opened(teams=[led])
    home.directory.hire("lea", "Data Leads", "Data")
    home.directory.hire("ann", "Data")
    home.wait_until_quiet()
    for login, by_hand in (("lea", "user"), ("ann", "admin")):
        gateway.ok("/team/member_update", {"team_id": "data", "user_id": home.account_of(login), "role": by_hand})
    planned = home.run(home.core.commands(alone=True).reconcile(dry_run=True))["changes"]
    assert [one["kind"] for one in planned] == (["team.role"] * 2 if led is LED else [])
    settled(home)
    assert [in_team(gateway, home, one) for one in ("lea", "ann")] == left


def test_without_admins_in_the_configuration_idsync_takes_back_what_it_gave_and_no_more(
    gateway: Gateway, opened: Opener
) -> None:
    home = opened(teams=[LED])
    for login in ("lea", "ann"):
        home.directory.hire(login, "Data")
    home.directory.join("Data Leads", "lea")
    home.wait_until_quiet()
    account = home.account_of("ann")
    opened.close()
    gateway.ok("/team/member_update", {"team_id": "data", "user_id": account, "role": "admin"})
    home = opened(teams=[DATA])
    settled(home)
    assert [in_team(gateway, home, one) for one in ("lea", "ann")] == ["user", "admin"]


def test_what_was_given_in_an_earlier_time_in_a_team_is_no_reason_later(gateway: Gateway, opened: Opener) -> None:
    home = opened(teams=[LED, {"alias": "web", "groups": ["Web"]}], policy={"group_loss_delete_after": "0s"})
    home.directory.hire("lea", "Data Leads", "Web")
    home.wait_until_quiet()
    home.directory.part("Data Leads", "lea")
    home.wait_until_quiet()
    assert in_team(gateway, home, "lea") is None
    home.directory.join("Data", "lea")
    home.wait_until_quiet()
    assert (in_team(gateway, home, "lea"), roles.everything(home.db)) == ("user", {})


def test_where_a_licence_is_wanted_they_are_members_and_it_is_said_once_a_day(gateway: Gateway, opened: Opener) -> None:
    gateway.hook("options", {"licence": False})
    home = opened(teams=[LED])
    home.directory.hire("ann", "Data")
    home.directory.hire("lea", "Data Leads")
    home.wait_until_quiet()
    home.directory.join("Data Leads", "ann")
    home.wait_until_quiet()
    assert [in_team(gateway, home, one) for one in ("lea", "ann")] == ["user", "user"]
    (told,) = status_of(home.db, [], {}, SystemClock().now())["refused"]
    assert (told["what"], "premium feature" in told["why"]) == ("admins of teams", True)
    checks = measured(home.db, home.core.config, "", SystemClock().now())
    assert [one.says.split(",")[0] for one in checks if one.name == "roles"] == ["admins of teams: refused just now"]
    asked = [row for row in gateway.log() if "admin" in str(row["body"])]
    assert len(asked) == 1
    assert nothing_to_do(home, gateway)
    gateway.hook("options", {"licence": True})
    home.write(lambda db: refusals.note(db, refusals.TEAM_ADMIN, "then", SystemClock().now() - DAY))
    settled(home)
    assert [in_team(gateway, home, one) for one in ("lea", "ann")] == ["admin", "admin"]
    assert status_of(home.db, [], {}, SystemClock().now())["refused"] == []


# -- admins of the gateway ----------------------------------------------------------------------------------------------


@both_dialects
def test_a_group_makes_gateway_admins_only_where_it_is_said_and_takes_back_its_own(
    gateway: Gateway, opened: Opener
) -> None:
    with pytest.raises(ConfigError, match="allow_admin = true"):
        opened(roles=[{**ADMINS, "allow_admin": False}])
    root = gateway.account("root", user_role="proxy_admin", sso_user_id="x-root")
    home = opened(roles=[ADMINS, AUDITORS])
    home.directory.hire("zoe", "Gateway Admins", "Auditors")
    home.directory.hire("root", "Gateway Admins", "Data")
    home.wait_until_quiet()
    assert [role(gateway, home, one) for one in ("zoe", "root")] == ["proxy_admin", "proxy_admin"]
    for login in ("zoe", "root"):
        home.directory.part("Gateway Admins", login)
    home.wait_until_quiet()
    assert role(gateway, home, "zoe") == "internal_user_viewer"
    assert (gateway.user(root.user_id) or {})["user_role"] == "proxy_admin", "idsync did not make them that"
    assert changes_of(home, "zoe") == [("internal_user", "proxy_admin"), ("proxy_admin", "internal_user_viewer")]
    assert changes_of(home, "root") == []
    assert nothing_to_do(home, gateway)


def test_the_last_admin_is_never_lowered_and_of_two_one_stays(gateway: Gateway, opened: Opener) -> None:
    home = opened(roles=[ADMINS], working=False)
    for login in ("ann", "zoe"):
        home.directory.hire(login, "Gateway Admins", "Data")
    home.work_off()
    for login in ("ann", "zoe"):
        home.directory.part("Gateway Admins", login)
    home.work_off()
    assert sorted(role(gateway, home, one) for one in ("ann", "zoe")) == ["internal_user", "proxy_admin"]
    (conflict,) = home.conflicts()
    assert (conflict.kind, "last admin" in conflict.detail) == ("last_admin", True)
    gateway.account("root", user_role="proxy_admin")
    home.reconcile()
    assert [role(gateway, home, one) for one in ("ann", "zoe")] == ["internal_user", "internal_user"]
    assert home.conflicts() == []


def test_an_admin_who_leaves_does_not_count_on_one_who_is_about_to_be_lowered(gateway: Gateway, opened: Opener) -> None:
    home = opened(roles=[ADMINS], working=False)
    for login in ("ann", "zoe"):
        home.directory.hire(login, "Gateway Admins", "Data")
    home.work_off()
    home.directory.part("Gateway Admins", "zoe")
    home.directory.leave("ann")
    home.work_off()
    assert "proxy_admin" in [role(gateway, home, one) for one in ("ann", "zoe")]
    assert home.conflicts() or home.holds()


def test_nobody_is_kept_an_admin_by_a_configuration_that_does_not_say_so_any_more(
    gateway: Gateway, opened: Opener
) -> None:
    """What only the configuration takes is a hold; being an admin is not held."""
    gateway.account("root", user_role="proxy_admin")
    home = opened(roles=[ADMINS])
    home.directory.hire("zoe", "Gateway Admins")
    home.wait_until_quiet()
    assert role(gateway, home, "zoe") == "proxy_admin"
    home = opened()
    settled(home)
    assert (len(home.holds()), home.person("zoe").role) == (1, "proxy_admin")
    assert role(gateway, home, "zoe") == "internal_user"


@pytest.mark.parametrize("path", ["/team/member_delete", "/key/unblock"])
def test_nobody_stays_an_admin_because_a_team_or_a_key_cannot_be_set_right(
    gateway: Gateway, opened: Opener, path: str
) -> None:
    gateway.account("root", user_role="proxy_admin")
    at_once = {"group_loss_delete_after": "0s"} if path == "/team/member_delete" else {}
    home = opened(teams=[DATA, {"alias": "web", "groups": ["Web"]}], roles=[ADMINS], policy=at_once, working=False)
    home.directory.hire("zoe", "Gateway Admins", "Data", "Web")
    home.work_off()
    gateway.key_of(home.account_of("zoe"), "data")
    if path == "/key/unblock":
        home.directory.part("Data", "zoe")
        home.work_off()
    gateway.break_with(path, status=500)
    (home.directory.join if path == "/key/unblock" else home.directory.part)("Data", "zoe")
    home.directory.part("Gateway Admins", "zoe")
    home.work_off()
    assert home.failed_job("zoe") is not None
    assert role(gateway, home, "zoe") == "internal_user"


def test_a_hold_of_a_team_keeps_nobody_an_admin_whose_group_is_gone(gateway: Gateway, opened: Opener) -> None:
    gateway.account("root", user_role="proxy_admin")
    home = opened(teams=[DATA], roles=[ADMINS])
    home.directory.hire("zoe", "Gateway Admins", "Data")
    home.wait_until_quiet()
    home = opened(teams=[], roles=[ADMINS])
    home.directory.part("Gateway Admins", "zoe")
    settled(home)
    assert (len(home.holds()), gateway.teams_with(home.account_of("zoe"))) == (1, ["data"])
    assert role(gateway, home, "zoe") == "internal_user"


def test_an_admins_group_that_is_exchanged_keeps_nobody_of_the_old_one(gateway: Gateway, opened: Opener) -> None:
    gateway.account("root", user_role="proxy_admin")
    home = opened(roles=[ADMINS])
    home.directory.hire("zoe", "Gateway Admins")
    home.wait_until_quiet()
    home = opened(roles=[{**ADMINS, "groups": ["Others"]}])
    settled(home)
    assert (len(home.holds()), role(gateway, home, "zoe")) == (1, "internal_user")
    home = opened(roles=[ADMINS])
    settled(home)
    assert (home.holds(), role(gateway, home, "zoe")) == ([], "proxy_admin")


def test_a_leaver_whose_keys_stay_blocked_is_no_admin_any_more_and_a_return_makes_them_one(
    gateway: Gateway, opened: Opener
) -> None:
    gateway.account("other", user_role="proxy_admin")
    home = opened(roles=[ADMINS], policy={"on_departure": "block"})
    home.directory.hire("zoe", "Gateway Admins", "Data")
    home.wait_until_quiet()
    home.offboard("zoe")
    assert role(gateway, home, "zoe") == "internal_user"
    assert changes_of(home, "zoe")[-1] == ("proxy_admin", "internal_user")
    home.directory.come_back("zoe")
    home.wait_until_quiet()
    assert role(gateway, home, "zoe") == "proxy_admin"


def test_an_admins_right_is_taken_while_grants_are_frozen(gateway: Gateway, opened: Opener) -> None:
    gateway.account("root", user_role="proxy_admin")
    home = opened(teams=[LED], roles=[ADMINS])
    home.directory.hire("zoe", "Gateway Admins", "Data")
    home.directory.hire("lea", "Data Leads", "Data")
    home.wait_until_quiet()
    home.write(lambda db: home.core.control.freeze(db, reason="test", by="test"))
    home.directory.part("Gateway Admins", "zoe")
    home.directory.part("Data Leads", "lea")
    home.wait_until_quiet()
    assert (role(gateway, home, "zoe"), in_team(gateway, home, "lea")) == ("internal_user", "user")


def test_an_admin_whose_making_was_never_answered_is_known_to_be_idsyncs(gateway: Gateway, opened: Opener) -> None:
    gateway.account("root", user_role="proxy_admin")
    gateway.break_with("/user/update", match={"user_role": "proxy_admin"}, times=1, status=500, when="after")
    home = opened(roles=[ADMINS], working=False)
    home.directory.hire("zoe", "Gateway Admins", "Data")
    home.work_off()
    assert role(gateway, home, "zoe") == "proxy_admin"
    home.directory.part("Gateway Admins", "zoe")
    home.hurry()
    home.work_off()
    assert role(gateway, home, "zoe") == "internal_user"
    assert changes_of(home, "zoe")[-1] == ("proxy_admin", "internal_user")
    assert roles.everything(home.db) == {}


def test_whoever_was_an_admin_of_lesser_kind_before_is_that_again(gateway: Gateway, opened: Opener) -> None:
    gateway.account("root", user_role="proxy_admin")
    eve = gateway.account("eve", user_role="proxy_admin_viewer", sso_user_id="x-eve")
    home = opened(roles=[ADMINS, VIEWERS])
    home.directory.hire("eve", "Gateway Admins", "Data")
    home.directory.hire("zoe", "Watchers", "Data")
    home.wait_until_quiet()
    assert (gateway.user(eve.user_id) or {})["user_role"] == "proxy_admin"
    home.directory.part("Gateway Admins", "eve")
    home.directory.join("Gateway Admins", "zoe")
    home.wait_until_quiet()
    home.directory.part("Gateway Admins", "zoe")
    home.directory.part("Watchers", "zoe")
    home.wait_until_quiet()
    assert [role(gateway, home, one) for one in ("eve", "zoe")] == ["proxy_admin_viewer", "internal_user"]


# -- roles changed by somebody else --------------------------------------------------------------------------------------


@both_dialects
def test_a_role_changed_by_hand_is_put_back_but_for_an_admins(gateway: Gateway, opened: Opener) -> None:
    home = opened(roles=[AUDITORS])
    for login in ("ann", "bob", "eve"):
        home.directory.hire(login, "Data")
    home.directory.join("Auditors", "ann")
    home.wait_until_quiet()
    by_hand = {"ann": "internal_user", "bob": "internal_user_viewer", "eve": "proxy_admin"}
    for login, changed in by_hand.items():
        gateway.ok("/user/update", {"user_id": home.account_of(login), "user_role": changed})
    settled(home)
    assert [role(gateway, home, one) for one in by_hand] == ["internal_user_viewer", "internal_user", "proxy_admin"]
    assert changes_of(home, "ann")[-1] == ("internal_user", "internal_user_viewer")


def test_a_role_the_gateway_says_it_has_set_and_has_not_is_not_believed(gateway: Gateway, opened: Opener) -> None:
    home = opened(roles=[AUDITORS], working=False)
    home.directory.hire("ann", "Data")
    home.work_off()
    gateway.break_with("/user/update", times=1, lie=True)
    home.directory.join("Auditors", "ann")
    home.work_off()
    failed = home.failed_job("ann")
    assert failed is not None
    assert "and not as internal_user_viewer" in str(failed.last_error)
    home.hurry()
    home.work_off()
    assert role(gateway, home, "ann") == "internal_user_viewer"


# -- the organization -----------------------------------------------------------------------------------------------------

ORGANIZATION: dict[str, Any] = {"routero": {"organization_id": "org-default"}}
ORG_ADMINS: dict[str, Any] = {"role": "org_admin", "groups": ["Org Admins"], "allow_admin": True}


@both_dialects
def test_a_group_makes_admins_of_the_organization(gateway: Gateway, opened: Opener) -> None:
    home = opened(roles=[ORG_ADMINS, AUDITORS], **ORGANIZATION)
    home.directory.hire("zoe", "Org Admins", "Data")
    home.wait_until_quiet()
    account = home.account_of("zoe")
    assert gateway.organizations_of(account) == {"org-default": "org_admin"}
    assert role(gateway, home, "zoe") == "internal_user", "of the gateway as a whole they are none"
    assert nothing_to_do(home, gateway)
    home.directory.part("Org Admins", "zoe")
    home.wait_until_quiet()
    assert gateway.organizations_of(account) == {"org-default": "internal_user"}
    assert changes_of(home, "zoe")[-1] == ("org_admin", "internal_user")


def test_where_organizations_want_a_licence_it_is_said_and_nothing_else_waits(gateway: Gateway, opened: Opener) -> None:
    gateway.hook("options", {"licence": False})
    home = opened(roles=[ORG_ADMINS], **ORGANIZATION)
    home.directory.hire("zoe", "Org Admins", "Data")
    home.wait_until_quiet()
    assert in_team(gateway, home, "zoe") == "user"
    (told,) = status_of(home.db, [], {}, SystemClock().now())["refused"]
    assert told["what"] == "admins of the organization"
    assert nothing_to_do(home, gateway)


@pytest.mark.parametrize("status", [403, 405])
def test_where_places_in_organizations_are_not_shown_it_is_said_and_nothing_else_waits(
    gateway: Gateway, opened: Opener, status: int
) -> None:
    home = opened(roles=[ORG_ADMINS], working=False, **ORGANIZATION)
    gateway.break_with("/user/info", status=status)
    home.directory.hire("zoe", "Org Admins", "Data")
    home.work_off()
    assert (home.failed_job("zoe"), in_team(gateway, home, "zoe")) == (None, "user")
    (told,) = status_of(home.db, [], {}, SystemClock().now())["refused"]
    assert told["what"] == "admins of the organization"


# -- joiners ----------------------------------------------------------------------------------------------------------------


@both_dialects
def test_a_joiner_has_teams_and_roles_and_no_key_though_the_gateway_makes_one_unasked(
    gateway: Gateway, opened: Opener
) -> None:
    gateway.account("root", user_role="proxy_admin")
    home = opened(teams=[LED, {"alias": "web", "groups": ["Web"]}], roles=[ADMINS, AUDITORS])
    home.directory.hire("ann", "Auditors", "Data Leads", "Web")
    home.wait_until_quiet()
    gateway.hook("options", {"mints_keys": True})
    home.directory.hire("zoe", "Web", "Gateway Admins")
    home.wait_until_quiet()
    asked = gateway.calls("/user/new")
    assert [row["body"]["auto_create_key"] for row in asked] == [False, False]
    assert [row["body"]["user_role"] for row in asked] == ["internal_user_viewer", "internal_user"]
    assert [role(gateway, home, one) for one in ("ann", "zoe")] == ["internal_user_viewer", "proxy_admin"]
    assert (in_team(gateway, home, "ann"), in_team(gateway, home, "zoe", "web")) == ("admin", "user")
    assert [row for row in gateway.state()["keys"] if row["user_id"] != "default_user_id"] == []
    (told,) = [one for one in home.trail() if one.action == "key.unasked"]
    assert (told.subject, len(told.detail["keys"])) == (home.person("zoe").label, 1)


def test_an_unasked_key_that_will_not_die_is_tried_until_it_does(gateway: Gateway, opened: Opener) -> None:
    gateway.hook("options", {"mints_keys": True})
    gateway.break_with("/key/delete", times=2, status=500)
    home = opened(working=False)
    home.directory.hire("zoe", "Data")
    home.work_off()
    assert len(gateway.live_keys(home.account_of("zoe"))) == 1
    assert home.failed_job("zoe") is not None
    home.hurry()
    home.work_off()
    assert gateway.live_keys(home.account_of("zoe")) == []
    assert in_team(gateway, home, "zoe") == "user"
