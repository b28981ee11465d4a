"""The scenes: what a deletion alone leaves alive, then a joiner, a mover and two leavers with idsync."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from idsync.demo.idps import Entra, Okta
from idsync.demo.stage import Stage, until

ADA, BEN, CLEO, DANA = "ada@example.com", "ben@example.com", "cleo@example.com", "dana@example.com"
SCIENCE_OKTA, ENGINEERING = "Routero Data Science", "Routero Engineering"
SCIENCE_ENTRA, CUSTOMER_OPS = "AI Data Science", "AI Customer Ops"
DEAD = 401
WRITES = {"/user/update", "/key/block", "/key/delete", "/team/member_delete"}


@dataclass
class Leaver:
    """What happened to one leaver, as the gateway's log and real requests tell it."""

    email: str
    how: str
    keys: dict[str, str]
    teams: list[str]
    calls: list[dict[str, Any]] = field(default_factory=list)
    pushed_at: float = 0.0
    last_refused_ms: float = 0.0
    statuses: dict[str, list[int]] = field(default_factory=dict)
    teams_after: list[str] = field(default_factory=list)
    state: str = ""
    took: float | None = None

    @property
    def dead(self) -> bool:
        return all(status == DEAD for row in self.statuses.values() for status in row) and not self.teams_after


