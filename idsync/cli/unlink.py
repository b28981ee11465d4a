"""`idsync unlink`."""

from __future__ import annotations

import click

from idsync.cli.client import ask, say, settings, who


@click.command()
@click.argument("user")
@click.argument("gateway_user_id")
@click.pass_context
def unlink(ctx: click.Context, user: str, gateway_user_id: str) -> int:
    """Forget that GATEWAY_USER_ID is USER's account. What idsync has fenced or blocked there stays so, and is named."""
    result = ask(settings(ctx), "unlink", user=user, account_id=gateway_user_id, by=who())
    say(f"{result['user']}: no longer linked to {result['gateway_user_id']}")
    if result["fence"]:
        say(f"  still fenced: metadata scim_active=false, idsync_fence={result['fence']}")
    for key in result["blocked_keys"]:
        say(f"  still blocked: key {key['alias'] or key['name'] or key['id']}")
    if result["fence"] or result["blocked_keys"]:
        say("  undo that at the gateway, if the account is of somebody who is here")
    return 0
