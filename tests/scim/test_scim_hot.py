"""What has a short cut, what it comes to, and what must not have one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idsync.scim import hot
from idsync.scim.hot import GroupChange


def add(*ids: str) -> dict[str, Any]:
    return {"op": "add", "path": "members", "value": [{"value": one} for one in ids]}


def remove(one: str) -> dict[str, Any]:
    return {"op": "remove", "path": f'members[value eq "{one}"]'}


def everyone(*ids: str) -> dict[str, Any]:
    return {**add(*ids), "op": "replace"}


@pytest.mark.parametrize(
    ("ops", "change"),
    [
        ([add("a", "b")], GroupChange(add=("a", "b"))),
        ([remove("a")], GroupChange(remove=("a",))),
        ([add("a"), remove("a")], GroupChange(remove=("a",))),
        ([remove("a"), add("a")], GroupChange(add=("a",))),
        ([everyone("a", "b", "a")], GroupChange(everyone=("a", "b"))),
        ([everyone("a", "b"), remove("a"), add("c")], GroupChange(everyone=("b", "c"))),
        ([add("a"), everyone()], GroupChange(everyone=())),
        ([{"op": "remove", "path": "members"}], GroupChange(everyone=())),
        ([{"op": "replace", "path": "displayName", "value": "n"}], GroupChange(display_name="n")),
        ([{"op": "add", "path": "externalId", "value": "e"}, add("a")], GroupChange(add=("a",), external_id="e")),
        ([remove('\\"quoted\\"')], GroupChange(remove=('"quoted"',))),
    ],
)
def test_changes_of_a_group(ops: list[dict[str, Any]], change: GroupChange) -> None:
    assert hot.group_change(ops) == change
    assert change.renames == bool(change.display_name or change.external_id)


@pytest.mark.parametrize(
    "op",
    [
        {"op": "add", "path": "members", "value": {"value": "a"}},
        {"op": "add", "path": "members", "value": [{"value": "a", "extra": 1}]},
        {"op": "add", "path": "members", "value": [{"value": ""}]},
        {"op": "add", "path": "members", "value": ["a"]},
        {"op": "Add", "path": "members", "value": []},
        {"op": "remove", "path": "members", "value": [{"value": "a"}]},
        {"op": "remove", "path": 'members[value eq "a" or value eq "b"]'},
        {"op": "remove", "path": 'members[display eq "a"]'},
        {"op": "remove", "path": 'members[value eq "\\x"]'},
        {"op": "remove", "path": 'members[value eq "a"].display'},
        {"op": "replace", "path": 'members[value eq "a"]', "value": {}},
        {"op": "remove", "path": "displayName"},
        {"op": "replace", "path": "displayName", "value": None},
        {"op": "replace", "path": "displayName", "value": "n", "name": "x"},
        {"op": "replace", "value": {"displayName": "n"}},
        {"op": "replace", "path": "schemas", "value": []},
    ],
)
def test_everything_else_is_for_the_core(op: dict[str, Any]) -> None:
    assert hot.group_change([add("a"), op]) is None


_ids = st.sampled_from("abcd")
_ops = st.one_of(
    st.lists(_ids, max_size=3).map(lambda ids: add(*ids)),
    _ids.map(remove),
    st.lists(_ids, max_size=3).map(lambda ids: everyone(*ids)),
)


@given(st.sets(_ids), st.lists(_ops, min_size=1, max_size=8))
def test_the_sum_of_operations_is_what_they_do_one_by_one(before: set[str], ops: list[dict[str, Any]]) -> None:
    expected = set(before)
    for op in ops:
        ids = {entry["value"] for entry in op.get("value", ())}
        if op["op"] == "remove":
            expected -= {op["path"].split('"')[1]}
        else:
            expected = ids if op["op"] == "replace" else expected | ids
    change = hot.group_change(ops)
    assert change is not None
    start = before if change.everyone is None else set(change.everyone)
    assert (start | set(change.add)) - set(change.remove) == expected


@pytest.mark.parametrize(
    ("ops", "value"),
    [
        ([{"op": "replace", "path": "active", "value": False}], False),
        ([{"op": "add", "path": "active", "value": True}], True),
        ([{"op": "replace", "value": {"active": False}}], False),
        ([{"op": "replace", "path": "active", "value": "False"}], None),
        ([{"op": "replace", "path": "active", "value": 0}], None),
        ([{"op": "remove", "path": "active"}], None),
        ([{"op": "replace", "value": {"active": False, "title": "x"}}], None),
        ([{"op": "replace", "path": "active", "value": False}] * 2, None),
        ([], None),
    ],
)
def test_active_alone(ops: list[dict[str, Any]], value: bool | None) -> None:
    assert hot.active(ops) is value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('userName eq "a"', ("username", "a")),
        (' USERNAME  EQ "a\\"b" ', ("username", 'a"b')),
        ('userName eq "a" and active eq true', None),
        ('userName ne "a"', None),
        ("userName eq a", None),
        ('emails.value eq "a"', None),
        ('userName eq "\\x"', None),
    ],
)
def test_plain_equality(text: str, found: tuple[str, str] | None) -> None:
    assert hot.equality(text) == found
