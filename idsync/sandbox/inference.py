"""/v1/*: just enough inference to prove that a key works or does not."""

from __future__ import annotations

import time
import uuid
from typing import Any

from idsync.sandbox.calls import Call, Endpoint
from idsync.sandbox.replicas import KeyView
from idsync.sandbox.replies import shape_a
from idsync.sandbox.usage import book
from idsync.sandbox.validate import require

MODELS = ("gpt-5-mini", "claude-sonnet", "mistral-large", "smart/balanced", "eu/balanced")
COST = 0.0005


def models(call: Call) -> Any:
    """Does not look at team blocks."""
    key = call.caller.key
    names = (key.models if key else ()) or MODELS
    rows = [{"id": name, "object": "model", "created": 1677610602, "owned_by": "openai"} for name in names]
    return {"data": rows, "object": "list"}


def chat(call: Call) -> Any:
    model = require(call.body, "model")
    key = call.caller.key
    if key:
        _check_team(call, key, model)
        _check_models(key.models, model, 401, "key_model_access_denied")
    _record(call, key, model)
    return {
        "id": f"chatcmpl-{uuid.uuid4()}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
        "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10},
    }


def _check_team(call: Call, key: KeyView, model: str) -> None:
    if key.team_id is None:
        return
    team = call.world.team_view(call.replica, key.team_id)
    if not team.exists:
        raise shape_a(404, f"Team doesn't exist in db. Team={key.team_id}.", "not_found_error", "team_id")
    if team.blocked:
        raise shape_a(401, f"Authentication Error, Team={key.team_id} is blocked.", "auth_error")
    _check_models(team.models, model, 403, "team_model_access_denied")


def _check_models(allowed: tuple[str, ...], model: str, status: int, kind: str) -> None:
    if allowed and model not in allowed:
        raise shape_a(status, f"not allowed to access model {model}", kind, "model")


def _record(call: Call, view: KeyView | None, model: str) -> None:
    book(call.world, view, model, COST)


ENDPOINTS = [
    Endpoint("GET", "/v1/models", models, access="person", offline=True),
    Endpoint("GET", "/models", models, access="person", offline=True),
    Endpoint("POST", "/v1/chat/completions", chat, access="person", offline=True),
]
