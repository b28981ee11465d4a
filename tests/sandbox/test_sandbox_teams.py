from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from .client import Client


@pytest.fixture
def lab(either: Client) -> Client:
    """A team with one member, whose address has capitals."""
    person = {"user_id": "ada", "user_email": "Ada@Example.com"}
    either.hook("seed", {"users": [person], "teams": [{"team_id": "lab", "team_alias": "Lab"}]})
    either.hook("seed", {"members": [{"team_id": "lab", "user_id": "ada"}]})
    return either


def add(api: Client, **member: str) -> int:
    return api.post("/team/member_add", {"team_id": "lab", "member": {"role": "user", **member}}).status


def test_new_makes_the_admin_the_first_member(either: Client) -> None:
    team = either.ok("/team/new", {})
    assert [m["role"] for m in team["members_with_roles"]] == ["admin"]
    assert either.post("/team/new", {"team_id": team["team_id"]}).status == 400


def test_aliases_are_not_unique(either: Client) -> None:
    made = [either.ok("/team/new", {"team_alias": "Lab"})["team_id"] for _ in range(2)]
    assert made[0] != made[1]
    assert either.post("/team/update", {"team_id": "Lab", "models": []}).status == 404


def test_routero_takes_a_unique_alias_for_the_id(lab: Client) -> None:
    status = lab.post("/team/update", {"team_id": "Lab", "max_budget": 5}).status
    assert status == (200 if lab.sandbox.options.dialect == "routero" else 404)


def test_add_and_its_traps(lab: Client) -> None:
    again = lab.post("/team/member_add", {"team_id": "lab", "member": {"user_id": "ada", "role": "user"}})
    assert (again.status, again.kind) == (400, "team_member_already_in_team")
    assert add(lab, user_id="ghost") == 200
    assert add(lab, user_email="new@example.com") == 200
    assert {"ada", "ghost"} < {user["user_id"] for user in lab.state()["users"]}
    assert lab.post("/team/member_add", {"team_id": "no", "member": {"user_id": "x"}}).status == 404
    assert len(lab.roster("lab")) == 3


def test_team_admins_are_a_matter_of_the_dialect(lab: Client) -> None:
    told = 200 if lab.sandbox.options.dialect == "routero" else 400
    assert add(lab, user_id="bob", role="admin") == told
    wanted = {"team_id": "lab", "user_id": "ada", "role": "admin"}
    assert lab.post("/team/member_update", wanted).status == told
    lab.hook("options", {"licence": True})
    assert lab.ok("/team/member_update", wanted)["role"] == "admin"
    assert lab.post("/team/member_update", {**wanted, "user_id": "nobody"}).status == 400


def test_bulk_add_is_200_even_when_every_row_fails(lab: Client) -> None:
    answer = lab.ok("/team/bulk_member_add", {"team_id": "lab", "members": [{"user_id": "ada", "role": "user"}]})
    assert (answer["successful_additions"], answer["failed_additions"]) == (0, 1)
    assert answer["results"][0]["success"] is False


def test_member_delete(lab: Client) -> None:
    for key in ({"team_id": "lab"}, {}, {"team_id": "litellm-dashboard"}):
        lab.key(user_id="ada", **key)
    lab.ok("/team/member_delete", {"team_id": "lab", "user_id": "ada"})
    assert lab.roster("lab") == []
    assert sorted(str(key["team_id"]) for key in lab.state()["keys"]) == ["None", "litellm-dashboard"]
    assert [key["team_id"] for key in lab.state()["archived_keys"]] == ["lab"]
    for missing in ({"team_id": "lab", "user_id": "ada"}, {"team_id": "no", "user_id": "ada"}):
        answer = lab.post("/team/member_delete", missing)
        assert (answer.status, "error" in answer.body["detail"]) == (400, True)


def test_member_delete_by_address_in_other_letter_case_removes_nobody(lab: Client) -> None:
    lab.ok("/team/member_delete", {"team_id": "lab", "user_email": "ada@example.com"})
    assert lab.roster("lab") == ["ada"]
    lab.ok("/team/member_delete", {"team_id": "lab", "user_email": "Ada@Example.com"})
    assert lab.roster("lab") == []


def test_member_delete_of_old_kept_the_keys(lab: Client) -> None:
    lab.hook("options", {"member_delete_keys": False})
    try:
        lab.key(user_id="ada", team_id="lab")
        lab.ok("/team/member_delete", {"team_id": "lab", "user_id": "ada"})
        assert len(lab.state()["keys"]) == 1
    finally:
        lab.hook("options", {"member_delete_keys": True})


def test_member_update(lab: Client) -> None:
    wanted = {"team_id": "lab", "user_id": "ada", "max_budget_in_team": 3}
    assert lab.ok("/team/member_update", wanted)["max_budget_in_team"] == 3
    assert lab.post("/team/member_update", {**wanted, "user_id": "ghost"}).status == 400


def test_delete_ends_all_keys_of_the_team(lab: Client) -> None:
    _, token = lab.key(user_id="ada", team_id="lab")
    assert lab.post("/team/delete", {"team_ids": ["lab", "no"]}).status == 404
    assert lab.ok("/team/delete", {"team_ids": ["lab"]})["deleted_teams"][0]["team_id"] == "lab"
    state = lab.state()
    assert (state["keys"], state["teams"], state["users"][0]["teams"]) == ([], [], [])
    assert state["archived_keys"][0]["token"] == token


def test_lists(lab: Client) -> None:
    lab.hook("seed", {"teams": [{"team_id": f"t{n}"} for n in range(5)]})
    assert len(lab.get("/team/list").body) == 6
    page = lab.get("/v2/team/list", {"page": 2, "page_size": 4}).body
    assert (len(page["teams"]), page["total"], page["total_pages"]) == (2, 6, 2)
    assert lab.get("/v2/team/list", {"page_size": 101}).status == 422
    assert lab.get("/v2/team/list", {"user_id": "ada"}).body["teams"][0]["team_id"] == "lab"
    assert lab.get("/team/info", {"team_id": "no"}).body["error"]["code"] == "404"


@pytest.mark.parametrize(("lossy", "kept"), [(False, 12), (True, 1)])
def test_parallel_adds_lose_nothing_unless_told_to(api: Client, lossy: bool, kept: int) -> None:
    api.hook("seed", {"teams": [{"team_id": "lab"}]})
    api.hook("options", {"lost_updates": lossy})
    try:
        with ThreadPoolExecutor(12) as pool:
            assert set(pool.map(lambda n: add(api, user_id=f"u{n}"), range(12))) == {200}
    finally:
        api.hook("options", {"lost_updates": False})
    found = len(api.roster("lab"))
    assert found < 12 if lossy else found == kept
