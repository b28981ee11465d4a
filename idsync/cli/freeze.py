"""`idsync freeze`."""

from __future__ import annotations

import click

from idsync.cli.client import ask, say, settings, who


@click.command()
@click.option("--reason", required=True, metavar="TEXT", help="Why; goes into the audit trail.")
@click.pass_context
def freeze(ctx: click.Context, reason: str) -> int:
    """Stop polled departures and every grant. What sources push about leavers, and `revoke`, go on."""
    ask(settings(ctx), "freeze", reason=reason, by=who())
    say("frozen; `revoke` and pushed leavers go on. End it with: idsync thaw --reason TEXT")
    return 0
