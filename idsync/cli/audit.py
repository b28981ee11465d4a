"""`idsync audit`."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, takewhile
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from idsync import words
from idsync.audit import GENESIS, AuditEvent, event_of, judge, line_of
from idsync.cli.client import JSON, reading, say, settings, show
from idsync.cli.prune import prune
from idsync.errors import IdsyncError, UsageError

if TYPE_CHECKING:
    from idsync.store.db import Db

DAY = click.DateTime(["%Y-%m-%d"])


@click.group()
def audit() -> None:
    """The hash-chained audit trail."""


audit.add_command(prune)


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
@click.option("--from", "first", type=DAY, metavar="DATE", help="First day (UTC), like 2026-01-01. Default: all.")
@click.option("--to", "last", type=DAY, metavar="DATE", help="Last day (UTC), included. Default: all.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Default: stdout.")
@click.option("--json", "as_json", is_flag=True, help="With --output: say on stdout, as JSON, what was written.")
@click.pass_context
def export(
    ctx: click.Context, first: datetime | None, last: datetime | None, output: Path | None, as_json: bool
) -> int:
    """Write the trail, or its entries of some days, as one JSON object a line; `audit verify --file` checks that.

    The last line on stderr says how many entries there are and their head: note it where whoever may change the file
    cannot change it.
    """
    if first is not None and last is not None and last < first:
        raise UsageError("--from is after --to")
    since = first.replace(tzinfo=UTC).timestamp() if first is not None else float("-inf")
    before = last.replace(tzinfo=UTC).timestamp() + 86400.0 if last is not None else float("inf")
    with reading(settings(ctx)) as db, _place(output) as file:
        count, newest = 0, None
        for event in _between(db, since, before):
            file.write(f"{line_of(event)}\n")
            count, newest = count + 1, event
    said = (
        f"{words.count(count, 'entry', 'entries')} up to number {newest.seq}; head {newest.hash}"
        if newest is not None
        else "no entries"
    )
    if as_json and output is not None:
        head = {"last": newest.seq, "head": newest.hash} if newest is not None else {"last": None, "head": None}
        show({"file": str(output), "entries": count, **head})
    else:
        say(f"{output}: {said}" if output is not None else said, err=True)
    return 0


def _between(db: Db, since: float, before: float) -> Iterator[AuditEvent]:
    """Yield the entries of a time; all of them, where no time is given, whatever they claim."""
    from idsync.store import journal

    if (since, before) == (float("-inf"), float("inf")):
        yield from journal.kept(db)
        return
    numbers = journal.between(db, since, before)
    if numbers is not None:
        yield from takewhile(lambda event: event.seq <= numbers[1], journal.events(db, after=numbers[0] - 1))


@contextlib.contextmanager
def _place(output: Path | None) -> Iterator[IO[str]]:
    """Open the file, readable by its owner alone; one that is there is never written over."""
    if output is None:
        yield sys.stdout
        return
    try:
        output.touch(mode=0o600, exist_ok=False)
        with output.open("w", encoding="utf-8") as file:
            yield file
    except FileExistsError:
        msg = f"{output} exists; an export never overwrites"
        raise UsageError(msg) from None
    except OSError as error:
        msg = f"cannot write to {output}: {error.strerror}"
        raise IdsyncError(msg) from error


@audit.command()
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="An exported trail: needs no store and no configuration.",
)
@click.option(
    "--exported",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    multiple=True,
    help="What `idsync audit prune` took out, oldest first: checked as the beginning of the trail in the store.",
)
@click.option("--head", metavar="HASH", help="A head that was noted elsewhere: it has to be in the chain still.")
@click.option("--entries", type=click.IntRange(min=0), metavar="N", help="How many entries there were then.")
@JSON
@click.pass_context
def verify(
    ctx: click.Context,
    file: Path | None,
    exported: tuple[Path, ...],
    head: str | None,
    entries: int | None,
    as_json: bool,
) -> int:
    """Check the whole chain, and that its end was not cut off.

    The chain alone shows what was altered, removed or inserted. A cut-off end, or a trail that was sealed anew, shows
    only against a head that was noted elsewhere: the daemon logs it (`audit_head`, `audit_entries`), and this prints it.
    Where the beginning was exported and taken out (`idsync audit prune`), the check goes on from there, or begins with
    the files that `--exported` names. Of a store that several processes share, the newest entries may not be linked into
    the chain yet; that says how many.
    """
    from idsync.store import journal

    if file is not None and exported:
        raise UsageError("--file checks a file alone, --exported files and the store together; use one of them")
    wanted = head.strip().lower() if head is not None else None
    if wanted is not None and not _HASH.fullmatch(wanted):
        raise UsageError("--head takes the 64 hexadecimal digits of a head, as `idsync audit verify` prints it")
    checkpoint, sealed, unlinked = None, True, None
    if file is not None:
        events = _exported(file)
        start = _start_of(events[0] if events else None)
        verdict = judge(events, head=wanted, entries=entries, start=start)
        count, newest = (events[-1].seq, events[-1].hash) if events else start
    else:
        with reading(settings(ctx)) as store, store.snapshot() as db:
            trail = Trail(db, exported)
            verdict = judge(trail.events(), head=wanted, entries=entries, start=trail.start)
            (count, newest), start, checkpoint, sealed = trail.head, trail.start, trail.checkpoint, trail.is_sealed
            unlinked = journal.unlinked(db)
    whole = verdict.whole and sealed
    if as_json:
        told = {"whole": whole, "breaks_at": verdict.breaks_at, "noted_head_found": verdict.noted}
        pruned = {"checkpoint": vars(checkpoint) if checkpoint is not None else None, "checkpoint_sealed": sealed}
        of_store = {**pruned, "unlinked": unlinked} if file is None else {}
        show({"entries": count, "head": newest, "first": start[0] + 1, **told, **of_store})
        return 0 if whole else 1
    if start[0]:
        where = f"in an exported file with the sha256 {checkpoint.sha256}" if checkpoint is not None else "not in it"
        say(f"a part of the trail, from entry {start[0] + 1}: what was before is {where}")
    if not sealed:
        say("no entry of the trail speaks of its checkpoint: the beginning was not taken out by `idsync audit prune`")
    if verdict.breaks_at is not None:
        say(f"the chain breaks at entry {verdict.breaks_at}: it or the one before it was altered, removed or inserted")
    elif verdict.noted is False:
        say(
            f"the chain of {words.count(count, 'entry', 'entries')} fits together, but does not hold what was noted: {_noted(wanted, entries)}"
        )
        say("its end was cut off, or everything was sealed anew; compare with a backup")
        if start[0]:
            say(f"or it is before entry {start[0] + 1}: check with the exported files, --exported FILE")
    else:
        kept = "; holds what was noted" if verdict.noted else ""
        say(f"{words.count(count, 'entry', 'entries')}, chain whole; head {newest}{kept}")
    if unlinked:
        say(
            f"{words.count(unlinked, 'entry is', 'entries are')} committed and not linked yet: nothing seals them before that"
        )
    return 0 if whole else 1


def _start_of(first: AuditEvent | None) -> tuple[int, str]:
    """Return number and hash of the entry before the first one of a part."""
    return (first.seq - 1, first.prev) if first is not None and first.seq > 1 else (0, GENESIS)


class Trail:
    """The trail of a store, with the files its beginning was exported to, where there are any.

    `head` is its newest entry, `is_sealed` is known once it was read: an entry speaks of the newest checkpoint.
    """

    def __init__(self, db: Db, files: Sequence[Path]) -> None:
        from idsync.retention.trail import ExportedFile
        from idsync.store import journal

        self.checkpoint = journal.checkpoint(db)
        self.head = journal.head(db)
        self.is_sealed = self.checkpoint is None
        self._action = journal.PRUNED
        taken_out = chain.from_iterable(ExportedFile(file).events() for file in files)
        first = next(taken_out, None) if files else None
        self.start = journal.start(db) if first is None else _start_of(first)
        self._events = chain([first] if first is not None else [], taken_out, journal.kept(db))

    def events(self) -> Iterator[AuditEvent]:
        for event in self._events:
            if self.checkpoint is not None and self.checkpoint.is_sealed_by(event, self._action):
                self.is_sealed = True
            yield event


def _exported(file: Path) -> list[AuditEvent]:
    """Read an exported trail.

    Raises:
        UsageError: the file cannot be read.
        IdsyncError: a line of it is no entry.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read {file}: {getattr(error, 'strerror', None) or 'not text'}"
        raise UsageError(msg) from None
    events = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(event_of(line))
        except ValueError:
            msg = f"{file}: line {number} is no entry of an audit trail: it was altered, or cut off"
            raise IdsyncError(msg) from None
    return events


_HASH = re.compile("[0-9a-f]{64}")


def _noted(head: str | None, entries: int | None) -> str:
    number = f"entry {entries}" if entries is not None else "an entry"
    return f"{number} with the hash {head}" if head is not None else number
