"""Random POST, PUT, PATCH and DELETE, in RFC-pure and in tolerated spellings: after each, GET shows what a twin holds.

The twin is plain dictionaries. A request that is refused leaves everything as it was, the version too; one that changes
nothing keeps the version.
"""

from __future__ import annotations

import copy
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from support.endpoint import ENTERPRISE, GROUP, PATCH_OP, USER, Got

from fuzz import twin
from fuzz.answers import complaint
from fuzz.chance import REPLAY, dice, scaled
from fuzz.server import Wire
from fuzz.twin import Document, Effect, Refused, Twin

pytestmark = pytest.mark.timeout(scaled(120, 7200))
RUNS, STEPS = scaled(30, 5000), 60
PUBLISHED = "http://idsync.example/scim/v2"
WORDS = ("a", "b", "Boss", "x y", "50%", "it's", 'say "hi"', "é", "日本")
ADDRESSES = ("a@example.com", "b@example.com", "c@example.com")
KINDS = ("work", "home", "other")
SIMPLE = ("title", "displayName", "nickName", "userType", "locale")


@dataclass(frozen=True)
class Move:
    """One operation of a PATCH as it is sent, and what it does."""

    wire: Document
    effect: Effect
    pure: bool = True
    """Whether RFC 7644 spells it so; a strict source is sent nothing else."""


def an_external_id(rng: Random) -> str:
    """Return one that nobody had before: two records of one externalId are the same person."""
    return f"ext-{rng.getrandbits(64)}"


# -- operations on users --------------------------------------------------------------------------------------------


def _written(rng: Random, name: str, value: Any, effect: Effect, *, pure: bool = True) -> Move:
    """Spell "this attribute is that" in one of the ways clients do."""
    op = rng.choice(("add", "replace"))
    spelled = [
        Move({"op": op, "path": name, "value": value}, effect, pure),
        Move({"op": op, "value": {name: value}}, effect, pure),
    ]
    if not name.startswith("urn:"):
        spelled += [
            Move({"op": op, "path": f"{USER}:{name}", "value": value}, effect, pure),
            Move({"op": op.capitalize(), "path": name.upper(), "value": value}, effect, pure=False),
            Move({"op": op, "value": {USER: {name: value}}}, effect, pure=False),
        ]
    else:
        spelled += [
            Move({"op": op, "path": name.rpartition(":")[2], "value": value}, effect, pure=False),
            Move({"op": op, "value": {ENTERPRISE: {name.rpartition(":")[2]: value}}}, effect, pure),
        ]
    return rng.choice(spelled)


def _simple(rng: Random, run: Run) -> Move:
    name, value = rng.choice(SIMPLE), rng.choice(WORDS)
    return _written(rng, name, value, twin.put(name, value))


def _cleared(rng: Random, run: Run) -> Move:
    name = rng.choice((*SIMPLE, "externalId", "name", "name.givenName", f"{ENTERPRISE}:department"))
    empty = rng.choice((None, ""))
    return rng.choice((
        Move({"op": "remove", "path": name}, twin.drop(name)),
        Move({"op": "Replace", "path": name, "value": empty}, twin.drop(name), pure=False),
        Move({"op": "replace", "value": {name: empty}}, twin.drop(name), pure=False),
        Move({"op": "add", "path": name, "value": ""}, twin.nothing, pure=False),
    ))  # fmt: skip


def _name(rng: Random, run: Run) -> Move:
    sub, value = rng.choice(("givenName", "familyName", "formatted")), rng.choice(WORDS)
    effect = twin.put(f"name.{sub}", value)
    return rng.choice((
        _written(rng, f"name.{sub}", value, effect, pure=False),
        Move({"op": "replace", "path": f"name.{sub}", "value": value}, effect),
        Move({"op": "replace", "value": {"name": {sub: value}}}, effect),
        Move({"op": "add", "path": "name", "value": {sub: value}}, effect),
    ))  # fmt: skip


def _active(rng: Random, run: Run) -> Move:
    value = rng.random() < 0.5
    text = rng.choice((str(value), str(value).lower()))
    effect = twin.put("active", value)
    return rng.choice((_written(rng, "active", value, effect), _written(rng, "active", text, effect, pure=False)))


def _external_id(rng: Random, run: Run) -> Move:
    value = an_external_id(rng)
    return _written(rng, "externalId", value, twin.put("externalId", value))


