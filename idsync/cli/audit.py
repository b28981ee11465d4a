"""`idsync audit`."""

from __future__ import annotations

import json

import click

from idsync.cli.client import JSON, reading, say, settings, show


@click.group()
def audit() -> None:
    """The hash-chained audit trail."""


@audit.command()
@click.option("-n", "count", type=int, default=20, show_default=True, help="How many entries.")
@JSON
@click.pass_context
def tail(ctx: click.Context, count: int, as_json: bool) -> int:
    """Show the newest entries."""
    from dataclasses import asdict

    from idsync.clock import rfc3339
    from idsync.store import journal

    with reading(settings(ctx)) as db:
        entries = journal.last(db, count)
    for entry in entries:
        if as_json:
            say(json.dumps(asdict(entry), ensure_ascii=False))
        else:
            detail = json.dumps(dict(entry.detail), ensure_ascii=False)
            say(f"{entry.seq:>6}  {rfc3339(entry.at)}  {entry.actor}  {entry.action}  {entry.subject}  {detail}")
    return 0


@audit.command()
@JSON
@click.pass_context
def verify(ctx: click.Context, as_json: bool) -> int:
    """Check the whole chain. A cut-off end shows only against a head that was noted elsewhere (the daemon's log)."""
    from idsync.audit import first_break
    from idsync.store import journal

    with reading(settings(ctx)) as db:
        broken = first_break(journal.events(db))
        head = journal.head(db)
    if as_json:
        show({"entries": head[0], "head": head[1], "whole": broken is None, "breaks_at": broken})
        return 0 if broken is None else 1
    if broken is not None:
        say(f"the chain breaks at entry {broken}: it or the one before it was altered, removed or inserted")
        return 1
    say(f"{head[0]} entries, chain whole; head {head[1]}")
    return 0
