"""`idsync keys`."""

from __future__ import annotations

from typing import Any

import click

from idsync.cli.client import JSON, reading, say, settings, show, table
from idsync.errors import NotFound

HEAD = ("USER", "DEPARTED", "KEY", "TEAM", "WHY", "LAST USED", "SPEND", "ROTATION")
MOVED = "left the team "
NOT_YET = "rotation is wanted for {count} of them: this release does not rotate; do it at the gateway"


@click.group()
def keys() -> None:
    """Keys that work on although somebody who may know them has left."""


@keys.command()
@click.argument("user", required=False)
@JSON
@click.pass_context
def exposed(ctx: click.Context, user: str | None, as_json: bool) -> int:
    """Keys that leavers may still know: made by them for others, or shared in a team they were in.

    A key drops out when it is gone from the gateway (deleted, or rotated to another id), or when the person is back
    in that team. Last use and spend are as of the last pass.
    """
    from idsync.control import exposed_view, find_person
    from idsync.store import exposure

    with reading(settings(ctx)) as db:
        person = find_person(db, user) if user is not None else None
        if user is not None and person is None:
            raise NotFound(f"nobody is called {user!r} here")
        found = exposure.listed(db, person.id if person is not None else None)
        views = [exposed_view(db, key) for key in found]
    if as_json:
        show(views)
        return 0
    _print(views)
    return 0


def _print(views: list[dict[str, Any]]) -> None:
    if not views:
        say("no key that somebody who left may know")
        return
    table([_row(view) for view in views], HEAD)
    wanted = len({view["key_id"] for view in views if view["rotation"] == "wanted"})
    if wanted:
        say(NOT_YET.format(count=wanted))


def _row(view: dict[str, Any]) -> tuple[str, ...]:
    spend = "-" if view["spend"] is None else f"{view['spend']:.4f}"
    return (
        view["user"],
        ("" if view["departure"] else MOVED) + view["departed"],
        view["alias"] or view["name"] or view["key_id"],
        view["team"] or "-",
        view["why"],
        view["last_used"] or "never, or not told",
        spend,
        view["rotation"],
    )
