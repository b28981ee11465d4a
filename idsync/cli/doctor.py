"""`idsync doctor`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from idsync.cli.beside import TO_DO, Beside, another, beside, remedy
from idsync.cli.client import JSON, loaded, reading, say, show
from idsync.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from idsync.config import Loaded
    from idsync.doctor.check import Check


@click.command()
@JSON
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> int:
    """Look for what is wrong, or soon will be, and say what to do about it. Changes nothing.

    Asks about the configuration, who may read its files, the store and its disk, the gateway's verbs and paths, how far
    the admin key sees, other SCIM syncs, replicas, each permission of polled sources, sinks, certificates, clocks, tokens,
    protections and holds; says what drills have shown, and how long a deleted key may live. Exit code 1 when something
    is wrong; warnings alone are 0.
    """
    from idsync.doctor.channels import configuration

    try:
        checks = asyncio.run(_examine(loaded(ctx)))
    except ConfigError as error:
        checks = [configuration(error.problems)]
    well = all(check.ok is not False for check in checks)
    if as_json:
        show({"ok": well, "checks": [_view(check) for check in checks]})
    else:
        _print(checks)
    return 0 if well else 1


async def _examine(found: Loaded) -> list[Check]:
    from idsync.app import gateway_of, gateway_settings, sinks_of, sources_of, start_problems
    from idsync.app.parts import store_password
    from idsync.clock import SystemClock
    from idsync.doctor import channels, files, gateway, measured, outside, store, waiting
    from idsync.store import facts

    config, clock = found.config, SystemClock()
    problems = start_problems(config)
    checks = [
        channels.configuration(problems),
        *channels.noted(config),
        _daemon(beside(config)),
        *files.files(config, found.path),
        *store.store(config.store.url, store_password(config)),
    ]
    with contextlib.ExitStack() as stack:
        try:
            db = stack.enter_context(reading(config))
        except StoreError:
            db = None
        learned = {name: str(value) for name, (value, _) in facts.under(db, "verb:").items()} if db else {}
        if not any(path.startswith("routero") for path, _ in problems):
            async with gateway_of(config, clock, learned=learned) as client:
                checks += await gateway.gateway(config, client, db, clock.now())
        if not any(path.startswith("sources") for path, _ in problems):
            for polled in sources_of(config, clock).values():
                checks += await channels.source(polled)
                await polled.close()
        for sink in sinks_of(config.sinks, config.http.ca_file).values():
            checks += await channels.sink(sink)
        checks += await outside.outside(config, clock)
        checks += channels.notifications(db, config, clock.now()) + channels.traces(config)
        checks += waiting.waiting(db, config, clock.now())
        return checks + measured.measured(db, config, gateway_settings(config).name, clock.now())


def _daemon(found: Beside) -> Check:
    """Say whether a daemon runs, and by which configuration it goes."""
    from idsync.doctor.check import Check

    more, differs = found.view(), found.differs or ()
    if found.state != "runs":
        return Check("daemon", None, found.state, more, TO_DO[found.state])
    if differs:
        return Check("daemon", None, another(differs), more, remedy(differs))
    return Check("daemon", True, "runs" if found.differs is None else "runs, and goes by this configuration", more)


def _view(check: Check) -> dict[str, object]:
    """Return a finding; what belongs to it alone stands beside what every one has."""
    said = {"check": check.name, "ok": check.ok, "severity": check.severity, "says": check.says, "remedy": check.remedy}
    return {**check.more, **said}


def _print(checks: Iterable[Check]) -> None:
    marks = {"ok": "ok", "note": "-", "warning": "warn", "wrong": "WRONG"}
    for check in checks:
        remedy = f" -> {check.remedy}" if check.remedy else ""
        say(f"{marks[check.severity]:5}  {check.name:13}  {check.says}{remedy}")
