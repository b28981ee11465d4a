"""Requests on which the short cuts and the core could disagree, one after the other; and the differences that are meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from support.endpoint import ENTERPRISE, GROUP, PATCH_OP, USER

from .agreement import EXCEPTIONS, agree, unlike
from .pair import ACME, Ask, Pair


@dataclass(frozen=True)
class Case:
    """Requests in order; `status` is what the last one has to be answered with, None when that is not the point."""

    name: str
    asks: tuple[Ask, ...]
    status: int | None = None


def get(path: str, source: str = "okta") -> Ask:
    return Ask("GET", path, source=source)


def patch(path: str, *ops: Any, source: str = "okta", **more: Any) -> Ask:
    return Ask("PATCH", path, {"schemas": [PATCH_OP], "Operations": list(ops), **more}, source=source)


def put(path: str, *, source: str = "okta", **document: Any) -> Ask:
    return Ask("PUT", path, {"schemas": [USER if "Users" in path else GROUP], **document}, source=source)


def post(path: str, *, source: str = "okta", **document: Any) -> Ask:
    return Ask("POST", path, {"schemas": [USER if "Users" in path else GROUP], **document}, source=source)


def members(op: str, *entries: Any) -> dict[str, Any]:
    return {"op": op, "path": "members", "value": [one if isinstance(one, dict) else {"value": one} for one in entries]}


ACTIVE = {"op": "replace", "path": "active", "value": True}
RENAMED = {"op": "replace", "path": "displayName", "value": "New"}
NO_LATER = {"op": "remove", "path": 'members[value eq "later"]'}
NOBODY_LEFT = {"op": "remove", "path": "members"}
ALONE = patch("/Groups/<g0>", members("replace", "later"))
LATER_COMES = post("/Users", userName="later")
EXTENSIONS = ((ENTERPRISE, "department"), (ACME, "badge"))
TWO = [{"value": "a@example.com"}, {"value": "b@example.com"}]

READS = (
    Case(
        "attributes is empty, excludedAttributes is not", (get("/Users/<u0>?attributes=&excludedAttributes=userName"),)
    ),
    Case("the same in a list", (get("/Users?attributes=&excludedAttributes=userName"),), 200),
    Case("an attribute with a letter that only folds to ours", (get("/Users?attributes=nic%E2%84%AAname"),), 400),
    Case("a start in digits of another script", (get("/Users?startIndex=%EF%BC%91"),), 400),
    Case("a count in digits of another script", (get("/Groups?count=%D9%A1"),), 400),
    Case("a filter with no-break spaces", (get("/Users?filter=userName%C2%A0eq%C2%A0%22ann%22"),), 400),
    Case("a filter with vertical tabs", (get("/Users?filter=userName%0Beq%0B%22ann%22", "exact"),), 400),
    Case("a filter for half of a surrogate pair", (get("/Users?filter=userName%20eq%20%22%5Cud800%22"),), 400),
    Case("an endpoint that only folds to ours", (get("/u%C5%BFers"),), 404),
)
REPETITIONS = (
    Case("active is said again", (patch("/Users/<u0>", ACTIVE),), 200),
    Case("a whole user is said again", (put("/Users/<u1>", userName="bob", active=True),) * 2, 200),
    Case("e-mail addresses in another order", tuple(put("/Users/<u1>", userName="bob", active=True, emails=list(order))
         for order in (TWO, TWO[::-1]))),
    Case("a whole user without active", (put("/Users/<u2>", source="exact", userName="cy"), get("/Users/<u2>", "exact")), 200),
    Case("one part of a name after another", (patch("/Users/<u0>", {"op": "add", "path": "name.givenName", "value": "A"}),
         patch("/Users/<u0>", {"op": "add", "path": "name.familyName", "value": "B"}), get("/Users/<u0>")), 200),
    Case("a record that says again what another one denied", (
        post("/Users", userName="dee", externalId="e9"), post("/Users", userName="dee", externalId="e9", active=False,
        source="exact"), patch("/Users/<u5>", ACTIVE)), 200),
)  # fmt: skip
WAITING = tuple(
    Case(f"somebody waits for a group: {name}", (*asks, LATER_COMES, get("/Groups/<g0>")), 200)
    for name, *asks in (
        ("nobody else is there, everybody leaves", ALONE, patch("/Groups/<g0>", NOBODY_LEFT)),
        ("nobody else is there, it is put without members", ALONE, put("/Groups/<g0>", displayName="Data")),
        ("nobody else is there, it is renamed", ALONE, patch("/Groups/<g0>", RENAMED)),
        ("another one joins", patch("/Groups/<g0>", members("add", "<u1>"))),
        ("another one leaves", patch("/Groups/<g0>", {"op": "remove", "path": 'members[value eq "<u0>"]'})),
        ("it is renamed", patch("/Groups/<g0>", RENAMED)),
        ("it is renamed by an object", patch("/Groups/<g0>", {"op": "replace", "value": {"externalId": "x"}})),
        ("they leave", patch("/Groups/<g0>", NO_LATER)),
        ("they leave by a value", patch("/Groups/<g0>", members("remove", "later"))),
        ("they leave and come back", patch("/Groups/<g0>", NO_LATER, members("add", "later"))),
        ("they are named again", patch("/Groups/<g0>", members("add", "later"))),
        ("everybody leaves", patch("/Groups/<g0>", NOBODY_LEFT)),
        ("all others replace all", patch("/Groups/<g0>", members("replace", "<u0>"))),
        ("it is put without members", put("/Groups/<g0>", displayName="Data")),
        ("it is put as it is shown", put("/Groups/<g0>", displayName="Data", members=[{"value": "<u0>"}])),
    )
)
TYPES = (
    Case("a nested group is put without its type", (put("/Groups/<g1>", displayName="Web", members=[{"value": "<g0>"}]),), 200),
    Case("the same, and a part of the answer", (
        put("/Groups/<g1>?attributes=displayName", displayName="Web", members=[{"value": "<g0>"}]),), 200),
    Case("a type in another letter case", (
        put("/Groups/<g1>", displayName="Web", members=[{"value": "<u1>", "type": "user"}]),), 200),
    Case("strict: a type that is not the member's", (
        put("/Groups/<g2>", source="exact", displayName="Ops", members=[{"value": "<u2>", "type": "Group"}]),), 400),
    *(Case(f"strict: {entry}", (patch("/Groups/<g2>", members("add", {"value": "<u3>"} | entry), source="exact"),), 400)
      for entry in ({"type": 5}, {"$ref": 7}, {"display": ["d"]}, {"extra": 1})),
    *(Case(f"members as clients send them: {entry}", (patch("/Groups/<g1>", members("add", {"value": "<u0>"} | entry)),), 200)
      for entry in ({"type": 5}, {"$ref": None}, {"display": ["d"]}, {"extra": 1}, {"type": "Group"})),
)  # fmt: skip
NAMES = (
    *(Case(f"strict: a path of no schema that is served, {path}", (
        patch("/Users/<u3>", {"op": "replace", "path": path, "value": "x"}, source="exact"),), 400)
      for path in ("department", "urn:scim:schemas:core:1.0:title", "urn:scim:schemas:extension:enterprise:1.0:department")),
    Case("an extension is added by one of its texts", (
        patch("/Users/<u0>", {"op": "add", "path": f"{ENTERPRISE}:department", "value": "x"}), get("/Users/<u0>")), 200),
    Case("two extensions, in both orders", tuple(
        patch(f"/Users/<u{number}>", *({"op": "add", "path": f"{urn}:{name}", "value": "x"} for urn, name in order))
        for number, order in enumerate((EXTENSIONS, EXTENSIONS[::-1]))), 200),
    Case("a userName that is in use", (patch("/Users/<u0>", {"op": "replace", "path": "userName", "value": "BOB"}),), 409),
    Case("a text that is said again", (patch("/Users/<u1>", {"op": "replace", "path": "department", "value": "d"}),), 200),
    Case("a body that a thread judges", (put("/Users/<u0>", userName="ann", title="x" * 20_000),), 200),
)  # fmt: skip
MESSAGES = tuple(
    Case(f"strict: {name}", (ask,), 400)
    for name, ask in (
        ("another schema", patch("/Users/<u2>", ACTIVE, source="exact", schemas=["urn:nope"])),
        ("another schema for a group", patch("/Groups/<g2>", RENAMED, source="exact", schemas=["urn:nope"])),
        ("schemas is no list", patch("/Groups/<g2>", RENAMED, source="exact", schemas=PATCH_OP)),
        ("a member no message has", patch("/Users/<u2>", ACTIVE, source="exact", extra=1)),
        ("a member no operation has", patch("/Users/<u2>", {**ACTIVE, "extra": 1}, source="exact")),
        ("the same for a group", patch("/Groups/<g2>", RENAMED, source="exact", extra=1)),
    )
)
HALVES = tuple(
    Case(
        f"{source}: half of a surrogate pair, {op['op']} {op['path'].partition('[')[0]}",
        (patch(path, op, source=source),),
    )
    for source, user, group in (("okta", "/Users/<u0>", "/Groups/<g0>"), ("exact", "/Users/<u2>", "/Groups/<g2>"))
    for path, op in (
        (group, {"op": "remove", "path": 'members[value eq "\\ud800"]'}),
        (user, {"op": "add", "path": 'emails[type eq "\\udfff"].value', "value": "a@example.com"}),
        (user, {"op": "replace", "path": 'emails[value eq "\\ud800"].type', "value": "work"}),
    )
)
CASES = (*READS, *REPETITIONS, *WAITING, *TYPES, *NAMES, *MESSAGES, *HALVES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_sides_agree(both: Pair, case: Case) -> None:
    both.begin_again()
    told = [agree(both, ask).status for ask in case.asks]
    assert case.status in (None, told[-1])


MEANT = {
    "records of one externalId come in another order": (
        *(post("/Users", userName=f"u{number}", externalId="same") for number in range(12)),
        get("/Users?filter=externalId%20eq%20%22same%22"),
    ),
    "a PUT of nonsense to what does not exist is 400 or 404": (put("/Users/nobody"),),
}


def test_every_exception_is_shown() -> None:
    assert MEANT.keys() == {one.name for one in EXCEPTIONS}


@pytest.mark.parametrize("name", MEANT)
def test_an_exception_is_needed_and_no_other_one_covers_it(both: Pair, name: str) -> None:
    both.begin_again()
    *before, last = MEANT[name]
    for ask in before:
        agree(both, ask)
    rows, core = both.ask(last)
    for one in EXCEPTIONS:
        alike = not unlike(*one.forgive(last, rows, core))
        assert alike == (one.name == name)
