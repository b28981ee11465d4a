"""Leavers: from the request to dead keys, one at a time and a thousand at once, alone and beside other pushes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from bench.load import Stream
from bench.pushes import mixed
from bench.report import Report
from bench.stage import CLIENTS, Bench, active, team
from idsync.store import ledger
from idsync.store.ledger import Departure

PACE = 8.0
"""Leavers a second when they come one at a time."""
PUSHES = 25.0
"""Other pushes a second."""
LONGEST = 300
"""Seconds of other pushes that are prepared."""


def one_at_a_time(bench: Bench, report: Report, count: int) -> None:
    """Leavers with 3 keys and 2 teams, against a gateway that takes 5 ms to answer; then again beside other pushes."""
    ids = join(bench, 2 * count)
    print(f"{count} leavers, one after the other; 3 keys and 2 teams each, a gateway that answers in 5 ms")
    part, since = "one leaver at a time", last_call(bench)
    bench.loader.run(_leavers(bench, ids[:count], rate=PACE))
    done = bench.departures(count)
    report.times(part, "request received -> first call sent", first_calls(bench, since, done), p50=5, p99=25)
    _stages(report, part, done)
    _calls(bench, report, part, done)

    part, beside = "one leaver beside other pushes", _beside(bench)
    since = last_call(bench)
    bench.loader.start(_leavers(bench, ids[count:], rate=PACE), beside)
    done = bench.departures(2 * count)[-count:]
    other = bench.loader.stop()[1]
    print(f"the same while {PUSHES:.0f} pushes/s of other people go on (creates, attributes, joins of a mapped group)")
    report.times(part, "request received -> first call sent", first_calls(bench, since, done), p99=100)
    _stages(report, part, done)
    report.times(part, "the other pushes", other.took)
    report.failures(part, "errors of the other pushes", other.errors)
    print()


def wave(bench: Bench, report: Report, count: int) -> None:
    """Everybody leaves at once."""
    ids = join(bench, count)
    since = last_call(bench)
    result = bench.loader.run(_leavers(bench, ids))[0]
    done = bench.departures(count)
    calls = len(bench.hook(f"log?since={since}")["entries"])
    print(f"{count} leavers at once; 3 keys and 2 teams each, the same gateway, {CLIENTS} clients")
    _ends(report, f"a wave of {count}", done, min(result.at), result.elapsed)
    report.single(f"a wave of {count}", "gateway calls a leaver", calls / count, "")
    print()


def wave_beside_pushes(bench: Bench, report: Report, count: int) -> None:
    """Everybody leaves at once while the other people's pushes go on."""
    ids = join(bench, count)
    part, beside = f"a wave of {count} beside other pushes", _beside(bench)
    bench.loader.start(_leavers(bench, ids), beside)
    done = bench.departures(count)
    left, other = bench.loader.stop()
    print(f"the same while {PUSHES:.0f} pushes/s of other people go on (creates, attributes, joins of a mapped group)")
    _ends(report, part, done, min(left.at), left.elapsed, budgets=False)
    end = max(one.verified_at or 0.0 for one in done)
    report.times(part, "the other pushes, until the last leaver is verified", other.between(0.0, end), p99=100)
    report.failures(part, "errors of the other pushes", other.errors)
    print()


def join(bench: Bench, count: int) -> list[str]:
    """Create people in both groups, wait until the gateway shows them, and give each three keys.

    Meanwhile the gateway answers at once; it takes its time from then on.
    """
    latency = bench.hook("options")["latency"]
    bench.hook("options", {"latency": 0.0})
    ids = bench.create(range(count))
    for name in ("A", "B"):
        bench.scim.ask("POST", "/Groups", team(name, ids))
    bench.settle()
    state = bench.hook("state")
    assert all(len(one["members_with_roles"]) == count + 1 for one in state["teams"]), "not everybody joined"
    people = [user["user_id"] for user in state["users"] if user["user_email"]]
    keys = [{"user_id": one, "team_id": where} for one in people for where in (None, "team-a", "team-b")]
    bench.hook("seed", {"keys": keys})
    bench.hook("options", {"latency": latency})
    return ids


def _leavers(bench: Bench, ids: Sequence[str], rate: float | None = None) -> Stream:
    requests = [bench.scim.encode("PATCH", f"/Users/{one}", active(False)) for one in ids]
    return Stream(bench.scim.port, requests, CLIENTS, rate=rate)


def _beside(bench: Bench) -> Stream:
    """Make 200 people without access, and pushes about them and about new ones for as long as it may take."""
    numbers = range(100_000, 100_200)
    others = bench.create(numbers)
    group = bench.scim.ask("GET", "/Groups?attributes=displayName&filter=displayName%20eq%20%22A%22")
    requests = mixed(bench.scim, others, group["Resources"][0]["id"], numbers.stop)
    return Stream(bench.scim.port, list(itertools.islice(requests, int(PUSHES * LONGEST))), CLIENTS, rate=PUSHES)


def last_call(bench: Bench) -> int:
    return int(bench.hook("log")["entries"][-1]["n"])


def first_calls(bench: Bench, since: int, done: Sequence[Departure]) -> list[float]:
    """Return after how many seconds the gateway got the first call about each leaver."""
    seen: dict[str, float] = {}
    for entry in bench.hook(f"log?since={since}")["entries"]:
        user = entry["query"].get("user_id")
        if user is not None:
            seen.setdefault(user, entry["at"])
    return [seen[str(one.account_id)] - one.received_at for one in done]


def _stages(report: Report, part: str, done: Sequence[Departure]) -> None:
    alone = "beside" not in part
    blocked = [(one.blocked_at or 0.0) - one.received_at for one in done]
    verified = [(one.verified_at or 0.0) - one.received_at for one in done]
    report.times(part, "request received -> last key blocked", blocked, p50=60 if alone else None)
    report.times(part, "request received -> verified", verified, p50=80 if alone else None, p99=250 if alone else None)


def _calls(bench: Bench, report: Report, part: str, done: Sequence[Departure]) -> None:
    """Hold the time of a departure against what the gateway alone took for its calls, most of them side by side."""
    with bench.store() as db:
        calls = [ledger.calls_of(db, one.id)[0] for one in done]
    took = sum((one.verified_at or 0.0) - one.received_at for one in done)
    report.single(part, "gateway calls a leaver", sum(map(len, calls)) / len(done), "")
    answers = sum(call.ms for each in calls for call in each) / 1000
    report.single(
        part, "request received -> verified, held to the sum of the gateway's answer times", took / answers, "x"
    )


def _ends(
    report: Report, part: str, done: Sequence[Departure], began: float, pushed: float, *, budgets: bool = True
) -> None:
    fenced = max(one.fenced_at or 0.0 for one in done) - began
    verified = max(one.verified_at or 0.0 for one in done) - began
    report.single(part, "all pushes answered after", pushed, " s")
    report.single(part, "all fenced after", fenced, " s", budget=4 if budgets else None)
    report.single(part, "all verified after", verified, " s", budget=15 if budgets else None)
