"""Two endpoints over one directory, with short cuts and without: whatever is read is the same, ids and order included."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.endpoint import ENTERPRISE, GROUP, PATCH_OP, USER

from .agreement import EXCEPTIONS, unlike
from .pair import ACME, EXTENSION, Ask, Pair, Seen, one_store

SEEDS = range(1, 1 + max(1, int(float(os.environ.get("IDSYNC_FUZZ", "1")))))
"""One directory each; the seed is in the name of the test."""
USERS, GROUPS = 30, 9
TEXTS = ("x", "Ä ö", 'q"\\', " ", "\u2028", "</script>", "\x7f", "😀", "0", "ﬁ")


SOURCE = "exact"
"""The strict one: tolerance would leave out what is odd."""


class Maker:
    """Makes documents by chance; but the first of a kind always has everything."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.whole = False

    def _pick(self, *values: Any) -> Any:
        return values[0] if self.whole else self.chance.choice(values)

    def _some(self, **values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if self.whole or self.chance.random() < 0.6}

    def _text(self) -> str:
        return str(self._pick(*TEXTS)) + str(self._pick(*TEXTS))

    def _list(self, **values: Any) -> list[dict[str, Any]]:
        made = [self._some(**values) for _ in range(self._pick(2, 0, 1, 3))]
        return [{"value": self._text(), **one} for one in made]

    def user(self, number: int) -> Ask:
        pick, text, self.whole = self._pick, self._text, number == 0
        document = self._some(
            externalId=pick("e1", "E1", f"e{number}"),
            active=pick(True, False),
            name=self._some(givenName=text(), familyName=text(), formatted=text()),
            displayName=pick("Zoë", "zoë", text()),
            nickName=text(),
            profileUrl="https://example.com/%C3%A4?a=b#c",
            title=text(),
            userType=text(),
            preferredLanguage="de-CH",
            locale="de-CH",
            timezone="Europe/Zurich",
            emails=self._list(type=pick("work", "home"), display=text(), primary=False),
            phoneNumbers=self._list(type="work", display=text()),
            ims=self._list(type="xmpp"),
            photos=[{"value": "https://example.com/photo", "type": "thumbnail"}],
            addresses=[self._some(streetAddress="1\n2", country="CH", primary=True, type="work")],
            entitlements=self._list(type=text()),
            roles=self._list(display=text()),
            x509Certificates=[{"value": "YWJjZA=="}],
        )
        work = self._some(
            employeeNumber=text(), costCenter=text(), organization=text(), department=text(), manager={"value": "<u0>"}
        )
        own = self._some(
            badge=text(),
            level=pick(0, -5, 2**40),
            share=pick(0.1, 2, -1e-9, 1e21),
            since=pick("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5+01:00"),
            remote=pick(True, False),
            desks=self._list(floor=3),
        )
        extra = {urn: found for urn, found in ((ENTERPRISE, work), (ACME, own)) if found}
        login = (f"user{number}", f"Straße {number}", f"ДИМА{number}", f'q"\\{number}')[number % 4]
        return Ask("POST", "/Users", {"schemas": [USER, *extra], "userName": login, **document, **extra}, source=SOURCE)

    def group(self, number: int) -> Ask:
        self.whole = number == 0
        known = [f"<u{one}>" for one in range(USERS)] + [f"<g{one}>" for one in range(number)] + ["nobody"]
        listed = known[:3] if self.whole else self.chance.sample(known, self._pick(0, 1, 5, 30))
        if number == 1:
            listed = ["<g0>", "<u1>"]
        document = self._some(externalId=self._pick("e1", f"e{number}"))
        name = f"{TEXTS[number % len(TEXTS)]}{number}"
        return Ask(
            "POST",
            "/Groups",
            {"schemas": [GROUP], "displayName": name, "members": [{"value": one} for one in listed], **document},
            source=SOURCE,
        )


@pytest.fixture(scope="module", params=SEEDS)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Users with everything that RFC 7643 and an operator's extension have, and nested groups."""
    make = Maker(request.param)
    with one_store(tmp_path_factory.mktemp("directory"), EXTENSION) as made:
        for ask in (*map(make.user, range(USERS)), *map(make.group, range(GROUPS))):
            made.make(ask)
        yield made


def same(made: Pair, path: str, body: Any = None, *, source: str = SOURCE) -> Seen:
    """Read on both sides, compare all of it, and return it."""
    ask = Ask("GET" if body is None else "POST", path, body, source=source)
    answers = made.ask(ask)
    for one in EXCEPTIONS:
        answers = one.forgive(ask, *answers)
    found = unlike(*answers)
    assert not found, f"{ask}\n{found}"
    assert answers[0].status == 200, ask
    return answers[0]


def test_every_record(directory: Pair) -> None:
    made = [f"u{number}" for number in range(USERS)] + [f"g{number}" for number in range(GROUPS)]
    for name in made:
        at = f"/{'Users' if name[0] == 'u' else 'Groups'}/<{name}>"
        assert same(directory, at).body["id"] == f"<{name}>"
        assert same(directory, f"{at}?attributes=meta,groups,MEMBERS").body.keys() <= {
            "id", "schemas", "meta", "groups", "members"
        }  # fmt: skip


