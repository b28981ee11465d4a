"""One, two and three replicas on PostgreSQL beside the one process with a file: requests, leavers, a wave, and CPU."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.leavers import join
from bench.load import Loader, Result, Stream
from bench.postgres import database, postgres
from bench.report import Report, quantile
from bench.stage import Bench, Server, active, cpu_seconds, patch, person, staged

CLIENTS = 16
GATEWAY = 0.005
FIRST = 500_000
"""Numbers of people without access, from here on."""


@dataclass
class Layout:
    """A store, and how many processes share it. `figures` are by what they are of."""

    name: str
    shared: bool
    replicas: int
    figures: dict[str, float] = field(default_factory=dict)


LAYOUTS = (("a file, 1 process", False, 1), *((f"PostgreSQL, {count} replica(s)", True, count) for count in (1, 2, 3)))


def replicas(load: Loader, report: Report, *, people: int, crowd: int, seconds: float) -> None:
    """Measure every layout in one run, and hold each against the file."""
    layouts = [Layout(*each) for each in LAYOUTS]
    with postgres() as server:
        for number, layout in enumerate(layouts):
            store = database(server, f"bench_{number}") if layout.shared else ""
            with staged(load, latency=GATEWAY, store=store, replicas=layout.replicas) as bench:
                _measure(bench, layout, server if layout.shared else None, people, crowd, seconds)
    _print(report, layouts, people, crowd)


def _measure(bench: Bench, layout: Layout, server: Any | None, people: int, crowd: int, seconds: float) -> None:
    _leavers(bench, layout, join(bench, crowd), crowd)
    numbers = range(FIRST, FIRST + people)
    others = bench.create(numbers)
    bench.settle()
    kinds: Sequence[tuple[str, Callable[[Server, str, int], bytes]]] = (
        ("GET of a user", lambda scim, one, _: scim.encode("GET", f"/Users/{one}")),
        (
            "filter by userName",
            lambda scim, _, at: scim.encode(
                "GET", f"/Users?filter=userName%20eq%20%22u{FIRST + at % people}@example.com%22"
            ),
        ),
        ("PATCH of an attribute", lambda scim, one, at: scim.encode("PATCH", f"/Users/{one}", _title(at))),
        ("PATCH of active", lambda scim, one, at: scim.encode("PATCH", f"/Users/{one}", active(at // people % 2 == 1))),
        ("POST of a user", lambda scim, _, at: scim.encode("POST", "/Users", person(FIRST + people + at))),
    )
    for what, make in kinds:
        before = _cpu(bench, server)
        done = _run(bench, others, make, seconds)
        spent = [after - was for after, was in zip(_cpu(bench, server), before, strict=True)]
        took = sorted(one for result in done for one in result.took)
        count, elapsed = len(took), max(result.elapsed for result in done)
        errors = sum(sum(result.errors.values()) for result in done)
        layout.figures |= {
            f"{what}|a second": count / elapsed,
            f"{what}|p50 ms": quantile(took, 0.5) * 1000,
            f"{what}|p99 ms": quantile(took, 0.99) * 1000,
            f"{what}|CPU idsync, ms": spent[0] * 1000 / count,
            f"{what}|CPU PostgreSQL, ms": spent[1] * 1000 / count,
            f"{what}|errors": errors,
        }
        bench.settle()


def _leavers(bench: Bench, layout: Layout, ids: Sequence[str], crowd: int) -> None:
    """Some leave one at a time, everybody else at once; pushes go to each replica in turn."""
    few = crowd // 10
    bench.loader.run(*_streams(bench, [active(False)] * few, ids[:few], rate=8.0))
    slow = bench.departures(few)
    for stage in ("blocked", "verified"):
        took = sorted(getattr(one, f"{stage}_at") - one.received_at for one in slow)
        layout.figures[f"one leaver|{stage}, p50 ms"] = quantile(took, 0.5) * 1000
        layout.figures[f"one leaver|{stage}, p99 ms"] = quantile(took, 0.99) * 1000
    pushed = bench.loader.run(*_streams(bench, [active(False)] * (crowd - few), ids[few:]))
    began = min(min(result.at) for result in pushed if result.at)
    ended = max(one.verified_at or 0.0 for one in bench.departures(crowd))
    layout.figures |= {
        "a wave|all pushes answered, s": max(result.elapsed for result in pushed),
        "a wave|all verified, s": ended - began,
    }


def _title(number: int) -> dict[str, Any]:
    return patch("replace", path="title", value=f"Title {number}")


def _run(bench: Bench, ids: Sequence[str], make: Callable[[Server, str, int], bytes], seconds: float) -> list[Result]:
    """Send requests of one kind for some seconds, to every replica its share of the clients."""
    servers = bench.servers
    most = int(4000 * seconds)
    streams = [
        Stream(
            scim.port,
            [make(scim, ids[at % len(ids)], at) for at in range(number, most, len(servers))],
            max(1, CLIENTS // len(servers)),
            seconds=seconds,
        )
        for number, scim in enumerate(servers)
    ]
    return bench.loader.run(*streams)


def _streams(bench: Bench, bodies: Sequence[Any], ids: Sequence[str], rate: float | None = None) -> list[Stream]:
    servers = bench.servers
    requests: list[list[bytes]] = [[] for _ in servers]
    for number, (one, body) in enumerate(zip(ids, bodies, strict=True)):
        scim = servers[number % len(servers)]
        requests[number % len(servers)].append(scim.encode("PATCH", f"/Users/{one}", body))
    share = None if rate is None else rate / len(servers)
    clients = max(1, CLIENTS // len(servers))
    return [Stream(scim.port, mine, clients, rate=share) for scim, mine in zip(servers, requests, strict=True)]


def _cpu(bench: Bench, server: Any | None) -> tuple[float, float]:
    """Return the CPU seconds of all replicas, and of the database with every process of it."""
    ours = sum(cpu_seconds(scim.pid) for scim in bench.servers)
    if server is None:
        return ours, 0.0
    root = server._pid
    children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    theirs = 0.0
    for pid in [root, *map(int, children)]:
        with contextlib.suppress(OSError):
            theirs += cpu_seconds(pid)
    return ours, theirs


def _print(report: Report, layouts: Sequence[Layout], people: int, crowd: int) -> None:
    print(f"replicas: {people} users beside {crowd} with access, {CLIENTS} clients in all, {os.cpu_count()} cores for")
    print("idsync, PostgreSQL, the gateway and the load together; in brackets: how many times the figure of the file\n")
    print(f"  {'':38}" + "".join(f"{layout.name:>26}" for layout in layouts))
    base = layouts[0].figures
    for name in base:
        what, _, unit = name.partition("|")
        cells = []
        for layout in layouts:
            value = layout.figures[name]
            report.keep(f"replicas: {layout.name}", what, value=value, unit=unit)
            ratio = f" ({value / base[name]:.2f}x)" if base[name] and layout is not layouts[0] else ""
            cells.append(f"{value:,.1f}{ratio}" if value < 100 else f"{value:,.0f}{ratio}")
        print(f"  {what + ', ' + unit:38}" + "".join(f"{cell:>26}" for cell in cells))
    print()
