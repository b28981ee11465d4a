"""`idsync drift`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from idsync.cli.client import JSON, reading, say, settings, show, table
from idsync.errors import ConfigError

if TYPE_CHECKING:
    from idsync.config import Config
    from idsync.drift import Drift


@click.command()
@JSON
@click.pass_context
def drift(ctx: click.Context, as_json: bool) -> int:
    """What the gateway has that no source accounts for; needs only the gateway, and changes nothing."""
    found = asyncio.run(_drift(settings(ctx)))
    if as_json:
        show([asdict(one) for one in found])
    elif found:
        rows = [(one.kind, one.what, one.detail, one.last_used_at or "-", one.remedy) for one in found]
        table(rows, ("WHAT", "NAME", "DETAIL", "LAST USED", "WHAT TO DO"))
        say(f"{len(found)} thing(s) that nobody accounts for")
    else:
        say("nothing: sources account for all the gateway has")
    return 3 if found else 0


async def _drift(config: Config) -> list[Drift]:
    from idsync import drift as drifting
    from idsync.app import gateway_of, start_problems, wanted_teams
    from idsync.clock import SystemClock
    from idsync.plan import Gatewayscape
    from idsync.store.sqlite import path_of

    problems = [problem for problem in start_problems(config) if problem[0].startswith("routero")]
    if problems:
        raise ConfigError(problems)
    known = drifting.Accounted()
    if path_of(config.store.url).exists():
        with reading(config) as db:
            known = drifting.accounted(db)
    async with gateway_of(config, SystemClock()) as gateway:
        teams = await gateway.list_teams()
        users, keys = await asyncio.gather(gateway.list_users(), gateway.list_keys())
    return drifting.drift(Gatewayscape.of(users, keys, teams), wanted_teams(config), known)
