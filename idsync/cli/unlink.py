"""`idsync unlink`."""

from __future__ import annotations

import click

from idsync.cli.client import ask, say, settings, who


@click.command()
@click.argument("user")
@click.argument("gateway_user_id")
@click.pass_context
def unlink(ctx: click.Context, user: str, gateway_user_id: str) -> int:
    """Forget that GATEWAY_USER_ID is USER's account."""
    result = ask(settings(ctx), "unlink", user=user, account_id=gateway_user_id, by=who())
    say(f"{result['user']}: no longer linked to {result['gateway_user_id']}")
    return 0
