"""How long a revoked key lives, and where."""

from __future__ import annotations

from typing import Any

import pytest

from .client import DEAD, Client

TTL = 60


def fence(api: Client, user_id: str, active: bool = False, **how: Any) -> None:
    api.ok("/user/update", {"user_id": user_id, "metadata": {"scim_active": active}}, **how)


@pytest.fixture
def key(api: Client) -> tuple[str, str]:
    """A key every replica remembers."""
    api.hook("seed", {"users": [{"user_id": "ada"}]})
    made = api.key(user_id="ada")
    assert api.hook("warm") == {"keys": 1}
    return made


def test_delete_alone_leaves_warm_replicas_alive_until_the_ttl(api: Client, key: tuple[str, str]) -> None:
    raw, token = key
    api.ok("/key/delete", {"keys": [token]}, replica=1)
    assert api.tried(raw) == [200, DEAD, 200]
    api.advance(TTL - 1)
    assert api.tried(raw) == [200, DEAD, 200]
    api.advance(1)
    assert api.tried(raw) == [DEAD, DEAD, DEAD]


def test_use_does_not_prolong_the_memory(api: Client, key: tuple[str, str]) -> None:
    raw, token = key
    api.ok("/key/delete", {"keys": [token]})
    for _ in range(6):
        api.advance(TTL / 6)
        last = api.tried(raw)
    assert last == [DEAD, DEAD, DEAD]


def test_block_then_delete_is_refused_everywhere_at_once(api: Client, key: tuple[str, str]) -> None:
    raw, token = key
    api.ok("/key/block", {"key": token})
    blocked = api.get("/v1/models", key=raw, replica=2)
    assert (blocked.kind, "Key is blocked" in blocked.body["error"]["message"]) == ("auth_error", True)
    api.ok("/key/delete", {"keys": [token]})
    assert api.tried(raw) == [DEAD, DEAD, DEAD]


def test_a_key_first_used_after_its_deletion_is_refused(api: Client) -> None:
    raw, token = api.key(user_id="ada")
    api.ok("/key/delete", {"keys": [token]})
    assert api.get("/v1/models", key=raw, replica=2).kind == "token_not_found_in_db"


def test_update_and_unblock_are_heard_everywhere(api: Client, key: tuple[str, str]) -> None:
    raw, token = key
    api.ok("/key/update", {"key": raw, "blocked": True})
    assert api.tried(raw) == [DEAD, DEAD, DEAD]
    api.ok("/key/unblock", {"key": token})
    assert api.tried(raw) == [200, 200, 200]


def test_the_fence_refuses_present_and_future_keys(api: Client, key: tuple[str, str]) -> None:
    fence(api, "ada")
    later, _ = api.key(user_id="ada")
    hidden, _ = api.key(user_id="ada", team_id="litellm-dashboard")
    foreign, _ = api.key(user_id="bob")
    assert api.tried(key[0]) == api.tried(later) == api.tried(hidden) == [DEAD, DEAD, DEAD]
    assert api.tried(foreign) == [200, 200, 200]
    refused = api.get("/v1/models", key=later)
    assert "User=ada has been deactivated via SCIM" in refused.body["error"]["message"]


def test_only_true_lifts_the_fence(api: Client, key: tuple[str, str]) -> None:
    fence(api, "ada")
    api.ok("/user/update", {"user_id": "ada", "metadata": {}})
    assert api.tried(key[0]) == [DEAD, DEAD, DEAD]
    fence(api, "ada", active=True)
    assert api.tried(key[0]) == [200, 200, 200]


def test_other_metadata_replaces_the_fence_away(api: Client, key: tuple[str, str]) -> None:
    fence(api, "ada")
    api.ok("/user/update", {"user_id": "ada", "metadata": {"cost_centre": "7"}})
    assert api.tried(key[0]) == [200, 200, 200]


