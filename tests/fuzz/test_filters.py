"""A hundred thousand filters and paths, grown by the grammar or thrown together: 200 or 400, soon, and no more said."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
from support.endpoint import PATCH_OP, Got

from fuzz.answers import complaint
from fuzz.chance import REPLAY, dice, scaled
from fuzz.filters import GROUP_NAMES, USER_NAMES, Vocabulary, text_of, tree
from fuzz.server import Endpoint, Wire
from idsync.scim.sql import MAX_DEPTH, MAX_LENGTH, MAX_TERMS

pytestmark = pytest.mark.timeout(scaled(120, 3600))
CASES = scaled(3000, 100_000)
WORDS = (
    "", "a", "ann", "ANN@example.com", "é", "İ", "%", "_", "\\", '"', "' OR 1=1 --", "x" * 400, "true", "1", " and ",
    "](", "a\nb", "\x7f", "2026-01-01T00:00:00Z", "😀", "urn:x", "null", "W/\"1\"", "User", "../x", "\ud800", "a\udfffb", "\0",
)  # fmt: skip
MOMENTS = (
    "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", "2026-01-01", "2026-13-01T00:00:00Z", "yesterday", "", "1700000000", "20260101T000000Z",
    "2026-01-01T24:00:00Z", "2026-W01-1", "٢٠٢٦-٠١-٠١T00:00:00Z",
)  # fmt: skip
VOCABULARIES = {
    "Users": replace(USER_NAMES, words=WORDS, moments=MOMENTS),
    "Groups": replace(GROUP_NAMES, words=WORDS, moments=MOMENTS),
}
OPERANDS = (
    '""', '"a"', '"\\u00e9"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\x"', '"\\', '"', "'a'", "true", "TRUE",
    "null", "0", "-1", "1.5", "1e999", "9" * 400, "0x10", "NaN", "ak-user", "a@b", "{}", "[]", '{"a":1}', "é", "\t",
)  # fmt: skip
TOKENS = (
    *OPERANDS, "userName", "emails", "emails.value", "members", "active", "meta.created", "name", "name.", ".", "groups",
    "urn:", "urn:ietf:params:scim:schemas:core:2.0:User:userName", "urn:x:y", "nothing", "$ref", "x509Certificates",
    "eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le", "pr", "EQ", "xx", "=", "and", "or", "not", "NOT", "(", ")", "[",
    "]", "(", ")", "[", "]", " ", "\n", ",", ";", "--", "/*", "?", "&", "+", "%", "\\", ":", "-", "\x0b", "\u00a0",
    "\u2003", "\u202e", "🙂",
)  # fmt: skip


def _grown(rng: Random, words: Vocabulary) -> str:
    return text_of(tree(rng, words, rng.choice((1, 2, 3, 4))), rng)


def _thrown(rng: Random, words: Vocabulary) -> str:
    glue = rng.choice((" ", " ", ""))
    return glue.join(rng.choice(TOKENS) for _ in range(rng.randrange(1, 24)))


def _bent(rng: Random, words: Vocabulary) -> str:
    """Change one or two places of a good filter."""
    text = _grown(rng, words)
    for _ in range(rng.choice((1, 1, 2))):
        at, end = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        text = rng.choice((
            text[:at] + rng.choice(TOKENS) + text[at:],
            text[:at] + text[min(end, at + 3) :],
            text[:at],
            text[:end] + text[at:],
            text.replace('"', "", 1),
            text.replace(" ", rng.choice(("  ", "+", "\t", "\u00a0", "")), 1),
        ))  # fmt: skip
    return text


def a_text(rng: Random, place: str) -> str:
    """Return a filter: a good one, a bent one, or tokens thrown together."""
    return rng.choice((_grown, _bent, _bent, _thrown))(rng, VOCABULARIES[place])


def _query(rng: Random, client: Wire, place: str) -> tuple[str, Got]:
    path = f"/{place}?filter={quote(a_text(rng, place))}&count=2"
    return path, client.get(path)


def _search(rng: Random, client: Wire, place: str) -> tuple[str, Got]:
    names = [a_text(rng, place) if rng.random() < 0.5 else rng.choice(TOKENS) for _ in range(rng.randrange(4))]
    body: dict[str, Any] = {
        "filter": a_text(rng, place),
        "count": rng.choice((0, 2, -1, 10**15)),
        "startIndex": rng.choice((1, 0, -1, 10**15)),
    }
    if rng.random() < 0.4:
        body["sortBy"] = rng.choice(TOKENS) if rng.random() < 0.5 else a_text(rng, place)
        body["sortOrder"] = rng.choice(("ascending", "descending", "ASCENDING", "up"))
    if rng.random() < 0.4:
        body[rng.choice(("attributes", "excludedAttributes"))] = names
    where = rng.choice((f"/{place}/.search", "/.search"))
    return f"{where} {json.dumps(body)}", client.send("POST", where, body)


def _sorted(rng: Random, client: Wire, place: str) -> tuple[str, Got]:
    name = rng.choice((rng.choice(TOKENS), a_text(rng, place), str(rng.choice(VOCABULARIES[place].texts))))
    parameter = rng.choice(("sortBy", "attributes", "excludedAttributes", "sortOrder", "startIndex", "count", "cursor"))
    path = f"/{rng.choice((place, ''))}?{parameter}={quote(name)}&filter=id+pr"
    return path, client.get(path)


def _patch(rng: Random, client: Wire, place: str) -> tuple[str, Got]:
    """Use it as the path of a PATCH, whole or between brackets."""
    inner = a_text(rng, place)
    attribute = rng.choice(("emails", "members", "name", "nothing", "schemas"))
    shapes = (inner, f"{attribute}[{inner}]", f"{attribute}[{inner}].value", f"{attribute}[{inner}")
    operation = {"op": rng.choice(("add", "remove", "replace")), "path": rng.choice(shapes)}
    if operation["op"] != "remove":
        operation["value"] = rng.choice(TOKENS)
    path = f"/{place}/{client.get(f'/{place}?count=1').json['Resources'][0]['id']}"
    body = {"schemas": [PATCH_OP], "Operations": [operation]}
    return f"{path} {json.dumps(body)}", client.send("PATCH", path, body)


WAYS = (_query, _query, _query, _search, _sorted, _patch)


@pytest.fixture(scope="module", autouse=True)
def _inhabited(okta: Wire, exact: Wire) -> None:
    """Give every directory some people and a group for the filters to find."""
    for client in (okta, exact):
        ids = [
            client.user(login, displayName=login.upper(), emails=[{"value": f"{login}@example.com", "type": "work"}])
            for login in ("ann", "bob", "é")
        ]
        client.group("Everyone", *(one["id"] for one in ids))


def test_any_filter_is_answered_or_refused(endpoint: Endpoint, okta: Wire, exact: Wire) -> None:
    endpoint.said()
    seen: Counter[int] = Counter()
    wrong: dict[str, str] = {}
    for number in range(CASES):
        rng = dice("filter", number)
        client = exact if rng.random() < 0.3 else okta
        asked, got = rng.choice(WAYS)(rng, client, rng.choice(("Users", "Users", "Groups")))
        seen[got.status] += 1
        complained = complaint(got) or (f"status {got.status}" if got.status not in (200, 204, 400) else None)
        if complained:
            wrong[complained] = f"case {number}: {asked[:1500]}\n    answered {got.status} {got.raw[:400]!r}"
    assert not wrong, "\n".join([REPLAY, *(f"{what}: {shown}" for what, shown in wrong.items())])
    assert min(seen[200], seen[400]) > CASES // 10, seen
    assert endpoint.said() == ""


# -- limits ------------------------------------------------------------------------------------------------------


def _long(length: int) -> str:
    text = 'title eq ""'
    return f'{text[:-1]}{"a" * (length - len(text))}"'


def _wide(word: str) -> Callable[[int], str]:
    return lambda terms: f" {word} ".join(["title pr"] * terms)


LIMITS: dict[str, tuple[int, Callable[[int], str]]] = {
    "length": (MAX_LENGTH, _long),
    "brackets": (MAX_DEPTH, lambda depth: "(" * depth + "title pr" + ")" * depth),
    "not": (MAX_DEPTH, lambda depth: "not (" * depth + "title pr" + ")" * depth),
    "not inside a selection": (MAX_DEPTH, lambda depth: f"emails[{'not(' * (depth - 1)}type pr{')' * (depth - 1)}]"),
    "or": (MAX_TERMS, _wide("or")),
    "and": (MAX_TERMS, _wide("AND")),
    "or inside a selection": (MAX_TERMS, lambda terms: f"emails[{' Or '.join(['type pr'] * terms)}]"),
    "and and or": (
        MAX_TERMS,
        lambda terms: " and ".join(["(title pr or id pr)"] * (terms // 2) + ["id pr"][: terms % 2]),
    ),
}


def _asked_both_ways(client: Wire, text: str) -> list[Got]:
    return [client.get(f"/Users?filter={quote(text)}"), client.send("POST", "/Users/.search", {"filter": text})]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("source", ["okta", "exact"])
def test_a_limit_is_met_exactly(request: pytest.FixtureRequest, source: str, limit: str) -> None:
    client: Wire = request.getfixturevalue(source)
    most, text_for = LIMITS[limit]
    for size in (most - 1, most):
        assert [got.status for got in _asked_both_ways(client, text_for(size))] == [200, 200], size
    assert all(got.is_scim_error(400, "invalidFilter") for got in _asked_both_ways(client, text_for(most + 1)))


@pytest.mark.parametrize("limit", ["length", "brackets", "not", "or"])
@pytest.mark.parametrize("source", ["okta", "exact"])
def test_the_limits_hold_for_the_path_of_a_patch(request: pytest.FixtureRequest, source: str, limit: str) -> None:
    """A path has the same limits; at the limit this one is understood, and finds nothing to remove."""
    client: Wire = request.getfixturevalue(source)
    user = client.user(f"limit-{limit}")
    most, text_for = LIMITS[limit]
    around = len("emails[]") - 1 if limit == "length" else limit in ("brackets", "not")  # type is shorter than title
    fitting, beyond = (f"emails[{text_for(most - around + more).replace('title', 'type')}]" for more in (0, 1))
    got = client.patch(f"/Users/{user['id']}", {"op": "remove", "path": fitting})
    assert got.status == 200, got.raw
    got = client.patch(f"/Users/{user['id']}", {"op": "remove", "path": beyond})
    assert got.is_scim_error(400, "invalidPath")
    assert client.get(f"/Users/{user['id']}").json == user


def test_what_is_quoted_counts_for_no_limit_but_the_length(okta: Wire, exact: Wire) -> None:
    for inside in ("((((" * 50, "[" * 500, " and " * 200, r"\" or \" " * 200):
        text = f'title eq "{inside}"'
        for client in (okta, exact):
            assert [got.status for got in _asked_both_ways(client, text)] == [200, 200]


LONGEST_REFUSAL = 16 * 1024
"""Characters; an answer may quote what was wrong with a path, not a megabyte of it."""
BOMBS = (
    "(", "[", "not(", "not (", "emails[", '"', "\\", '"\\', "a.", "urn:a:", "a eq 1 ", "a and ", ") ", " ", "eq ", "\t",
)  # fmt: skip
"""One of these, again and again; some are never closed, others never begin."""


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_does_not_go_off(endpoint: Endpoint, okta: Wire, bomb: str) -> None:
    """Up to the largest body: as a filter, an order, a projection, a path, and as many paths at once."""
    path = f"/Users/{okta.get('/Users?count=1').json['Resources'][0]['id']}"
    before = okta.get(path)
    endpoint.said()
    for length in (MAX_LENGTH, 1_000_000):
        text = (bomb * length)[:length]
        while len(json.dumps(text)) > length:
            text = text[: len(text) // 2]
        for name, value in (("filter", text), ("sortBy", text), ("attributes", [text]), ("excludedAttributes", [text])):
            got = okta.send("POST", "/Users/.search", {name: value})
            assert complaint(got) is None, (name, got.raw[:300])
            assert len(got.raw) < LONGEST_REFUSAL, (name, len(got.raw))
        assert okta.patch(path, {"op": "replace", "path": text, "value": "x"}).status == 400
        assert okta.patch(path, {"op": "replace", "path": f"emails[{text}].value", "value": "x"}).status == 400
    after = okta.get(path)
    assert (after.raw, after.headers["etag"]) == (before.raw, before.headers["etag"])
    assert endpoint.said() == ""


# -- what is easily missed ---------------------------------------------------------------------------------------

MISSED: dict[str, tuple[dict[str, Any], str]] = {
    "a letter outside ASCII": ({"displayName": "Émile Zola"}, 'displayName eq "émile zola"'),
    "a letter that is ASCII in lower case": ({"title": "\u212aelvin scale"}, 'title eq "kelvin scale"'),
    "two letters that are one": ({"title": "Straßenbau"}, 'title eq "strassenbau"'),
    "an address that is somebody else's first": ({}, 'emails.value eq "shared@example.com"'),
    "an empty text": ({"externalId": "", "title": "mt"}, 'title eq "mt" and (externalId eq "" or externalId eq null)'),
    "a derived name": ({}, 'groups.display eq "{team}"'),
    "a derived type": ({}, 'groups.type eq "direct" and groups.display sw "{team}"'),
    "a derived id among others": ({}, 'groups[type pr and value eq "{team_id}"]'),
    "a derived address": ({}, 'groups.$ref eq "{team_location}"'),
    "a version": ({}, 'meta.version eq "W/\\"1\\"" and userName eq "{login}"'),
    "a location": ({}, 'meta.location eq "{location}"'),
}


@pytest.mark.parametrize("source", ["okta", "exact"])
@pytest.mark.parametrize("what", MISSED)
def test_what_is_easily_missed(request: pytest.FixtureRequest, source: str, what: str) -> None:
    """It is found, or refused for what it is, but never passed over in silence; "straße" may be "strasse" or not."""
    client: Wire = request.getfixturevalue(source)
    attributes, text = MISSED[what]
    login = f"missed-{what.replace(' ', '-')}"
    client.user(f"other-{login}", emails=[{"value": "shared@example.com", "primary": True}])
    user = client.user(login, emails=[{"value": f"{login}@example.com"}, {"value": "shared@example.com"}], **attributes)
    team = client.group(f"team-{login}", user["id"])
    names = {"login": login, "location": user["meta"]["location"]}
    names |= {"team": team["displayName"], "team_id": team["id"], "team_location": team["meta"]["location"]}
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    found = []
    for form in (text, f"({text}) and schemas pr", f"schemas pr and not (not ({text}))"):
        got = client.get(f"/Users?filter={quote(form)}&count=200")
        assert got.status in (200, 400), got.raw
        found.append(got.status == 400 or user["id"] in [one["id"] for one in got.json["Resources"]])
    assert found in ([True] * 3, [what != "two letters that are one"] * 3), text


HALVES = (
    'userName eq "{}"', 'displayName co "{}"', 'emails.value eq "{}"', 'emails[type eq "{}"]', 'title ew "{}"',
    'groups eq "{}"',
)  # fmt: skip


@pytest.mark.parametrize("half", ["\\ud800", "a\\udfff", "\\uDBFFx", "\\ud800\\ud800", "\\u0000"])
@pytest.mark.parametrize("source", ["okta", "exact"])
def test_half_a_pair_is_refused_wherever_it_hides(request: pytest.FixtureRequest, source: str, half: str) -> None:
    """The text of a filter or path is JSON: what a body must not hold can be written there with an escape."""
    client: Wire = request.getfixturevalue(source)
    user, group = client.user(f"half-{half}"), client.group(f"half-{half}")
    before = client.get(f"/Users/{user['id']}").raw, client.get(f"/Groups/{group['id']}").raw
    for text in HALVES:
        for got in _asked_both_ways(client, text.format(half)):
            assert got.is_scim_error(400, "invalidFilter"), (text, got.raw)
    paths = [f'emails[type eq "{half}"].value', f'emails[value eq "{half}"]', f'emails.type eq "{half}"']
    answers = [client.patch(f"/Users/{user['id']}", {"op": "add", "path": path, "value": "x"}) for path in paths]
    answers.append(client.patch(f"/Users/{user['id']}", {"op": "add", "value": {paths[0]: "x"}}))
    answers.append(client.patch(f"/Groups/{group['id']}", {"op": "remove", "path": f'members[value eq "{half}"]'}))
    assert [got.status for got in answers] == [400] * 5
    assert (client.get(f"/Users/{user['id']}").raw, client.get(f"/Groups/{group['id']}").raw) == before
