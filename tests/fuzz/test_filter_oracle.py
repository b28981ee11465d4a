"""Filters, orders, pages and projections give what an evaluator says that has nothing in common with the service.

The evaluator (`oracle`) reads the documents that GET answers. A filter is also asked in a form that cannot be left to
the database, because it names `schemas`: both forms must find the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from scim2_models import ScimFilter
from support.endpoint import USER, Got, build, shut

from fuzz.chance import REPLAY, dice, scaled
from fuzz.filters import ENTERPRISE, GROUP_NAMES, USER_NAMES, Compare, Filter, Name, Vocabulary, text_of, tree
from fuzz.oracle import FOLDINGS, Oracle, in_order, projected, read, sort_value
from fuzz.people import TEXTS, populate
from fuzz.server import Wire
from idsync.clock import ManualClock
from idsync.intake import Intake
from idsync.model import Origin, UserFacts
from idsync.policy import Rules
from idsync.scim import sql
from idsync.scim.documents import moment
from idsync.store import directory
from idsync.web.auth import ScimSource

pytestmark = pytest.mark.timeout(scaled(120, 3600))
FILTERS = scaled(450, 10_000)
LISTS = scaled(30, 600)
USERS, GROUPS = scaled(50, 200), scaled(16, 60)
"""Not more than the number of records that are looked at one by one for a filter no column answers."""
PLACES = {"Users": USER_NAMES, "Groups": GROUP_NAMES}


@dataclass(frozen=True)
class Place:
    """The users or groups of one source: how to ask for them, and the documents they are."""

    client: Wire
    path: str
    documents: list[Any]
    oracle: Oracle
    words: Vocabulary

    def ask(self, **parameters: Any) -> Got:
        return self.client.get(f"{self.path}?{urlencode(parameters, quote_via=quote)}")

    def all_pages(self, count: int = 200, **parameters: Any) -> list[Any]:
        """Return everything a list holds, page after page."""
        found: list[Any] = []
        while True:
            got = self.ask(startIndex=len(found) + 1, count=count, **parameters)
            assert got.status == 200, (parameters, got.raw[:500])
            page = got.json.get("Resources", [])
            found += page
            if not page or len(found) >= got.json["totalResults"]:
                assert len(found) == got.json["totalResults"], parameters
                return found

    def ids(self, text: str) -> set[str]:
        found = [one["id"] for one in self.all_pages(filter=text, attributes="id")]
        assert len(found) == len(set(found)), text
        return set(found)


def _moments(documents: list[Any]) -> list[str]:
    """Return times around those that are shown, in several time zones and precisions."""
    found = []
    for document in documents[:: max(1, len(documents) // 8)]:
        shown = datetime.fromisoformat(document["meta"]["created"])
        for step in (timedelta(), timedelta(milliseconds=1), timedelta(milliseconds=-1), timedelta(microseconds=400)):
            found += [(shown + step).isoformat(), (shown + step).isoformat().replace("+00:00", "Z")]
        found.append(datetime.fromisoformat(document["meta"]["lastModified"]).isoformat().replace("+00:00", "-00:00"))
    return [*found, "2020-02-29T23:59:59Z", "2999-01-01T00:00:00+14:00"]


def _place(client: Wire, name: str) -> Place:
    path = f"/{name}"
    oracle = Oracle(client.get("/Schemas").json["Resources"], name.removesuffix("s"))
    empty = Place(client, path, [], oracle, PLACES[name])
    listed = empty.all_pages()
    documents = [client.get(f"{path}/{one['id']}").json for one in listed]
    assert documents == listed
    if name == "Groups":  # a member's display is answered on request, and can be searched
        named = {one["id"]: one for one in empty.all_pages(attributes="members.value,members.display")}
        documents = [{**one, **_with_names(one, named[one["id"]])} for one in documents]
    values = {str(one): held for one in PLACES[name].texts if (held := [*_values(documents, one)])}
    words = replace(PLACES[name], words=(*TEXTS, "@example.com"), moments=_moments(documents), values=values)
    return replace(empty, documents=documents, words=words)


def _with_names(document: Any, named: Any) -> dict[str, Any]:
    names = {one["value"]: one["display"] for one in named.get("members", ())}
    found = [{**one, "display": names[one["value"]]} for one in document.get("members", ())]
    return {"members": found} if found else {}


def _as_answered(document: Any, names: list[Name], *, excluding: bool) -> Any:
    """Leave out what is answered on request only (RFC 7643 §7), unless it is among the names."""
    if "members" not in document or (not excluding and Name("members", "display") in names):
        return document
    return {**document, "members": [{k: v for k, v in one.items() if k != "display"} for one in document["members"]]}


def _values(documents: list[Any], name: Name) -> Iterator[str]:
    """Yield every text that an attribute holds in any of the documents."""
    for document in documents:
        found = read(document, name)
        for one in found if isinstance(found, list) else [found]:
            value = one.get("value") if isinstance(one, dict) else one
            if isinstance(value, str):
                yield value


@pytest.fixture(scope="module")
def places(okta: Wire, exact: Wire) -> list[Place]:
    for client in (okta, exact):
        populate(dice("people", client.token), client, USERS, GROUPS)
    return [_place(client, name) for client in (okta, exact) for name in ("Users", "Users", "Groups")]


def _difference(place: Place, node: Filter, rng: Random) -> str | None:
    """Return how the answer to a filter differs from what the filter means, or from its other form."""
    text = text_of(node, rng)
    found = place.ids(text)
    possible = [set(ids) for ids in place.oracle.results(node, place.documents)]
    told = f"{place.path} {text}"
    if found not in possible:
        nearest = min(possible, key=lambda one: len(one ^ found))
        return f"{told}: {_shown(place, found - nearest)} too many, {_shown(place, nearest - found)} too few"
    if rng.random() < 0.3 and (slowly := place.ids(f"({text}) and schemas pr")) != found:
        return (
            f"{told}: looked at one by one {_shown(place, slowly - found)} more, {_shown(place, found - slowly)} fewer"
        )
    return None


def _shown(place: Place, ids: set[str]) -> str:
    """Return one document of these ids, shortened."""
    found = [json.dumps(one, ensure_ascii=False) for one in place.documents if one["id"] in ids]
    return f"{len(found)} ({found[0][:500]} ...)" if found else "none"


def test_a_filter_finds_what_it_means(places: list[Place]) -> None:
    wrong: list[str] = []
    some = 0
    for number in range(FILTERS):
        rng = dice("oracle", number)
        place = rng.choice(places)
        node = tree(rng, place.words, rng.choice((0, 1, 2, 3)))
        difference = _difference(place, node, rng)
        wrong += [f"case {number}: {difference}"] if difference else []
        some += 0 < len(next(place.oracle.results(node, place.documents))) < len(place.documents)
    assert not wrong, f"{len(wrong)} of {FILTERS}; {REPLAY}\n" + "\n".join(sorted(wrong, key=len)[:25])
    assert some > FILTERS // 3  # they find somebody and not everybody


@pytest.mark.parametrize("name", ["userName", "displayName", "externalId"])
def test_every_awkward_text_is_only_a_text(places: list[Place], name: str) -> None:
    """No character of an operand means anything to the database, whatever the operator."""
    wrong = []
    for number, text in enumerate(TEXTS):
        place = places[0] if number % 2 else places[3]
        for operator in ("co", "sw", "ew", "eq", "lt"):
            difference = _difference(place, Compare(Name(name), operator, text), dice("text", number))
            wrong += [difference] if difference else []
    assert not wrong, "\n".join(wrong[:10])


# -- orders, pages, projections ------------------------------------------------------------------------------------

SORTS = {
    "/Users": [
        *(Name(one) for one in ("userName", "displayName", "title", "externalId", "id", "active")),
        *(Name(one) for one in ("emails", "phoneNumbers")),
        *(Name("name", one) for one in ("givenName", "familyName")),
        *(Name("emails", one) for one in ("value", "type")),
        *(Name("meta", one) for one in ("created", "lastModified", "version")),
        Name("department", schema=ENTERPRISE),
    ],
    "/Groups": [
        *(Name(one) for one in ("displayName", "externalId", "id")),
        *(Name("meta", one) for one in ("created", "lastModified")),
    ],
}


def _by_cursor(place: Place, count: int, parameters: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Return what the pages hold from the first to the last, and from the page before the last back to the first."""
    page = place.ask(cursor="", count=count, **parameters).json
    forth, back = list(page["Resources"]), list[Any]()
    while "nextCursor" in page:
        page = place.ask(cursor=page["nextCursor"], count=count, **parameters).json
        forth += page["Resources"]
    while "previousCursor" in page:
        page = place.ask(cursor=page["previousCursor"], count=count, **parameters).json
        back = page["Resources"] + back
    return forth, back


