"""What the tests of the Okta source stand on: the stand-in of an org with its hooks, and time that only waiting moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from support.idps import Okta

from idsync.clock import ManualClock
from idsync.sandbox.okta.service import TOKEN
from idsync.sandbox.server import Sandbox
from idsync.snapshot import Look, Snapshot, Wanted
from idsync.sources.okta.source import OktaSettings, OktaSource

T = TypeVar("T")
PEOPLE = ("ann", "ben", "cyd", "dan", "eve")


@dataclass
class Store:
    """`Parts` in a dict."""

    kept: dict[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        return self.kept.get(name)

    def put(self, name: str, text: str) -> None:
        self.kept[name] = text


class Org(Okta):
    """An org with five people in three groups (data and ml are bound), three of them assigned to an app.

    `ids` are of people and groups by their short names. All of it was made `age` seconds ago.
    """

    def __init__(self, sandbox: Sandbox, age: float = 3600.0) -> None:
        super().__init__(sandbox)
        self.reset()
        people = [f"{name}@example.com" for name in PEOPLE]
        made = self.seed(
            users=[{"login": login} for login in people],
            groups=[
                {"name": "data", "members": people},
                {"name": "ml", "members": people[:2]},
                {"name": "sales", "members": people[4:]},
            ],
            apps=[{"label": "gateway", "users": people[:3]}],
        )
        self.ids = {name.removesuffix("@example.com"): one for name, one in made.items()}
        self.app = self.ids.pop("gateway")
        self.clock = ManualClock(self._hook("clock", {"advance": age})["now"])
        self.token: Callable[[], str] = lambda: TOKEN
        self.slept: list[float] = []
        self.seen: list[tuple[str, str, float]] = []
        """Endpoint, code and time of every request, as observed by the source."""
        self.forget()

    @property
    def wanted(self) -> Wanted:
        return Wanted(names=frozenset({"data", "ml"}), bound=frozenset({self.ids["data"], self.ids["ml"]}))

    def act(self, do: str, **what: Any) -> dict[str, Any]:
        """Do something to the org; people are named without their domain."""
        if "user" in what and "@" not in what["user"]:
            what["user"] += "@example.com"
        return super().act(do, **what)

    def spoil(self, path: str, **rule: Any) -> None:
        """Break this and mend everything else."""
        self.mend()
        self.break_with(path, **rule)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.move_clock(seconds)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.pass_time(seconds)

    # the source

    def settings(self, **changes: Any) -> OktaSettings:
        if "private_key" not in changes:
            changes.setdefault("api_token", lambda: self.token())
        given: dict[str, Any] = {
            "name": "okta-poll",
            "org_url": self.sandbox.okta_url,
            "page": 2,
            "app_page": 2,
            "timeout": 5.0,
        }
        return OktaSettings(**(given | changes))

    def source(self, **changes: Any) -> OktaSource:
        def observe(endpoint: str, code: str, _seconds: float) -> None:
            self.seen.append((endpoint, code, self.clock.now()))

        return OktaSource(self.settings(**changes), self.clock, observe, self.sleep)

    def ask(self, do: Callable[[OktaSource], Awaitable[T]], **changes: Any) -> T:
        """Build a source, do something with it, close it."""

        async def asked() -> T:
            source = self.source(**changes)
            try:
                return await do(source)
            finally:
                await source.close()

        return asyncio.run(asked())

    def snapshot(self, wanted: Wanted | None = None, parts: Store | None = None, **changes: Any) -> Snapshot:
        return self.ask(lambda source: source.snapshot(wanted or self.wanted, parts or Store()), **changes)

    def look(self, name: str, groups: tuple[str, ...] = ("data", "ml"), **changes: Any) -> Look:
        asked = [self.ids[group] for group in groups]
        return self.ask(lambda source: source.look_up(self.ids[name], asked), **changes)

    def names(self, ids: Any) -> set[str]:
        """Return the names of external ids, of people and of groups."""
        known = {one: name for name, one in self.ids.items()}
        return {known.get(one, one) for one in ids}
