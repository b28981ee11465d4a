"""A tenant of the stand-in as the source sees it, with what a test asks of both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

from support.idps import Graph

from idsync.clock import Clock, SystemClock
from idsync.sandbox.graph.service import CLIENT, SECRET, TENANT
from idsync.snapshot import Changes, Look, PolledSource, Snapshot, Wanted
from idsync.sources.graph.source import ClientSecret, GraphSettings, GraphSource

T = TypeVar("T")


class Memory(dict[str, str]):
    """Parts of a listing, kept in memory; `fails_after` writes it breaks off, as a kill would."""

    fails_after = -1

    def put(self, name: str, text: str) -> None:
        if self.fails_after == 0:
            raise Killed
        self.fails_after -= 1
        self[name] = text


class Killed(BaseException):
    """The process ended here."""


@dataclass
class Tenant:
    """`graph` is the stand-in; `seen` what the source observed, `slept` how long it waited."""

    graph: Graph
    clock: Clock = field(default_factory=SystemClock)
    parts: Memory = field(default_factory=Memory)
    seen: list[tuple[str, str]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    told: list[tuple[str, int, int | None]] = field(default_factory=list)

    # -- before -----------------------------------------------------------------------------------------------------

    def company(self, *people: str, group: str = "ai-eng") -> None:
        """Seed people and one group that they are all in."""
        names = [f"{person}@example.com" for person in people]
        self.graph.seed(
            users=[{"userPrincipalName": name} for name in names], groups=[{"displayName": group, "members": names}]
        )

    def crowd(self, users: int, group: str = "ai-eng") -> None:
        self.company(*[f"p{number:04d}" for number in range(users)], group=group)

    def answer_with(self, path: str, body: Any, status: int = 200) -> None:
        """Have a path answered with any body."""
        self.graph.break_with(path, status=status, body=json.dumps(body))

    def id(self, name: str) -> str:
        return self.graph.ids[name if name in self.graph.ids else f"{name}@example.com"]

    def ids(self, *names: str) -> frozenset[str]:
        return frozenset(map(self.id, names))

    # -- what the source does -------------------------------------------------------------------------------------

    def settings(self, **changed: Any) -> GraphSettings:
        usual: dict[str, Any] = {
            "name": "entra",
            "tenant_id": TENANT,
            "client_id": CLIENT,
            "credential": ClientSecret(lambda: SECRET),
            "authority": self.graph.sandbox.entra_url,
            "graph_url": self.graph.graph_url,
            "timeout": 5.0,
        }
        return GraphSettings(**(usual | changed))

    def run(self, act: Callable[[GraphSource], Awaitable[T]], **changed: Any) -> T:
        """Do something with a source of its own."""

        async def inside() -> T:
            source = GraphSource(self.settings(**changed), self.clock, self._observe, sleep=self._sleep)
            try:
                return await act(source)
            finally:
                await source.close()

        return asyncio.run(inside())

    def snapshot(self, *names: str, bound: Collection[str] = (), **changed: Any) -> Snapshot:
        wanted = wanting(*(names or ("ai-eng",)), bound=bound)
        return self.run(lambda source: source.snapshot(wanted, self.parts, self._tell), **changed)

    def changes(self, cursor: str, *names: str, bound: Collection[str] = (), **changed: Any) -> Changes:
        wanted = wanting(*(names or ("ai-eng",)), bound=bound)
        return self.run(lambda source: source.changes(wanted, cursor), **changed)

    def look(self, user: str, *groups: str, **changed: Any) -> Look:
        return self.run(lambda source: source.look_up(user, groups), **changed)

    def _observe(self, endpoint: str, code: str, _seconds: float) -> None:
        self.seen.append((endpoint, code))

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def _tell(self, what: str, done: int, of: int | None) -> None:
        self.told.append((what, done, of))

    # -- after ------------------------------------------------------------------------------------------------------

    def asked(self) -> list[str]:
        """Return which paths of Graph were asked for since it was last asked; parts of a batch apart."""
        rows = [row for row in self.graph.asked() if row["path"].startswith("/v1.0/") and row["caller"] != "batch"]
        self.graph.forget()
        return [row["path"].removeprefix("/v1.0") for row in rows]


def as_polled(source: GraphSource) -> PolledSource:
    """Say to the type checker what the source has to be."""
    return source


def wanting(*names: str, bound: Collection[str] = (), ids: Collection[str] = ()) -> Wanted:
    return Wanted(frozenset(names), frozenset(ids), frozenset(bound))