def _user_name(rng: Random, run: Run) -> Move:
    value = run.a_name(rng, "Users")
    return _written(rng, "userName", value, twin.put("userName", value))


def _enterprise(rng: Random, run: Run) -> Move:
    name = f"{ENTERPRISE}:{rng.choice(('department', 'costCenter'))}"
    value = rng.choice(WORDS)
    return _written(rng, name, value, twin.put(name, value))


def _manager(rng: Random, run: Run) -> Move:
    name, one = f"{ENTERPRISE}:manager", rng.choice(("boss-1", "boss-2"))
    effect = twin.put(name, {"value": one})
    return rng.choice((
        _written(rng, name, {"value": one}, effect, pure=False),
        _written(rng, name, one, effect, pure=False),
        _written(rng, name, [{"value": one}], effect, pure=False),
        Move({"op": "add", "path": name, "value": {"value": one}}, effect),
        Move({"op": "replace", "path": name, "value": ""}, twin.drop(name), pure=False),
        Move({"op": "replace", "path": name, "value": []}, twin.drop(name), pure=False),
        Move({"op": "remove", "path": name}, twin.drop(name)),
    ))  # fmt: skip


def _an_email(rng: Random, *, primary: bool) -> Document:
    found: Document = {"value": rng.choice(ADDRESSES)}
    if rng.random() < 0.8:
        found["type"] = rng.choice(KINDS)
    if primary:
        found["primary"] = True
    return found


def _some_emails(rng: Random) -> list[Document]:
    return [_an_email(rng, primary=number == 0 and rng.random() < 0.4) for number in range(rng.randrange(1, 4))]


def _emails(rng: Random, run: Run) -> Move:
    entries = _some_emails(rng)
    return rng.choice((
        Move({"op": "replace", "path": "emails", "value": entries}, twin.replace_emails(entries)),
        Move({"op": "replace", "value": {"emails": entries}}, twin.replace_emails(entries)),
        Move({"op": "add", "path": "emails", "value": entries}, twin.add_emails(entries)),
        Move({"op": "add", "value": {"emails": entries}}, twin.add_emails(entries)),
        Move({"op": "add", "path": "emails", "value": entries[0]}, twin.add_emails(entries[:1]), pure=False),
        Move({"op": "replace", "path": "emails", "value": entries[0]}, twin.replace_emails(entries[:1]), pure=False),
        Move({"op": "replace", "path": "emails", "value": []}, twin.drop("emails")),
        Move({"op": "remove", "path": "emails"}, twin.drop("emails")),
    ))  # fmt: skip


def _an_email_of_a_type(rng: Random, run: Run) -> Move:
    kind, value, op = rng.choice(KINDS), rng.choice(ADDRESSES), rng.choice(("add", "replace"))
    path = f'emails[{rng.choice(("type", "TYPE"))} {rng.choice(("eq", "EQ"))} "{rng.choice((kind, kind.upper()))}"]'
    plain = f'emails[type eq "{kind}"]'
    creates = run.tolerant
    fields = {"value": value, "type": kind, "primary": True}
    text = twin.set_email(kind, {"value": value}, creates=creates)
    return rng.choice((
        Move({"op": op, "path": f"{plain}.value", "value": value}, text),
        Move({"op": op, "value": {f"{plain}.value": value}}, text, pure=False),
        Move({"op": op, "path": plain, "value": fields}, twin.set_email(kind, fields, creates=creates)),
        Move({"op": op, "path": f"{plain}.primary", "value": "True"}, twin.set_email(kind, {"primary": True}, creates=creates), pure=False),
        Move({"op": "remove", "path": path}, twin.remove_emails(kind)),
    ))  # fmt: skip


def _ignored(rng: Random, run: Run) -> Move:
    return rng.choice((
        Move({"op": "replace", "path": "password", "value": "secret"}, twin.nothing),
        Move({"op": "Replace", "value": {"password": "secret"}}, twin.nothing, pure=False),
        Move({"op": "replace", "value": {"groups": [], "meta": {}, "schemas": []}}, twin.nothing, pure=False),
        Move({"op": "add", "value": {"urn:example:unknown:User": {"a": 1}, "unheardOf": 1, "locale": "de"}}, twin.put("locale", "de"), pure=False),
    ))  # fmt: skip


