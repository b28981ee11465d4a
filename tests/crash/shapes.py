"""The ways to leave: what is pushed, and what has to become of whom."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from support.directory import Directory, mail
from support.gateway import Holder
from support.settings import SOURCE

from crash.judge import Fate
from crash.points import Fuse
from idsync.app import Core
from idsync.clock import ManualClock
from idsync.store import directory, jobs

LONGEST = 3600.0
"""Seconds that may pass until nothing is left to do: the longest wait of a leaver here is ten minutes."""


@dataclass(frozen=True)
class Life:
    """One process, from its start to its end."""

    core: Core
    clock: ManualClock
    fuse: Fuse
    directory: Directory

    async def work(self) -> None:
        await self.core.engine.run_until_idle()
        self.fuse.still_burns()  # a dead engine looks idle

    async def finish(self) -> None:
        """Work, and let time pass until there is work again, until there is none."""
        end = self.clock.now() + LONGEST
        await self.work()
        while (due := jobs.next_due(self.core.store.reader())) is not None and due <= end:
            self.clock.advance(max(0.0, due - self.clock.now()))
            await self.work()


# -- what happens -----------------------------------------------------------------------------------------------------

Step = Callable[[Life], Coroutine[Any, Any, None]]


def push(verb: str, *who: str) -> Step:
    """Return a change that the identity provider sends until it is answered."""

    async def step(life: Life) -> None:
        getattr(life.directory, verb)(*who)

    return step


def delete(who: str) -> Step:
    """Return a SCIM DELETE; sent again, it finds nobody, and whoever sent it is content with that."""

    async def step(life: Life) -> None:
        if directory.user_by_name(life.core.store.reader(), SOURCE, mail(who)) is not None:
            life.directory.delete(who)

    return step


async def revoke_leo(life: Life) -> None:
    """An operator asks until they are answered."""
    control, now = life.core.control, life.clock.now()
    asked: dict[str, Any] = {"reason": "test", "override": False, "by": "test", "received_at": now}
    life.core.store.write(lambda db: control.revoke(db, mail("leo"), **asked))


async def work(life: Life) -> None:
    """Whatever was pushed until now is done before the next push."""
    await life.work()


async def settle(life: Life) -> None:
    """Everything is looked at for the last time before the next push."""
    await life.finish()


async def sweep(life: Life) -> None:
    """A scheduled pass opens jobs for whatever differs."""
    await life.core.reconciler.apply()


# -- what has to become of it -------------------------------------------------------------------------------------------

Cast = Mapping[str, Holder]
"""Leo, who leaves; Max, who leaves with him once; Ann, who stays. Each has a key in every team they are in."""


def gone(*who: str) -> Callable[[Cast], Sequence[Fate]]:
    return lambda cast: [Fate(cast[name], cast[name].keys) for name in who]


def unharmed(*, spared: bool) -> Callable[[Cast], Sequence[Fate]]:
    """Leo is back before anything was destroyed."""
    teams = frozenset({"data", "lab"})
    return lambda cast: [Fate(cast["leo"], (), cast["leo"].keys, teams, "cancelled", spared)]


def back(cast: Cast) -> Sequence[Fate]:
    """Leo had gone for good, and is here again without a key."""
    return [Fate(cast["leo"], cast["leo"].keys, (), frozenset({"data"}), back=True)]


def moved(cast: Cast) -> Sequence[Fate]:
    """Leo has lost the first of his teams, and nothing else."""
    leo = cast["leo"]
    return [Fate(leo, leo.keys[:1], leo.keys[1:], frozenset({"web", "lab"}), None)]


@dataclass(frozen=True)
class Shape:
    """One way to leave; `groups` are Leo's at the source, `rosters` his at the gateway."""

    name: str
    script: Sequence[Step]
    fates: Callable[[Cast], Sequence[Fate]]
    groups: Sequence[str] = ("Data",)
    rosters: Sequence[str] = ("data", "lab")

    def __str__(self) -> str:
        return self.name


SHAPES = [
    Shape("a push of active=false", [push("leave", "leo")], gone("leo")),
    Shape("a SCIM DELETE", [delete("leo")], gone("leo")),
    Shape("a revocation by hand", [revoke_leo], gone("leo")),
    Shape("somebody in no team", [push("leave", "leo")], gone("leo"), groups=(), rosters=()),
    Shape("two at once", [push("leave", "leo"), delete("max")], gone("leo", "max")),
    Shape("a pass beside it", [push("leave", "leo"), sweep], gone("leo")),
    Shape("the last group lost", [push("part", "Data", "leo")], gone("leo")),
    Shape(
        "one team of two lost",
        [push("part", "Data", "leo")],
        moved,
        groups=("Data", "Web"),
        rosters=("data", "web", "lab"),
    ),
    Shape(
        "a return before the deletion",
        [push("part", "Data", "leo"), work, push("join", "Data", "leo")],
        unharmed(spared=False),
    ),
    Shape("a return after all of it", [push("leave", "leo"), settle, push("come_back", "leo")], back),
    Shape("a return at once", [push("leave", "leo"), push("come_back", "leo")], unharmed(spared=True)),
]
