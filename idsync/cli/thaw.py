"""`idsync thaw`."""

from __future__ import annotations

import click

from idsync.cli.client import ask, say, settings, who


@click.command()
@click.option("--reason", required=True, metavar="TEXT", help="Why; goes into the audit trail.")
@click.pass_context
def thaw(ctx: click.Context, reason: str) -> int:
    """Let polled departures and grants go on."""
    ask(settings(ctx), "thaw", reason=reason, by=who())
    say("polled departures and grants go on")
    return 0