_WRONG: tuple[Document, ...] = (
    {"op": "replace", "path": "active", "value": "no"}, {"op": "replace", "path": "active", "value": 1},
    {"op": "replace", "path": "active", "value": None}, {"op": "remove", "path": "active"},
    {"op": "replace", "path": "nothing", "value": "x"}, {"op": "remove", "path": "nothing"}, {"op": "remove"},
    {"op": "replace", "path": "groups", "value": []}, {"op": "replace", "path": "id", "value": "x"},
    {"op": "replace", "path": "meta.version", "value": "x"}, {"op": "move", "path": "title", "value": "x"},
    {"op": "replace", "path": "title", "value": ["x"]}, {"op": "replace", "path": "title", "value": {"a": 1}},
    {"op": "replace", "path": "emails[type eq", "value": "x"}, {"op": "replace", "path": "emails", "value": [5]},
    {"op": "replace", "path": "emails[nothing eq 1].value", "value": "x"}, {"op": "add", "value": "x"}, {"op": "add"},
    {"op": "replace", "path": "userName", "value": None}, {"op": "remove", "path": "userName"}, {"path": "title"},
    {"op": "add", "path": "emails", "value": [{"value": "x", "primary": "yes"}]}, {"op": "add", "path": 5, "value": 5},
    {"op": "add", "path": "emails", "value": [{"value": "p", "primary": True}, {"value": "q", "primary": True}]},
    {"op": "replace", "path": "name", "value": "x"}, {"op": "replace", "path": f"{ENTERPRISE}:manager", "value": ["a", "b"]},
)  # fmt: skip


def _wrong(rng: Random, run: Run) -> Move:
    return Move(rng.choice(_WRONG), twin.refuse())


ON_USERS: tuple[Callable[[Random, Run], Move], ...] = (
    _simple, _simple, _cleared, _name, _active, _active, _external_id, _user_name, _enterprise, _manager, _emails, _emails,
    _an_email_of_a_type, _an_email_of_a_type, _ignored,
)  # fmt: skip


# -- operations on groups -------------------------------------------------------------------------------------------


def _member(rng: Random, one: str, *, pure: bool) -> Any:
    spelled: list[Any] = [{"value": one}, {"value": one, "display": "whoever"}]
    if not pure:
        spelled += [one, {"value": one, "$ref": None}, {"Value": one, "extra": 1}, {"value": one, "type": ""}]
    return rng.choice(spelled)


def _add(ids: list[str]) -> Effect:
    return lambda document: document["members"].update(ids)


def _remove(ids: list[str]) -> Effect:
    return lambda document: document["members"].difference_update(ids)


def _exactly(ids: list[str]) -> Effect:
    return lambda document: document.update(members=set(ids))


def _members(rng: Random, run: Run) -> Move:
    ids = run.some_ids(rng)
    pure = rng.random() < 0.5
    listed = [_member(rng, one, pure=pure) for one in ids]
    return rng.choice((
        Move({"op": "add", "path": "members", "value": listed}, _add(ids), pure),
        Move({"op": "add", "value": {"members": listed}}, _add(ids), pure),
        Move({"op": "replace", "path": "members", "value": listed}, _exactly(ids), pure),
        Move({"op": "Replace", "value": {"members": listed}}, _exactly(ids), pure=False),
        Move({"op": "Remove", "path": "members", "value": listed}, _remove(ids), pure=False),
        Move({"op": "Add", "path": "members", "value": listed[0]}, _add(ids[:1]), pure=False),
        Move({"op": "add", "path": f"{GROUP}:members", "value": [{"value": ids[0]}]}, _add(ids[:1])),
    ))  # fmt: skip


def _members_by_filter(rng: Random, run: Run) -> Move:
    one, *others = run.some_ids(rng)
    either = " or ".join(f'value eq "{each}"' for each in (one, *others))
    return rng.choice((
        Move({"op": "remove", "path": f'members[value eq "{one}"]'}, _remove([one])),
        Move({"op": "remove", "path": f'members[ value  EQ "{one}" ]'}, _remove([one])),
        Move({"op": "remove", "path": f"members[{either}]"}, _remove([one, *others])),
        Move({"op": "remove", "path": f"members[value eq {one}]"}, _remove([one]), pure=False),
        Move({"op": "remove", "path": "members"}, _exactly([])),
    ))  # fmt: skip