def test_deleting_the_row_lifts_the_fence_for_a_key_that_was_missed(api: Client) -> None:
    api.hook("seed", {"users": [{"user_id": "ada"}]})
    fence(api, "ada")
    api.ok("/user/delete", {"user_ids": ["ada"]})
    missed, _ = api.key(user_id="ada")
    assert api.tried(missed) == [200, 200, 200]


def test_fence_delete_user_delete_brings_a_remembered_key_back(api: Client, key: tuple[str, str]) -> None:
    raw, token = key
    fence(api, "ada")
    api.ok("/key/delete", {"keys": [token]})
    assert api.tried(raw) == [DEAD, DEAD, DEAD]
    api.ok("/user/delete", {"user_ids": ["ada"]})
    assert api.tried(raw) == [DEAD, 200, 200]


def test_without_a_fence_the_mark_is_stored_and_idle(api: Client, key: tuple[str, str]) -> None:
    api.hook("options", {"fence": False})
    try:
        fence(api, "ada")
        assert api.tried(key[0]) == [200, 200, 200]
        assert api.state()["users"][0]["metadata"] == {"scim_active": False}
    finally:
        api.hook("options", {"fence": True})


@pytest.fixture
def broadcast(api: Client) -> Any:
    yield lambda mode: api.hook("options", {"broadcast": mode})
    api.hook("options", {"broadcast": "redis"})


@pytest.mark.parametrize("change", ["block", "fence"])
def test_without_broadcast_only_the_receiver_knows(
    api: Client, key: tuple[str, str], broadcast: Any, change: str
) -> None:
    broadcast("off")
    if change == "block":
        api.ok("/key/block", {"key": key[1]}, replica=2)
    else:
        fence(api, "ada", replica=2)
    assert api.tried(key[0]) == [200, 200, DEAD]
    api.advance(TTL)
    assert api.tried(key[0]) == [DEAD, DEAD, DEAD]


def test_a_gateway_that_broadcasts_deletions_too(api: Client, key: tuple[str, str], broadcast: Any) -> None:
    broadcast("all")
    api.ok("/key/delete", {"keys": [key[1]]})
    assert api.tried(key[0]) == [DEAD, DEAD, DEAD]


def test_user_delete_and_member_delete_are_heard_everywhere(api: Client) -> None:
    api.hook("seed", {"teams": [{"team_id": "lab"}], "members": [{"team_id": "lab", "user_id": "ada"}]})
    personal, _ = api.key(user_id="ada")
    team, _ = api.key(user_id="ada", team_id="lab")
    api.hook("warm")
    api.ok("/team/member_delete", {"team_id": "lab", "user_id": "ada"})
    assert (api.tried(personal), api.tried(team)) == ([200, 200, 200], [DEAD, DEAD, DEAD])
    api.ok("/user/delete", {"user_ids": ["ada"]})
    assert api.tried(personal) == [DEAD, DEAD, DEAD]


def test_a_blocked_team_chats_on_until_the_ttl(api: Client) -> None:
    api.hook("seed", {"teams": [{"team_id": "lab"}]})
    raw, _ = api.key(team_id="lab")
    api.hook("warm")
    api.ok("/team/block", {"team_id": "lab"})
    ask = {"model": "gpt-5-mini", "messages": []}
    assert api.post("/v1/chat/completions", ask, key=raw).status == 200
    api.advance(TTL)
    assert api.post("/v1/chat/completions", ask, key=raw).status == DEAD
    assert api.tried(raw) == [200, 200, 200]


def test_expired_keys_are_refused(api: Client) -> None:
    raw, _ = api.key(user_id="ada", duration="30s")
    assert api.tried(raw) == [200, 200, 200]
    api.advance(30)
    assert api.get("/v1/models", key=raw).kind == "expired_key"


def test_an_unknown_replica_is_not_found(api: Client) -> None:
    assert api.get("/v1/models", replica=3).status == 404
