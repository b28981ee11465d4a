"""What this idsync and its gateway can do, asked for and not assumed. Reads only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from idsync.clock import new_secret, rfc3339
from idsync.config import Config, notify_problems
from idsync.errors import IncompleteSource, StoreError
from idsync.gateway.client import Gateway
from idsync.gateway.trial import try_key
from idsync.sinks.base import Sink
from idsync.snapshot import PolledSource
from idsync.store import facts, notices, refusals, verdicts
from idsync.store.db import Db
from idsync.store.sqlite import inspect
from idsync.store.verdicts import Fence, Window

NEEDED = frozenset({"/user/info", "/user/list", "/user/new", "/user/update", "/key/list", "/key/delete", "/team/info"})
NEEDED |= {"/team/list", "/team/new", "/team/update", "/team/member_add", "/team/member_delete"}
"""Paths without which somebody could not be granted or revoked."""
DAY = 86400.0


@dataclass(frozen=True)
class Check:
    """One finding. `ok` is None where nothing is wrong and something should be known."""

    name: str
    ok: bool | None
    says: str
    more: Mapping[str, Any] = field(default_factory=dict)


def configuration(problems: Sequence[tuple[str, str]]) -> Check:
    """Judge what keeps the daemon from starting."""
    says = "; ".join(f"{path}: {what}" for path, what in problems) or "the daemon can start with it"
    return Check("configuration", not problems, says)


def store(url: str) -> Check:
    """Check every page of the store, if there is one."""
    try:
        found = inspect(url)
    except StoreError as error:
        return Check("store", None, str(error))
    return Check("store", found.sound, "; ".join(found.lines[:2]))


async def gateway(config: Config, client: Gateway) -> list[Check]:
    """Ask the gateway what it is, and every replica whether it refuses a key that never existed."""
    found = await client.probe()
    return [*_answers(config, found), *[await _replica(config, url) for url in config.routero.replica_urls]]


def _answers(config: Config, found: Mapping[str, Any]) -> Iterator[Check]:
    where = f"{config.routero.base_url} ({config.routero.dialect})"
    accepted = found["admin_key"] == "accepted"
    says = "answers, and takes the admin key" if accepted else found["problem"] or "does not answer"
    yield Check("gateway", accepted, f"{where}: {says}", {"admin_key": found["admin_key"]})
    if not accepted:
        return
    verbs = ", ".join(f"{name} {verb}" for name, verb in sorted(found["verbs"].items()) if verb != "GET")
    yield Check("verbs", None, verbs, {"verbs": found["verbs"]})
    if not found["openapi"]:
        yield Check("endpoints", None, "the gateway does not describe itself (/openapi.json); each is found out in use")
        return
    missing = found["missing"]
    says = f"missing: {', '.join(missing)}" if missing else "all that idsync uses are there"
    lost = bool(NEEDED & set(missing))
    yield Check("endpoints", not lost if lost or not missing else None, says, {"missing": missing})


async def _replica(config: Config, url: str) -> Check:
    wait = config.routero.timeout
    trial = await try_key(url, f"sk-{new_secret()}", ca_file=config.http.ca_file, timeout=wait)
    if trial.refused:
        return Check("replica", True, f"{url}: refuses a key that never existed")
    what = "takes a key that never existed: no address of a gateway" if trial.works else trial.why
    return Check("replica", False, f"{url}: {what}")


async def source(polled: PolledSource) -> list[Check]:
    """Try each permission that a polled source needs, one by one."""
    try:
        tried = await polled.check()
    except IncompleteSource as error:
        return [Check("source", False, f"{polled.name}: {error}", {"source": polled.name})]
    return [
        Check("source", ok, f"{polled.name}: {what}" + (f": {why}" if why else ""), {"source": polled.name})
        for what, ok, why in tried
    ]


async def sink(asked: Sink) -> list[Check]:
    """Ask one sink what would keep it from taking a secret."""
    says = await asked.check()
    return [
        Check("sink", not says, f"{asked.name}: {what}", {"sink": asked.name}) for what in says or ["can take a secret"]
    ]


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
        says = f"{refusals.WORDS[what]}: refused {_ago(now - at)}, tried once a day: {why}"
        yield Check("roles", None, says, {"what": what, "at": rfc3339(at)})


def notifications(db: Db | None, config: Config, now: float) -> list[Check]:
    """Say whether everybody who is to be told can be reached; `idsync notify test` tries it."""
    failing = {one.receiver: one for one in notices.undelivered(db) if one.error} if db is not None else {}
    if not config.notify:
        return [Check("notify", None, "nobody is told of holds, living keys or silent sources: docs/notifications.md")]
    checks = [Check("notify", False, f"{path}: {what}") for path, what in notify_problems(config)]
    for entry in config.notify:
        known, what = failing.get(entry.name), f"{entry.name} ({entry.kind})"
        if known is None:
            checks.append(Check("notify", True, f"{what}: nothing undelivered", {"receiver": entry.name}))
            continue
        since = _ago(now - (known.failing_since or now))
        says = f"{what}: {known.waiting} undelivered, failing since {since}: {known.error}; idsync notify test {entry.name}"
        checks.append(Check("notify", False, says, {"receiver": entry.name}))
    return checks


def _fence(fence: Fence | None, now: float) -> Check:
    if fence is None:
        says = "assumed: no drill has shown in 30 days that a fence ends access; run idsync drill"
        return Check("fence", None, says, {"verdict": "assumed"})
    more = {"verdict": fence.verdict, "seconds": fence.seconds, "at": rfc3339(fence.at)}
    if fence.verdict == "proven":
        says = f"proven {_ago(now - fence.at)}: every replica refused after {fence.seconds or 0:.2f} s"
    else:
        says = f"unsupported, seen {_ago(now - fence.at)}: blocking and deleting do the work; keys that are not listed live on"
    return Check("fence", None, says, more)


def _window(window: Window | None, config: Config, now: float) -> Check:
    if window is None:
        assumed = config.routero.cache_time
        says = f"not measured; {assumed:g} s assumed (routero.cache_time): run idsync drill"
        return Check("cache", None, says, {"measured": False, "seconds": assumed})
    where = f"measured {_ago(now - window.at)} on {window.replicas} replica(s)"
    short = window.seconds > config.routero.cache_time
    warning = f"; routero.cache_time ({config.routero.cache_time:g} s) is shorter" if short else ""
    more = {"measured": True, "seconds": window.seconds, "replicas": window.replicas, "at": rfc3339(window.at)}
    at_most = math.ceil(window.seconds * 10) / 10
    return Check("cache", None, f"a deleted key may live up to {at_most:g} s here ({where}){warning}", more)


def _last(last: Mapping[str, Any] | None, config: Config, now: float) -> Check:
    planned = "every " + f"{config.drill.every:g} s" if config.drill.every else "only by hand (drill.every is empty)"
    if last is None:
        return Check("drill", None, f"none yet; {planned}")
    more = {"at": rfc3339(last["at"]), "problems": last["problems"]}
    if last["ok"]:
        return Check("drill", True, f"went well {_ago(now - last['at'])}; {planned}", more)
    return Check("drill", False, f"failed {_ago(now - last['at'])}: {'; '.join(last['problems'])}", more)


def _ago(seconds: float) -> str:
    if seconds < 2 * 60:
        return "just now"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min ago"
    return f"{seconds / 3600:.0f} h ago" if seconds < 2 * DAY else f"{seconds / DAY:.0f} days ago"
