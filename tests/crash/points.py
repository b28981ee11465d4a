"""The points at which idsync may die: before and after every commit, before and after every call of the gateway.

Nothing else it does has an effect. A fuse counts the points of a life and ends it at one of them; from then on every
further one raises too, as nothing leaves a dead process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from support.stores import UsualStore

from idsync.app import Core
from idsync.config import Config
from idsync.gateway import client
from idsync.gateway.answers import Answer
from idsync.gateway.caller import Request
from idsync.store.db import Db

T = TypeVar("T")


class Crash(BaseException):
    """The process has died; nothing catches this."""


class Fuse:
    """Lets a life meet so many points, then ends it; None never does."""

    def __init__(self, at: int | None = None) -> None:
        self._at = at
        self.met: list[str] = []
        self.blown = False

    def meet(self, point: str) -> None:
        self.still_burns()
        self.met.append(point)
        if len(self.met) == self._at:
            self.blown = True
            raise Crash(point)

    def still_burns(self) -> None:
        if self.blown:
            raise Crash


class FusedStore(UsualStore):
    """Commits one thing at a time, so that the points come in the same order in every run."""

    def __init__(self, fuse: Fuse, config: Config) -> None:
        super().__init__(config.store.url)
        self.fuse = fuse

    def submit(self, run: Callable[[Db], T], *, urgent: bool = False) -> Future[T]:
        self.fuse.meet("before a commit")
        future = super().submit(run, urgent=urgent)
        wait([future])
        self.fuse.meet("after a commit")
        return future


class FusedGateway(client.Gateway):
    def __init__(self, fuse: Fuse, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._fuse = fuse

    async def _exchange(self, request: Request, verb: str, key: str) -> Answer:
        self._fuse.meet(f"before {verb} {request.name}")
        answer = await super()._exchange(request, verb, key)
        self._fuse.meet(f"after {verb} {request.name}")
        return answer


class Program:
    """How idsync is put together; the mutants do it wrongly."""

    store: type[FusedStore] = FusedStore

    def complete(self, core: Core) -> None:
        """Change what was built, before anything uses it."""


def worlds(points: Sequence[str]) -> list[int]:
    """Return the points, counted from 1, at which the world is another one than at the point before.

    What a process has read dies with it: since its last commit or write, the next life finds everything the same.
    """
    return [1, *(n for n, point in enumerate(points, 1) if point.startswith("after") and " GET " not in point)]