def _group_name(rng: Random, run: Run) -> Move:
    value = run.a_name(rng, "Groups")
    effect = twin.put("displayName", value)
    return rng.choice((
        Move({"op": "replace", "path": "displayName", "value": value}, effect),
        Move({"op": "replace", "value": {"displayName": value}}, effect),
        Move({"op": "Replace", "path": f"{GROUP}:DISPLAYNAME", "value": value}, effect, pure=False),
        Move({"op": "replace", "value": {"id": run.target, "displayName": value}}, effect, pure=False),
    ))  # fmt: skip


def _group_external_id(rng: Random, run: Run) -> Move:
    value = an_external_id(rng)
    return rng.choice((
        Move({"op": "add", "path": "externalId", "value": value}, twin.put("externalId", value)),
        Move({"op": "replace", "value": {"externalId": value}}, twin.put("externalId", value)),
        Move({"op": "remove", "path": "externalId"}, twin.drop("externalId")),
    ))  # fmt: skip


_WRONG_ON_GROUPS: tuple[Document, ...] = (
    {"op": "add", "path": "members", "value": [{}]}, {"op": "add", "path": "members", "value": [{"value": 5}]},
    {"op": "add", "path": "members", "value": [None]}, {"op": "remove", "path": "displayName"},
    {"op": "replace", "path": "displayName", "value": None}, {"op": "replace", "path": "displayName", "value": ["x"]},
    {"op": "remove", "path": "members[value eq"}, {"op": "replace", "path": "nothing", "value": "x"}, {"op": "remove"},
    {"op": "remove", "path": "members[nothing eq 1]"}, {"op": "replace", "value": {"id": "another", "displayName": "x"}},
)  # fmt: skip


def _wrong_on_group(rng: Random, run: Run) -> Move:
    return Move(rng.choice(_WRONG_ON_GROUPS), twin.refuse())


ON_GROUPS: tuple[Callable[[Random, Run], Move], ...] = (
    _members, _members, _members, _members_by_filter, _members_by_filter, _group_name, _group_external_id,
)  # fmt: skip


