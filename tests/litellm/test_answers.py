"""What the gateway answers to the calls idsync makes, good and bad: the table is LiteLLM 1.108.0's, seen at a real proxy.

Each row is a call, and what it has to be answered: the status, and the shape by which `idsync.gateway.answers` judges
it. The rows are run in order, at the sandbox by `make test` and at a proxy by `make litellm`: when LiteLLM changes, or
the sandbox does, the row that tells them apart is named.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from .place import Proxy

A, B, C, D, ROW, ROWS = "error", "detail error", "detail text", "detail list", "object", "list"
MAIL = "Leo@corp.example"
NOBODY = "a" * 64
"""The id of no key."""
Call = tuple[str, dict[str, Any], str]


def get(path: str, as_key: str = "", **query: Any) -> Call:
    return "GET", {"path": path, "query": query}, as_key


def post(path: str, as_key: str = "", **body: Any) -> Call:
    return "POST", {"path": path, "body": body}, as_key


def shape(body: Any) -> str:
    """Return which of LiteLLM's shapes this is."""
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        return A
    if isinstance(body, dict) and "detail" in body:
        return B if isinstance(body["detail"], dict) else D if isinstance(body["detail"], list) else C
    return ROW if isinstance(body, dict) else ROWS if isinstance(body, list) else type(body).__name__


def leo(**fields: Any) -> dict[str, Any]:
    return {"user_id": "{leo}", "auto_create_key": False, "send_invite_email": False, **fields}


def member(user_id: str, **fields: Any) -> dict[str, Any]:
    return {"user_id": user_id, "role": "user", **fields}


