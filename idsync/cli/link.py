"""`idsync link`."""

from __future__ import annotations

import click

from idsync.cli.client import ask, say, settings, who


@click.command()
@click.argument("user")
@click.argument("gateway_user_id")
@click.pass_context
def link(ctx: click.Context, user: str, gateway_user_id: str) -> int:
    """Say that GATEWAY_USER_ID is USER's account; settles a conflict."""
    result = ask(settings(ctx), "link", user=user, account_id=gateway_user_id, by=who())
    say(f"{result['user']}: gateway account {result['gateway_user_id']}")
    return 0