# -- a run ---------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """One directory and its twin, growing and changing side by side."""

    number: int
    client: Wire
    tolerant: bool
    twin: Twin = field(default_factory=Twin)
    target: str = ""
    seen: Counter[int] = field(default_factory=Counter)

    def a_name(self, rng: Random, place: str) -> str:
        """Return a name of this run, taken ones and other letter cases among them."""
        return rng.choice((str.lower, str.upper, str))(f"Run{self.number}-{place}-Straße{rng.randrange(12)}")

    def some_ids(self, rng: Random) -> list[str]:
        known = [*self.twin.users, *self.twin.groups, str(uuid.UUID(int=rng.getrandbits(128)))]
        return rng.sample(known, min(len(known), rng.choice((1, 1, 2, 4))))

    def step(self, rng: Random) -> str | None:
        """Send one request and return how the answer or the directory differ from the twin, or None."""
        kind = rng.random()
        if kind < 0.12 or not self.twin.users or not self.twin.groups:
            return self._create(rng, "Users" if len(self.twin.users) <= len(self.twin.groups) else "Groups")
        place = rng.choice(("Users", "Users", "Groups"))
        self.target = rng.choice([*(self.twin.users if place == "Users" else self.twin.groups)])
        if kind < 0.17:
            return self._delete(place)
        if kind < 0.27:
            return self._replace(rng, place)
        return self._patch(rng, place)

    # -- the four kinds of requests ------------------------------------------------------------------------------------

    def _document(self, rng: Random, place: str) -> tuple[Document, list[str]]:
        """Return a whole resource and the ids of its members."""
        document: Document = {"schemas": [USER if place == "Users" else GROUP]}
        document["userName" if place == "Users" else "displayName"] = self.a_name(rng, place)
        if rng.random() < 0.4:
            document["externalId"] = an_external_id(rng)
        if place == "Groups":
            return document, self.some_ids(rng) if rng.random() < 0.7 else []
        for name in rng.sample(SIMPLE, rng.choice((0, 1, 3))):
            document[name] = rng.choice(WORDS)
        if rng.random() < 0.6:
            document["emails"] = _some_emails(rng)
        if rng.random() < 0.4:
            document["name"] = {"givenName": rng.choice(WORDS)}
        if rng.random() < 0.3:
            document[ENTERPRISE] = {"department": rng.choice(WORDS)}
            document["schemas"].append(ENTERPRISE)
        if rng.random() < 0.6:
            document["active"] = rng.random() < 0.7
        return document, []

    def _on_the_wire(self, rng: Random, document: Document, ids: list[str]) -> Document:
        """Add what a client may send beside it and nobody keeps."""
        wire = copy.deepcopy(document)
        if GROUP in document["schemas"] and (ids or rng.random() < 0.5):
            wire["members"] = [_member(rng, one, pure=not self.tolerant) for one in ids]
        if rng.random() < 0.3:
            wire |= {"password": "secret", "meta": {"resourceType": "User"}, "id": "whatever"}
        if self.tolerant and rng.random() < 0.3 and "active" in wire:
            wire["active"] = str(wire["active"])
        if self.tolerant and rng.random() < 0.3:
            wire |= {"nickname" if "nickName" not in wire else "x": None, "unheardOf": [1], "photos": []}
        return wire

    def _create(self, rng: Random, place: str) -> str | None:
        document, ids = self._document(rng, place)
        name = document.get("userName") or document["displayName"]
        got = self.client.send("POST", f"/{place}", wire := self._on_the_wire(rng, document, ids))
        if self.twin.is_taken(place, name):
            return self._judge(got, Refused(409), wire)
        if got.status != 201:
            return self._judge(got, None, wire)
        self.target = got.json["id"]
        self._remember(place, document, ids)
        return self._judge(got, None, wire) or self._compare(got)

    def _remember(self, place: str, document: Document, ids: list[str]) -> None:
        kept = {name: value for name, value in document.items() if name != "schemas"}
        if place == "Users":
            self.twin.put_user(self.target, {"active": True, **kept})
        else:
            self.twin.put_group(self.target, kept, set(ids))

    def _delete(self, place: str) -> str | None:
        got = self.client.send("DELETE", f"/{place}/{self.target}")
        self.twin.delete(self.target)
        gone = self.client.get(f"/{place}/{self.target}")
        return self._judge(got, None, {}) or (f"after DELETE: {gone.status}" if gone.status != 404 else None)

    def _replace(self, rng: Random, place: str) -> str | None:
        document, ids = self._document(rng, place)
        name = document.get("userName") or document["displayName"]
        wire = self._on_the_wire(rng, document, ids)

        def work() -> None:
            if self.twin.is_taken(place, name, self.target):
                raise Refused(409)
            if place == "Users":
                document.setdefault("active", self.twin.users[self.target]["active"])
            self._remember(place, document, ids)

        return self._change(rng, "PUT", place, wire, work)

    def _patch(self, rng: Random, place: str) -> str | None:
        kinds, wrong = (ON_USERS, _wrong) if place == "Users" else (ON_GROUPS, _wrong_on_group)
        moves: list[Move] = []
        while len(moves) < rng.choice((1, 1, 2, 3)):
            move = rng.choice(kinds)(rng, self)
            moves += [move] if move.pure or self.tolerant else []
        if rng.random() < 0.12:
            moves.insert(rng.randrange(len(moves) + 1), wrong(rng, self))
        wire = {"schemas": [PATCH_OP], "Operations": [move.wire for move in moves]}
        apply = self.twin.changed_user if place == "Users" else self.twin.changed_group
        return self._change(rng, "PATCH", place, wire, lambda: apply(self.target, [move.effect for move in moves]))

    def _change(self, rng: Random, method: str, place: str, wire: Document, work: Callable[[], None]) -> str | None:
        """Send a change, do it to the twin, and compare the outcome, the resource and its version."""
        path = f"/{place}/{self.target}"
        before = self.client.get(path)
        headers, stale = self._condition(rng, before)
        refusal = Refused(412) if stale else None
        if refusal is None:
            try:
                work()
            except Refused as error:
                refusal = error
        got = self.client.send(method, path, wire, headers)
        after = self.client.get(path)
        same = _stable(before.json) == _stable(after.json)
        if (before.headers["etag"] == after.headers["etag"]) != same:
            return f"version {before.headers['etag']} -> {after.headers['etag']} by {wire}: {before.raw!r} -> {after.raw!r}"
        shown = self._compare(got) if refusal is None and got.status == 200 else None
        return self._judge(got, refusal, wire) or shown or self._compare(after)

    def _condition(self, rng: Random, before: Got) -> tuple[Mapping[str, str], bool]:
        """Return headers, and whether they ask for a version that is not there."""
        kind = rng.random()
        if kind < 0.05:
            return {"If-Match": 'W/"999"'}, True
        return ({"If-Match": before.headers["etag"]}, False) if kind < 0.15 else ({}, False)

    # -- the judgement -------------------------------------------------------------------------------------------------

    def _judge(self, got: Got, refusal: Refused | None, wire: Document) -> str | None:
        self.seen[got.status] += 1
        fine = got.status in refusal.statuses if refusal else 200 <= got.status < 300
        if not fine:
            return f"{got.status} instead of {refusal.statuses if refusal else '2xx'}: {wire}: {got.raw[:400]!r}"
        complained = complaint(got)
        return f"{complained}: {wire}: {got.raw[:400]!r}" if complained else None

    def _compare(self, got: Got) -> str | None:
        """Compare a shown resource with the twin's."""
        shown = got.json
        if shown["meta"]["version"] != got.headers["etag"] or not shown["meta"]["location"].endswith(self.target):
            return f"meta {shown['meta']} with {got.headers}"
        user = self.target in self.twin.users
        wanted = (self.twin.shown_user if user else self.twin.shown_group)(self.target, PUBLISHED)
        listed = "groups" if user else "members"
        found = {**shown, listed: {twin.entry(one) for one in shown.get(listed, ())}}
        del found["meta"]
        return None if _unordered(found) == _unordered(wanted) else f"shown {found}\n    not {wanted}"

    def everybody(self) -> str | None:
        """Compare every resource there is, and that there are no others."""
        for place, ids in (("Users", self.twin.users), ("Groups", self.twin.groups)):
            for self.target in ids:
                if difference := self._compare(self.client.get(f"/{place}/{self.target}")):
                    return difference
            if (total := self.client.get(f"/{place}?count=0").json["totalResults"]) != len(ids):
                return f"{total} {place} instead of {len(ids)}"
        return None

    def clear(self) -> None:
        for place, ids in (("Groups", self.twin.groups), ("Users", self.twin.users)):
            for one in ids:
                assert self.client.send("DELETE", f"/{place}/{one}").status == 204


