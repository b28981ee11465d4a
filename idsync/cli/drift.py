"""`idsync drift`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from idsync.cli.beside import remedy
from idsync.cli.client import JSON, asking_the_gateway, from_the_store, say, settings, show, table, told_of
from idsync.words import count, to_the_second

if TYPE_CHECKING:
    from idsync.config import Config
    from idsync.drift import Drift
    from idsync.gateway.client import Gateway
    from idsync.plan import Gatewayscape


@click.command()
@JSON
@click.pass_context
def drift(ctx: click.Context, as_json: bool) -> int:
    """What the gateway has that no source accounts for, or that is not as configured.

    Needs only the gateway, and changes nothing.
    """
    config = settings(ctx)
    differs = told_of(config)
    found = [_after(one, differs) for one in _drift(config)]
    if as_json:
        show([asdict(one) for one in found])
    elif found:
        rows = [
            (one.kind, one.what, one.detail, to_the_second(one.last_used_at or "-"), one.remedy or "-") for one in found
        ]
        table(rows, ("WHAT", "NAME", "DETAIL", "LAST USED", "WHAT TO DO"))
        say(f"{count(len(found), 'difference')}: accounted for by no source, or not as configured")
    else:
        say("nothing: sources account for all the gateway has, and its teams are as configured")
    return 3 if found else 0


def _after(one: Drift, differs: tuple[str, ...]) -> Drift:
    """Say what comes before a pass that would go by another configuration than this."""
    if not differs or not one.remedy.startswith("idsync reconcile"):
        return one
    return replace(one, remedy=f"{remedy(differs)}; then {one.remedy}")


def _drift(config: Config) -> list[Drift]:
    from idsync import drift as drifting
    from idsync.app import rules_of, wanted_teams
    from idsync.plan import Gatewayscape

    async def read(gateway: Gateway) -> Gatewayscape:
        teams = await gateway.list_teams()
        users, keys = await asyncio.gather(gateway.list_users(), gateway.list_keys())
        return Gatewayscape.of(users, keys, teams)

    known = from_the_store(config, lambda db: drifting.accounted(db, rules_of(config)), drifting.Accounted)
    return drifting.drift(asking_the_gateway(config, read), wanted_teams(config), known)
