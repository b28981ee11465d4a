"""The configuration, and whether each source, sink and receiver can be used: asked one permission at a time."""

from __future__ import annotations

from collections.abc import Sequence

from idsync.config import RIGHT_ADDRESS, Config, notes, notify_problems, trace_problems, wrong_address
from idsync.doctor.check import Check, ago
from idsync.errors import IncompleteSource
from idsync.sinks.base import Sink
from idsync.snapshot import PolledSource
from idsync.store import notices
from idsync.store.db import Db


def configuration(problems: Sequence[tuple[str, str]]) -> Check:
    """Judge what keeps the daemon from starting."""
    says = "; ".join(f"{path}: {what}" for path, what in problems) or "the daemon can start with it"
    return Check("configuration", not problems, says)


def noted(config: Config) -> list[Check]:
    """Tell what is accepted and does less than one might think."""
    wrong = wrong_address(config.server)
    address = [Check("configuration", None, f"server.public_url: {wrong}", {}, RIGHT_ADDRESS)] if wrong else []
    others = [(path, what) for path, what in notes(config) if path != "server.public_url"]
    return [*address, *(Check("configuration", None, f"{path}: {what}") for path, what in others)]


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
        since = ago(now - (known.failing_since or now))
        says = f"{what}: {known.waiting} undelivered, failing since {since}: {known.error}"
        checks.append(Check("notify", False, says, {"receiver": entry.name}, f"idsync notify test {entry.name}"))
    return checks


def traces(config: Config) -> list[Check]:
    """Say whether traces can be sent, where they are wanted; whether they arrive is told by metrics."""
    if not config.traces.otlp_endpoint:
        return []
    wrong = [Check("traces", False, f"{path}: {what}") for path, what in trace_problems(config)]
    return wrong or [Check("traces", True, f"sent to {config.traces.otlp_endpoint}")]
