"""`idsync audit`."""

from __future__ import annotations

import json
import re

import click

from idsync.cli.client import JSON, reading, say, settings, show
from idsync.errors import UsageError


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
@click.option("--head", metavar="HASH", help="A head that was noted elsewhere: it has to be in the chain still.")
@click.option("--entries", type=click.IntRange(min=0), metavar="N", help="How many entries there were then.")
@JSON
@click.pass_context
def verify(ctx: click.Context, head: str | None, entries: int | None, as_json: bool) -> int:
    """Check the whole chain, and that its end was not cut off.

    The chain alone shows what was altered, removed or inserted. A cut-off end, or a trail that was sealed anew, shows
    only against a head that was noted elsewhere: the daemon logs it (`audit_head`, `audit_entries`), and this prints it.
    """
    from idsync.audit import judge
    from idsync.store import journal

    wanted = head.strip().lower() if head is not None else None
    if wanted is not None and not _HASH.fullmatch(wanted):
        raise UsageError("--head takes the 64 hexadecimal digits of a head, as `idsync audit verify` prints it")
    with reading(settings(ctx)) as db:
        verdict = judge(journal.events(db), head=wanted, entries=entries)
        count, newest = journal.head(db)
    if as_json:
        told = {"whole": verdict.whole, "breaks_at": verdict.breaks_at, "noted_head_found": verdict.noted}
        show({"entries": count, "head": newest, **told})
    elif verdict.breaks_at is not None:
        say(f"the chain breaks at entry {verdict.breaks_at}: it or the one before it was altered, removed or inserted")
    elif verdict.noted is False:
        say(f"the chain of {count} entries fits together, but does not hold what was noted: {_noted(wanted, entries)}")
        say("its end was cut off, or everything was sealed anew; compare with a backup")
    else:
        kept = "; holds what was noted" if verdict.noted else ""
        say(f"{count} entries, chain whole; head {newest}{kept}")
    return 0 if verdict.whole else 1


_HASH = re.compile("[0-9a-f]{64}")


def _noted(head: str | None, entries: int | None) -> str:
    number = f"entry {entries}" if entries is not None else "an entry"
    return f"{number} with the hash {head}" if head is not None else number
