"""Liveness and readiness, which need no key."""

from __future__ import annotations

from typing import Any

from idsync.sandbox.calls import Call, Endpoint
from idsync.sandbox.replies import Reply


def alive(call: Call) -> Any:
    return "I'm alive!"


def ready(call: Call) -> Any:
    down = call.world.settings.db_down
    body = {"status": "healthy", "db": "disconnected" if down else "connected"}
    return Reply(503 if down else 200, body)


ENDPOINTS = [
    Endpoint("GET", "/health/liveliness", alive, access="open", offline=True),
    Endpoint("GET", "/health/readiness", ready, access="open", offline=True),
]
