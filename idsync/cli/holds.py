"""`idsync holds`."""

from __future__ import annotations

from typing import Any

import click

from idsync.cli.client import JSON, ask, reading, say, settings, show, who
from idsync.errors import NotFound
from idsync.words import count, to_the_second


@click.group()
def holds() -> None:
    """What a guard keeps back until a person decides."""


@holds.command("list")
@JSON
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> int:
    """Show the open holds."""
    views = _views(ctx)
    if as_json:
        show(views)
        return 0
    for view in views:
        say(
            f"{view['id']}  {count(len(view['people']), 'person', 'people')}  checksum {view['checksum']}  {view['reason']}"
        )
    if not views:
        say("no open holds")
    return 0


def _views(ctx: click.Context) -> list[dict[str, Any]]:
    from idsync.store import ledger
    from idsync.views import hold_view

    with reading(settings(ctx)) as db:
        return [hold_view(db, hold) for hold in ledger.holds(db)]


@holds.command("show")
@click.argument("hold_id")
@JSON
@click.pass_context
def show_(ctx: click.Context, hold_id: str, as_json: bool) -> int:
    """Show whom a hold concerns, and its checksum."""
    view = next((view for view in _views(ctx) if view["id"] == hold_id), None)
    if view is None:
        raise NotFound(f"there is no open hold {hold_id!r}; `idsync holds list` shows them")
    if as_json:
        show(view)
        return 0
    say(f"{view['reason']} (since {to_the_second(view['created'])})")
    for entry in view["people"]:
        what = f"team {entry['team']}" if entry["team"] else "keys and memberships"
        say(f"  {entry['user']}: {what} ({entry['cause']})")
    say(f"to let it go:  idsync holds approve {view['id']} --checksum {view['checksum']}")
    return 0


@holds.command()
@click.argument("hold_id")
@click.option("--checksum", required=True, metavar="SUM", help="As `holds show` prints it.")
@click.pass_context
def approve(ctx: click.Context, hold_id: str, checksum: str) -> int:
    """Let go what a hold keeps back, exactly as it was shown."""
    result = ask(settings(ctx), "holds.approve", hold_id=hold_id, checksum=checksum, by=who())
    say(f"approved; {count(result['released'], 'item')} released")
    return 0


@holds.command()
@click.argument("hold_id")
@click.pass_context
def reject(ctx: click.Context, hold_id: str) -> int:
    """Keep for good what a hold keeps back."""
    result = ask(settings(ctx), "holds.reject", hold_id=hold_id, by=who())
    say(f"rejected; {count(result['kept'], 'item stays as it is', 'items stay as they are')}")
    return 0
