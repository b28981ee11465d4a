"""What a drill has found: how each replica came to refuse each key, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from idsync.clock import rfc3339
from idsync.drill.tools import Place
from idsync.gateway.trial import KeyTrial
from idsync.store.ledger import Departure
from idsync.store.verdicts import Verdict

EXIT_CODES = (5, 4, 6, 1, 2, 7)
"""Which exit code goes before which, when several apply."""


@dataclass(frozen=True)
class Refusal:
    """How an address came to refuse a key: so many seconds after the act, or not in time (None)."""

    url: str
    seconds: float | None
    last: KeyTrial


@dataclass(frozen=True)
class Measure:
    """One act, and what every address made of it."""

    refusals: tuple[Refusal, ...]

    @property
    def seconds(self) -> float | None:
        """Return the time to the last refusal, None when not every address has refused."""
        found = [refusal.seconds for refusal in self.refusals if refusal.seconds is not None]
        return round(max(found), 4) if len(found) == len(self.refusals) else None

    @property
    def taken(self) -> list[Refusal]:
        """Return where the key still worked in the end."""
        return [refusal for refusal in self.refusals if refusal.seconds is None and refusal.last.works]

    @property
    def unclear(self) -> list[Refusal]:
        """Return where nothing was shown either way: no answer, or one that proves nothing."""
        return [refusal for refusal in self.refusals if refusal.seconds is None and not refusal.last.works]

    def at(self, url: str) -> float | None:
        """Return the time to the refusal of one address."""
        found = (refusal.seconds for refusal in self.refusals if refusal.url == url and refusal.seconds is not None)
        return next((round(seconds, 4) for seconds in found), None)


NOTHING = Measure((Refusal("", None, KeyTrial(None, False, "not tried")),))


@dataclass
class Report:
    """What was found so far. `wait` is how long a key may go on being taken; `at` is epoch seconds."""

    by: str
    source: str
    wait: float
    at: float
    fence: Measure = NOTHING
    verdict: Verdict | None = None
    deletion: Measure = NOTHING
    chain: Measure = NOTHING
    stages: Mapping[str, float] = field(default_factory=dict)
    unsure: bool = False
    """Something was asked for and not answered: it may still be done."""
    problems: list[tuple[int, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def exit_code(self) -> int:
        return self.problems[0][0] if self.problems else 0

    def fail(self, code: int, what: str) -> None:
        """Note a problem once; the gravest stand first, so that two drills that find the same say the same."""
        if (code, what) not in self.problems:
            self.problems.append((code, what))
        self.problems.sort(key=lambda problem: (EXIT_CODES.index(problem[0]), problem[1]))

    def fail_where_taken(self, what: str, found: Measure) -> None:
        for refusal in found.taken:
            self.fail(5, f"{refusal.url} still takes {what}, {self.wait:g} s later")

    def fail_where_unclear(self, what: str, found: Measure) -> None:
        for refusal in found.unclear:
            self.fail(1, f"{refusal.url} has proved nothing about {what}: {refusal.last.why}")

    @property
    def outcome(self) -> dict[str, Any]:
        """Return the figures, as the trail, the log and the store keep them."""
        return {
            "source": self.source,
            "refused_seconds": self.chain.seconds,
            "fence": self.verdict,
            "window_seconds": self.deletion.seconds,
            "problems": [what for _, what in self.problems],
        }


def stages_of(departure: Departure) -> dict[str, float]:
    """Return the seconds from the request to each stage that was reached."""
    named = {
        "accepted": departure.accepted_at,
        "fenced": departure.fenced_at,
        "blocked": departure.blocked_at,
        "deleted": departure.deleted_at,
        "verified": departure.verified_at,
    }
    return {name: round(at - departure.received_at, 4) for name, at in named.items() if at is not None}


def view(report: Report, place: Place) -> dict[str, Any]:
    """Return a drill as `idsync drill --json` shows it; times in seconds, None: not refused, or not tried."""
    measures = {"chain": report.chain, "fence": report.fence, "deletion": report.deletion}
    return {
        "ok": report.ok,
        "exit_code": report.exit_code,
        "at": rfc3339(report.at),
        "source": report.source,
        "waited_at_most_seconds": report.wait,
        "refused_seconds": report.chain.seconds,
        "verified_seconds": report.stages.get("verified"),
        "fence": {"verdict": report.verdict, "seconds": report.fence.seconds},
        "cache_window_seconds": report.deletion.seconds,
        "replicas": [
            {"url": url, **{f"{name}_seconds": found.at(url) for name, found in measures.items()}}
            for url in place.replicas
        ],
        "replicas_told_apart": place.told_apart,
        "stages": dict(report.stages),
        "problems": [{"exit_code": code, "what": what} for code, what in report.problems],
    }
