"""Shapes of refusals, and their order."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Client


@pytest.mark.parametrize(
    ("key", "kind"),
    [(None, "auth_error"), ("abc", "auth_error"), ("sk-nobody", "token_not_found_in_db")],
)
def test_bad_keys(either: Client, key: str | None, kind: str) -> None:
    answer = either.get("/key/list", key=key)
    assert (answer.status, answer.kind, answer.body["error"]["code"]) == (401, kind, "401")


def test_a_persons_key_on_admin_routes(either: Client) -> None:
    raw, _ = either.key(user_id="ada")
    assert either.get("/user/list", key=raw).status == 401
    member = {"team_id": "lab", "member": {"user_id": "ada", "role": "user"}}
    assert either.post("/team/member_add", member, key=raw).status == 403


def test_unknown_path_and_wrong_verb(either: Client) -> None:
    assert either.get("/nowhere").body == {"detail": "Not Found"}
    wrong = either.post("/user/list", {})
    assert (wrong.status, wrong.body) == (405, {"detail": "Method Not Allowed"})


def test_broken_json_comes_before_the_key(either: Client) -> None:
    answer = either.post("/user/new", b"{", key=None)
    assert (answer.status, answer.body["detail"][0]["type"]) == (422, "json_invalid")


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/user/new", {"user_role": "boss"}, "literal_error"),
        ("/user/new", {"metadata": "x"}, "dict_type"),
        ("/user/delete", {}, "missing"),
        ("/user/new", [], "model_attributes_type"),
        ("/key/block", {}, "missing"),
        ("/team/delete", {"team_ids": [1]}, "string_type"),
    ],
)
def test_bodies_that_do_not_fit(either: Client, path: str, body: object, kind: str) -> None:
    answer = either.post(path, body)
    assert (answer.status, answer.body["detail"][0]["type"]) == (422, kind)


def test_form_content_type(api: Client, routero: Client) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b'{"user_id": "ada"}'
    assert api.post("/user/new", body, headers=form).status == 422
    assert routero.post("/user/new", body, headers=form).status == 200


def test_no_content_type_is_json(either: Client) -> None:
    assert either.post("/user/new", b'{"user_id": "ada"}').status == 200


def test_health_needs_no_key(either: Client) -> None:
    assert either.get("/health/liveliness", key=None).status == 200
    assert either.get("/health/readiness", key=None).body == {"status": "healthy", "db": "connected"}


def test_every_answer_carries_a_call_id(either: Client) -> None:
    assert either.get("/nowhere").headers["x-routero-call-id"]


def test_openapi_lists_the_verbs_of_the_dialect(api: Client, routero: Client) -> None:
    assert set(api.get("/openapi.json").body["paths"]["/key/delete"]) == {"post"}
    assert set(routero.get("/openapi.json").body["paths"]["/key/delete"]) == {"delete"}
    assert "/organization/member_permission_update" not in api.get("/openapi.json").body["paths"]


def test_database_down(api: Client) -> None:
    warm, _ = api.key(user_id="ada")
    cold, _ = api.key(user_id="bob")
    api.get("/v1/models", key=warm)
    api.hook("options", {"db_down": True})
    try:
        assert api.get("/v1/models", key=warm).status == 200
        assert api.get("/v1/models", key=cold).kind == "auth_error"
        failed = api.get("/key/list")
        assert (failed.status, failed.headers["connection"]) == (500, "close")
        assert api.get("/health/readiness").status == 503
    finally:
        api.hook("options", {"db_down": False})


def test_a_rotated_admin_key(api: Client) -> None:
    api.hook("options", {"admin_key": "sk-admin-next"})
    try:
        assert api.get("/key/list").kind == "token_not_found_in_db"
        assert api.get("/key/list", key="sk-admin-next").status == 200
    finally:
        api.hook("options", {"admin_key": "sk-admin-1234"})


@pytest.mark.parametrize(
    ("hook", "body", "said"),
    [
        ("seed", b"{", "the body is no JSON"),
        ("seed", {"users": {"user_id": "ann"}}, "users is a list of objects"),
        ("seed", {"users": [{"login": "ann"}]}, "a user does not take 'login'; it takes user_id, user_email, "),
        ("seed", {"members": [{"team_id": "nowhere", "user_id": "ann"}]}, "there is no team 'nowhere'; name it under"),
        ("seed", {"users": [{"user_id": "bo", "teams": ["nowhere"]}]}, "there is no team 'nowhere'"),
        (
            "seed",
            {"keys": [{"owner": "ann"}]},
            "a key does not take 'owner'; it takes key, duration, key_alias, user_id",
        ),
        (
            "act",
            {"do": "generate_key"},
            'there is no act \'do\'; write it like {"unblock": {"user_id": "u-ann"}}: generate_key, ',
        ),
        (
            "act",
            {"generate_key": {"login": "ann"}},
            "generate_key does not take 'login'; it takes raw, key, duration, key_alias, ",
        ),
        ("act", {"unblock": {}}, "unblock needs user_id, or the id of a key"),
        ("act", {"unblock": {"key": "no"}}, "there is no key 'no'"),
        ("act", {"set_team": {"team_id": "no"}}, "there is no team 'no'"),
        ("act", {"book_spend": {"key": "no"}}, "book_spend needs spend; it takes key, spend, at, model, in_archive"),
    ],
)
def test_a_hook_says_what_it_takes(either: Client, hook: str, body: Any, said: str) -> None:
    answer = either.post(f"/_sandbox/{hook}", body)
    assert answer.status == 400
    assert said in answer.body["error"]
