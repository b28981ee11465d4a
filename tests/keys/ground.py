"""A team with a shared key, the file that a service reads it from, and idsync in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.company import Company, founded
from support.fixtures import Opener
from support.gateway import WORKS, Gateway
from support.home import Home
from support.settings import DATA

from idsync.store import teamkeys
from idsync.store.teamkeys import TeamKey

ALIAS = "ds-prod"
MODELS = ["smart/balanced"]
KEY = {
    "alias": ALIAS,
    "duration": "90d",
    "rotate_before": "14d",
    "models": MODELS,
    "max_budget": 100.0,
    "sink": "files",
}
CHAT = {"model": MODELS[0], "messages": []}


@dataclass
class Ground:
    folder: Path
    gateway: Gateway
    opened: Opener
    company: Company | None = None

    @property
    def place(self) -> Path:
        """Where the sink puts secrets."""
        return self.folder / "sink"

    @property
    def file(self) -> Path:
        return self.place / ALIAS

    @property
    def secret(self) -> str:
        return self.file.read_text()

    def settings(self, team: dict[str, Any] | None = None, **key: Any) -> dict[str, Any]:
        """Return the tables of a team with one key; fields of the team and of the key may be others."""
        self.place.mkdir(mode=0o700, exist_ok=True)
        sink = {"name": "files", "kind": "file", "path": f"{self.place}/{{alias}}"}
        one = {"name": "one", "kind": "file", "path": f"{self.place}/one"}
        return {"sinks": [sink, one], "teams": [{**DATA, **(team or {}), "keys": [{**KEY, **key}]}]}

    def open(
        self,
        team: dict[str, Any] | None = None,
        *,
        more: dict[str, Any] | None = None,
        others: Sequence[dict[str, Any]] = (),
        home: dict[str, Any] | None = None,
        **key: Any,
    ) -> Home:
        """Open idsync; `more` are further tables, `others` further teams, `home` how it is opened."""
        tables = self.settings(team, **key)
        return self.opened(**(home or {}), **{**tables, "teams": [*tables["teams"], *others], **(more or {})})

    def at_work(self, team: dict[str, Any] | None = None, *, people: bool = True, **settings: Any) -> Home:
        """Hire people, and make the key; without `people` nobody is hired yet."""
        home = self.open(team, **settings)
        if people:
            self.company = founded(self.gateway, home)
        made = home.reconcile()
        assert (made["failed_keys"], self.works(self.secret)) == ({}, True)
        self.gateway.ready()
        return home

    def works(self, secret: str) -> bool:
        return set(self.gateway.tried(secret)) == {WORKS}

    def used(self, secret: str) -> int:
        """Call a model as a service does."""
        return self.gateway.post("/v1/chat/completions", CHAT, key=secret).status

    def shared(self) -> dict[str, str]:
        """Return the ids of the keys that idsync has made for the team, by their aliases."""
        rows = self.gateway.state()["keys"]
        return {row["key_alias"]: row["token"] for row in rows if row["key_alias"] and row["user_id"] is None}

    def known(self, home: Home) -> TeamKey:
        key = teamkeys.get(home.db, ALIAS)
        assert key is not None
        return key

    def entries(self, home: Home, *actions: str) -> list[tuple[str, str]]:
        """Return who did what of these, in order."""
        return [(event.actor, event.action) for event in home.trail() if event.action in actions]
