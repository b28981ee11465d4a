from __future__ import annotations

import hashlib

import pytest

from .client import Client


def test_ids(api: Client, routero: Client) -> None:
    made = api.ok("/key/generate", {"user_id": "ada"})
    assert made["token"] == made["token_id"] == hashlib.sha256(made["key"].encode()).hexdigest()
    made = routero.ok("/key/generate", {"user_id": "ada"})
    assert made["token"].isdecimal()
    assert made["key"].startswith("sk-v2-")
    assert made["key_name"] == f"sk-...{made['key'][-4:]}"


@pytest.mark.parametrize(("path", "litellm", "routero_verb"), [("delete", "POST", "DELETE"), ("update", "POST", "PUT")])
def test_verbs(api: Client, routero: Client, path: str, litellm: str, routero_verb: str) -> None:
    for client, right in ((api, litellm), (routero, routero_verb)):
        for verb in ("POST", "PUT", "DELETE"):
            _, token = client.key(user_id="ada")
            answer = client.call(verb, f"/key/{path}", {"key": token, "keys": [token]})
            assert answer.status == (200 if verb == right else 405)
            if verb != right:
                assert answer.headers["allow"] == right


def test_both_verbs_on_request(routero: Client) -> None:
    routero.hook("options", {"both_verbs": True})
    try:
        _, token = routero.key()
        assert routero.post("/key/update", {"key": token}).status == 200
        assert routero.post("/key/delete", {"keys": [token]}).status == 200
    finally:
        routero.hook("options", {"both_verbs": False})


def test_generate_asks_nothing_of_user_or_team(either: Client) -> None:
    made = either.ok("/key/generate", {"user_id": "nobody", "team_id": "nowhere", "key_alias": "x"})
    assert either.tried(made["key"]) == [200, 200, 200]
    chat = either.post("/v1/chat/completions", {"model": "gpt-5-mini"}, key=made["key"])
    assert chat.status == 404
    taken = either.post("/key/generate", {"key_alias": "x"})
    assert (taken.status, taken.kind, taken.body["error"]["param"]) == (400, "bad_request_error", "key_alias")


def test_delete_echoes_what_was_not_there(api: Client) -> None:
    raw, token = api.key(key_alias="one")
    assert api.ok("/key/delete", {"keys": [raw, "ghost"]}) == {"deleted_keys": [raw, "ghost"]}
    missing = api.post("/key/delete", {"keys": [token, "ghost"]})
    assert (missing.status, missing.body["error"]["message"]) == (404, "{'error': 'No keys found'}")
    assert api.post("/key/delete", {}).status == 422
    api.key(key_alias="two")
    assert api.ok("/key/delete", {"key_aliases": ["two"]}) == {"deleted_keys": ["two"]}


def test_info_of_a_deleted_key_is_200_in_litellm_only(api: Client, routero: Client) -> None:
    _, token = api.key()
    api.ok("/key/delete", {"keys": [token]})
    assert api.get("/key/info", {"key": token}).body["info"]["status"] == "deleted"
    _, token = routero.key()
    assert routero.get("/key/info", {"key_hash": token}).body["info"]["token"] == token
    routero.call("DELETE", "/key/delete", {"keys": [token]})
    gone = routero.get("/key/info", {"key": token})
    assert (gone.status, gone.kind) == (404, "not_found_error")


def test_block_can_be_repeated_and_misses_with_404(either: Client) -> None:
    _, token = either.key()
    assert [either.ok("/key/block", {"key": token})["blocked"] for _ in range(2)] == [True, True]
    assert either.ok("/key/unblock", {"key": token})["blocked"] is False
    assert either.post("/key/block", {"key": "ghost"}).kind == "not_found_error"


def test_block_may_be_unknown(either: Client) -> None:
    _, token = either.key()
    either.hook("options", {"block_supported": False})
    try:
        assert either.post("/key/block", {"key": token}).body == {"detail": "Not Found"}
    finally:
        either.hook("options", {"block_supported": True})


def test_a_key_whose_team_is_gone_cannot_be_updated_but_blocked(api: Client) -> None:
    _, token = api.key(team_id="gone")
    assert api.post("/key/update", {"key": token, "blocked": True}).status == 404
    assert api.post("/key/block", {"key": token}).status == 200


def test_update_moves_a_key(api: Client) -> None:
    _, token = api.key(user_id="ada", key_alias="old")
    api.ok("/key/update", {"key": token, "user_id": "bob", "key_alias": "new"})
    assert api.get("/key/list", {"user_id": "ada"}).body["total_count"] == 0
    assert api.get("/key/list", {"user_id": "bob", "key_alias": "new"}).body["keys"] == [token]


