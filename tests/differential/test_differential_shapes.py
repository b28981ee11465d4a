"""Every single operation on every path with every value, and every condition on every verb: both sides agree."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from support.chance import Chance
from support.endpoint import ENTERPRISE, GROUP, PATCH_OP, USER

from .agreement import answer_alike, same_state
from .pair import ACME, Ask, Pair, pair
from .requests import START

FULL = Chance("IDSYNC_FUZZ").factor >= 20
ABSENT = object()
VALUES: dict[str, tuple[Any, ...]] = {
    "Users": (ABSENT, None, True, "False", "x", "", 5, "2026-01-31T12:00:00+01:00", [{"value": "a@example.com"}], {"value": "x"}),
    "Groups": (ABSENT, None, "x", "", "Web", [], [{"value": "<u0>"}], [{"value": "<u0>"}, {"value": "dee"}], "<u0>", 5),
}  # fmt: skip
PATHS = {
    "Users": (
        "active", "userName", "externalId", "title", "name.givenName", "name", "emails", 'emails[type eq "work"].value',
        "profileUrl", "locale", f"{ACME}:since", f"{ACME}:level", f"{ACME}:badge", f"{ACME}:remote", f"{ACME}:desks",
        f"{ENTERPRISE}:department", f"{ENTERPRISE}:manager", f"{ENTERPRISE}:manager.value", "department", ENTERPRISE, ACME,
        "id", "meta", "groups", "schemas", "password", "nope", "", "name.", f"{USER}:title", " title",
    ),
    "Groups": (
        "displayName", "externalId", "members", "Members", f"{GROUP}:members", 'members[value eq "<u0>"]',
        'MEMBERS[Value EQ "<u0>"]', 'members[value eq "dee"]', 'members[value eq "<u0>"].display', "members.value",
        'members[type eq "User"]', "id", "meta", "schemas", "nope", "", "displayName ",
    ),
}  # fmt: skip
ONES = {
    "okta": {"Users": "/Users/<u1>", "Groups": "/Groups/<g1>"},
    "exact": {"Users": "/Users/<u3>", "Groups": "/Groups/<g2>"},
}
"""Nobody waits for these groups: what becomes of those who do is asked elsewhere."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The usual start, but nobody waits for a group."""
    with pair(tmp_path_factory.mktemp("both")) as made:
        for ask in START:
            answer_alike(made, ask)
        for source, path, one in (("okta", "/Groups/<g0>", "<u0>"), ("exact", "/Groups/<g2>", "<u2>")):
            listed = {"op": "replace", "path": "members", "value": [{"value": one}]}
            ask = Ask("PATCH", path, {"schemas": [PATCH_OP], "Operations": [listed]}, source=source)
            assert answer_alike(made, ask).status == 200
        made.begin_here()
        yield made


@pytest.mark.parametrize("source", ONES)
@pytest.mark.parametrize(("kind", "path"), [(kind, path) for kind, paths in PATHS.items() for path in paths])
def test_every_operation_with_every_value(both: Pair, source: str, kind: str, path: str) -> None:
    """Of the capital `Replace` and of the strict source, `make test` tries every second one: `make fuzz` all."""
    both.begin_again()
    for number, (op, value) in enumerate(itertools.product(("add", "replace", "remove", "Replace"), VALUES[kind])):
        if (op == "Replace" or source == "exact") and not FULL and (number + len(path)) % 2:
            continue
        one = {"op": op, "path": path} | ({} if value is ABSENT else {"value": value})
        body = {"schemas": [PATCH_OP], "Operations": [one]}
        answer_alike(both, Ask("PATCH", ONES[source][kind], body, source=source))
    same_state(both, f"after {path}")


def _patch(*ops: Any) -> dict[str, Any]:
    return {"schemas": [PATCH_OP], "Operations": list(ops)}


VERBS: dict[str, tuple[str, str, Any]] = {
    "read a user": ("GET", "/Users/<u1>", None),
    "read a part of a user": ("GET", "/Users/<u1>?attributes=userName", None),
    "read a group": ("GET", "/Groups/<g1>", None),
    "put a user": ("PUT", "/Users/<u1>", {"userName": "bob"}),
    "put a group": ("PUT", "/Groups/<g1>", {"displayName": "Web"}),
    "set active": ("PATCH", "/Users/<u1>", _patch({"op": "replace", "path": "active", "value": False})),
    "set a title": ("PATCH", "/Users/<u1>", _patch({"op": "replace", "path": "title", "value": "x"})),
    "set emails": ("PATCH", "/Users/<u1>", _patch({"op": "replace", "path": "emails", "value": [{"value": "b@example.com"}]})),
    "set nothing": ("PATCH", "/Users/<u1>", _patch({"op": "replace", "path": "password", "value": "x"})),
    "change members": ("PATCH", "/Groups/<g1>", _patch({"op": "remove", "path": "members"})),
    "delete a user": ("DELETE", "/Users/<u1>", None),
    "delete a group": ("DELETE", "/Groups/<g1>", None),
}  # fmt: skip
TAGS = ('W/"<v:{}>"', '"<v:{}>"', 'W/"99"', "*", 'W/"99", W/"<v:{}>"', 'W/"98", W/"99"', "", " ", '"', "<v:{}>", "x,*")


@pytest.mark.parametrize("verb", VERBS)
def test_every_condition_on_every_verb(both: Pair, verb: str) -> None:
    method, path, body = VERBS[verb]
    name = "u1" if "Users" in path else "g1"
    told = set()
    for header, tag in itertools.product(("If-Match", "If-None-Match"), TAGS):
        both.begin_again()
        told.add(answer_alike(both, Ask(method, path, body, ((header, tag.format(name)),))).status)
        same_state(both, f"after {verb} with {header}: {tag}")
    assert told == ({200, 304, 412} if method == "GET" else {204 if method == "DELETE" else 200, 412})
