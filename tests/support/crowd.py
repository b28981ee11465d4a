"""Many people in teams, of whom four of five are to leave."""

from __future__ import annotations

from crash.scene import SINCE

from support.gateway import Gateway, Holder

TEAM = 20
"""People in one team; every fifth of them stays."""


class Crowd:
    """Leavers and people who stay, in teams; each has one key in their team and one in none, each team a shared one."""

    def __init__(self, gateway: Gateway, leavers: int) -> None:
        people = [f"p{number:04}" for number in range(leavers * 5 // 4)]
        team_of = {name: f"team-{number // TEAM:03}" for number, name in enumerate(people)}
        teams = sorted(set(team_of.values()))
        owned = [(name, where) for name in people for where in (team_of[name], None)]
        seed = {
            "teams": [{"team_id": team, "team_alias": team} for team in teams],
            "users": [{"user_id": name, "user_email": f"{name}@corp.example", **SINCE} for name in people],
            "members": [{"team_id": team_of[name], "user_id": name} for name in people],
            "keys": [
                *({"user_id": name, "team_id": where} for name, where in owned),
                *({"user_id": None, "team_id": team} for team in teams),
            ],
        }
        keys = gateway.seeded(seed)
        holders = {name: Holder(name, f"{name}@corp.example") for name in people}
        for (name, _), key in zip(owned, keys, strict=False):
            holders[name].keys.append(key)
        self.secrets = [key.raw for key in keys]
        self.staying = [holder for number, holder in enumerate(holders.values()) if number % 5 == 4]
        self.leavers = [holder for number, holder in enumerate(holders.values()) if number % 5 != 4]
        self.bystanders = [*(key for holder in self.staying for key in holder.keys), *keys[len(owned) :]]
