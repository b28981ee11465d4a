"""Organizations: what another one owns is not there."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Client

ACME = {"X-Organization-Id": "acme"}


@pytest.fixture
def two(routero: Client) -> dict[str, Any]:
    """ada, her team and key in acme; bob, his team and key in rival."""
    seed: dict[str, list[dict[str, str]]] = {"users": [], "teams": [], "keys": []}
    for org, user in (("acme", "ada"), ("rival", "bob")):
        seed["users"].append({"user_id": user, "user_email": f"{user}@example.com", "organization_id": org})
        seed["teams"].append({"team_id": f"{org}-team", "organization_id": org})
        seed["keys"].append({"user_id": user, "organization_id": org})
    return {key["user_id"]: key for key in routero.hook("seed", seed)["keys"]}


def test_lists_leave_the_others_out(routero: Client, two: dict[str, Any]) -> None:
    assert routero.get("/user/list").body["total"] == 2
    scoped = routero.get("/user/list", headers=ACME).body["users"]
    assert [user["user_id"] for user in scoped] == ["ada"]
    assert routero.get("/key/list", headers=ACME).body["keys"] == [two["ada"]["token"]]
    assert routero.get("/key/list", {"organization_id": "rival"}).body["keys"] == [two["bob"]["token"]]
    assert [team["team_id"] for team in routero.get("/team/list", headers=ACME).body] == ["acme-team"]


def test_the_others_are_404(routero: Client, two: dict[str, Any]) -> None:
    for path, body in (
        ("/user/update", {"user_id": "bob", "metadata": {"scim_active": False}}),
        ("/user/delete", {"user_ids": ["bob"]}),
        ("/key/block", {"key": two["bob"]["token"]}),
        ("/team/delete", {"team_ids": ["rival-team"]}),
    ):
        assert routero.post(path, body, headers=ACME).status == 404
    assert routero.get("/user/info", {"user_id": "bob"}, headers=ACME).status == 404
    assert routero.call("DELETE", "/key/delete", {"keys": [two["bob"]["token"]]}, headers=ACME).status == 404


def test_new_things_belong_to_the_chosen_organization(routero: Client) -> None:
    routero.ok("/user/new", {"user_id": "eve"}, headers=ACME)
    routero.ok("/key/generate", {"user_id": "eve", "organization_id": "acme"})
    assert routero.get("/key/list", headers=ACME).body["total_count"] == 2
    assert routero.get("/user/info", {"user_id": "eve"}, headers=ACME).status == 200


def test_personal_keys_hide_from_the_organization(routero: Client, two: dict[str, Any]) -> None:
    raw, token = routero.key(user_id="ada", organization_id="personal-ada")
    assert token not in routero.get("/key/list", {"user_id": "ada"}, headers=ACME).body["keys"]
    assert token in routero.get("/key/list", {"user_id": "ada"}).body["keys"]
    routero.ok("/user/update", {"user_id": "ada", "metadata": {"scim_active": False}}, headers=ACME)
    assert routero.tried(raw) == [401, 401, 401]


def test_an_org_admins_own_key_is_confined(routero: Client, two: dict[str, Any]) -> None:
    routero.ok("/organization/member_permission_update", {"user_email": "ada@example.com", "user_role": "org_admin"})
    key = two["ada"]["key"]
    assert routero.get("/user/list", key=key).body["total"] == 1
    assert routero.get("/user/list", key=key, headers={"X-Organization-Id": "rival"}).status == 401


def test_member_permission_update(routero: Client, two: dict[str, Any]) -> None:
    path = "/organization/member_permission_update"
    answer = routero.ok(path, {"user_email": "ADA@example.com", "user_role": "internal_viewer"})
    assert (answer["user_id"], answer["user_role"]) == ("ada", "internal_user_viewer")
    assert answer["organization_id"] == "acme"
    assert routero.post(path, {"user_email": "no@example.com", "user_role": "internal_user"}).status == 404
    assert routero.post(path, {"user_email": "ada@example.com", "user_role": "boss"}).status == 422
    assert routero.post(path, {"user_email": "ada@example.com"}).status == 422
    in_team = {"user_email": "ada@example.com", "user_role": "internal_user", "team_id": "acme-team"}
    assert routero.post(path, in_team).status == 404


def test_leaving_an_organization_ends_no_key(routero: Client, two: dict[str, Any]) -> None:
    leave = {"organization_id": "acme", "user_id": "ada"}
    assert routero.call("DELETE", "/organization/member_delete", leave).body["user_id"] == "ada"
    again = routero.call("DELETE", "/organization/member_delete", leave)
    assert (again.status, again.body) == (200, None)
    assert routero.tried(two["ada"]["key"]) == [200, 200, 200]
    assert routero.get("/user/info", {"user_id": "ada"}).status == 200


def test_joining_creates_unknown_people(routero: Client) -> None:
    entry = {"user_email": "new@example.com", "role": "internal_user"}
    answer = routero.ok("/organization/member_add", {"organization_id": "acme", "member": entry})
    user_id = answer["updated_users"][0]["user_id"]
    change = {"organization_id": "acme", "user_id": user_id, "role": "org_admin"}
    assert routero.call("PATCH", "/organization/member_update", change).body["user_role"] == "org_admin"
    for wrong, status in (({"role": "proxy_admin"}, 422), ({"user_id": "nobody"}, 404)):
        assert routero.call("PATCH", "/organization/member_update", change | wrong).status == status


def test_joining_twice_is_an_error_of_the_gateways(routero: Client, two: dict[str, Any]) -> None:
    again = {"organization_id": "acme", "member": {"user_id": "ada", "role": "internal_user"}}
    assert routero.post("/organization/member_add", again).status == 500


def test_litellm_shows_memberships_in_the_long_read_alone(api: Client) -> None:
    api.hook("seed", {"users": [{"user_id": "ada", "organizations": {"acme": "org_admin"}}]})
    asked = {"user_id": "ada"}
    rows = [api.get("/user/info", asked).body["user_info"], api.get("/v2/user/info", asked).body]
    rows.append(api.get("/user/list").body["users"][0])
    assert ["organization_memberships" in row for row in rows] == [True, False, False]


def test_litellm_wants_a_licence(api: Client) -> None:
    assert api.post("/organization/member_add", {"organization_id": "acme"}).status == 403
    assert api.post("/organization/member_permission_update", {}).status == 404


def test_spend(routero: Client) -> None:
    routero.hook("seed", {"usage": [{"date": "2026-01-02", "team_id": "lab", "spend": 1.5, "requests": 3}]})
    period = {"start_date": "2026-01-01", "end_date": "2026-01-31"}
    report = routero.get("/billing/daily-spend", period).body
    assert report["metadata"]["total_spend"] == 1.5
    assert report["results"][0]["breakdown"]["teams"] == {"lab": {"spend": 1.5, "requests": 3}}
    assert routero.get("/billing/daily-spend").status == 422
    assert routero.get("/team/daily/activity").status == 400
    assert routero.get("/team/daily/activity", {**period, "team_id": "x"}).body["results"] == []


def test_use_is_counted(routero: Client) -> None:
    raw, token = routero.key(user_id="ada")
    routero.ok("/v1/chat/completions", {"model": "gpt-5-mini", "messages": []}, key=raw)
    assert routero.get("/key/info", {"key": token}).body["info"]["spend"] > 0


def test_audit(routero: Client, api: Client) -> None:
    _, token = routero.key(user_id="ada")
    routero.ok("/key/block", {"key": token})
    routero.call("DELETE", "/key/delete", {"keys": [token]})
    log = routero.get("/audit", {"limit": 1}).body
    assert (log["total"], log["total_pages"]) == (2, 2)
    [row] = log["audit_logs"]
    assert (row["action"], row["object_id"]) == ("deleted", token)
    assert routero.get(f"/audit/{row['id']}").body == row
    assert routero.get("/audit/none").status == 404
    api.ok("/user/new", {})
    assert api.get("/audit").body["total"] == 0


def test_activity_comes_in_pages_of_rows(either: Client) -> None:
    used = [("lab", "m-1", 1.0), ("lab", "m-2", 2.0), ("den", "m-1", 4.0)]
    rows = [{"date": "2026-01-02", "team_id": team, "model": model, "spend": spend} for team, model, spend in used]
    either.hook("seed", {"usage": rows})
    period = {"start_date": "2026-01-01", "end_date": "2026-01-31", "page_size": 2}
    first, second = (either.get("/team/daily/activity", {**period, "page": page}).body for page in (1, 2))
    assert [page["metadata"]["has_more"] for page in (first, second)] == [True, False]
    told = [page["results"][0]["breakdown"]["entities"] for page in (first, second)]
    assert [{name: row["metrics"]["spend"] for name, row in page.items()} for page in told] == [{"lab": 3}, {"den": 4}]


def test_what_is_booked_counts_on_key_owner_and_team(either: Client) -> None:
    either.hook("seed", {"teams": [{"team_id": "lab"}], "users": [{"user_id": "ada"}]})
    raw, token = either.key(user_id="ada", team_id="lab")
    either.ok("/v1/chat/completions", {"model": "gpt-5-mini"}, key=raw)
    either.hook("act", {"book_spend": {"key": token, "spend": 0.5, "at": "2026-01-02T03:04:05+00:00"}})
    state = either.state()
    spent = [state[kind][0]["spend"] for kind in ("users", "teams", "keys")]
    assert spent == [0.5005] * 3
    period = {"start_date": "2026-01-02", "end_date": "2026-01-02", "user_id": "ada"}
    entity = either.get("/user/daily/activity", period).body["results"][0]["breakdown"]["entities"]["ada"]
    assert entity["api_key_breakdown"][token]["metrics"]["spend"] == 0.5


def test_configuration_is_merged_by_key(either: Client) -> None:
    either.ok("/config/update", {"general_settings": {"alerting": ["email"], "x": 1}})
    either.ok("/config/update", {"general_settings": {"alerting": ["email", "slack"]}})
    assert either.state()["config"]["general_settings"] == {"alerting": ["email", "slack"], "x": 1}
