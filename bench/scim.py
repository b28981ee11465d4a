"""SCIM operations one by one, at 1 and at 16 clients: the daemon and the reference server in turn, small and large.

All servers are filled before anything is measured, and both sizes of an operation follow each other, so that a busy
moment of the machine hits what is compared alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass

from bench.load import Loader, Stream
from bench.operations import Directory, Operation, Size, creation, members_of, operations
from bench.reference import group_id, reference, user_id
from bench.report import Report, quantile
from bench.stage import CLIENTS, cpu_seconds, forget_peak, memory, staged, team

GROWTH = 1.5
"""Budget of CPU a request at the large size, times that at the small one."""


@dataclass(frozen=True)
class Scale:
    """How long each figure is sampled (seconds), and at which sizes; the large one is held to the small one.

    When a request of one client to the reference takes longer than `slow`, 16 clients are not tried.
    """

    ours: float
    theirs: float
    slow: float
    small: Size
    large: Size


FULL = Scale(2.0, 1.2, 0.25, Size(2_400, (2_000,)), Size(20_000, (2_000, 10_000)))
QUICK = Scale(0.25, 0.15, 0.04, Size(2_400, (2_000,)), Size(4_800, (2_000, 4_000)))


# -- the servers ------------------------------------------------------------------------------------------------------


@contextmanager
def ours(loader: Loader, size: Size) -> Iterator[Directory]:
    """Start a daemon and fill it through its endpoint."""
    with staged(loader) as bench:
        ids = bench.create(range(size.users))
        made = {
            name: bench.scim.ask("POST", "/Groups", team(name, [ids[number] for number in numbers]))["id"]
            for name, numbers in members_of(size).items()
        }
        bench.settle()
        people = [user["user_id"] for user in bench.hook("state")["users"] if user["user_email"]]
        bench.hook("seed", {"keys": [{"user_id": one} for one in people for _ in range(3)]})
        yield Directory("idsync", bench.scim, ids, made, bench)


@contextmanager
def theirs(size: Size) -> Iterator[Callable[[], Directory]]:
    """Start a reference server; yields a function that waits until it is filled."""
    groups = members_of(size)
    with reference(size.users, groups) as ready:
        numbers = {name: group_id(number) for number, name in enumerate(groups)}
        yield lambda: Directory("reference", ready(), [user_id(number) for number in range(size.users)], numbers)


# -- how it is taken --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """One operation at one server; times in milliseconds, sizes in MiB, `load` is the generator's share of a core.

    `cpu` is per request and ends with the last answer; `cpu_settled` has what the engine did afterwards as well.
    """

    operation: str
    server: str
    users: int
    clients: int
    requests: int
    rate: float
    p50: float
    p99: float
    cpu: float
    cpu_settled: float
    rss: float
    peak: float
    load: float
    errors: dict[int, int]


Taken = dict[tuple[str, int, int], Figure]
"""By operation, users and clients."""


def scim(loader: Loader, report: Report, scale: Scale) -> None:
    sizes = (scale.small, scale.large)
    with ExitStack() as stack:
        waiting = [stack.enter_context(theirs(size)) for size in sizes]
        mine = [stack.enter_context(ours(loader, size)) for size in sizes]
        stages = list(zip(sizes, mine, [ready() for ready in waiting], strict=True))
        taken: Taken = {}
        for clients in (1, CLIENTS):
            print(HEADING)
            for operation in operations(scale.large):
                compare(loader, report, scale, operation, clients, stages, taken)
            print()
        print(HEADING)
        for clients in (CLIENTS, 1):
            compare(loader, report, scale, creation(), clients, stages, taken)
        print()


def compare(
    loader: Loader,
    report: Report,
    scale: Scale,
    operation: Operation,
    clients: int,
    stages: list[tuple[Size, Directory, Directory]],
    taken: Taken,
) -> None:
    """Take and print one operation at both sizes; a large group is held to the small one beside it."""
    for size, own, other in stages:
        if operation.group is not None and operation.group not in size.groups:
            continue
        figure = measure(loader, own, operation, clients, scale.ours)
        taken[operation.title, size.users, clients] = figure
        held_to = (operation.smaller, size.users) if operation.smaller else (operation.title, scale.small.users)
        base = taken[*held_to, clients]
        peer = peered(loader, other, operation, clients, scale)
        print(row(report, operation, figure, base, peer))


def measure(loader: Loader, d: Directory, operation: Operation, clients: int, seconds: float) -> Figure:
    """Ask for some time, and look at the server's process before and after; one request goes ahead, uncounted."""
    requests = d.lists.get(operation.title) or operation.requests(d)
    loader.run(Stream(d.server.port, requests[:1], 1))
    requests = turned(requests, 1, operation)
    forget_peak(d.server.pid)
    before = cpu_seconds(d.server.pid)
    stream = Stream(d.server.port, requests, clients, seconds=seconds, cyclic=operation.cyclic)
    with d.bench.gateway_stopped() if d.bench and operation.gateway == "stopped" else nullcontext():
        result = loader.run(stream)[0]
    spent = cpu_seconds(d.server.pid) - before
    rss, peak = memory(d.server.pid)
    d.lists[operation.title] = turned(requests, len(result.took), operation)
    if d.bench is not None:
        d.bench.settle()
    settled = cpu_seconds(d.server.pid) - before
    ordered = sorted(result.took)
    return Figure(
        operation=operation.title,
        server=d.name,
        users=len(d.ids),
        clients=clients,
        requests=len(ordered),
        rate=result.rate,
        p50=quantile(ordered, 0.5) * 1000,
        p99=quantile(ordered, 0.99) * 1000,
        cpu=spent * 1000 / len(ordered),
        cpu_settled=settled * 1000 / len(ordered),
        rss=rss,
        peak=peak,
        load=result.load,
        errors=result.errors,
    )


