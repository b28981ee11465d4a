"""`idsync doctor`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from idsync.cli.client import JSON, reading, say, settings, show
from idsync.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from idsync.config import Config
    from idsync.doctor import Check


@click.command()
@JSON
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> int:
    """Ask the gateway what it can do; say what drills have shown, and how long a deleted key may live.

    Also checks the configuration, the store, the replicas, each permission of polled sources, and every sink. Changes nothing. Exit code 1 when something is wrong.
    """
    from idsync.doctor import configuration

    try:
        checks = asyncio.run(_examine(settings(ctx)))
    except ConfigError as error:
        checks = [configuration(error.problems)]
    well = all(check.ok is not False for check in checks)
    if as_json:
        show({"ok": well, "checks": [_view(check) for check in checks]})
    else:
        _print(checks)
    return 0 if well else 1


async def _examine(config: Config) -> list[Check]:
    from idsync import doctor as ask
    from idsync.app import gateway_of, gateway_settings, sinks_of, sources_of, start_problems
    from idsync.clock import SystemClock
    from idsync.store import facts

    problems = start_problems(config)
    checks = [ask.configuration(problems), ask.store(config.store.url)]
    clock = SystemClock()
    with contextlib.ExitStack() as stack:
        try:
            db = stack.enter_context(reading(config))
        except StoreError:
            db = None
        learned = {name: str(value) for name, (value, _) in facts.under(db, "verb:").items()} if db else {}
        if not any(path.startswith("routero") for path, _ in problems):
            async with gateway_of(config, clock, learned=learned) as gateway:
                checks += await ask.gateway(config, gateway)
        if not any(path.startswith("sources") for path, _ in problems):
            for polled in sources_of(config, clock).values():
                checks += await ask.source(polled)
                await polled.close()
        for sink in sinks_of(config.sinks, config.http.ca_file).values():
            checks += await ask.sink(sink)
        checks += ask.notifications(db, config, clock.now())
        return checks + ask.measured(db, config, gateway_settings(config).name, clock.now())


def _view(check: Check) -> dict[str, object]:
    return {"check": check.name, "ok": check.ok, "says": check.says, **asdict(check)["more"]}


def _print(checks: Iterable[Check]) -> None:
    marks = {True: "ok", False: "WRONG", None: "-"}
    for check in checks:
        say(f"{marks[check.ok]:5}  {check.name:13}  {check.says}")