STRANGERS: list[tuple[str, Call, int, str]] = [
    ("an unknown path", get("/nope"), 404, C),
    ("a key that never was", get("/v1/models", as_key="sk-never-was-one-0000"), 401, A),
    ("no key at all", get("/v1/models", as_key="sk"), 401, A),
    ("the wrong verb", ("DELETE", {"path": "/key/delete", "body": {"keys": [NOBODY]}}, ""), 405, C),
    ("too large a page of users", get("/user/list", page_size=101), 422, D),
    ("too large a page of keys", get("/key/list", size=101), 422, D),
]
TEAMS: list[tuple[str, Call, int, str]] = [
    ("a new team", post("/team/new", team_id="{data}", team_alias="{data}", max_budget=7), 200, ROW),
    ("its id again", post("/team/new", team_id="{data}", team_alias="other"), 400, A),
    ("its alias again", post("/team/new", team_id="{lab}", team_alias="{data}"), 200, ROW),
    ("a change", post("/team/update", team_id="{data}", max_budget=5), 200, ROW),
    ("a change of no team", post("/team/update", team_id="{none}", max_budget=5), 404, A),
    ("a team", get("/team/info", team_id="{data}"), 200, ROW),
    ("no team", get("/team/info", team_id="{none}"), 404, A),
]
PEOPLE: list[tuple[str, Call, int, str]] = [
    ("a new account", post("/user/new", **leo(user_email=MAIL, sso_user_id="{sso}", metadata={"own": [1]})), 200, ROW),
    ("its id again", post("/user/new", **leo(user_email="else@corp.example")), 409, A),
    ("its e-mail again", post("/user/new", user_id="{ann}", user_email=MAIL.upper(), auto_create_key=False), 409, A),
    ("its SSO id again", post("/user/new", user_id="{ann}", sso_user_id="{sso}", auto_create_key=False), 500, A),
    ("no role", post("/user/new", user_id="{ann}", user_role="internal_viewer", auto_create_key=False), 422, D),
    (
        "another account",
        post("/user/new", user_id="{ann}", user_email="ann@corp.example", auto_create_key=False),
        200,
        ROW,
    ),
    ("the light row", get("/v2/user/info", user_id="{leo}"), 200, ROW),
    ("no light row", get("/v2/user/info", user_id="{none}"), 404, A),
    ("the row", get("/user/info", user_id="{leo}"), 200, ROW),
    ("no row", get("/user/info", user_id="{none}"), 404, A),
    ("a page past the end", get("/user/list", page=99, page_size=100), 200, ROW),
    ("a member", post("/team/member_add", team_id="{data}", member=member("{leo}")), 200, ROW),
    ("the member again", post("/team/member_add", team_id="{data}", member=member("{leo}")), 400, A),
    ("a member of no team", post("/team/member_add", team_id="{none}", member=member("{leo}")), 404, B),
    ("an admin", post("/team/member_add", team_id="{data}", member=member("{ann}", role="admin")), 400, B),
    ("an admin of a member", post("/team/member_update", team_id="{data}", user_id="{leo}", role="admin"), 400, C),
    ("a user again", post("/team/member_update", team_id="{data}", user_id="{leo}", role="user"), 200, ROW),
    ("a member of two", post("/team/member_add", team_id="{lab}", member=[member("{leo}"), member("{ann}")]), 200, ROW),
    ("teams by roster", get("/team/list", user_id="{leo}"), 200, ROWS),
    ("teams of nobody", get("/team/list", user_id="{none}"), 200, ROWS),
]
KEYS: list[tuple[str, Call, int, str]] = [
    ("a key of a team", post("/key/generate", user_id="{leo}", team_id="{data}", key_alias="{alias}"), 200, "key 1"),
    ("a personal key", post("/key/generate", user_id="{leo}", duration="1h"), 200, "key 2"),
    ("a key of another team", post("/key/generate", user_id="{leo}", team_id="{lab}"), 200, "key 3"),
    ("a session", post("/key/generate", user_id="{leo}", team_id="litellm-dashboard"), 200, "key 4"),
    ("a shared key", post("/key/generate", team_id="{data}"), 200, "key 5"),
    ("its alias again", post("/key/generate", user_id="{leo}", key_alias="{alias}"), 400, A),
    ("a key's row", get("/key/info", key="{key 1.id}"), 200, ROW),
    ("no key's row", get("/key/info", key=NOBODY), 404, A),
    ("a key works", get("/v1/models", as_key="{key 1}"), 200, ROW),
    ("a session works", get("/v1/models", as_key="{key 4}"), 200, ROW),
    ("a holder is no admin", post("/user/update", as_key="{key 1}", user_id="{leo}", user_role="proxy_admin"), 401, A),
]
FENCE: list[tuple[str, Call, int, str]] = [
    ("a fence", post("/user/update", user_id="{leo}", metadata={"own": [1], "scim_active": False}), 200, ROW),
    ("a fenced key", get("/v1/models", as_key="{key 1}"), 401, A),
    ("a fenced session", get("/v1/models", as_key="{key 4}"), 401, A),
    ("a fenced holder makes no key", post("/key/generate", as_key="{key 2}"), 401, A),
    ("no metadata", post("/user/update", user_id="{leo}", metadata={}), 200, ROW),
    ("does not lift it", get("/v1/models", as_key="{key 1}"), 401, A),
    ("a role", post("/user/update", user_id="{leo}", user_role="internal_user"), 200, ROW),
    ("does not either", get("/v1/models", as_key="{key 1}"), 401, A),
    ("the lift", post("/user/update", user_id="{leo}", metadata={"own": [1], "scim_active": True}), 200, ROW),
    ("a key works again", get("/v1/models", as_key="{key 1}"), 200, ROW),
    ("a password", post("/user/update", user_id="{leo}", password="Aa1!not-a-secret-of-anybody"), 200, ROW),
    ("ends sessions", get("/v1/models", as_key="{key 4}"), 401, A),
    ("and no keys", get("/v1/models", as_key="{key 1}"), 200, ROW),
]
ENDING: list[tuple[str, Call, int, str]] = [
    ("a block", post("/key/block", key="{key 1.id}"), 200, ROW),
    ("a block again", post("/key/block", key="{key 1.id}"), 200, ROW),
    ("a block of no key", post("/key/block", key=NOBODY), 404, A),
    ("a blocked key", get("/v1/models", as_key="{key 1}"), 401, A),
    ("the block lifted", post("/key/unblock", key="{key 1.id}"), 200, ROW),
    ("a key works again", get("/v1/models", as_key="{key 1}"), 200, ROW),
    ("a team left", post("/team/member_delete", team_id="{data}", user_id="{leo}"), 200, ROW),
    ("ends its key", get("/v1/models", as_key="{key 1}"), 401, A),
    ("and no other", get("/v1/models", as_key="{key 2}"), 200, ROW),
    ("nor the shared one", get("/v1/models", as_key="{key 5}"), 200, ROW),
    ("a team left again", post("/team/member_delete", team_id="{data}", user_id="{leo}"), 400, B),
    ("no team left", post("/team/member_delete", team_id="{none}", user_id="{leo}"), 400, B),
    ("a deletion that names a stranger", post("/key/delete", keys=["{key 2.id}", NOBODY]), 200, ROW),
    ("a deletion of what is gone", post("/key/delete", keys=["{key 2.id}"]), 404, A),
    ("a deletion of nothing", post("/key/delete"), 422, D),
    ("a deleted key", get("/v1/models", as_key="{key 2}"), 401, A),
    ("a deleted key's row", get("/key/info", key="{key 2.id}"), 200, ROW),
    ("a block of a deleted key", post("/key/block", key="{key 2.id}"), 404, A),
    ("an invitation that is not there", post("/invitation/delete", invitation_id="{none}"), 400, B),
    ("no list of invitations", get("/invitation/list"), 404, C),
    (
        "an organization without a licence",
        (
            "DELETE",
            {"path": "/organization/member_delete", "body": {"organization_id": "{none}", "user_id": "{leo}"}},
            "",
        ),
        403,
        B,
    ),
    ("a deletion with a stranger in it", post("/user/delete", user_ids=["{leo}", "{none}"]), 404, B),
    ("which did nothing", get("/v2/user/info", user_id="{leo}"), 200, ROW),
    ("an account deleted", post("/user/delete", user_ids=["{leo}"]), 200, "int"),
    ("ends its keys", get("/v1/models", as_key="{key 3}"), 401, A),
    ("which are in no archive", get("/key/info", key="{key 3.id}"), 404, A),
]


