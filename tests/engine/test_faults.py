"""A wave of leavers meets each way in which a gateway fails, on virtual time: the table, and what each row may cost.

What is judged is the gateway's own log, and whether a key still works; the figures count calls and virtual seconds.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
from crash.judge import Fate, Judge, World, acts, repeated_deletions
from crash.size import CRASH, FULL
from structlog.testing import capture_logs
from support.crowd import Crowd
from support.gateway import Row
from support.virtual import Simulation

MANY, FEW = CRASH.scaled(18, 1000), CRASH.scaled(5, 50)
"""Leavers, with two keys each; few where everybody is tried again and again as long as it lasts."""
LATENCY = 0.02
"""Virtual seconds a call takes; what is broken answers after as long."""
AT_ONCE = 16
"""Calls that may be under way when the gateway says that it wants none: as configured."""
MINUTES = 60.0


@contextmanager
def simulated(folder: Path, *, timeout: str = "10s") -> Iterator[Simulation]:
    changed: dict[str, Any] = {"guard": {"max_push_departures": 2 * MANY}, "routero": {"timeout": timeout}}
    with Simulation(folder, **changed) as sim:
        yield sim


class Wave:
    """So many people at work, then all of them leaving at once."""

    def __init__(self, sim: Simulation, people: int) -> None:
        self.sim = sim
        self.gateway = sim.gateway
        self.crowd = Crowd(sim.gateway, people)
        for holder in (*self.crowd.leavers, *self.crowd.staying):
            sim.directory.hire(holder.email)
        sim.until(sim.quiet, "everybody is known", within=10 * MINUTES)
        self.gateway.ready()
        self.before = World(self.gateway.state())
        self.gateway.hook("options", {"latency": LATENCY})
        self.said: list[MutableMapping[str, Any]] = []
        """What idsync logged since they left."""

    def leave(self) -> None:
        for holder in self.crowd.leavers:
            self.sim.directory.leave(holder.email)

    @cached_property
    def keys(self) -> set[str]:
        return {key.id for holder in self.crowd.leavers for key in holder.keys}

    def living(self) -> int:
        """Return how many keys of leavers are left at the gateway."""
        return sum(row["token"] in self.keys for row in self.gateway.state()["keys"])

    def gone(self) -> bool:
        return not self.living()

    def calls(self) -> list[Row]:
        return [row for row in self.gateway.log() if row["caller"] == "admin" or row["fault"]]

    def verdict(self) -> list[str]:
        """Judge what has become of everybody, once the second look is over."""
        self.sim.until(self.sim.quiet, "everybody is verified", within=10 * MINUTES)
        self.sim.pass_time(2 * MINUTES)
        fates = [Fate(holder, holder.keys) for holder in self.crowd.leavers]
        judge = Judge(self.gateway, self.sim.settings, fates, self.before, lives=1000)
        return [*judge.of_the_gateway(), *judge.of_the_books()]


# -- the figures ----------------------------------------------------------------------------------------------------------

Figure = Callable[[Wave, Sequence[Row]], Iterator[str]]
"""Say what is wrong with the calls that were made while it lasted."""


def one_probe_a_second(wave: Wave, calls: Sequence[Row]) -> Iterator[str]:
    """Whatever was under way when it went down, and from then on one a second."""
    probes = calls[AT_ONCE + 5 :]
    yield from (f"two calls within {b['t'] - a['t']:.3f} s" for a, b in pairwise(probes) if b["t"] - a["t"] < 0.999)
    if len(probes) < 25 * MINUTES / 60:
        yield f"only {len(probes)} probes"


def one_call_a_minute(wave: Wave, calls: Sequence[Row]) -> Iterator[str]:
    probes = [row for row in calls if row["t"] > calls[0]["t"] + 1]
    if len(calls) - len(probes) > AT_ONCE:
        yield f"{len(calls) - len(probes)} calls before it was noticed"
    yield from (f"two calls within {b['t'] - a['t']:.1f} s" for a, b in pairwise(probes) if b["t"] - a["t"] < 59.9)
    alarms = [event for event in wave.said if event["event"] == "gateway.admin_key_refused"]
    if [alarm["log_level"] for alarm in alarms] != ["critical"]:
        yield f"{len(alarms)} alarm(s)"


def nobody_is_proven(wave: Wave, calls: Sequence[Row]) -> Iterator[str]:
    if {event["event"] for event in wave.said} & {"departure.verified", "departure.settled"}:
        yield "somebody was verified"


def nobody_is_proven_and_that_is_told(wave: Wave, calls: Sequence[Row]) -> Iterator[str]:
    """A lie gets no receipt; whoever was to be gone, and is shown after three readings, is told of."""
    yield from nobody_is_proven(wave, calls)
    if "revocation.not_effective" not in {event["event"] for event in wave.said}:
        yield "nobody was told"


def done_once(wave: Wave, calls: Sequence[Row]) -> Iterator[str]:
    """What was done, and its answer lost, is looked at before it is done again."""
    lost = sum(row["fault"] is not None for row in calls)
    if (repeats := repeated_deletions(calls)) > 2 * lost:
        yield f"{repeats} deletions repeated after {lost} lost answers"


def nothing_twice(wave: Wave, calls: Sequence[Row]) -> Iterator[str]:
    """Slow is not lost: nobody is served by two at a time, and nothing is sent again."""
    writes = chain.from_iterable(acts(row) for row in calls if row["method"] != "GET")
    yield from (f"{path} {times} times for {what}" for (path, what), times in Counter(writes).items() if times > 1)


def no_redirect_is_followed(wave: Wave, calls: Sequence[Row]) -> Iterator[str]:
    if any(row["path"] == FOLLOWED for row in wave.gateway.log()):
        yield "a redirect was followed"
    yield from (f"no call met {kind}" for kind in ("drop before", "status 302 before") if not _met(calls, kind))


def _met(calls: Sequence[Row], kind: str) -> bool:
    return any(row["fault"] == kind for row in calls)


# -- the table --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble:
    """A row: what is injected, for how long, what that may cost meanwhile, and with how many people.

    Two minutes after it is over, every key is gone.
    """

    name: str
    rules: Sequence[dict[str, Any]]
    lasts: float
    figure: Figure
    people: int = MANY
    timeout: str = "10s"

    def __str__(self) -> str:
        return self.name


def everywhere(**rule: Any) -> list[dict[str, Any]]:
    return [{"path": "*", **rule}]


JSON = "application/json"
FOLLOWED = "/followed"
LONG = "[" + " " * (9 * 1024 * 1024)
"""A body without an end, as far as anybody reads it."""


def mixed() -> list[dict[str, Any]]:
    """Three calls of ten meet something that says nothing about what they asked for."""
    kinds: list[dict[str, Any]] = [
        {"status": 500},
        {"status": 503, "body": "<html>", "content_type": "text/html"},
        {"status": 404, "body": "<html>", "content_type": "text/html"},
        {"status": 200, "body": "<html>", "content_type": "text/html"},
        {"status": 200, "body": ""},
        {"status": 404, "body": ""},
        {"status": 200, "body": LONG, "content_type": JSON},
        {"status": 302, "headers": {"Location": FOLLOWED}},
        {"drop": "before"},
        {"truncate": True},
    ]
    return [rule for seed, kind in enumerate(kinds) for rule in everywhere(**kind, probability=0.035, seed=seed)]


NOT_FOUND = '{"error": {"message": "not found", "type": "not_found_error", "param": "key", "code": "404"}}'
REFUSAL = '{"error": {"message": "no", "type": "auth_error", "param": null, "code": "401"}}'


def unknown(*paths: str) -> list[dict[str, Any]]:
    return [{"path": path, "status": 404, "body": NOT_FOUND, "content_type": JSON} for path in paths]


SOME = 30 * MINUTES if FULL else 5 * MINUTES
"""How long what differs little from the row before it lasts."""

EDGE = {"body": "<html>", "content_type": "text/html"}

TABLE = [
    Trouble("G1 down", everywhere(drop="before"), 30 * MINUTES, one_probe_a_second),
    Trouble("G1 down behind an edge", everywhere(status=502, **EDGE), SOME, one_probe_a_second),
    Trouble("G1 silent", everywhere(hang=True), SOME, one_probe_a_second),
    Trouble("G2 slower than its time-out", everywhere(delay=10), SOME, one_probe_a_second, timeout="5s"),
    Trouble("G2 slow", everywhere(delay=10), 10 * MINUTES, nothing_twice, timeout="15s", people=FEW),
    Trouble("G3 done, answer lost", everywhere(drop="after", probability=0.1, seed=3), 10 * MINUTES, done_once),
    Trouble("G3 done, 500 said", everywhere(status=500, when="after", probability=0.1), 10 * MINUTES, done_once),
    Trouble(
        "G4 lying about deletions",
        [{"path": "/key/delete", "lie": True}],
        10 * MINUTES,
        nobody_is_proven_and_that_is_told,
        people=FEW,
    ),
    Trouble("G5 401", everywhere(status=401, body=REFUSAL, content_type=JSON), 30 * MINUTES, one_call_a_minute),
    Trouble("G5 403", everywhere(status=403, body=REFUSAL, content_type=JSON), SOME, one_call_a_minute),
    Trouble("G7 a mix", mixed(), 3 * MINUTES, no_redirect_is_followed),
    Trouble("G7 behind an edge that knows nothing", everywhere(status=404, **EDGE), SOME, nobody_is_proven, people=FEW),
    Trouble(
        "G8 404 for keys that live",
        unknown("/key/delete", "/key/info"),
        10 * MINUTES,
        nobody_is_proven_and_that_is_told,
        people=FEW,
    ),
]


@pytest.mark.parametrize("trouble", TABLE, ids=str)
def test_a_wave_outlives_a_gateway_that_is(trouble: Trouble, tmp_path: Path) -> None:
    with simulated(tmp_path, timeout=trouble.timeout) as sim:
        wave = Wave(sim, trouble.people)
        for rule in trouble.rules:
            sim.gateway.break_with(**{"delay": LATENCY, **rule})
        with capture_logs() as wave.said:
            wave.leave()
            sim.pass_time(trouble.lasts)
        assert list(trouble.figure(wave, wave.calls())) == []
        sim.gateway.mend()
        sim.until(wave.gone, "every key is gone", within=2 * MINUTES)
        assert wave.verdict() == []


def test_g6_no_call_comes_before_the_time_a_gateway_has_told(tmp_path: Path) -> None:
    """Ten minutes in which now one call of three, now every one is refused, each time for 1 to 60 seconds."""
    dice = CRASH.dice("G6")
    with simulated(tmp_path) as sim:
        wave = Wave(sim, MANY)
        began, told = sim.time, list[tuple[float, int]]()
        wave.leave()
        while sim.time < began + 10 * MINUTES:
            told.append((sim.time, dice.randint(1, 60)))
            answer = {"status": 429, "headers": {"Retry-After": str(told[-1][1])}, "delay": LATENCY}
            sim.gateway.mend()
            sim.gateway.break_with("*", probability=dice.choice([0.3, 1.0]), seed=len(told), **answer)
            sim.pass_time(dice.uniform(5, 40))
        calls = wave.calls()
        closed = [_pause(row["t"], told) for row in calls if row["status"] == 429]
        assert len(closed) > 10
        assert [(at, row["t"]) for at, until in closed for row in calls if at < row["t"] < until] == []
        sim.gateway.mend()
        sim.until(wave.gone, "every key is gone", within=2 * MINUTES)
        assert wave.verdict() == []


def _pause(arrived: float, told: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Return from when until when no call may come after one that was refused: it was answered a moment later."""
    answered = arrived + LATENCY + 0.001
    pause = told[bisect(told, (arrived, 0)) - 1][1]
    return answered, answered + pause - 0.002
