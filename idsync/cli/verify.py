"""`idsync verify`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from idsync.cli.client import JSON, reading, say, settings, show
from idsync.errors import ConfigError, NotFound
from idsync.words import count

if TYPE_CHECKING:
    from idsync.config import Config
    from idsync.verify import Finding


@click.command()
@click.argument("user", required=False)
@JSON
@click.pass_context
def verify(ctx: click.Context, user: str | None, as_json: bool) -> int:
    """Ask the gateway again: any live key, membership or unfenced account of a departed person (or of USER)?"""
    findings = asyncio.run(_verify(settings(ctx), user))
    if as_json:
        show([asdict(finding) for finding in findings])
    else:
        _print(findings)
    return 5 if any(finding.alive for finding in findings) else 0


async def _verify(config: Config, user: str | None) -> list[Finding]:
    from idsync.app import gateway_of
    from idsync.clock import SystemClock
    from idsync.config import start_problems
    from idsync.control import find_person
    from idsync.store import facts
    from idsync.verify import departures_of
    from idsync.verify import verify as look

    problems = [problem for problem in start_problems(config) if problem[0].startswith("routero")]
    if problems:
        raise ConfigError(problems)
    clock = SystemClock()
    with reading(config) as db:
        person = find_person(db, user) if user else None
        if user and person is None:
            raise NotFound(f"nobody is called {user!r} here; `idsync departures` lists everybody who left")
        learned = {name: str(value) for name, (value, _) in facts.under(db, "verb:").items()}
        async with gateway_of(config, clock, learned=learned) as gateway:
            return await look(db, gateway, departures_of(db, person.id if person else None), clock.now())


def _print(findings: list[Finding]) -> None:
    for finding in findings:
        verdict = "ALIVE" if finding.alive else "clean"
        say(f"{verdict:6} {finding.user}  ({finding.state}; accounts: {', '.join(finding.checked) or 'none'})")
        for thing in finding.alive:
            say(f"       {thing}")
        if finding.waiting:
            say(f"       {finding.waiting}")
    alive = sum(1 for finding in findings if finding.alive)
    say(f"{count(len(findings), 'departure')} asked about at the gateway, {alive} with something alive")
