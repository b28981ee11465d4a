"""The request log, the judge of order; it never holds a raw key."""

from __future__ import annotations

import json

from .client import ADMIN, Client


def test_entries(either: Client) -> None:
    raw, token = either.key(user_id="ada")
    either.get("/key/list", {"user_id": "ada", "page": "1"}, replica=1)
    either.post("/key/block", {"key": token})
    either.get("/v1/models", key=raw)
    either.get("/health/liveliness", key=None)
    rows = either.log()
    assert [row["path"] for row in rows] == ["/key/list", "/key/block", "/v1/models", "/health/liveliness"]
    assert [row["caller"] for row in rows] == ["admin", "admin", "key", "none"]
    assert [row["status"] for row in rows] == [200, 200, 401, 200]
    assert rows[0]["query"] == {"user_id": "ada", "page": "1"}
    assert (rows[0]["replica"], rows[1]["body"]) == (1, {"key": token})
    assert rows[0]["t"] <= rows[1]["t"] <= rows[2]["t"]
    assert {"n", "at", "method", "fault"} < set(rows[0])


def test_since_and_clear(api: Client) -> None:
    for _ in range(3):
        api.get("/team/list")
    numbers = [row["n"] for row in api.log()]
    assert [row["n"] for row in api.log(since=numbers[1])] == numbers[2:]
    api.call("DELETE", "/_sandbox/log")
    assert api.log() == []
    api.get("/team/list")
    assert [row["n"] for row in api.log(since=numbers[2])] == [numbers[2] + 1]


def test_faults_are_named(api: Client) -> None:
    api.fault(path="/team/list", status=500, when="after")
    api.get("/team/list")
    assert api.log()[0]["fault"] == "status 500 after"


def test_raw_keys_are_masked_everywhere(either: Client) -> None:
    raw, _ = either.key(user_id="ada")
    either.get("/key/info", {"key": raw})
    either.post("/key/block", {"key": raw, "nested": [{"list": [f"see {raw}"]}]})
    either.call("DELETE", "/key/delete", {"keys": [raw]})
    either.post("/key/delete", {"keys": [raw]})
    either.post(f"/key/{raw}/regenerate")
    either.post("/key/block", f"not json {raw}".encode())
    either.post("/key/block", json.dumps({"key": raw}).replace("sk-", "\\u0073k-").encode())
    either.fault(path="/x", status=400, match={"key": raw})
    told = json.dumps([either.log(), either.state(), either.get("/audit").body, either.get("/_sandbox/faults").body])
    assert raw not in told
    assert raw[3:-4] not in told
    assert f"sk-...{raw[-4:]}" in told
    assert ADMIN not in told


def test_names_that_look_like_keys_stay(api: Client) -> None:
    api.post("/key/block", {"key": "task-force", "team": "desk-12"})
    assert api.log()[0]["body"] == {"key": "task-force", "team": "desk-12"}
