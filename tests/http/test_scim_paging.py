"""Pages by number and by cursor (RFC 7644 §3.4.2.4, RFC 9865), while people come and go in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.endpoint import Client, serving

from idsync.web.auth import ScimSource

NAMES = [f"p{number:02}@example.com" for number in range(7)]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with serving(tmp_path, ScimSource("okta")) as served:
        okta = served.clients["okta"]
        made = [okta.user(name, displayName=f"P {index % 3}" if index else None) for index, name in enumerate(NAMES)]
        okta.group("inner", *(one["id"] for one in made))
        yield okta


def pages(client: Client, path: str, *, back: bool = False) -> list[list[str]]:
    """Follow the cursors from the first page to the last, or on the way back to the first."""
    found = []
    field = "previousCursor" if back else "nextCursor"
    cursor = path.partition("cursor=")[2].partition("&")[0]
    while True:
        answer = client.get(path.replace(f"cursor={cursor}", f"cursor={quote(cursor)}")).json
        found.append([names(one) for one in answer["Resources"]])
        assert "startIndex" not in answer
        assert answer["itemsPerPage"] == len(answer["Resources"])
        if field not in answer:
            return found
        path = path.replace(f"cursor={cursor}", f"cursor={answer[field]}")
        cursor = answer[field]


def names(resource: Any) -> str:
    return str(resource.get("userName") or resource.get("displayName"))


LISTS = {
    "as they came": ("/Users?cursor=&count=3", NAMES),
    "sorted": ("/Users?cursor=&count=3&sortBy=userName&sortOrder=descending", NAMES[::-1]),
    "sorted by what some lack": (
        "/Users?cursor=&count=2&sortBy=displayName",
        [NAMES[index] for index in (3, 6, 1, 4, 2, 5, 0)],
    ),
    "filtered": (
        f"/Users?cursor=&count=2&filter={quote('active eq true and userName ge ' + chr(34) + NAMES[2] + chr(34))}",
        NAMES[2:],
    ),
    "no column for it": (f"/Users?cursor=&count=2&filter={quote('not (title pr)')}", NAMES),
    "every kind": (
        f"?cursor=&count=3&filter={quote('meta.created gt ' + chr(34) + '2020-01-01T00:00:00Z' + chr(34))}",
        [*NAMES, "inner"],
    ),
}


@pytest.mark.parametrize(("path", "expected"), LISTS.values(), ids=LISTS)
def test_cursors_lead_through_everything_once(client: Client, path: str, expected: list[str]) -> None:
    walked = pages(client, path)
    flat = [name for page in walked for name in page]
    assert sorted(flat) == sorted(expected)
    if "displayName" not in path:
        assert flat == expected
    else:  # equal values are in the order of ids, which are random
        assert flat[-1] == expected[-1]
        assert [sorted(flat[index : index + 2]) for index in (0, 2, 4)] == [
            [NAMES[3], NAMES[6]],
            [NAMES[1], NAMES[4]],
            [NAMES[2], NAMES[5]],
        ]


@pytest.mark.parametrize(("path", "expected"), LISTS.values(), ids=LISTS)
def test_previous_cursors_lead_back(client: Client, path: str, expected: list[str]) -> None:
    there = pages(client, path)
    cursor = ""
    for _ in there[:-1]:
        cursor = client.get(path.replace("cursor=", f"cursor={cursor}")).json["nextCursor"]
    back = pages(client, path.replace("cursor=", f"cursor={cursor}"), back=True)
    assert back[::-1] == there


def test_who_comes_and_goes_neither_hides_nor_repeats_the_others(client: Client) -> None:
    first = client.get("/Users?cursor=&count=3").json
    client.send("DELETE", f"/Users/{first['Resources'][0]['id']}")
    client.send("DELETE", f"/Users/{first['Resources'][2]['id']}")
    client.user("late@example.com")
    seen = pages(client, f"/Users?cursor={first['nextCursor']}&count=3")
    assert [name for page in seen for name in page] == [*NAMES[3:], "late@example.com"]
    by_number = client.get("/Users?startIndex=4&count=3").json
    assert [names(one) for one in by_number["Resources"]] == ["p05@example.com", "p06@example.com", "late@example.com"]


def test_a_cursor_serves_the_search_it_was_made_for(client: Client) -> None:
    cursor = client.get("/Users?cursor=&count=3").json["nextCursor"]
    assert client.get(f"/Users?cursor={cursor}&count=2").is_scim_error(400, "invalidCount")
    assert client.get(f"/Users?cursor={cursor}&count=3&filter=active+eq+true").is_scim_error(400, "invalidCursor")
    assert client.get(f"/Groups?cursor={cursor}&count=3").is_scim_error(400, "invalidCursor")
    assert client.get(f"/Users?cursor={cursor[:-2]}xx&count=3").is_scim_error(400, "invalidCursor")
    assert client.get("/Users?cursor=nonsense&count=3").is_scim_error(400, "invalidCursor")
    assert client.get(f"/Users?cursor={cursor}&count=3&startIndex=2").is_scim_error(400, "invalidValue")
    assert client.get("/Users?cursor=&count=0").json["totalResults"] == 7


def test_search_with_a_body_pages_as_well(client: Client) -> None:
    request = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"], "cursor": "", "count": 4}
    first = client.send("POST", "/Users/.search", request).json
    second = client.send("POST", "/Users/.search", {**request, "cursor": first["nextCursor"]}).json
    assert [names(one) for one in first["Resources"] + second["Resources"]] == NAMES
    assert "nextCursor" not in second


def test_discovery_says_how_lists_are_paged(client: Client) -> None:
    paging = client.get("/ServiceProviderConfig").json["pagination"]
    assert paging["cursor"] is True
    assert paging["index"] is True
    assert paging["defaultPaginationMethod"] == "index"
    assert paging["cursorTimeout"] == 3600


def listed(client: Client, start: int) -> list[str]:
    return [names(one) for one in client.get(f"/Users?startIndex={start}&count=2").json["Resources"]]


def test_pages_one_after_the_other_are_those_by_number(client: Client) -> None:
    """Where a page ended is remembered, and forgotten with the first change."""
    assert [name for start in (1, 3, 5, 7) for name in listed(client, start)] == NAMES
    assert listed(client, 4) == NAMES[3:5]
    assert listed(client, 3) == NAMES[2:4]
    first = client.get("/Users?count=1").json["Resources"][0]
    client.send("DELETE", f"/Users/{first['id']}")
    assert listed(client, 3) == NAMES[3:5]
    assert listed(client, 5) == NAMES[5:7]
