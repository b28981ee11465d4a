"""What drills have shown, how long a deleted key may live, and what this gateway has refused: read from the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from idsync.clock import rfc3339
from idsync.config import Config
from idsync.doctor.check import Check, ago
from idsync.store import facts, refusals, verdicts
from idsync.store.db import Db
from idsync.store.verdicts import Fence, Window
from idsync.words import at_most, duration


def measured(db: Db | None, config: Config, name: str, now: float) -> list[Check]:
    """Say what drills have shown; `db` is None before the first start, `name` that of the gateway."""
    fence = verdicts.fence_of(db, name, now) if db is not None else None
    window = verdicts.window_of(db, name, now) if db is not None else None
    last = facts.get(db, "drill:last") if db is not None else None
    refused = refusals.everything(db) if db is not None else {}
    return [_fence(fence, now), _window(window, config, now), _last(last, config, now), *_roles(refused, now)]


def _roles(refused: Mapping[str, tuple[str, float]], now: float) -> Iterator[Check]:
    """Say which roles this gateway would not give when it was asked to."""
    for what, (why, at) in sorted(refused.items()):
        says = f"{refusals.WORDS[what]}: refused {ago(now - at)}, tried once a day: {why}"
        yield Check("roles", None, says, {"what": what, "at": rfc3339(at)})


def _fence(fence: Fence | None, now: float) -> Check:
    if fence is None:
        says = "assumed: no drill has shown in 30 days that a fence ends access; run idsync drill"
        return Check("fence", None, says, {"verdict": "assumed"})
    more = {"verdict": fence.verdict, "seconds": fence.seconds, "at": rfc3339(fence.at)}
    if fence.verdict == "proven":
        says = f"proven {ago(now - fence.at)}: a fenced key was refused after {at_most(fence.seconds or 0.0)} at {_asked(fence.replicas)}"
    else:
        says = f"unsupported, seen {ago(now - fence.at)}: blocking and deleting do the work; keys that are not listed live on"
    return Check("fence", None, says, more)


def _asked(replicas: int) -> str:
    """Name what a drill has tried its keys at."""
    if not replicas:
        return "the gateway's address, not at each process behind it"
    return "the one replica" if replicas == 1 else f"each of {replicas} replicas"


def _window(window: Window | None, config: Config, now: float) -> Check:
    if window is None:
        assumed = config.routero.cache_time
        says = f"not measured; {duration(assumed)} assumed (routero.cache_time): run idsync drill"
        return Check("cache", None, says, {"measured": False, "seconds": assumed})
    where = f"measured {ago(now - window.at)} at {_asked(window.replicas)}"
    short = window.seconds > config.routero.cache_time
    warning = f"; routero.cache_time ({duration(config.routero.cache_time)}) is shorter" if short else ""
    more = {"measured": True, "seconds": window.seconds, "replicas": window.replicas, "at": rfc3339(window.at)}
    return Check("cache", None, f"a deleted key may live up to {at_most(window.seconds)} here ({where}){warning}", more)


def _last(last: Mapping[str, Any] | None, config: Config, now: float) -> Check:
    planned = f"every {duration(config.drill.every)}" if config.drill.every else "only by hand (drill.every is empty)"
    if last is None:
        return Check("drill", None, f"none yet; {planned}")
    more = {"at": rfc3339(last["at"]), "problems": last["problems"]}
    if last["ok"]:
        return Check("drill", True, f"went well {ago(now - last['at'])}; {planned}", more)
    return Check("drill", False, f"failed {ago(now - last['at'])}: {'; '.join(last['problems'])}", more)
