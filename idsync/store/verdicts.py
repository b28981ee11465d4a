"""What drills have shown of a gateway: whether its fence ends access, and how long a deleted key may live.

A gateway is known by the fingerprint of its address and dialect (`GatewaySettings.name`). What was shown once counts for
30 days: gateways are upgraded, and replicas added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from idsync.store import facts
from idsync.store.db import Db

Verdict = Literal["proven", "assumed", "unsupported"]
COUNTS = 30 * 86400.0
"""Seconds for which a measurement counts."""


@dataclass(frozen=True)
class Fence:
    """`seconds` from the fence, and nothing else, to the last replica's refusal; None: some replica never refused.

    `replicas` were asked, each by itself; 0: one address, or not noted, so nothing is said of processes behind it.
    """

    verdict: Verdict
    seconds: float | None
    at: float
    replicas: int = 0


@dataclass(frozen=True)
class Window:
    """How long a key that was only deleted may go on working, and on how many replicas that was measured.

    0 replicas: at one address, which did not tell the processes behind it apart.
    """

    seconds: float
    replicas: int
    at: float


def put_fence(db: Db, gateway: str, fence: Fence) -> None:
    value = {"verdict": fence.verdict, "seconds": fence.seconds, "at": fence.at, "replicas": fence.replicas}
    facts.put(db, f"gateway:{gateway}:fence", value, fence.at)


def put_window(db: Db, gateway: str, window: Window) -> None:
    value = {"seconds": window.seconds, "replicas": window.replicas, "at": window.at}
    facts.put(db, f"gateway:{gateway}:window", value, window.at)


def fence_of(db: Db, gateway: str, now: float) -> Fence | None:
    """Return what the last drill has shown of the fence, None when that does not count any more."""
    known: Any = facts.get(db, f"gateway:{gateway}:fence")
    return None if known is None or _is_old(known["at"], now) else Fence(**known)


def window_of(db: Db, gateway: str, now: float) -> Window | None:
    """Return the cache window the last drill has measured, None when that does not count any more."""
    known: Any = facts.get(db, f"gateway:{gateway}:window")
    return None if known is None or _is_old(known["at"], now) else Window(**known)


def fence_verdict(db: Db, gateway: str, now: float) -> Verdict:
    """Return what may be said of a fence at this gateway."""
    known = fence_of(db, gateway, now)
    return known.verdict if known is not None else "assumed"


def cache_window(db: Db, gateway: str, now: float) -> float | None:
    """Return for how many seconds a deleted key may live here; None: not measured, or too long ago."""
    known = window_of(db, gateway, now)
    return known.seconds if known is not None else None


def _is_old(at: float, now: float) -> bool:
    return now - at > COUNTS
