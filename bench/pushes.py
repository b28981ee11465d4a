"""Steady pushes: many small writes of everyday kinds, sent at a fixed rate whether or not earlier ones are answered."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from bench.load import Stream
from bench.report import Report
from bench.stage import Bench, Server, active, cpu_seconds, forget_peak, memory, patch, person, team

RATE = 200.0
USERS = 2400
CONNECTIONS = 32


def mixed(scim: Server, ids: Sequence[str], group: str, first: int) -> Iterator[bytes]:
    """Yield for ever: create a user (numbered from `first`), change an attribute, add somebody to a group."""
    for lap in itertools.count():
        for turn, one in enumerate(ids):
            yield scim.encode("POST", "/Users", person(first + lap * len(ids) + turn))
            yield scim.encode("PATCH", f"/Users/{one}", patch("replace", path="title", value=f"Title {lap}"))
            yield scim.encode("PATCH", f"/Groups/{group}", patch("add", path="members", value=[{"value": one}]))


def everyday(scim: Server, ids: Sequence[str], group: str, first: int) -> Iterator[bytes]:
    """Yield for ever what `mixed` does, and people without access who are switched off or on, and leave the group."""
    for lap in itertools.count():
        others = mixed(scim, ids, group, first + lap * len(ids))
        for one in ids:
            yield from itertools.islice(others, 3)
            yield scim.encode("PATCH", f"/Users/{one}", active(lap % 2 == 1))
            yield scim.encode("PATCH", f"/Groups/{group}", patch("remove", path=f'members[value eq "{one}"]'))


def steady(bench: Bench, report: Report, seconds: float) -> None:
    """200 writes a second: nothing fails and nothing is slow."""
    part = f"{RATE:.0f} writes/s for {seconds:.0f} s"
    ids = bench.create(range(USERS))
    group = bench.scim.ask("POST", "/Groups", team("Big", ids[:2000]))["id"]
    bench.settle()
    requests = list(itertools.islice(everyday(bench.scim, ids, group, USERS), int(RATE * seconds) + 1))
    forget_peak(bench.scim.pid)
    before = cpu_seconds(bench.scim.pid)
    result = bench.loader.run(Stream(bench.scim.port, requests, CONNECTIONS, seconds=seconds, rate=RATE))[0]
    spent = cpu_seconds(bench.scim.pid) - before
    print(f"{part}: creates, attributes, active, joins and leaves of a group of 2,000, among {USERS} users")
    report.times(part, "request due -> answered", result.took, p99=100)
    report.failures(part, "errors", result.errors)
    report.single(part, "answered a second", result.rate, "/s")
    report.single(part, "CPU of the daemon a request", spent * 1000 / len(result.took), " ms")
    report.single(part, "resident at the end", memory(bench.scim.pid)[0], " MiB")
    report.single(part, "CPU of the load generator", result.load * 100, " %")
    print()