def _unordered(document: Document) -> Document:
    """Sort the addresses: their order means nothing (RFC 7643 §2.4), so that a change of it alone is none."""
    return {**document, "emails": sorted(document.get("emails", ()), key=lambda one: sorted(map(str, one.items())))}


def _stable(document: Document) -> Document:
    """Leave out what others decide: derived groups, names of members, and meta."""
    found = {name: value for name, value in document.items() if name not in ("groups", "meta")}
    found["members"] = sorted(one["value"] for one in document.get("members", ()))
    return found


@pytest.mark.parametrize("source", ["okta", "exact"])
@pytest.mark.parametrize(
    ("place", "operation"),
    [*(("Users", one) for one in _WRONG), *(("Groups", one) for one in _WRONG_ON_GROUPS)],
    ids=lambda one: one if isinstance(one, str) else " ".join(f"{value}" for value in one.values())[:60],
)
def test_an_operation_that_is_wrong_is_refused(
    request: pytest.FixtureRequest, source: str, place: str, operation: Document
) -> None:
    """Alone, after and before one that is right: a 200 that did nothing is how leavers keep their keys."""
    client: Wire = request.getfixturevalue(source)
    name = f"wrong-{uuid.uuid4()}"
    made = client.user(name, title="t") if place == "Users" else client.group(name)
    right = {"op": "replace", "path": "externalId", "value": "x"}
    for operations in ([operation], [right, operation], [operation, right]):
        got = client.patch(f"/{place}/{made['id']}", *operations)
        assert (got.status, complaint(got)) == (400, None), got.raw
    assert client.get(f"/{place}/{made['id']}").json == made
    assert client.send("DELETE", f"/{place}/{made['id']}").status == 204


def test_whatever_is_sent_the_directory_is_what_the_twin_is(okta: Wire, exact: Wire) -> None:
    seen: Counter[int] = Counter()
    wrong: dict[str, str] = {}
    for number in range(RUNS):
        run = Run(number, exact if number % 3 == 2 else okta, tolerant=number % 3 != 2, seen=seen)
        for step in range(STEPS):
            if difference := run.step(dice("machine", number, step)):
                wrong[difference[:60]] = f"run {number} step {step} {run.client.token}: {difference}"
                break
        else:
            if difference := run.everybody():
                wrong[difference[:60]] = f"run {number} at its end: {difference}"
        run.clear()
    assert not wrong, "\n".join([REPLAY, *wrong.values()])
    assert all(seen[status] > RUNS for status in (200, 201, 204, 400, 409, 412)), seen
