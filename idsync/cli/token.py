"""`idsync token`."""

from __future__ import annotations

from typing import Any

import click

from idsync.cli.client import JSON, ask, reading, say, settings, show, table, who
from idsync.errors import UsageError
from idsync.words import to_the_second

LONGEST = 10 * 366 * 86400.0
"""Seconds that a token with an end may live."""


@click.group()
def token() -> None:
    """Bearer tokens of sources and operators. Shown once; the store keeps a SHA-256."""


@token.command()
@click.argument("source", required=False)
@click.option("--operator", metavar="NAME", help="A token for the operations port instead of a source.")
@click.option("--scope", type=click.Choice(["view", "approve"]), default="view", show_default=True)
@click.option("--expires", metavar="DURATION", help="When it ends by itself, like 90d or 12h; without: never.")
@JSON
@click.pass_context
def new(
    ctx: click.Context, source: str | None, operator: str | None, scope: str, expires: str | None, as_json: bool
) -> int:
    """Make a token for SOURCE and print it, alone, on stdout. Works while the daemon runs.

    With --operator it is for the operations port: the status page and /health. Scope approve may also decide holds.
    """
    if (source is None) == (operator is None):
        raise UsageError("name a source, or --operator NAME")
    kind = "source" if source else "operator"
    asked: dict[str, Any] = {"name": source or operator, "kind": kind, "scope": "scim" if source else scope}
    asked |= {"by": who(), "expires": None if expires is None else _seconds(expires)}
    result = ask(settings(ctx), "token.new", **asked)
    if as_json:
        show(result)
    else:
        say(result["token"])
        ends = f"; it ends at {to_the_second(result['expires'])}" if result["expires"] else ""
        say(f"token {result['id']}: keep it now, it is not shown again{ends}", err=True)
    return 0


def _seconds(text: str) -> float:
    from idsync.clock import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--expires: {error}") from error
    if not 0 < seconds <= LONGEST:
        raise UsageError("--expires: more than nothing, and at most ten years")
    return seconds


@token.command("list")
@JSON
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> int:
    """Show the tokens without their secrets, and when each was last used (written down once a minute)."""
    from idsync.clock import SystemClock, rfc3339
    from idsync.store import tokens

    now = SystemClock().now()
    with reading(settings(ctx)) as db:
        found = tokens.all_tokens(db)
    views = [
        {
            "id": entry.id,
            "kind": entry.kind,
            "name": entry.name,
            "scope": entry.scope,
            "created": rfc3339(entry.created_at),
            "used": rfc3339(entry.used_at) if entry.used_at is not None else None,
            "expires": rfc3339(entry.expires_at) if entry.expires_at is not None else None,
            "state": entry.state(now),
        }
        for entry in found
    ]
    if as_json:
        show(views)
    else:
        table(
            [tuple(to_the_second(str(value or "never")) for value in view.values()) for view in views],
            ("ID", "KIND", "NAME", "SCOPE", "MADE", "LAST USED", "ENDS", "STATE"),
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
