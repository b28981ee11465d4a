"""The SCIM operations that are measured: requests over a filled directory, encoded before the clock starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.stage import Bench, Server, active, patch, person

INSIDERS = 200
"""People with access; they have the lowest numbers, and are in no group but the mapped ones."""
SMALL_GROUPS = 100
SAMPLE = 700
"""Users an operation goes round and round, spread over all; a third of the smallest directory."""


@dataclass(frozen=True)
class Size:
    users: int
    groups: tuple[int, ...]


# -- what is there ----------------------------------------------------------------------------------------------------


@dataclass
class Directory:
    """A server filled with users and groups; `ids` by number of the user, `groups` by displayName."""

    name: str
    server: Server
    ids: Sequence[str]
    groups: dict[str, str]
    bench: Bench | None = None
    lists: dict[str, list[bytes]] = field(default_factory=dict)
    """The requests of each operation, turned so that the next one to send comes first."""
    slow: set[str] = field(default_factory=set)
    """Operations of which a single request takes too long for many clients."""

    def sample(self, which: int = 0) -> list[int]:
        """Return the numbers of people without access, spread over all; 0, 1 and 2 have nobody in common."""
        step = (len(self.ids) - INSIDERS) // SAMPLE
        return list(range(INSIDERS + which, len(self.ids), step))[:SAMPLE]

    def each(self, numbers: Sequence[int], build: Callable[[int, str], tuple[Any, ...]]) -> list[bytes]:
        return [self.server.encode(*build(number, self.ids[number])) for number in numbers]


def members_of(size: Size) -> dict[str, range]:
    """Return the groups by displayName, with the numbers of their members."""
    small = {
        f"Small {number:03}": range(INSIDERS + number * 10, INSIDERS + number * 10 + 10)
        for number in range(SMALL_GROUPS)
    }
    large = {big(count): range(INSIDERS, INSIDERS + count) for count in size.groups}
    return {"A": range(INSIDERS), "B": range(INSIDERS), **small, **large}


def big(count: int) -> str:
    return f"Big {count}"


# -- what is asked ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """`budget` in requests/s holds for the small size and 16 clients; `smaller` is what a large group is held to.

    `gateway` is set where the row is about the gateway too: "works", or "stopped" while it is taken.
    """

    title: str
    requests: Callable[[Directory], list[bytes]]
    budget: float | None = None
    cyclic: bool = True
    gateway: str | None = None
    group: int | None = None
    smaller: str | None = None


def get_user(d: Directory) -> list[bytes]:
    return d.each(d.sample(), lambda _, one: ("GET", f"/Users/{one}"))


def user_name_eq(d: Directory) -> list[bytes]:
    query = "/Users?filter=userName%20eq%20%22u{}%40example.com%22&startIndex=1&count=100"
    return d.each(d.sample(), lambda number, _: ("GET", query.format(number)))


def first_page(d: Directory) -> list[bytes]:
    return [d.server.encode("GET", "/Users?startIndex=1&count=100")]


def last_page(d: Directory) -> list[bytes]:
    return [d.server.encode("GET", f"/Users?startIndex={len(d.ids) - 99}&count=100")]


def patch_each(d: Directory, numbers: Sequence[int], body: dict[str, Any]) -> list[bytes]:
    return d.each(numbers, lambda _, one: ("PATCH", f"/Users/{one}", body))


def switch(d: Directory, numbers: Sequence[int]) -> list[bytes]:
    """Everybody off, then everybody on."""
    return [*patch_each(d, numbers, active(False)), *patch_each(d, numbers, active(True))]


def switch_outsiders(d: Directory) -> list[bytes]:
    return switch(d, d.sample(1))


def switch_unheard(d: Directory) -> list[bytes]:
    return switch(d, d.sample(2))


def switch_insiders(d: Directory) -> list[bytes]:
    return switch(d, range(INSIDERS))


def change_title(d: Directory, titles: Sequence[str] = ("Engineer", "Director")) -> list[bytes]:
    bodies = [patch("replace", path="title", value=title) for title in titles]
    return [request for body in bodies for request in patch_each(d, d.sample(), body)]


def put_user(d: Directory) -> list[bytes]:
    def lap(title: str) -> list[bytes]:
        return d.each(d.sample(), lambda number, one: ("PUT", f"/Users/{one}", person(number, title=title)))

    return [*lap("Surgeon"), *lap("Sailor")]


def create_user(d: Directory) -> list[bytes]:
    """New people every time: enough of them for a fast machine."""
    return [d.server.encode("POST", "/Users", person(number)) for number in range(1_000_000, 1_016_000)]


def members(count: int) -> Callable[[Directory], list[bytes]]:
    """Remove 50 members one by one, add them again, go on with the next; no two requests meet on one member."""

    def build(d: Directory) -> list[bytes]:
        path = f"/Groups/{d.groups[big(count)]}"
        found: list[bytes] = []
        for start in range(INSIDERS, INSIDERS + 1000, 50):
            some = d.ids[start : start + 50]
            found += [
                d.server.encode("PATCH", path, patch("remove", path=f'members[value eq "{one}"]')) for one in some
            ]
            found += [
                d.server.encode("PATCH", path, patch("add", path="members", value=[{"value": one}])) for one in some
            ]
        return found

    return build


def get_group(count: int, query: str = "") -> Callable[[Directory], list[bytes]]:
    return lambda d: [d.server.encode("GET", f"/Groups/{d.groups[big(count)]}{query}")]


def changed_group(count: int) -> Callable[[Directory], list[bytes]]:
    """Change somebody, read the group: what is remembered of an answer does not help."""

    def build(d: Directory) -> list[bytes]:
        read, titles = get_group(count)(d), (f"Reader of {count}", f"Writer of {count}")
        return [request for change in change_title(d, titles) for request in (change, *read)]

    return build


def display_name_eq(count: int) -> Callable[[Directory], list[bytes]]:
    name = big(count).replace(" ", "%20")
    query = f"/Groups?excludedAttributes=members&filter=displayName%20eq%20%22{name}%22"
    return lambda d: [d.server.encode("GET", query)]


def operations(large: Size) -> Iterator[Operation]:
    yield Operation("GET user by id", get_user, 2500)
    yield Operation("userName eq", user_name_eq, 2500)
    yield Operation("page of 100 users", first_page, 550)
    yield Operation("page of 100 users, the last one", last_page, 550)
    yield Operation("PATCH active, no access", switch_outsiders, 1500)
    yield Operation("PATCH active, gateway hangs", switch_unheard, gateway="stopped")
    yield Operation("PATCH active, with access", switch_insiders, gateway="works")
    yield Operation("PATCH another attribute", change_title)
    yield Operation("PUT user", put_user)
    for count in large.groups:
        yield from group_operations(count, None if count == large.groups[0] else large.groups[0])


def group_operations(count: int, smaller: int | None) -> Iterator[Operation]:
    def operation(
        title: str, build: Callable[..., Callable[[Directory], list[bytes]]], budget: float | None = None, *more: str
    ) -> Operation:
        held_to = None if smaller is None else title.format(f"{smaller:,}")
        requests = build(count, *more)
        budgeted = None if smaller else budget
        return Operation(title.format(f"{count:,}"), requests, budgeted, group=count, smaller=held_to)

    yield operation("group {}: add/remove one", members, 1700)
    yield operation("group {}: GET", get_group, 1300)
    yield operation("group {}: GET, change, GET ..", changed_group)
    yield operation("group {}: GET, no members", get_group, None, "?excludedAttributes=members")
    yield operation("group {}: name eq, no members", display_name_eq)


def creation() -> Operation:
    """Return the operation that lets a directory grow: it comes last."""
    return Operation("create user", create_user, 800, cyclic=False)
