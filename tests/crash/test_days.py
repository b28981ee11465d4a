"""T2: whole days of a company on virtual time: people come, move, leave and return, the gateway fails, clocks are set.

After every trouble, two minutes are enough until the gateway agrees with the directory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.gateway import REFUSED, Holder
from support.virtual import Simulation

from crash.size import CRASH

SEEDS = CRASH.scaled(1, 200)
DAY, LONGEST, CONVERGED = 86400.0, 600.0, 120.0
EVENTS = 60
"""Changes in a day, about; one in six happens while something fails."""
HTML, JSON = "text/html", "application/json"
TROUBLES: list[dict[str, Any]] = [
    {"drop": "before"},
    {"drop": "after", "probability": 0.3},
    {"hang": True, "probability": 0.2},
    {"status": 500, "when": "after", "probability": 0.3},
    {"status": 502, "body": "<html>", "content_type": HTML},
    {"status": 404, "body": "<html>", "content_type": HTML, "probability": 0.5},
    {"status": 200, "body": "", "probability": 0.3},
    {"status": 429, "headers": {"Retry-After": "20"}, "probability": 0.3},
    {"status": 302, "headers": {"Location": "/elsewhere"}, "probability": 0.3},
    {"status": 401, "body": '{"error": {"message": "no", "type": "auth_error"}}', "content_type": JSON},
    {"truncate": True, "probability": 0.3},
    {"delay": [0.5, 4.0]},
    {"lie": True, "path": "/key/delete"},
]


@dataclass
class Company:
    """Who should be at work, by what the directory was last told."""

    sim: Simulation
    dice: Random
    people: dict[str, Holder] = field(default_factory=dict)
    working: set[str] = field(default_factory=set)
    returned: set[str] = field(default_factory=set)
    numbers: count[int] = field(default_factory=count)

    def join(self) -> None:
        login = f"p{next(self.numbers):03}"
        self.people[login] = self.sim.gateway.account(login, None, None)
        self.sim.gateway.hook("warm")
        self.sim.directory.hire(login, self.dice.choice(["Data", "Web"]))
        self.working.add(login)

    def leave(self) -> None:
        login = self._one_of(self.working)
        self.dice.choice([self.sim.directory.leave, self._lose_groups])(login)

    def _lose_groups(self, login: str) -> None:
        for group in ("Data", "Web"):
            self.sim.directory.part(group, login)

    def come_back(self) -> None:
        away = self.people.keys() - self.working
        if away:
            login = self.dice.choice(sorted(away))
            self.sim.directory.come_back(login)
            self.sim.directory.join("Data", login)
            self.working.add(login)
            self.returned.add(login)

    def _one_of(self, logins: set[str]) -> str:
        if not logins:
            self.join()
        login = self.dice.choice(sorted(logins))
        logins.discard(login)
        return login

    def change(self) -> None:
        self.dice.choice([self.join, self.leave, self.leave, self.come_back])()

    def trouble(self) -> None:
        """Something fails for at most ten minutes; meanwhile people come and go, and a clock may be set."""
        self.sim.gateway.break_with(**{"path": "*", "seed": self.dice.randrange(1000), **self.dice.choice(TROUBLES)})
        for _ in range(self.dice.randint(1, 4)):
            self.change()
            self.sim.pass_time(self.dice.uniform(0, LONGEST / 4))
        if self.dice.random() < 0.3:
            self.sim.clock.set(self.dice.choice([-1, 1]) * self.dice.uniform(3, DAY))
        self.sim.gateway.mend()

    def disagreements(self) -> list[str]:
        """Say where the gateway does not agree with the directory."""
        gateway, found = self.sim.gateway, []
        for login, holder in sorted(self.people.items()):
            answers = gateway.answers(holder.keys)
            if login not in self.working:
                if answers != {REFUSED}:
                    found.append(f"a key of {login}, who is away, is answered {answers}")
                if not gateway.fenced(holder.user_id):
                    found.append(f"{login}, who is away, is not fenced")
            elif gateway.fenced(holder.user_id) or not gateway.teams_with(holder.user_id):
                found.append(f"{login}, who is at work, is fenced or in no team")
            elif login not in self.returned and answers != {200}:
                found.append(f"a key of {login}, who never left, is answered {answers}")
        return found


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_day_in_which_everything_happens(tmp_path: Path, seed: int) -> None:
    dice = CRASH.dice("days", seed)
    changed: dict[str, Any] = {"guard": {"max_push_departures": 1000}, "policy": {"group_loss_delete_after": "1h"}}
    with Simulation(tmp_path, seed=seed, **changed) as sim:
        sim.gateway.hook("options", {"latency": 0.05})
        company = Company(sim, dice)
        for _ in range(8):
            company.join()
        while sim.time < DAY:
            event: Callable[[], None] = dice.choice([company.trouble, *[company.change] * 5])
            event()
            if event == company.trouble:
                sim.pass_time(CONVERGED)
                assert company.disagreements() == [], (CRASH.replay, sim.troubles())
            sim.pass_time(dice.expovariate(EVENTS / DAY))
        sim.pass_time(2 * 3600)
        assert company.disagreements() == []
        assert sim.quiet(), sim.troubles()
        for login in company.people.keys() - company.working:
            sim.gateway.assert_gone(company.people[login])
