"""`idsync token`."""

from __future__ import annotations

import click

from idsync.cli.client import JSON, ask, reading, say, settings, show, table, who
from idsync.errors import UsageError


@click.group()
def token() -> None:
    """Bearer tokens of sources and operators. Shown once; the store keeps a SHA-256."""


@token.command()
@click.argument("source", required=False)
@click.option("--operator", metavar="NAME", help="A token for the operations port instead of a source.")
@click.option("--scope", type=click.Choice(["view", "approve"]), default="view", show_default=True)
@JSON
@click.pass_context
def new(ctx: click.Context, source: str | None, operator: str | None, scope: str, as_json: bool) -> int:
    """Make a token for SOURCE and print it, alone, on stdout. Works while the daemon runs."""
    if (source is None) == (operator is None):
        raise UsageError("name a source, or --operator NAME")
    kind = "source" if source else "operator"
    asked = {"name": source or operator, "kind": kind, "scope": "scim" if source else scope, "by": who()}
    result = ask(settings(ctx), "token.new", **asked)
    if as_json:
        show(result)
    else:
        say(result["token"])
        say(f"token {result['id']}: keep it now, it is not shown again", err=True)
    return 0


@token.command("list")
@JSON
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> int:
    """Show the tokens without their secrets, and when each was last used (written down once a minute)."""
    from idsync.clock import rfc3339
    from idsync.store import tokens

    with reading(settings(ctx)) as db:
        found = tokens.all_tokens(db)
    views = [
        {
            "id": entry.id,
            "kind": entry.kind,
            "name": entry.name,
            "created": rfc3339(entry.created_at),
            "used": rfc3339(entry.used_at) if entry.used_at is not None else None,
            "state": "revoked" if entry.revoked_at is not None else "live",
        }
        for entry in found
    ]
    if as_json:
        show(views)
    else:
        table(
            [tuple(str(value or "never") for value in view.values()) for view in views],
            ("ID", "KIND", "NAME", "MADE", "LAST USED", "STATE"),
        )
    return 0


@token.command()
@click.argument("token_id")
@click.pass_context
def revoke(ctx: click.Context, token_id: str) -> int:
    """End a token at once."""
    ask(settings(ctx), "token.revoke", token_id=token_id, by=who())
    say(f"token {token_id} is revoked")
    return 0
