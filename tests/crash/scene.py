"""One leaver, played again and again from the same beginning, with deaths where they are wanted.

After a death the same file is opened anew, until a life ends well. What an identity provider pushes is repeated until
it has its answer. Time moves only when nothing is left to do before it does.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from support.company import LAB, OWN
from support.directory import Directory, mail
from support.gateway import Gateway, Holder
from support.home import Home
from support.settings import DATA, WEB, write_settings
from support.stores import put_back, set_aside

from crash.judge import Fate, Judge, World
from crash.points import Crash, Fuse, FusedGateway, Program
from crash.shapes import Cast, Life, Shape, Step
from idsync import config
from idsync.app import opened
from idsync.clock import ManualClock

ORGANIZATION = "org-default"
SINCE = {"metadata": OWN, "organizations": {ORGANIZATION: "internal_user"}}
"""What everybody's account has from before idsync."""


@dataclass(frozen=True, repr=False)
class Course:
    """How a play went: the points that each life met, how many lives died, and what the judge says."""

    met: Sequence[Sequence[str]]
    deaths: int
    faults: Sequence[str]

    def __repr__(self) -> str:
        ends = [points[-1] for points in self.met[: self.deaths]]
        return f"died {' and '.join(ends) or 'nowhere'}: {'; '.join(self.faults)}"


@dataclass
class Scene:
    """A gateway and a store in which everybody is at work; every play begins there.

    `calls` is how many calls of the gateway go on side by side.
    """

    folder: Path
    gateway: Gateway
    shape: Shape
    dialect: str = "litellm"
    calls: int = 1
    program: Program = field(default_factory=Program)

    def __post_init__(self) -> None:
        confined = ORGANIZATION if self.dialect == "routero" else ""
        routero = {"dialect": self.dialect, "concurrency": self.calls, "organization_id": confined}
        teams = [{**team, "adopt": True} for team in (DATA, WEB)]
        self._settings = write_settings(self.folder, self.gateway.sandbox.url, routero=routero, teams=teams)
        self._config = config.load(str(self._settings), {}).config
        self._store = self.folder / "idsync.db"
        self._at_work()
        with Home(self._settings) as home:
            home.directory.hire("leo", *self.shape.groups)
            home.directory.hire("max", "Data")
            home.directory.hire("ann", "Data")
            home.wait_until_quiet()
        self._beginning = self.folder / "beginning.db"
        set_aside(self._store, self._beginning)

    def _at_work(self) -> Cast:
        """Set the gateway up anew."""
        rosters = {"leo": self.shape.rosters, "max": ("data",), "ann": ("data", LAB)}
        places = [(name, team) for name, roster in rosters.items() for team in roster]
        owned = [*places, ("leo", None)]
        seed = {
            "teams": [{"team_id": team, "team_alias": team} for team in ("data", "web", LAB)],
            "users": [{"user_id": f"u-{name}", "user_email": mail(name), **SINCE} for name in rosters],
            "members": [{"user_id": f"u-{name}", "team_id": team} for name, team in places],
            "keys": [*({"user_id": f"u-{name}", "team_id": team} for name, team in owned), {"team_id": "data"}],
        }
        self.gateway.hook("reset")
        self.gateway.hook("options", {"licence": True})
        keys = self.gateway.seeded(seed)
        cast = {name: Holder(f"u-{name}", mail(name)) for name in rosters}
        for key, (name, _) in zip(keys, owned, strict=False):  # the last one is nobody's
            cast[name].keys.append(key)
        self.gateway.ready()
        return cast

    def play(self, *deaths: int) -> Course:
        """Let the first lives die, each at the given point of its own; the one after them lives on."""
        put_back(self._beginning, self._store)
        fates = self.shape.fates(self._at_work())
        before = World(self.gateway.state())
        lives = self._live_on(deaths)
        return Course([fuse.met for fuse in lives], len(lives) - 1, self._judged(fates, before, len(lives)))

    def _live_on(self, deaths: Sequence[int]) -> list[Fuse]:
        clock, script = ManualClock(time.time()), deque(self.shape.script)
        lives: list[Fuse] = []
        for at in (*deaths, None):
            lives.append(Fuse(at))
            with suppress(Crash):
                asyncio.run(self._live(lives[-1], clock, script))
            if not lives[-1].blown:
                break
        return lives

    async def _live(self, fuse: Fuse, clock: ManualClock, script: deque[Step]) -> None:
        asyncio.get_running_loop().set_exception_handler(_buried)
        kinds: dict[str, Any] = {"store": partial(self.program.store, fuse), "gateway": partial(FusedGateway, fuse)}
        async with opened(self._config, clock=clock, **kinds) as core:
            self.program.complete(core)
            life = Life(core, clock, fuse, Directory(core.store, core.intake))
            while script:
                await script[0](life)
                script.popleft()  # it was answered
            await life.finish()

    def _judged(self, fates: Sequence[Fate], before: World, lives: int) -> list[str]:
        judge = Judge(self.gateway, self._settings, fates, before, lives)
        return [*judge.of_the_gateway(), *judge.of_the_books()]


def _buried(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tasks that died with the process are nobody's concern."""
    if not isinstance(context.get("exception"), Crash):
        loop.default_exception_handler(context)
