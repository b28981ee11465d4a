"""Rules that break calls, and what is true afterwards."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator

import pytest

from .client import Client


@pytest.fixture
def key(api: Client) -> tuple[str, str]:
    return api.key(user_id="ada")


def live(api: Client) -> int:
    return len(api.state()["keys"])


@pytest.mark.parametrize(("when", "left"), [("before", 1), ("after", 0)])
def test_an_error_before_or_after_the_write(api: Client, key: tuple[str, str], when: str, left: int) -> None:
    api.fault(method="POST", path="/key/delete", status=500, when=when, times=1)
    answer = api.post("/key/delete", {"keys": [key[1]]})
    assert (answer.status, live(api)) == (500, left)
    assert api.post("/key/delete", {"keys": [key[1]]}).status == (200 if left else 404)


@pytest.mark.parametrize(("when", "left"), [("before", 1), ("after", 0)])
def test_a_dropped_connection(api: Client, key: tuple[str, str], when: str, left: int) -> None:
    api.fault(path="/key/delete", drop=when)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        api.post("/key/delete", {"keys": [key[1]]})
    assert live(api) == left


def test_a_cut_answer(api: Client) -> None:
    api.fault(path="/user/list", truncate=True)
    with pytest.raises(http.client.IncompleteRead):
        api.get("/user/list")


def test_a_hanging_call(api: Client, key: tuple[str, str]) -> None:
    api.fault(path="/key/delete", hang=True, times=1)
    with pytest.raises(TimeoutError):
        api.post("/key/delete", {"keys": [key[1]]}, timeout=0.1)
    assert live(api) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/key/delete", {"keys": ["{token}"]}),
        ("/key/block", {"key": "{token}"}),
        ("/team/member_delete", {"team_id": "lab", "user_id": "ada"}),
        ("/user/update", {"user_id": "ada", "metadata": {"scim_active": False}}),
    ],
)
def test_a_lie_answers_success_and_does_nothing(api: Client, path: str, body: dict[str, object]) -> None:
    api.hook("seed", {"teams": [{"team_id": "lab"}], "members": [{"team_id": "lab", "user_id": "ada"}]})
    raw, token = api.key(user_id="ada", team_id="lab")
    api.hook("warm")
    before = api.state()
    api.fault(path=path, lie=True)
    text = {name: _filled(value, token) for name, value in body.items()}
    assert api.post(path, text).status == 200
    assert api.state() == before
    assert api.tried(raw) == [200, 200, 200]


def _filled(value: object, token: str) -> object:
    if isinstance(value, list):
        return [token]
    return token if value == "{token}" else value


def test_a_lie_is_not_told_of_what_is_not_there(api: Client) -> None:
    api.fault(path="/key/delete", lie=True)
    assert api.post("/key/delete", {"keys": ["ghost"]}).status == 404


def test_skip_and_times(api: Client) -> None:
    api.fault(path="/user/*", status=503, skip=1, times=2)
    assert [api.get("/user/list").status for _ in range(5)] == [200, 503, 503, 200, 200]
    [rule] = api.get("/_sandbox/faults").body["faults"]
    assert (rule["seen"], rule["fired"], rule["name"]) == (5, 2, "status 503 before")
    assert api.call("DELETE", "/_sandbox/faults").body == {"faults": []}


def test_match_on_body_query_and_replica(api: Client) -> None:
    api.fault(path="/key/delete", match={"keys": ["b"]}, status=418)
    api.fault(path="/key/list", match={"page": 2}, status=418)
    api.fault(path="/team/list", replica=1, status=418)
    assert api.post("/key/delete", {"keys": ["a"]}).status == 404
    assert api.post("/key/delete", {"keys": ["a", "b"]}).status == 418
    assert [api.get("/key/list", {"page": page}).status for page in (1, 2)] == [200, 418]
    assert [api.get("/team/list", replica=n).status for n in (0, 1)] == [200, 418]


def test_probability_is_seeded(api: Client) -> None:
    def run() -> list[int]:
        api.call("DELETE", "/_sandbox/faults")
        api.fault(path="/team/list", status=500, probability=0.5, seed=7)
        return [api.get("/team/list").status for _ in range(20)]

    first = run()
    assert first == run()
    assert set(first) == {200, 500}


def test_an_edge_answers_in_html(api: Client) -> None:
    html = {"status": 502, "body": "<html>Bad gateway</html>", "content_type": "text/html"}
    api.fault(path="*", **html, headers={"Retry-After": "7"})
    answer = api.get("/key/list")
    assert (answer.status, answer.body) == (502, "<html>Bad gateway</html>")
    assert (answer.headers["content-type"], answer.headers["retry-after"]) == ("text/html", "7")


def test_a_delay(api: Client) -> None:
    api.fault(path="/team/list", delay=0.05)
    began = time.monotonic()
    assert api.get("/team/list").status == 200
    assert time.monotonic() - began >= 0.05


def test_a_key_made_between_listing_and_deletion(api: Client, key: tuple[str, str]) -> None:
    api.fault(path="/key/list", then={"generate_key": {"user_id": "ada"}})
    totals = [api.get("/key/list", {"user_id": "ada"}).body["total_count"] for _ in range(3)]
    assert totals == [1, 2, 2]


def test_other_acts_behind_the_back(api: Client) -> None:
    api.hook("seed", {"users": [{"user_id": "ada"}], "teams": [{"team_id": "lab"}]})
    raw, token = api.key(user_id="ada")
    api.ok("/key/block", {"key": token})
    then = {
        "member_add": {"team_id": "lab", "user_id": "ada"},
        "unblock": {"user_id": "ada"},
        "set_metadata": {"user_id": "ada", "metadata": {"a": 1}},
    }
    api.fault(path="/team/list", then=then)
    api.get("/team/list")
    assert (api.roster("lab"), api.tried(raw)) == (["ada"], [200, 200, 200])
    assert api.state()["users"][0]["metadata"] == {"a": 1}


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"path": "/x"},
        {"path": "/x", "status": 500, "lie": True},
        {"path": "/x", "oops": 1},
        {"path": "/x", "drop": "soon"},
    ],
)
def test_rules_that_are_none(api: Client, rule: dict[str, object]) -> None:
    assert api.post("/_sandbox/faults", [rule]).status == 400
    assert api.get("/_sandbox/faults").body == {"faults": []}


@pytest.fixture
def lagging(api: Client) -> Iterator[Client]:
    api.hook("options", {"list_delay": 5})
    yield api
    api.hook("options", {"list_delay": 0.0})


def test_lists_may_lag_behind(lagging: Client) -> None:
    lagging.advance(10)
    made = lagging.ok("/key/generate", {"user_id": "ada"})
    listed = {"user_id": "ada"}
    assert lagging.get("/key/list", listed).body["keys"] == []
    assert lagging.get("/key/info", {"key": made["token"]}).status == 200
    lagging.advance(5)
    assert lagging.get("/key/list", listed).body["keys"] == [made["token"]]
    lagging.ok("/key/delete", {"keys": [made["token"]]})
    assert lagging.get("/key/list", listed).body["keys"] == [made["token"]]
    lagging.advance(5)
    assert lagging.get("/key/list", listed).body["keys"] == []


def test_options_are_checked(api: Client) -> None:
    for wrong in ({"fense": False}, {"fence": "no"}, {"broadcast": "radio"}, {"list_delay": "long"}):
        assert api.post("/_sandbox/options", wrong).status == 400