@dataclass
class Run:
    """One run of the story against one kind of gateway."""

    title: str
    control: list[int] = field(default_factory=list)
    teams: list[str] = field(default_factory=list)
    joined: dict[str, list[str]] = field(default_factory=dict)
    mover: dict[str, Any] = field(default_factory=dict)
    leavers: list[Leaver] = field(default_factory=list)
    others: dict[str, list[int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def expect(self, true: bool, otherwise: str) -> None:
        if not true:
            self.problems.append(otherwise)


class Story:
    """Plays the scenes on a stage and writes down what it sees."""

    def __init__(self, stage: Stage, run: Run) -> None:
        self.stage = stage
        self.run = run
        self.okta = Okta(stage.scim_url, stage.tokens["okta"])
        self.entra = Entra(stage.scim_url, stage.tokens["entra"])
        self.ids: dict[str, str] = {}
        self.keys: dict[str, dict[str, str]] = {}

    def play(self) -> None:
        self.control()
        self.join()
        self.move()
        self.leave(ADA, "Okta: PUT with active=false", lambda: self.okta.unassign(self.ids[ADA]))
        self.leave(BEN, 'Entra: PATCH Replace active "False"', lambda: self.entra.disable(self.ids[BEN]))
        self.bystanders()

    # -- the control ------------------------------------------------------------------------------------------------

    def control(self) -> None:
        """Delete a warm key as a script would: the replica that took the call refuses it, the others do not."""
        stage = self.stage
        stage.hook("seed", {"users": [{"user_id": "control", "user_email": "control@example.com"}]})
        key = stage.mint("control@example.com", "control")
        stage.tried(key)
        stage.delete_without_idsync(key)
        self.run.control = stage.tried(key)
        self.run.expect(200 in self.run.control, "the control is no control: a deleted key was refused everywhere")

    # -- joiners ----------------------------------------------------------------------------------------------------

    def join(self) -> None:
        self.run.teams = [_team_words(team) for team in self.stage.state()["teams"]]
        okta, entra, ids = self.okta, self.entra, self.ids
        ids[ADA], ids[CLEO] = okta.assign(ADA, "Ada", "Young"), okta.assign(CLEO, "Cleo", "Marsh")
        okta.push_group(SCIENCE_OKTA, [ids[ADA], ids[CLEO]])
        okta.push_group(ENGINEERING, [ids[ADA]])
        ids[BEN], ids[DANA] = entra.provision(BEN, "Ben", "Ortiz"), entra.provision(DANA, "Dana", "Field")
        entra.add(SCIENCE_ENTRA, [ids[BEN], ids[DANA]])
        wanted = {ADA: ["data-science", "engineering"], BEN: ["data-science"]}
        wanted |= {CLEO: ["data-science"], DANA: ["data-science"]}
        until("everybody in their teams", lambda: all(self._teams(email) == teams for email, teams in wanted.items()))
        self.run.joined = wanted
        self._mint()

    def _teams(self, email: str) -> list[str]:
        return self.stage.teams_of(email)

    def _mint(self) -> None:
        """Give everybody a personal key and one in each team, and use every key once on every replica."""
        for email, teams in self.run.joined.items():
            name = email.partition("@")[0]
            keys = {f"{name}-personal": self.stage.mint(email, f"{name}-personal")}
            keys |= {f"{name}-{team}": self.stage.mint(email, f"{name}-{team}", team) for team in teams}
            self.keys[email] = keys
            for alias, key in keys.items():
                self.run.expect(set(self.stage.tried(key)) == {200}, f"key {alias} did not work to begin with")

    # -- the mover --------------------------------------------------------------------------------------------------

    def move(self) -> None:
        """Dana changes teams. Entra sends the removal and the addition as two requests."""
        science = self.keys[DANA]["dana-data-science"]
        self.entra.remove(SCIENCE_ENTRA, [self.ids[DANA]])
        self.entra.add(CUSTOMER_OPS, [self.ids[DANA]])
        until("dana in customer-ops alone", lambda: self._teams(DANA) == ["customer-ops"])
        until("dana's old team key refused", lambda: set(self.stage.tried(science)) == {DEAD})
        personal = self.stage.tried(self.keys[DANA]["dana-personal"])
        self.run.mover = {"email": DANA, "teams": self._teams(DANA), "old": self.stage.tried(science), "own": personal}
        self.run.expect(set(personal) == {200}, "the mover lost a key that was not of the old team")
        del self.keys[DANA]["dana-data-science"]

    # -- the leavers ------------------------------------------------------------------------------------------------

    def leave(self, email: str, how: str, push: Callable[[], None]) -> None:
        keys = self.keys.pop(email)
        leaver = Leaver(email, how, keys, self._teams(email))
        since = self._last_log_number()
        leaver.pushed_at = time.time()
        push()
        until(f"every key of {email} refused", lambda: self._all_refused(leaver))
        leaver.last_refused_ms = (time.time() - leaver.pushed_at) * 1000
        until(f"the receipt of {email}", lambda: self._receipt(leaver))
        leaver.statuses = {alias: self.stage.tried(key) for alias, key in keys.items()}
        leaver.teams_after = self._teams(email)
        leaver.calls = self._calls(since)
        self._check_order(leaver)
        self.run.leavers.append(leaver)
        self.run.expect(leaver.dead, f"{email} still has something that works")

    def _all_refused(self, leaver: Leaver) -> bool:
        return all(status == DEAD for key in leaver.keys.values() for status in self.stage.tried(key))

    def _receipt(self, leaver: Leaver) -> bool:
        for view in json.loads(self.stage.idsync("departures", leaver.email, "--json")):
            leaver.state, leaver.took = view["state"], view["time_to_revoke_seconds"]
        return leaver.state in ("verified", "settled")

    def _last_log_number(self) -> int:
        entries = self.stage.hook("log")["entries"]
        return int(entries[-1]["n"]) if entries else 0

    def _calls(self, since: int) -> list[dict[str, Any]]:
        """Return what was called with the admin key since then, from the gateway's own log."""
        entries = self.stage.gateway.ok("GET", f"/_sandbox/log?since={since}")["entries"]
        return [entry for entry in entries if entry["caller"] == "admin" and not entry["path"].startswith("/v1/")]

    def _check_order(self, leaver: Leaver) -> None:
        """The gateway's log has to show: fence, block, delete, leave the teams, and reads after the last write."""
        writes = [entry["path"] for entry in leaver.calls if entry["path"] in WRITES]
        order = [path for index, path in enumerate(writes) if path not in writes[:index]]
        wanted = ["/user/update", "/key/block", "/key/delete", "/team/member_delete"]
        self.run.expect(order == wanted, f"the order of calls for {leaver.email} was {order}")
        last_write = max((i for i, entry in enumerate(leaver.calls) if entry["path"] in WRITES), default=-1)
        reads = [entry["path"] for entry in leaver.calls[last_write + 1 :]]
        self.run.expect("/key/list" in reads, f"nothing was read back after the last write for {leaver.email}")

    # -- everybody else -----------------------------------------------------------------------------------------------

    def bystanders(self) -> None:
        for keys in self.keys.values():
            for alias, key in keys.items():
                self.run.others[alias] = self.stage.tried(key)
        alive = all(set(row) == {200} for row in self.run.others.values())
        self.run.expect(alive and bool(self.run.others), "somebody who did not leave lost a key")


def _team_words(team: dict[str, Any]) -> str:
    budget = f"${team['max_budget']:.0f}/{team['budget_duration']}"
    return f"{team['team_alias']} ({', '.join([budget, *team['models']])})"
