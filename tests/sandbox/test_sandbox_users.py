from __future__ import annotations

from .client import Client


def test_new_makes_a_working_key_unless_told_not_to(either: Client) -> None:
    made = either.ok("/user/new", {"user_id": "ada", "user_email": "ada@example.com"})
    assert either.tried(made["key"]) == [200, 200, 200]
    assert "key" not in either.ok("/user/new", {"user_id": "bob", "auto_create_key": False})
    either.hook("options", {"mints_keys": True})
    assert "key" in either.ok("/user/new", {"user_id": "joe", "auto_create_key": False})


def test_duplicates(either: Client) -> None:
    either.ok("/user/new", {"user_id": "ada", "user_email": "ada@example.com"})
    assert either.post("/user/new", {"user_id": "ada"}).status == 409
    assert either.post("/user/new", {"user_email": "ADA@example.com"}).status == 409


def test_new_joins_teams_or_none(either: Client) -> None:
    either.hook("seed", {"teams": [{"team_id": "lab"}]})
    assert either.post("/user/new", {"user_id": "ada", "teams": ["lab", "no"]}).status == 404
    either.ok("/user/new", {"user_id": "ada", "teams": ["lab"]})
    assert either.roster("lab") == ["ada"]


def test_update_of_an_unknown_id_creates(either: Client) -> None:
    answer = either.ok("/user/update", {"user_id": "ghost", "metadata": {"a": 1}})
    assert (answer["user_id"], answer["data"]["metadata"]) == ("ghost", {"a": 1})
    assert [user["user_id"] for user in either.state()["users"]] == ["ghost"]


def test_update_replaces_metadata_and_keeps_it_when_absent(either: Client) -> None:
    either.hook("seed", {"users": [{"user_id": "ada", "metadata": {"a": 1}}]})
    either.ok("/user/update", {"user_id": "ada", "user_role": "internal_user_viewer"})
    assert either.state()["users"][0]["metadata"] == {"a": 1}
    either.ok("/user/update", {"user_id": "ada", "metadata": {"b": 2}})
    assert either.state()["users"][0]["metadata"] == {"b": 2}


def test_delete_is_all_or_nothing(either: Client) -> None:
    either.hook("seed", {"users": [{"user_id": "ada"}]})
    missing = either.post("/user/delete", {"user_ids": ["ada", "ghost"]})
    assert (missing.status, "error" in missing.body["detail"]) == (404, True)
    assert either.ok("/user/delete", {"user_ids": []}) == 0
    assert either.ok("/user/delete", {"user_ids": ["ada"]}) == 1


def test_delete_takes_own_keys_and_rosters_and_leaves_no_archive(either: Client) -> None:
    either.hook(
        "seed",
        {
            "users": [{"user_id": "ada"}],
            "teams": [{"team_id": "lab"}],
            "members": [{"team_id": "lab", "user_id": "ada"}],
            "keys": [
                {"user_id": "ada"},
                {"user_id": "ada", "team_id": "litellm-dashboard"},
                {"team_id": "lab", "created_by": "ada", "key_alias": "shared"},
            ],
        },
    )
    either.ok("/user/delete", {"user_ids": ["ada"]})
    state = either.state()
    assert [key["key_alias"] for key in state["keys"]] == ["shared"]
    assert (state["archived_keys"], either.roster("lab")) == ([], [])


def test_delete_can_leave_the_roster_behind(api: Client) -> None:
    api.hook("options", {"user_delete_rosters": False})
    try:
        api.hook("seed", {"teams": [{"team_id": "lab"}], "members": [{"team_id": "lab", "user_id": "ada"}]})
        api.ok("/user/delete", {"user_ids": ["ada"]})
        assert api.roster("lab") == ["ada"]
    finally:
        api.hook("options", {"user_delete_rosters": True})


def test_info(either: Client) -> None:
    either.hook("seed", {"users": [{"user_id": "a b"}, {"user_id": "a+c"}]})
    assert either.get("/user/info", {"user_id": "ghost"}).body["error"]["code"] == "404"
    assert either.get("/user/info", {"user_id": "a b"}).status == 404
    assert either.get("/user/info", {"user_id": "a+c"}).body["user_id"] == "a+c"
    assert either.get("/v2/user/info", {"user_id": "a+c"}).body["user_id"] == "a+c"


def test_list_pages(either: Client) -> None:
    people = [{"user_id": f"u{n}", "user_email": f"u{n}@example.com"} for n in range(130)]
    either.hook("seed", {"users": people})
    first = either.get("/user/list").body
    assert (len(first["users"]), first["total"], first["total_pages"]) == (25, 130, 6)
    assert first["users"][0]["user_id"] == "u129"
    assert either.get("/user/list", {"page_size": 101}).status == 422
    assert either.get("/user/list", {"page": 0}).status == 422
    assert either.get("/user/list", {"page": 9, "page_size": 100}).body["users"] == []
    assert either.get("/user/list", {"user_email": "U12"}).body["total"] == 11
    assert either.get("/user/list", {"user_ids": "u1,u2,ghost"}).body["total"] == 2


def test_the_guides_role_name_is_an_alias_in_routero(api: Client, routero: Client) -> None:
    wanted = {"user_id": "ada", "user_role": "internal_viewer"}
    assert api.post("/user/new", wanted).status == 422
    assert routero.ok("/user/new", wanted)["user_role"] == "internal_user_viewer"


def test_an_invited_person_is_pending_until_they_accept(routero: Client) -> None:
    made = routero.ok("/user/new", {"user_id": "ada", "user_email": "a@example.com", "auto_create_key": False})
    assert made["status"] == "pending"
    [invitation] = routero.get("/invitation/list").body
    assert (invitation["user_id"], invitation["is_accepted"]) == ("ada", False)
    routero.hook("act", {"accept_invitation": {"user_id": "ada"}})
    assert "status" not in routero.state()["users"][0]
    again = routero.post("/_sandbox/act", {"accept_invitation": {"user_id": "ada"}})
    assert again.status == 400


def test_a_revoked_or_old_invitation_is_worthless(routero: Client) -> None:
    for name in ("ada", "bob"):
        routero.ok("/user/new", {"user_id": name})
    ada = next(i for i in routero.get("/invitation/list").body if i["user_id"] == "ada")
    routero.ok("/invitation/delete", {"invitation_id": ada["id"]})
    assert routero.post("/invitation/delete", {"invitation_id": ada["id"]}).status == 404
    routero.advance(7 * 86400)
    for name in ("ada", "bob"):
        assert routero.post("/_sandbox/act", {"accept_invitation": {"user_id": name}}).status == 400


def test_litellm_has_no_invitation_list(api: Client) -> None:
    assert api.get("/invitation/list").status == 404
