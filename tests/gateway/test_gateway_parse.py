"""Rows of odd types become values or a BadAnswer, never anything else."""

from __future__ import annotations

from typing import Any

import pytest

from idsync.errors import BadAnswer
from idsync.gateway.parse import count_of, key_from, metadata_of, number_of, team_from, user_from
from idsync.model import GatewayKey, TeamMember


def test_a_flat_user() -> None:
    row = {
        "user_id": "u",
        "user_email": "A@x.io",
        "user_role": "internal_viewer",
        "metadata": None,
        "teams": ["t", "t"],
    }
    user = user_from(row)
    assert (user.user_id, user.email, user.role, user.teams) == ("u", "A@x.io", "internal_user_viewer", ("t",))
    assert user.metadata == {}


def test_a_user_inside_user_info() -> None:
    outer = {
        "user_id": "u",
        "user_info": {"user_role": "internal_user", "metadata": {"a": 1}},
        "teams": [{"team_id": 7}],
    }
    user = user_from(outer)
    assert (user.user_id, user.teams, user.metadata) == ("u", ("7",), {"a": 1})


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (None, {}),
        ({}, {}),
        ({"a": 1}, {"a": 1}),
        ('{"a": 1}', {"a": 1}),
        ("null", {}),
        ("", None),
        ("garbage", None),
        ("[1]", None),
        ([], None),
        (7, None),
        ("[" * 200_000, None),
    ],
)
def test_metadata(raw: Any, read: Any) -> None:
    assert metadata_of(raw) == read


def test_metadata_that_was_not_shown_is_not_empty() -> None:
    assert user_from({"user_id": "u"}).metadata is None


@pytest.mark.parametrize("row", [None, 7, "u", [], {}, {"user_id": None}, {"user_id": ""}, {"user_info": {}}])
def test_no_user(row: Any) -> None:
    with pytest.raises(BadAnswer):
        user_from(row)


@pytest.mark.parametrize(
    ("blocked", "read"), [(None, False), (False, False), (True, True), ("true", True), ("no", False), ({}, False)]
)
def test_blocked(blocked: Any, read: bool) -> None:
    assert key_from({"token": "k", "blocked": blocked}).blocked is read


def test_a_bare_key_id() -> None:
    assert key_from("k") == GatewayKey(id="k")
    assert key_from(11665121) == GatewayKey(id="11665121")


@pytest.mark.parametrize(
    "row",
    [
        {"info": {"status": "deleted"}},
        {"status": "deleted", "info": {}},
        {"info": {"deleted_at": "2026-01-01T00:00:00Z"}},
    ],
)
def test_an_archived_key(row: dict[str, Any]) -> None:
    assert key_from(row, "k").deleted


def test_the_field_that_may_hold_the_secret_is_never_read() -> None:
    with pytest.raises(BadAnswer):
        key_from({"key": "sk-secret-secret"})
    assert "sk-secret" not in repr(key_from({"key": "sk-secret-secret", "info": {"user_id": "u"}}, "k"))


def test_key_numbers() -> None:
    key = key_from({"token": 5, "spend": "0.5", "user_id": 12, "expires": None, "key_alias": {"odd": 1}})
    assert (key.id, key.spend, key.user_id, key.expires, key.alias) == ("5", 0.5, "12", None, None)


def test_a_team() -> None:
    team = team_from(
        {
            "team_id": "t",
            "team_info": {
                "team_alias": "Research",
                "members_with_roles": [{"user_id": "u", "user_email": None, "role": "user"}, "v", 9, None],
                "models": None,
                "max_budget": "10",
                "blocked": None,
                "metadata": "garbage",
            },
        }
    )
    assert team.team_id == "t"
    assert team.members[0] == TeamMember("u", None, "user")
    assert [team.has_member(name) for name in ("u", "v", "9", "w")] == [True, True, True, False]
    assert (team.max_budget, team.metadata, team.blocked) == (10.0, {}, False)


@pytest.mark.parametrize(("roster", "shown"), [([], True), ("[]", True), (None, False), ("null", False)])
def test_a_roster_of_null_is_not_an_empty_one(roster: Any, shown: bool) -> None:
    team = team_from({"team_id": "t", "members_with_roles": roster})
    assert (team.members, team.shows_roster) == ((), shown)
    assert (team.has_member("u"), team.may_have_member("u")) == (False, not shown)


@pytest.mark.parametrize(
    "row", [{"team_id": "t"}, {"members_with_roles": []}, {"team_id": "t", "members_with_roles": {}}, [], None]
)
def test_a_team_that_proves_nothing(row: Any) -> None:
    with pytest.raises(BadAnswer):
        team_from(row)


@pytest.mark.parametrize(("raw", "read"), [("nan", None), ("inf", None), (True, None), ("1e2", 100.0), (10**400, None)])
def test_numbers(raw: Any, read: float | None) -> None:
    assert number_of(raw) == read


@pytest.mark.parametrize(("raw", "read"), [(0, 0), ("3", 3), (-1, None), (1.5, None), (None, None)])
def test_counts(raw: Any, read: int | None) -> None:
    assert count_of(raw) == read
