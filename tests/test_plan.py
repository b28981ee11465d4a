"""The plan: sets in, sorted changes out, each with its reason and one fingerprint for the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idsync.model import (
    FENCE_FLAG,
    FENCE_TAG,
    MANAGED,
    GatewayKey,
    GatewayTeam,
    GatewayUser,
    OrganizationMember,
    Standing,
    TeamMember,
)
from idsync.plan import (
    RANK,
    Change,
    Gatewayscape,
    WantedPerson,
    WantedTeam,
    checksum,
    in_order,
    plan_people,
    plan_teams,
)

WANTED = WantedTeam("data", "data", adopt=False, max_budget=100.0)
ADOPTING = replace(WANTED, adopt=True)
OURS = {MANAGED: "managed"}


def team(team_id: str = "data", alias: str | None = "data", **settings: Any) -> GatewayTeam:
    return GatewayTeam(team_id, alias, **settings)


def kinds(changes: Sequence[Change]) -> list[str]:
    return [change.kind for change in changes]


# -- teams: the docstring's table, row by row ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "shown", "known", "expected"),
    [
        pytest.param(WANTED, [], {}, ["team.create"], id="none, adopt off"),
        pytest.param(ADOPTING, [], {}, ["team.create"], id="none, adopt on"),
        pytest.param(WANTED, [team()], {"data": "data"}, ["team.update"], id="ours, differs, off"),
        pytest.param(ADOPTING, [team()], {"data": "data"}, ["team.update"], id="ours, differs, on"),
        pytest.param(WANTED, [team(max_budget=100.0)], {"data": "data"}, [], id="ours, the same"),
        pytest.param(WANTED, [team("t-9")], {"data": "t-9"}, ["team.update"], id="ours under another id"),
        pytest.param(WANTED, [team(metadata=OURS)], {}, ["team.adopt", "team.update"], id="made earlier, forgotten"),
        pytest.param(WANTED, [team()], {}, ["team.refused"], id="not ours, off"),
        pytest.param(WANTED, [team("data", "other")], {}, ["team.refused"], id="same id, not ours, off"),
        pytest.param(WANTED, [team("t-1")], {}, ["team.refused"], id="same alias, not ours, off"),
        pytest.param(ADOPTING, [team()], {}, ["team.adopt", "team.update"], id="not ours, on"),
        pytest.param(ADOPTING, [team("t-1", max_budget=100.0)], {}, ["team.adopt"], id="alias, the same, on"),
        pytest.param(WANTED, [team("t-1"), team("t-2")], {}, ["team.refused"], id="two of the alias, off"),
        pytest.param(ADOPTING, [team("t-1"), team("t-2")], {}, ["team.refused"], id="two of the alias, on"),
        pytest.param(ADOPTING, [team("data"), team("t-2")], {}, ["team.adopt", "team.update"], id="the id decides"),
        pytest.param(WANTED, [], {"data": "data"}, ["team.create"], id="ours, but gone at the gateway"),
        pytest.param(WANTED, [team("x", "elsewhere")], {}, ["team.create"], id="only a stranger there"),
    ],
)
def test_each_row_of_the_table(
    wanted: WantedTeam, shown: list[GatewayTeam], known: dict[str, str], expected: list[str]
) -> None:
    assert kinds(plan_teams([wanted], shown, known)) == expected


def test_a_refusal_names_the_setting_to_make() -> None:
    [taken] = plan_teams([WANTED], [team("t-1")], {})
    assert (taken.target, "adopt = true" in taken.why) == ("t-1", True)
    [double] = plan_teams([WANTED], [team("t-2"), team("t-1")], {})
    assert (double.target, 'id = "..."' in double.why) == ("t-1, t-2", True)


def test_creating_sends_the_id_and_the_settings_that_are_configured_and_no_others() -> None:
    [made] = plan_teams([replace(WANTED, team_id="t-1", models=("gpt",))], [], {})
    assert (made.target, made.fields) == ("t-1", {"team_id": "t-1", "max_budget": 100.0, "models": ["gpt"]})


def test_a_setting_of_none_is_left_alone() -> None:
    shown = team(max_budget=7.0, soft_budget=5.0, budget_duration="1d", models=("gpt",))
    assert plan_teams([WantedTeam("data", "data", adopt=False)], [shown], {"data": "data"}) == []


def test_zero_and_the_empty_list_are_settings() -> None:
    wanted = replace(WANTED, max_budget=0.0, models=())
    [change] = plan_teams([wanted], [team(max_budget=5.0, models=("gpt",))], {"data": "data"})
    assert change.fields == {"max_budget": 0.0, "models": []}


def test_only_what_differs_is_updated_and_the_reason_shows_old_and_new() -> None:
    wanted = replace(WANTED, budget_duration="1mo", soft_budget=50.0)
    [change] = plan_teams([wanted], [team(max_budget=100.0, budget_duration="7d")], {"data": "data"})
    assert change.fields == {"budget_duration": "1mo", "soft_budget": 50.0}
    assert change.why == "budget_duration: 7d -> 1mo; soft_budget: not set -> 50"


def test_the_order_of_models_means_nothing() -> None:
    wanted = replace(WANTED, max_budget=None, models=("b", "a"))
    assert plan_teams([wanted], [team(models=("a", "b"))], {"data": "data"}) == []
    assert kinds(plan_teams([wanted], [team(models=("a",))], {"data": "data"})) == ["team.update"]


# -- people -------------------------------------------------------------------------------------------------------

ADA = WantedPerson(
    "p-1", "ada", "acc-1", Standing.PRESENT, "group Data", teams=frozenset({"data"}), role="internal_user"
)
GONE = replace(ADA, standing=Standing.DEPARTED, teams=frozenset(), role=None, delete_now=True)


def scape(
    *,
    fenced: bool = False,
    tag: str | None = None,
    keys: Sequence[GatewayKey] = (),
    teams: Sequence[str] = (),
    known: bool = True,
    role: str | None = "internal_user",
) -> Gatewayscape:
    metadata: dict[str, Any] = {FENCE_FLAG: False} if fenced else {}
    user = GatewayUser("acc-1", None, role, metadata | ({FENCE_TAG: tag} if tag else {}))
    rosters = [team(name, name, members=(TeamMember("acc-1", None, None),)) for name in teams]
    return Gatewayscape.of([user] if known else [], keys, rosters)


@pytest.mark.parametrize(
    ("wanted", "shown", "planned"),
    [
        ("internal_user", "internal_user", []),
        ("internal_user", None, ["internal_user"]),
        ("internal_viewer", "internal_user", ["internal_user_viewer"]),
        ("internal_viewer", "internal_user_viewer", []),
        ("internal_user", "proxy_admin", []),
        (None, "internal_user_viewer", []),
    ],
)
def test_a_role_that_drifted_is_set_and_an_admin_is_never_lowered(
    wanted: str | None, shown: str | None, planned: list[str]
) -> None:
    person = replace(ADA, teams=frozenset(), role=wanted)
    assert [target for kind, target in did(person, scape(role=shown)) if kind == "role.set"] == planned


def key(name: str, **more: Any) -> GatewayKey:
    return GatewayKey(name, alias=name, user_id="acc-1", **more)


def did(person: WantedPerson, shown: Gatewayscape) -> list[tuple[str, str]]:
    return [(change.kind, change.target) for change in plan_people([person], shown)]


def test_a_leaver_is_fenced_and_every_key_and_membership_ends() -> None:
    shown = scape(keys=[key("k1"), key("k2", blocked=True)], teams=["data", "web"])
    assert did(GONE, shown) == [
        ("person.fence", "acc-1"),
        ("key.block", "k1"),
        ("key.delete", "k1"),
        ("key.delete", "k2"),
        ("team.leave", "data"),
        ("team.leave", "web"),
    ]


@pytest.mark.parametrize("standing", [Standing.DEPARTED, Standing.SUSPENDED])
def test_while_deletion_waits_a_leaver_is_fenced_and_blocked_only(standing: Standing) -> None:
    waiting = replace(GONE, standing=standing, delete_now=False)
    assert did(waiting, scape(keys=[key("k1")], teams=["data"])) == [("person.fence", "acc-1"), ("key.block", "k1")]


def test_a_leaver_of_whom_nothing_is_left_needs_nothing() -> None:
    assert did(GONE, scape(fenced=True)) == []


@pytest.mark.parametrize(
    ("hidden", "shown", "inside", "planned"),
    [
        (True, False, (), []),
        (True, True, (), ["acme"]),  # the gateway shows the account again
        (False, True, (), []),
        (False, True, ("acme", "other"), ["acme"]),
    ],
)
def test_a_leaver_who_was_let_into_an_organization_again_leaves_it(
    hidden: bool, shown: bool, inside: Sequence[str], planned: Sequence[str]
) -> None:
    found = scape(fenced=True, known=shown)
    users = {
        name: replace(user, organizations=tuple(OrganizationMember(one, None) for one in inside))
        for name, user in found.users.items()
    }
    person = replace(GONE, outside={"acc-1": {"acme": hidden}})
    assert did(person, replace(found, users=users)) == [("organization.leave", one) for one in planned]
    assert did(replace(person, delete_now=False), replace(found, users=users)) == []
    assert did(GONE, scape(known=False)) == []
    assert did(replace(GONE, account_id=None), scape(keys=[key("k1")])) == []


def test_keys_of_an_account_that_is_gone_still_end() -> None:
    assert did(GONE, scape(known=False, keys=[key("k1", blocked=True)])) == [("key.delete", "k1")]


def test_a_present_person_gets_an_account_and_their_teams() -> None:
    expected = [("account.create", "acc-1"), ("team.join", "data")]
    assert did(ADA, scape(known=False)) == expected
    assert did(replace(ADA, account_id=None), scape()) == [("account.create", "p-1"), ("team.join", "data")]


def test_a_person_who_is_given_nothing_gets_no_account() -> None:
    assert did(replace(ADA, teams=frozenset(), role=None), scape(known=False)) == []


def test_a_present_person_with_everything_needs_nothing() -> None:
    assert did(ADA, scape(teams=["data"], keys=[key("k1")])) == []


@pytest.mark.parametrize(("tag", "lifted"), [("d-1", True), ("d-2", False), (None, False)])
def test_only_our_own_fence_is_lifted(tag: str | None, lifted: bool) -> None:
    found = did(replace(ADA, own_fences=frozenset({"d-1"})), scape(fenced=True, tag=tag, teams=["data"]))
    assert (("account.lift", "acc-1") in found) is lifted


def test_a_team_that_is_leaving_has_its_keys_blocked_and_later_deleted_and_no_others() -> None:
    shown = scape(keys=[key("k1", team_id="web"), key("k2", team_id="data"), key("k3")], teams=["data", "web"])
    assert did(replace(ADA, leaving={"web": False}), shown) == [("key.block", "k1")]
    due = [("key.block", "k1"), ("key.delete", "k1"), ("team.leave", "web")]
    assert did(replace(ADA, leaving={"web": True}), shown) == due


def test_further_accounts_of_a_leaver_end_like_the_first_one() -> None:
    further = GatewayKey("k9", alias="k9", user_id="acc-2")
    shown = scape(fenced=True, keys=[further])
    assert did(replace(GONE, further=("acc-2",)), shown) == [("key.block", "k9"), ("key.delete", "k9")]
    assert did(replace(GONE, account_id=None, further=("acc-2",)), shown) == [("key.block", "k9"), ("key.delete", "k9")]


def test_a_present_person_stays_in_teams_that_nobody_configured() -> None:
    assert did(ADA, scape(teams=["data", "private"])) == []


def test_an_unmanaged_person_is_left_alone() -> None:
    assert did(replace(ADA, standing=Standing.UNMANAGED), scape(keys=[key("k1")], teams=["web"])) == []


def test_keys_without_an_owner_are_nobodys() -> None:
    shared = GatewayKey("k9", alias="shared", team_id="data")
    assert did(GONE, scape(fenced=True, keys=[shared])) == []


# -- order and fingerprint ----------------------------------------------------------------------------------------

CHANGES = st.lists(
    st.builds(Change, st.sampled_from(list(RANK)), st.sampled_from("abc"), st.sampled_from("xyz"), st.just("why")),
    unique_by=lambda change: (change.kind, change.subject, change.target),
)


@given(CHANGES, st.randoms(use_true_random=False))
def test_two_runs_print_the_same_in_the_same_order(changes: list[Change], chance: Any) -> None:
    shuffled = list(changes)
    chance.shuffle(shuffled)
    assert in_order(shuffled) == in_order(changes)
    assert checksum(in_order(shuffled)) == checksum(in_order(changes))


def test_revocations_come_before_grants() -> None:
    granting = {"team.create", "team.adopt", "team.update", "account.create", "account.lift", "role.set", "team.join"}
    ordered = [change.kind for change in in_order([Change(kind, "a", "b", "") for kind in reversed(list(RANK))])]
    assert set(ordered[:4]) == {"person.fence", "key.block", "key.delete", "team.leave"}
    assert granting <= set(ordered[4:])


BASE = Change("team.update", "data", "data", "why", fields={"max_budget": 1.0, "models": ["a"]})


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, kind="team.adopt"),
        replace(BASE, subject="web"),
        replace(BASE, target="t-1"),
        replace(BASE, fields={"max_budget": 2.0, "models": ["a"]}),
        replace(BASE, fields={"max_budget": 1.0}),
    ],
    ids=["kind", "subject", "target", "value", "field"],
)
def test_the_checksum_sees_every_difference_that_would_be_done(other: Change) -> None:
    assert checksum([other]) != checksum([BASE])
    assert checksum([BASE, other]) != checksum([BASE])


def test_the_checksum_does_not_depend_on_the_reason_or_the_order_of_fields() -> None:
    same = replace(BASE, why="other words", fields={"models": ["a"], "max_budget": 1.0})
    assert checksum([same]) == checksum([BASE])
    assert checksum([]) == checksum([])
    assert len(checksum([BASE])) == 16