class Teller:
    """Makes calls, with names in braces put in."""

    def __init__(self, gateway: Proxy) -> None:
        self._gateway = gateway
        names = ("leo", "ann", "data", "lab", "none", "sso", "alias")
        self._said = {f"{{{name}}}": f"{name}-{gateway.tag}" for name in names}

    def tell(self, call: Call, expected: str) -> tuple[int, str]:
        method, what, as_key = call
        query = self._put(what.get("query") or {})
        path = what["path"] + (f"?{urlencode(query)}" if query else "")
        body = self._put(what["body"]) if "body" in what else None
        key = {"key": self._put(as_key)} if as_key else {}
        answer = self._gateway.call(method, path, body, **key)
        if expected.startswith("key ") and answer.status == 200:
            self._said |= {f"{{{expected}}}": answer.body["key"], f"{{{expected}.id}}": answer.body["token"]}
            return answer.status, expected
        return answer.status, shape(answer.body)

    def _put(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._put(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._put(inner) for inner in value]
        for name, said in self._said.items():
            value = value.replace(name, said) if isinstance(value, str) else value
        return value


@pytest.fixture
def teller(gateway: Proxy) -> Teller:
    return Teller(gateway)


def test_every_call_is_answered_as_litellm_answers_it(teller: Teller) -> None:
    rows = [*STRANGERS, *TEAMS, *PEOPLE, *KEYS, *FENCE, *ENDING]
    answered = [(what, *teller.tell(call, expected)) for what, call, _, expected in rows]
    told = [(what, status, expected) for what, _, status, expected in rows]
    assert [pair for pair in zip(told, answered, strict=True) if pair[0] != pair[1]] == []