def _asked(rng: Random, place: Place) -> tuple[dict[str, Any], Name | None]:
    """Return parameters of a list: a filter or none, an order or none."""
    parameters: dict[str, Any] = {}
    if rng.random() < 0.5:
        parameters["filter"] = text_of(tree(rng, place.words, 1), rng)
    if rng.random() < 0.2:
        return parameters, None
    name = rng.choice(SORTS[place.path])
    parameters["sortBy"] = str(name)
    if rng.random() < 0.7:
        parameters["sortOrder"] = rng.choice(("ascending", "descending"))
    return parameters, name


def _is_sorted(place: Place, name: Name, documents: list[Any], *, descending: bool) -> bool:
    by = Name(name.attribute, "value") if name.attribute in ("emails", "phoneNumbers") and not name.sub else name
    values = [sort_value(one, by) for one in documents]
    return any(
        in_order([*map(place.oracle.preparation(by, folding), values)], descending=descending) for folding in FOLDINGS
    )


def test_pages_are_the_whole_list_in_its_order(places: list[Place]) -> None:
    for number in range(LISTS):
        rng = dice("pages", number)
        place = rng.choice(places)
        parameters, name = _asked(rng, place)
        told = f"case {number}: {place.path} {parameters}; {REPLAY}"
        whole = place.all_pages(**parameters)
        count = max(1, len(whole) // rng.choice((1, 2, 3, 5, 8)) + rng.choice((0, 0, 1)))
        ids = [one["id"] for one in whole]
        assert len(ids) == len(set(ids)), told
        unsorted = {key: value for key, value in parameters.items() if key == "filter"}
        assert set(ids) == {one["id"] for one in place.all_pages(**unsorted)}, told
        assert [one["id"] for one in place.all_pages(count, **parameters)] == ids, told
        forth, back = _by_cursor(place, min(count, 200), parameters)
        assert [one["id"] for one in forth] == ids, told
        assert [one["id"] for one in back] == ids[: len(back)], told
        assert len(back) >= len(ids) - count, told
        if name is not None:
            assert _is_sorted(place, name, whole, descending=parameters.get("sortOrder") == "descending"), told


def _some_names(rng: Random, place: Place) -> list[Name]:
    known = {
        (key, "", "") if not key.startswith("urn:") else (inner, "", key)
        for one in place.documents
        for key, value in one.items()
        for inner in (value if key.startswith("urn:") else (key,))
    }
    subs = {("name", "givenName", ""), ("emails", "type", ""), ("emails", "primary", ""), ("meta", "version", "")}
    subs |= {("members", "value", ""), ("members", "display", ""), ("groups", "display", "")}
    fitting = [one for one in subs if one[0] in {name for name, _, _ in known}]
    picked = rng.sample(sorted(known), rng.choice((1, 2, 3))) + rng.sample(sorted(fitting), rng.choice((0, 0, 1, 2)))
    return [Name(*one) for one in picked]


def _without_emptiness(value: Any) -> Any:
    """Drop what is there without holding anything: an empty entry and an absent one are the same (RFC 7643 §2.5)."""
    if isinstance(value, dict):
        found = {key: _without_emptiness(one) for key, one in value.items()}
        return {key: one for key, one in found.items() if one not in ({}, [])}
    return [one for each in value if (one := _without_emptiness(each)) != {}] if isinstance(value, list) else value


def test_a_projection_shows_what_was_asked_for(places: list[Place]) -> None:
    """Over every way to ask: one resource and a list, a list the database answers alone and one it does not."""
    for number in range(LISTS):
        rng = dice("projections", number)
        place = rng.choice(places)
        names, excluding = _some_names(rng, place), rng.random() < 0.5
        spelled = ",".join(rng.choice((str(one), str(one).upper())) if not one.schema else str(one) for one in names)
        parameter: dict[str, Any] = {"excludedAttributes" if excluding else "attributes": spelled}
        asked = {one["id"]: projected(one, names, excluding=excluding) for one in place.documents}
        wanted = {key: _without_emptiness(_as_answered(one, names, excluding=excluding)) for key, one in asked.items()}
        told = f"case {number}: {place.path} {parameter}; {REPLAY}"
        forms: list[dict[str, Any]] = [{}, {"filter": "id pr"}, {"filter": "schemas pr"}, {"sortBy": "id"}]
        for form in forms:
            shown = {one["id"]: _without_emptiness(one) for one in place.all_pages(200, **parameter, **form)}
            assert shown == wanted, f"{told} {form}"
        one = rng.choice(place.documents)["id"]
        got = place.client.get(f"{place.path}/{one}?{urlencode(parameter, quote_via=quote)}")
        assert _without_emptiness(got.json) == wanted[one], told


def test_a_time_is_found_as_it_is_shown(tmp_path: Path) -> None:
    """Clocks tick in fractions of the milliseconds that are shown."""
    clock = ManualClock(1_800_000_000.0)
    served = build(tmp_path, {"okta": ScimSource("okta")}, clock=clock)
    intake, rng = Intake(Rules(idp_of={}), clock), dice("times")
    missed = []
    for number in range(200):
        clock.advance(rng.randrange(1, 10**6) / 1000 + rng.choice((0, 1, -1, 4, -4, 6, -6)) * 1e-7)
        name = f"u{number}"
        facts = UserFacts(name, None, True, None, None, {"schemas": [USER], "userName": name, "active": True})
        user = served.store.write(partial(intake.create_user, facts=facts, origin=Origin("okta", "test", 0.0)))
        shown = moment(user.created_at)
        for operator in ("eq", "ge", "le"):
            where = sql.where(ScimFilter(f'meta.created {operator} "{shown}"').ast, "User")
            text, params = f"id = :own AND {where.text}", {**where.params, "own": user.id}
            if directory.count_users(served.store.reader(), "okta", text, params) != 1:
                missed.append((user.created_at, operator, shown))
    shut(served)
    assert not missed, (len(missed), missed[:3])
