"""`make bench`: push -> keys dead, a wave of leavers, and SCIM requests, beside the budgets of the architecture.

The sandbox, the daemon and this load generator share the machine; every write is synced to disk before its answer.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from bench.load import Result, each, run
from bench.stage import Bench, staged

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
CLIENTS = 16


def main() -> None:
    scale = 0.2 if os.environ.get("BENCH_QUICK") else 1.0
    uname = os.uname()
    print(
        f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, {uname.sysname}\n"
    )
    with staged(latency=0.005) as bench:
        one_at_a_time(bench, int(100 * scale))
    with staged(latency=0.005) as bench:
        wave(bench, int(1000 * scale))
    with staged() as bench:
        scim(bench, 3.0 * scale)


# -- leavers ------------------------------------------------------------------------------------------------------


def one_at_a_time(bench: Bench, count: int) -> None:
    """Leavers with 3 keys and 2 teams, one after the other, against a gateway that takes 5 ms to answer."""
    ids = join(bench, count)
    since = bench.hook("log")["entries"][-1]["n"]
    for user_id in ids:
        push(bench, [user_id])
        time.sleep(0.12)
    done = verified(bench, count)
    print(f"push -> keys dead: {count} leavers one at a time, 3 keys and 2 teams each, gateway answering in 5 ms")
    firsts = first_calls(bench, since)
    row(
        "  request received -> first call sent",
        [first - at for first, at in zip(firsts, received(done), strict=True)],
        5,
        25,
    )
    row("  request received -> last key blocked", stage(done, "blocked"), 60, None)
    row("  request received -> verified", [view["time_to_revoke_seconds"] for view in done], 80, 250)
    print()


def wave(bench: Bench, count: int) -> None:
    """Everybody leaves at once."""
    ids = join(bench, count)
    since = bench.hook("log")["entries"][-1]["n"]
    began = time.time()
    push(bench, ids)
    pushed = time.time() - began
    done = verified(bench, count)
    fenced = max(at(view, "fenced") for view in done) - began
    ended = max(at(view, "verified") for view in done) - began
    calls = len(bench.hook(f"log?since={since}")["entries"])
    print(f"{count} leavers with 3 keys and 2 teams at once, same gateway")
    print(f"  all pushes answered in {pushed:.1f} s; all fenced after {fenced:.1f} s (budget 4 s)")
    print(f"  all verified after {ended:.1f} s (budget 15 s); {calls / count:.1f} gateway calls a leaver\n")


def join(bench: Bench, count: int) -> list[str]:
    """Create people in both groups, wait until the gateway shows them, and give each three keys."""
    made = asyncio.run(
        run(bench.scim, bench.token, each(lambda i: ("POST", "/Users", person(i)), count), clients=8, seconds=600)
    )
    assert set(made.statuses) == {201}, made.statuses
    ids = bench.listed(count)
    for name in ("A", "B"):
        bench.ask(
            "POST", "/Groups", {"schemas": [GROUP], "displayName": name, "members": [{"value": one} for one in ids]}
        )
    while True:
        state = bench.hook("state")
        if all(len(team["members_with_roles"]) == count + 1 for team in state["teams"]):
            break
        time.sleep(0.2)
    people = [user["user_id"] for user in state["users"] if user["user_email"]]
    keys = [{"user_id": one, "team_id": team} for one in people for team in (None, "team-a", "team-b")]
    bench.hook("seed", {"keys": keys})
    return ids


def person(index: int) -> dict[str, Any]:
    name = f"u{index}@example.com"
    return {
        "schemas": [USER],
        "userName": name,
        "externalId": f"00u{index:06}",
        "name": {"givenName": "U", "familyName": str(index)},
        "emails": [{"value": name, "type": "work", "primary": True}],
        "active": True,
    }


def push(bench: Bench, ids: list[str]) -> None:
    body = {"schemas": [PATCH], "Operations": [{"op": "replace", "value": {"active": False}}]}
    requests = each(lambda i: ("PATCH", f"/Users/{ids[i]}", body), len(ids))
    done = asyncio.run(run(bench.scim, bench.token, requests, clients=min(CLIENTS, len(ids)), seconds=600))
    assert set(done.statuses) == {200}, done.statuses


def verified(bench: Bench, count: int) -> list[dict[str, Any]]:
    for _ in range(600):
        views = bench.departures()
        if len(views) == count and all(view["time_to_revoke_seconds"] is not None for view in views):
            return views
        time.sleep(0.5)
    sys.exit("the leavers were not verified in time")


def first_calls(bench: Bench, since: int) -> list[float]:
    """Return when the gateway got the first call for each leaver, in order."""
    seen: dict[str, float] = {}
    for entry in bench.hook(f"log?since={since}")["entries"]:
        user = entry["query"].get("user_id")
        if entry["path"] == "/v2/user/info" and user not in seen:
            seen[user] = entry["at"]
    return list(seen.values())


def at(view: dict[str, Any], name: str) -> float:
    return datetime.fromisoformat(view["stages"][name]).timestamp()


def received(views: list[dict[str, Any]]) -> list[float]:
    return sorted(at(view, "received") for view in views)


def stage(views: list[dict[str, Any]], name: str) -> list[float]:
    return [at(view, name) - at(view, "received") for view in views]


# -- SCIM ---------------------------------------------------------------------------------------------------------


def scim(bench: Bench, seconds: float) -> None:
    """Requests a second over 16 connections; the machine is shared with the load generator."""
    print(f"SCIM, one process, {CLIENTS} clients, durable commits; the load generator shares the machine")
    numbers = itertools.count()
    report("create", load(bench, lambda _: ("POST", "/Users", person(next(numbers))), seconds), 800)
    ids = bench.listed(2000)
    report("GET by id", load(bench, lambda i: ("GET", f"/Users/{ids[i % len(ids)]}", None), seconds), 2500)
    report("userName eq", load(bench, lambda i: ("GET", lookup(i % len(ids)), None), seconds), 2500)
    report("page of 100", load(bench, lambda i: ("GET", "/Users?startIndex=1&count=100", None), seconds), 550)
    members = [{"value": one} for one in ids]
    group = bench.ask("POST", "/Groups", {"schemas": [GROUP], "displayName": "Big", "members": members})["id"]
    report(
        "group of 2,000: add, remove one",
        load(bench, lambda i: ("PATCH", f"/Groups/{group}", member(ids, i)), seconds),
        1700,
    )
    report("group of 2,000: GET", load(bench, lambda i: ("GET", f"/Groups/{group}", None), seconds), 1300)
    report(
        "PATCH active",
        load(bench, lambda i: ("PATCH", f"/Users/{ids[i % len(ids)]}", toggle(i // len(ids))), seconds),
        1500,
    )


def load(bench: Bench, build: Callable[[int], tuple[str, str, object]], seconds: float) -> Result:
    return asyncio.run(run(bench.scim, bench.token, each(build, 10_000_000), clients=CLIENTS, seconds=seconds))


def lookup(index: int) -> str:
    return f"/Users?filter=userName%20eq%20%22u{index}%40example.com%22&startIndex=1&count=100"


def member(ids: list[str], index: int) -> dict[str, Any]:
    """Remove a member and add it again, each client on another one."""
    one = ids[(index // 2) % 1000]
    if index % 2 == 0:
        return {"schemas": [PATCH], "Operations": [{"op": "remove", "path": f'members[value eq "{one}"]'}]}
    return {"schemas": [PATCH], "Operations": [{"op": "add", "path": "members", "value": [{"value": one}]}]}


def toggle(lap: int) -> dict[str, Any]:
    return {"schemas": [PATCH], "Operations": [{"op": "replace", "value": {"active": lap % 2 == 1}}]}


# -- printing -----------------------------------------------------------------------------------------------------


def row(title: str, seconds: list[float], p50: float | None, p99: float | None) -> None:
    ordered = sorted(value * 1000 for value in seconds)
    half, most = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    budget = f"budget p50 {p50} ms" + (f", p99 {p99} ms" if p99 else "")
    print(f"{title:42} p50 {half:7.1f} ms  p99 {most:7.1f} ms  ({budget})")


def report(title: str, result: Result, budget: float) -> None:
    bad = {status: count for status, count in result.statuses.items() if status >= 400}
    p50, p99 = result.quantile(0.5) * 1000, result.quantile(0.99) * 1000
    print(
        f"  {title:32} {result.rate:7.0f}/s  {result.rate / budget:5.2f} of the budget ({budget:.0f}/s)"
        f"  p50 {p50:.1f} ms  p99 {p99:.1f} ms{f'  ERRORS {bad}' if bad else ''}"
    )


if __name__ == "__main__":
    main()