def turned(requests: list[bytes], sent: int, operation: Operation) -> list[bytes]:
    """Return the requests so that the next one to send comes first; what is not cyclic is used up."""
    start = sent % len(requests)
    return [*requests[start:], *requests[:start]] if operation.cyclic else requests[sent:]


def peered(loader: Loader, d: Directory, operation: Operation, clients: int, scale: Scale) -> Figure | None:
    """Measure the reference, unless it has no such thing, or is so slow that 16 clients would wait for minutes."""
    if operation.gateway or operation.title in d.slow:
        return None
    figure = measure(loader, d, operation, clients, scale.theirs)
    if figure.rate * scale.slow < 1:
        d.slow.add(operation.title)
    return figure


# -- how it is shown --------------------------------------------------------------------------------------------------


_OURS = (
    f"{'users':>7}{'clients':>8}{'req/s':>8}{'of budget':>10}{'p50 ms':>8}{'p99 ms':>8}{'CPU ms':>8}{'growth':>8}"
    f"{'RSS MiB':>8}{'peak':>5}{'load':>5}"
)
_THEIRS = f"{'req/s':>7}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}{'RSS MiB':>8}{'peak':>5}"
HEADING = (
    f"{'':32}{'idsync, durable':^{len(_OURS)}} |{'reference server, in memory':^{len(_THEIRS)}} |   times the\n"
    f"{'SCIM':32}{_OURS} |{_THEIRS} |   reference"
)


def row(report: Report, operation: Operation, mine: Figure, base: Figure, peer: Figure | None) -> str:
    """Keep a figure, hold it against its budgets, and return its line."""
    what = f"{mine.operation}, {mine.users:,} users, {mine.clients} clients"
    growth = None if mine is base or not base.cpu else mine.cpu / base.cpu
    if mine.clients == CLIENTS and operation.budget is not None and mine is base:
        report.at_least(what, mine.rate, operation.budget, "/s")
    if mine.clients == CLIENTS and operation.gateway is None and growth is not None:
        held_to = base.operation if operation.smaller else f"{base.users:,} users"
        report.at_most(f"{what}, CPU a request held to {held_to}", growth, GROWTH, "x")
    for figure in filter(None, (mine, peer)):
        report.keep("scim", what, budget=operation.budget, growth=growth, **asdict(figure))
        if figure.errors:
            report.missed.append(f"{what}, {figure.server}: errors {figure.errors}")
    times = "" if operation.budget is None or mine.clients < CLIENTS else f"{mine.rate / operation.budget:.2f}x"
    grown = "" if growth is None else f"{growth:.2f}x"
    figures = f"{mine.users:7,}{mine.clients:8}{mine.rate:8,.0f}{times:>10}{mine.p50:8.1f}{mine.p99:8.1f}{mine.cpu:8.2f}{grown:>8}"
    return (
        f"{mine.operation:32}{figures}{mine.rss:8.0f}{mine.peak:5.0f}{mine.load:5.0%} |{_theirs(operation, mine, peer)}"
    )


def _theirs(operation: Operation, mine: Figure, peer: Figure | None) -> str:
    if peer is None:
        why = "has no gateway behind it" if operation.gateway else "too slow: 1 client only"
        return f"{why:^47} |"
    figures = f"{peer.rate:7,.0f}{peer.p50:9.1f}{peer.p99:9.1f}{peer.cpu:9.2f}{peer.rss:8.0f}{peer.peak:5.0f}"
    return f"{figures} |{mine.rate / peer.rate:11.1f}x"
