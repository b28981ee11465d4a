"""One shared key of a team, rotated again and again from the same beginning, with deaths where they are wanted.

The judge asks the gateway which keys it has and whether they authenticate, and reads the file a service would read.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from support.directory import Directory, mail
from support.gateway import WORKS, Gateway, Key
from support.home import Home
from support.settings import DATA, store_url, write_settings
from support.stores import put_back, set_aside

from crash.points import Crash, Fuse, FusedGateway, FusedStore
from crash.scene import _buried
from idsync import config
from idsync.app import Core, opened
from idsync.clock import ManualClock
from idsync.keys.due import Sight
from idsync.keys.ending import LATE, end_key
from idsync.keys.keeper import Keeper
from idsync.keys.making import Kept, Maker
from idsync.sinks.base import Delivery, Sink
from idsync.store import teamkeys
from idsync.store.opening import read_only, store_of
from idsync.store.teamkeys import TeamKey

ALIAS = "ds-prod"


class FusedSink:
    """A real sink behind a fuse: a death right after it has taken a secret is one that nobody wrote down."""

    name = "files"

    def __init__(self, fuse: Fuse, real: Sink) -> None:
        self._fuse = fuse
        self._real = real

    async def check(self) -> list[str]:
        return await self._real.check()

    async def deliver(self, delivery: Delivery) -> None:
        self._fuse.meet("before POST delivery")
        await self._real.deliver(delivery)
        self._fuse.meet("after POST delivery")

    async def close(self) -> None:
        await self._real.close()


@dataclass(frozen=True)
class Life:
    core: Core
    clock: ManualClock
    directory: Directory


Step = Callable[[Life], Coroutine[Any, Any, None]]


async def by_hand(life: Life) -> None:
    """An operator asks until they are answered."""
    await life.core.keeper.rotate(ALIAS, compromised=True, by="test")


async def leaver(life: Life) -> None:
    life.directory.leave("leo")


async def nothing(life: Life) -> None:
    """A pass finds what is due."""


@dataclass(frozen=True)
class Shape:
    """Why a key is due. `had`: whether there is one from before, which is to be dead in the end.

    `few` is how many deaths `make test` tries of those that leave another world; all where they are the rotation's own.
    """

    name: str
    step: Step
    had: bool = True
    few: int = 99

    def __str__(self) -> str:
        return self.name


SHAPES = [
    Shape("asked for by hand", by_hand),
    Shape("a leaver", leaver, few=5),
    Shape("the first one", nothing, had=False),
]


class Sound(Maker):
    """How keys are made; the mutants do it wrongly."""


class Forgetful(Sound):
    """Does not look for what an earlier life has offered."""

    async def _end_earlier(self, alias: str) -> None:
        for key in teamkeys.undelivered(self._kit.db):
            await self._kit.write(partial(teamkeys.end, called=key.called))


class Hasty(Sound):
    """Ends the old key before the sink has the new one."""

    async def _make(self, sight: Sight) -> Kept:
        kept = await super()._make(sight)
        if sight.shown is not None:
            await end_key(self._kit, sight.shown.id)
        return kept


@dataclass(frozen=True, repr=False)
class Course:
    met: Sequence[Sequence[str]]
    deaths: int
    faults: Sequence[str]

    def __repr__(self) -> str:
        ends = [points[-1] for points in self.met[: self.deaths]]
        return f"died {' and '.join(ends) or 'nowhere'}: {'; '.join(self.faults)}"


class KeyScene:
    """Leo is in a team that wants its shared key rotated when somebody leaves; every play begins there."""

    def __init__(
        self, folder: Path, gateway: Gateway, shape: Shape, dialect: str, program: type[Sound] = Sound
    ) -> None:
        self.gateway = gateway
        self._shape = shape
        self._program = program
        (folder / "sink").mkdir(mode=0o700)
        self._file = folder / "sink" / ALIAS
        sink = {"name": "files", "kind": "file", "path": f"{folder}/sink/{{alias}}"}
        key = {"alias": ALIAS, "duration": "90d", "sink": "files"}
        team = {**DATA, "adopt": True, "on_member_departure": "rotate"}
        self.gateway.team("data")
        self._settings = write_settings(
            folder, gateway.url, routero={"dialect": dialect, "concurrency": 1}, teams=[team], sinks=[sink]
        )
        with Home(self._settings) as home:
            home.directory.hire("leo", "Data")
            home.wait_until_quiet()
            self._leo = home.account_of("leo")
        self._settings = write_settings(
            folder,
            gateway.url,
            routero={"dialect": dialect, "concurrency": 1},
            teams=[{**team, "keys": [key]}],
            sinks=[sink],
        )
        self._config = config.load(str(self._settings), {}).config
        self._store = folder / "idsync.db"
        self._beginning = folder / "beginning.db"
        set_aside(self._store, self._beginning)

    def _at_work(self) -> Key | None:
        """Set gateway, store and file up anew; return the key that is in the file."""
        put_back(self._beginning, self._store)
        self._file.unlink(missing_ok=True)
        self.gateway.hook("reset")
        self.gateway.hook("seed", {"users": [{"user_id": self._leo, "user_email": mail("leo")}]})
        self.gateway.team("data", self._leo)
        if not self._shape.had:
            return None
        key = self.gateway.key_of(None, "data", key_alias=ALIAS)
        self._file.write_text(key.raw)
        store = store_of(store_url(self._settings))
        store.open()
        known = TeamKey(ALIAS, "data", key.id, made_at=time.time() - 1000, delivered_at=time.time() - 1000)
        store.write(lambda db: teamkeys.put(db, known))
        store.close()
        self.gateway.ready()
        return key

    def play(self, *deaths: int) -> Course:
        """Let the first lives die, each at the given point of its own; the one after them lives on."""
        before = self._at_work()
        clock, script = ManualClock(time.time()), deque([self._shape.step])
        lives: list[Fuse] = []
        faults: list[str] = []
        for at in (*deaths, None):
            lives.append(Fuse(at))
            with suppress(Crash):
                asyncio.run(self._live(lives[-1], clock, script))
            if not lives[-1].blown:
                break
            faults += self._after_a_death(before, len(lives))
        faults += self._at_the_end(before)
        return Course([fuse.met for fuse in lives], len(lives) - 1, faults)

    async def _live(self, fuse: Fuse, clock: ManualClock, script: deque[Step]) -> None:
        asyncio.get_running_loop().set_exception_handler(_buried)
        kinds: dict[str, Any] = {"store": partial(FusedStore, fuse), "gateway": partial(FusedGateway, fuse)}
        async with opened(self._config, clock=clock, **kinds) as core:
            sinks = {"files": FusedSink(fuse, core.keeper.kit.sinks["files"])}
            core.keeper = Keeper(replace(core.keeper.kit, sinks=sinks))
            core.keeper.maker = self._program(core.keeper.kit)
            while script:
                await script[0](Life(core, clock, Directory(core.store, core.intake)))
                script.popleft()  # it was answered
            for pause in (0.0, LATE + 1):
                clock.advance(pause)
                await core.engine.run_until_idle()
                fuse.still_burns()
                turn = await core.keeper.turn(hurry=True)
                assert not turn.failed, turn.failed

    # -- the judge ------------------------------------------------------------------------------------------------

    def _shared(self) -> dict[str, str | None]:
        """Return the aliases of the keys that are nobody's, by their ids."""
        return {row["token"]: row["key_alias"] for row in self.gateway.state()["keys"] if row["user_id"] is None}

    def _in_the_file(self) -> str | None:
        return self._file.read_text() if self._file.exists() else None

    def _works(self, secret: str) -> bool:
        return set(self.gateway.tried(secret)) == {WORKS}

    def _after_a_death(self, before: Key | None, deaths: int) -> Iterator[str]:
        secret = self._in_the_file()
        if deaths == 1 and secret is not None and not self._works(secret):
            yield "a death has left a dead key in the file"
        spare = len(self._shared()) - (1 if before is not None else 0)
        if spare > 1:
            yield f"{spare} keys that nobody has"

    def _at_the_end(self, before: Key | None) -> Iterator[str]:
        secret, shared = self._in_the_file(), self._shared()
        if secret is None or not self._works(secret):
            yield "the key in the file does not work"
        if list(shared.values()) != [ALIAS]:
            yield f"the gateway has {sorted(map(str, shared.values()))}"
        if before is not None and (secret == before.raw or self._works(before.raw)):
            yield "the old key is not gone"
        with read_only(store_url(self._settings)) as db:
            key = teamkeys.get(db, ALIAS)
            if teamkeys.undelivered(db) or teamkeys.ending(db):
                yield f"left over: {teamkeys.undelivered(db)} {teamkeys.ending(db)}"
            if key is None or key.key_id not in shared or key.error is not None:
                yield f"the store has {key}"
        if secret is not None and any(secret.encode() in file.read_bytes() for file in self._kept()):
            yield "the secret is in the store"

    def _kept(self) -> list[Path]:
        return [file for file in self._store.parent.glob("idsync.db*") if file.is_file()]
