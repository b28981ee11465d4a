"""What was spent is booked: on the key, its owner and its team, and as a row of the day."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from idsync.sandbox.clock import stamp
from idsync.sandbox.objects import Key
from idsync.sandbox.replicas import KeyView
from idsync.sandbox.world import World


def book(
    world: World, key: Key | KeyView | None, model: str, spend: float, at: datetime | None = None
) -> dict[str, Any]:
    """Book one request that began at `at` (now). A deleted key's row in the archive stays as it was."""
    began = at or world.clock.wall()
    state = world.state
    row = state.keys.get(key.token) if key else None
    if row:
        row.last_active = began
    owner = state.users.get(key.user_id or "") if key else None
    team = state.teams.get(key.team_id or "") if key else None
    for counted in (row, owner, team):
        if counted:
            counted.spend += spend
    use = {
        "date": began.date().isoformat(),
        "at": stamp(began),
        "user_id": key.user_id if key else None,
        "team_id": key.team_id if key else None,
        "organization_id": key.organization_id if key else None,
        "api_key": key.token if key else None,
        "model": model,
        "spend": spend,
        "requests": 1,
    }
    state.usage.append(use)
    return use
