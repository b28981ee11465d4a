"""Filters as SQL say the same as filters evaluated by the reference evaluator, and bounds come before grammar."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scim2_models import InvalidFilterException, InvalidPathException, ScimFilter
from support.stores import scratch
from test_scim_storage import storage_of

from idsync.model import fold
from idsync.scim import sql
from idsync.scim.provider import Description
from idsync.store import directory
from idsync.store.db import Db

described = Description().provider(strict=False)

USER: Any = described.model_for("User")
USERS: list[dict[str, Any]] = [
    {"userName": "alice", "externalId": "A1", "displayName": "Alice L", "title": "Boss", "active": True},
    {"userName": "BOB", "externalId": "a1", "active": False, "emails": [{"value": "b@x.test", "type": "work"}]},
    {"userName": "c%r_l", "displayName": "", "emails": [{"value": "C@x.test"}, {"value": "b@x.test", "type": "home"}]},
    {"userName": "dave\\", "externalId": "%", "displayName": "50% off", "title": "boss"},
    {"userName": "eve", "displayName": "alice l", "active": False, "title": '"quoted"'},
]
TEXTS = ["", "a", "A1", "a1", "alice", "ALICE L", "boss", "%", "_", "\\", "o", "b@x.test", "c@X.test", '"quoted"', "x"]


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Db]:
    with scratch(tmp_path_factory.mktemp("sql")) as found:
        storage = storage_of(found, "okta")
        kind = next(one for one in storage.provider.resource_types if one.name == "User")
        for document in USERS:
            storage.create(kind, USER.model_validate(document))
        yield found


def quoted(text: str) -> str:
    return json.dumps(text)


ATTRIBUTES = ["userName", "externalId", "displayName", "title", "id", "emails", "emails.value", "emails.type"]
_operators = st.sampled_from(["eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"])
_comparison = st.builds(
    lambda name, op, value: f"{name} {op} {quoted(value)}",
    st.sampled_from(ATTRIBUTES),
    _operators,
    st.sampled_from(TEXTS),
)
_simple = st.one_of(
    _comparison,
    st.sampled_from([f"{name} pr" for name in (*ATTRIBUTES, "active", "meta.created")]),
    st.sampled_from(["active eq true", "active ne true", "active eq false", "externalId eq null", "title ne null"]),
    st.sampled_from(['emails[type eq "work"]', 'emails[type eq "home" and value eq "b@x.test"]']),
    st.sampled_from(['meta.created gt "2000-01-01T00:00:00Z"', 'meta.lastModified le "2000-01-01T00:00:00Z"']),
)
FILTERS = st.recursive(
    _simple,
    lambda inner: st.one_of(
        inner.map(lambda one: f"not ({one})"),
        st.builds(lambda a, word, b: f"({a}) {word} ({b})", inner, st.sampled_from(["and", "or"]), inner),
    ),
    max_leaves=5,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILTERS)
def test_sql_finds_what_the_evaluator_finds(db: Db, text: str) -> None:
    bound = ScimFilter[USER](text)
    kind = next(one for one in described.resource_types if one.name == "User")
    storage = storage_of(db, "okta")
    everyone = directory.scim_page(db, "User", "okta", "1 = 1", {}, limit=99, offset=0)
    expected = {row["id"] for row in everyone if bound.match(storage.get(kind, row["id"]))}
    where = sql.where(bound.ast, "User")
    rows = directory.scim_page(db, "User", "okta", where.text, where.params, limit=99, offset=0)
    found = {row["id"] for row in rows}
    assert found == expected if where.exact else found >= expected


@pytest.mark.parametrize(
    ("text", "resource"),
    [
        ('userName eq "x"', "User"),
        ('externalId eq "x" and userName eq "y"', "User"),
        ('displayName sw "x"', "Group"),
        ('id eq "x" and members eq "y"', "Group"),
        ('members[value eq "y"]', "Group"),
        ('groups.value eq "y"', "User"),
        ('meta.lastModified ge "2026-01-01T00:00:00Z"', "User"),
        ("not (active eq true)", "User"),
    ],
)
def test_what_the_database_answers_alone(text: str, resource: str) -> None:
    assert sql.where(ScimFilter(text).ast, resource).exact


@pytest.mark.parametrize("text", ['meta.created gt "yesterday"', "active eq 5", "userName eq 5", "active gt true"])
def test_operands_of_the_wrong_type(text: str) -> None:
    with pytest.raises(InvalidFilterException):
        sql.where(ScimFilter(text).ast, "User")


def test_client_text_is_a_parameter() -> None:
    where = sql.where(ScimFilter('userName eq "x\' OR 1=1 --" or title eq "\');--"').ast, "User")
    assert "--" not in where.text
    assert set(where.params.values()) == {"x' or 1=1 --", '%"\');--"%'}


def test_an_instant_is_compared_in_whole_milliseconds(db: Db) -> None:
    row = directory.scim_page(db, "User", "okta", "1 = 1", {}, limit=1, offset=0)[0]
    kind = next(one for one in described.resource_types if one.name == "User")
    created = storage_of(db, "okta").get(kind, row["id"]).meta.created  # type: ignore[union-attr]
    shown = created.isoformat()  # type: ignore[union-attr]
    for op, matches in {"eq": True, "ne": False, "ge": True, "le": True, "gt": False, "lt": False}.items():
        where = sql.where(ScimFilter(f'meta.created {op} "{shown}"').ast, "User")
        assert bool(directory.count_users(db, "okta", where.text, where.params)) is matches


@pytest.mark.parametrize(
    "path", [None, "userName", "meta.created", "urn:ietf:params:scim:schemas:core:2.0:User:active"]
)
def test_orders_of_columns(path: str | None) -> None:
    assert sql.order(path, "User", descending=True) is not None
    assert sql.order("title", "User", descending=False) is None


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("a" * 4096, "a" * 4097),
        ("(" * 32 + ")" * 32, "(" * 33 + ")" * 33),
        ("[(" * 16, "[(" * 17),
        (" or ".join(["x"] * 50), " or ".join(["x"] * 51)),
        (" AND ".join(["x"] * 50), " And ".join(["x"] * 51)),
        ('"' + " or (" * 60 + '"', '"' + " or (" * 60),
        ("x", "x\0"),
    ],
)
def test_bounds_hold_at_the_bound(good: str, bad: str) -> None:
    sql.guard(good)
    with pytest.raises(InvalidFilterException):
        sql.guard(bad)
    with pytest.raises(InvalidPathException):
        sql.guard(bad, InvalidPathException)


def test_every_letter_that_folds_to_ascii_is_known() -> None:
    """The candidates of a filter are found by the database's own LOWER, which knows none of these."""
    letters = (chr(number) for number in range(0x80, sys.maxunicode) if not 0xD800 <= number < 0xE000)
    assert {one: fold(one) for one in letters if fold(one).isascii()} == sql.ASCII_WHEN_FOLDED
