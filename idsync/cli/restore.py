"""`idsync restore`."""

from __future__ import annotations

import click

from idsync.cli.client import JSON, ask, say, settings, show, who


@click.command()
@click.argument("user")
@click.option("--reason", required=True, metavar="TEXT", help="Kept in the audit trail.")
@JSON
@click.pass_context
def restore(ctx: click.Context, user: str, reason: str, as_json: bool) -> int:
    """Lift the ban on USER; what their sources say counts again. Deleted keys do not come back."""
    result = ask(settings(ctx), "restore", user=user, reason=reason, by=who())
    if as_json:
        show(result)
        return 0
    say(f"{result['user']}: ban lifted")
    if result["departed_still"]:
        say("  still departed: a source says so, or no source gives them anything")
    return 0