ATTRIBUTES = {
    "Users": ("userName", "emails", "name", "groups", "meta", "schemas", "active", "externalId", "id", "displayName"),
    "Groups": ("displayName", "members", "externalId", "meta", "id", "schemas"),
}


@pytest.mark.parametrize("kind", ATTRIBUTES)
@pytest.mark.parametrize("word", ["attributes", "excludedAttributes"])
def test_every_part_of_a_record(directory: Pair, kind: str, word: str) -> None:
    names = ATTRIBUTES[kind]
    for listed in (
        *names,
        ",".join(names[:3]),
        f" {names[0].upper()} ,{names[4]}",
        f"{names[0]}.value,{ENTERPRISE}:manager",
    ):
        same(directory, f"/{kind}?{word}={quote(listed)}&count=200")


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_every_page_by_number(directory: Pair, kind: str) -> None:
    whole = same(directory, f"/{kind}?count=200").body["Resources"]
    for start in (-1, 0, 1, 2, len(whole), len(whole) + 1):
        for count in (0, 1, 7, 200, 1000):
            found = same(directory, f"/{kind}?startIndex={start}&count={count}").body
            first = max(start, 1) - 1
            assert found["Resources"] == whole[first : first + min(count, 200)]


FILTERS = {
    "Users": (
        'userName eq "USER4"', 'USERNAME eq "strasse 1"', 'userName eq "us\\u0065r4"', 'userName eq "Q\\"\\\\3"',
        'externalId eq "e1"', 'id eq "<u3>"', 'emails eq "xx"', 'emails[value eq "XX" and type eq "work"]',
        'userName sw "дима"', 'active eq true', 'not (active eq true)', 'displayName co "O"', 'displayName pr',
        'groups eq "<g0>"', 'groups.value eq "<g1>" and active eq true', 'emails pr', 'name.givenName sw "x"',
        'meta.created gt "2027-01-15T08:00:05Z"', 'externalId ne "e1" or userName ew "2"', 'title eq "XX"',
        f'{ACME}:level ge 0', f'{ENTERPRISE}:department pr', f'{USER}:userName eq "user0"',
    ),
    "Groups": (
        'displayName eq "X0"', 'externalId eq "e1"', 'id eq "<g1>"', 'members eq "<u0>"', 'members.value eq "<g0>"',
        'members[value eq "<u1>"]', 'displayName sw "Ä"', 'meta.lastModified le "2027-01-15T08:00:45Z"', 'members pr',
    ),
}  # fmt: skip
SORTS = {
    "Users": ("userName", "externalId", "displayName", "active", "meta.created", "emails", "name.familyName"),
    "Groups": ("displayName", "externalId", "meta.lastModified"),
}


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_every_filter(directory: Pair, kind: str) -> None:
    for text in FILTERS[kind]:
        for more in ("", "&count=2", "&startIndex=2&count=1", f"&attributes={ATTRIBUTES[kind][0]}", "&sortBy=id"):
            same(directory, f"/{kind}?filter={quote(text)}{more}")
        whole = same(directory, f"/{kind}?filter={quote(text)}&count=200").body["totalResults"]
        assert whole > 0, f"a filter that finds nobody shows nothing: {text}"
        same(directory, f"/{kind}/.search", {"filter": text, "count": 5, "excludedAttributes": ["meta"]})


@pytest.mark.parametrize("kind", ATTRIBUTES)
@pytest.mark.parametrize("way", ["ascending", "descending"])
def test_every_order_by_number_and_by_cursor(directory: Pair, kind: str, way: str) -> None:
    for name in SORTS[kind]:
        query = f"/{kind}?sortBy={quote(name)}&sortOrder={way}"
        whole = [one["id"] for one in same(directory, f"{query}&count=200").body["Resources"]]
        assert len(whole) == (USERS if kind == "Users" else GROUPS)
        found: list[str] = []
        for _ in range(USERS):
            page = same(directory, f"{query}&count=9&cursor={'<nextCursor>' if found else ''}").body
            found += [one["id"] for one in page["Resources"]]
            if "nextCursor" not in page:
                break
        assert found == whole


@pytest.mark.parametrize("source", ["okta", "exact"])
def test_records_with_an_extension_that_is_no_longer_configured(tmp_path: Path, source: str) -> None:
    with one_store(tmp_path, EXTENSION) as before:
        before.make(
            Ask("POST", "/Users", {"schemas": [USER, ACME], "userName": "ann", ACME: {"badge": "b"}}, source=source)
        )
        known = before.rows.ids["u0"]
    title = {"schemas": [PATCH_OP], "Operations": [{"op": "replace", "value": {"title": "t"}}]}
    with one_store(tmp_path) as after:
        for side in (after.rows, after.core):
            side.learn("u0", known)
        for path in (
            "/Users/<u0>",
            "/Users",
            "/Users/<u0>?attributes=userName",
            "/Users/<u0>?excludedAttributes=name.givenName",
        ):
            same(after, path, source=source)
        rows, core = after.ask(Ask("PATCH", "/Users/<u0>", title, source=source))
        assert (rows.status, core.status) == (200, 200)