def test_service_accounts_outlive_their_maker(either: Client) -> None:
    either.hook("seed", {"users": [{"user_id": "ada"}], "teams": [{"team_id": "lab"}]})
    account = either.ok("/key/service-account/generate", {"team_id": "lab", "key_alias": "ci"})
    assert (account["user_id"], account["metadata"]) == (None, {"service_account_id": "ci"})
    shared, _ = either.key(team_id="lab", created_by="ada")
    either.ok("/user/delete", {"user_ids": ["ada"]})
    assert either.tried(shared) == [200, 200, 200]


def test_regenerate(routero: Client) -> None:
    raw, token = routero.key(user_id="ada", key_alias="x")
    fresh = routero.ok("/key/regenerate", {"key": token})
    assert (routero.tried(raw), routero.tried(fresh["key"])) == ([401] * 3, [200] * 3)
    later = routero.ok("/key/regenerate", {"key": fresh["token"], "grace_period": "1h"})
    assert routero.tried(fresh["key"]) == [200] * 3
    routero.advance(3600)
    assert (routero.tried(fresh["key"]), routero.tried(later["key"])) == ([401] * 3, [200] * 3)


def test_regenerate_needs_a_licence_in_litellm(api: Client) -> None:
    _, token = api.key()
    assert api.post("/key/regenerate", {"key": token}).status == 500


def test_what_persons_may_make(api: Client, routero: Client) -> None:
    for client, status in ((api, 200), (routero, 401)):
        client.hook("seed", {"teams": [{"team_id": "lab"}]})
        raw, _ = client.key(user_id="ada")
        assert client.post("/key/generate", {}, key=raw).status == status
        assert client.post("/key/generate", {"team_id": "lab"}, key=raw).status == 401
    assert api.ok("/key/generate", {}, key=api.key(user_id="bob")[0])["user_id"] == "bob"


def test_dashboard_keys_are_hidden_and_alive(either: Client) -> None:
    either.hook("seed", {"users": [{"user_id": "ada"}]})
    raw, _ = either.key(user_id="ada", team_id="litellm-dashboard")
    assert either.get("/key/list", {"user_id": "ada"}).body["total_count"] == 0
    assert either.get("/user/info", {"user_id": "ada"}).body["keys"] == []
    assert either.tried(raw) == [200, 200, 200]


def test_list_pages(either: Client) -> None:
    either.hook("seed", {"keys": [{"user_id": "ada", "key_alias": f"k{n}"} for n in range(105)]})
    first = either.get("/key/list").body
    assert (len(first["keys"]), first["total_count"], first["total_pages"]) == (10, 105, 11)
    assert isinstance(first["keys"][0], str)
    full = {"size": 100, "page": 2, "return_full_object": "true"}
    assert [key["key_alias"] for key in either.get("/key/list", full).body["keys"]] == ["k4", "k3", "k2", "k1", "k0"]
    assert either.get("/key/list", {"size": 101}).status == 422
    assert either.get("/key/list", {"page": 9, "size": 100}).body["keys"] == []


def test_list_filters(api: Client) -> None:
    _, active = api.key(user_id="ada")
    _, expired = api.key(user_id="ada", duration="1s")
    _, blocked = api.key(user_id="ada", blocked=True)
    _, deleted = api.key(user_id="ada", team_id="lab")
    _, other = api.key(created_by="ada", team_id="lab")
    api.ok("/key/delete", {"keys": [deleted]})
    api.advance(1)

    def found(**query: str) -> list[str]:
        keys: list[str] = api.get("/key/list", query).body["keys"]
        return keys

    assert found(user_id="ada") == [blocked, expired, active]
    assert found(user_id="ada", status="active") == [active]
    assert found(user_id="ada", status="expired") == [expired]
    assert found(user_id="ada", status="revoked") == [blocked]
    assert found(user_id="ada", status="deleted") == [deleted]
    assert found(user_id="AD") == []
    assert found(user_id="ada", include_created_by_keys="true") == [blocked, expired, active]
    assert found(team_id="lab") == [other]
    assert found(sort_by="created_at", sort_order="asc")[0] == active


def test_a_person_lists_their_own_keys_only(api: Client) -> None:
    raw, token = api.key(user_id="ada")
    _, foreign = api.key(user_id="bob")
    assert api.get("/key/list", {"user_id": "bob"}, key=raw).body["keys"] == []
    assert api.get("/key/list", key=raw).body["keys"] == [token]
    api.ok("/key/delete", {"keys": [foreign]})
    assert api.get("/key/list", {"status": "deleted"}, key=raw).body["keys"] == []


def test_model_lists(api: Client) -> None:
    api.hook("seed", {"teams": [{"team_id": "lab", "models": ["mistral-large"]}]})
    for given, kind in (
        ({"models": ["x"]}, "key_model_access_denied"),
        ({"team_id": "lab"}, "team_model_access_denied"),
    ):
        raw, _ = api.key(**given)
        assert api.post("/v1/chat/completions", {"model": "gpt-5-mini"}, key=raw).kind == kind
