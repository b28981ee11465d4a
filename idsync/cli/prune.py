"""`idsync audit prune`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from idsync.cli.client import JSON, ask, reading, say, settings, show, who
from idsync.config import Config
from idsync.errors import UsageError
from idsync.words import count

DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.option(
    "--before", "day", type=DAY, metavar="DATE", required=True, help="First day (UTC) that stays, like 2026-01-01."
)
@click.option(
    "--exported",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    required=True,
    help="What `idsync audit export --to DATE` wrote, up to the day before.",
)
@click.option("--dry-run", is_flag=True, help="Compare and say what would go; exit code 3 when something would.")
@JSON
@click.pass_context
def prune(ctx: click.Context, day: datetime, exported: Path, dry_run: bool, as_json: bool) -> int:
    """Take the oldest entries out of the store, once FILE is proven to hold exactly these.

    Never happens by itself. A checkpoint stays, from which `idsync audit verify` goes on; with
    `idsync audit verify --exported FILE` the file and the rest are proven together. Keep FILE: nothing else has them.
    """
    from idsync.retention.trail import ExportedFile, cut, refuse_what_is_open

    config, before = settings(ctx), day.replace(tzinfo=UTC).timestamp()
    _refuse_too_young(config, before)
    with reading(config) as db:
        found = cut(db, before, ExportedFile(exported))
        if found is not None and dry_run:
            refuse_what_is_open(db, before)
    if found is None:
        view: dict[str, Any] = {"checkpoint": None, "taken": 0}
    elif dry_run:
        view = {"would_take": found.entries, "first": found.first, "last": found.last, "sha256": found.sha256}
    else:
        proven = {"last": found.last, "hash": found.hash, "entries": found.entries, "sha256": found.sha256}
        view = ask(config, "audit.prune", before=before, by=who(), **proven)
    if as_json:
        show(view)
    else:
        _print(view, exported)
    return 3 if dry_run and found is not None else 0


def _print(view: dict[str, Any], file: Path) -> None:
    if "would_take" in view:
        say(f"{file} holds exactly the entries {view['first']} to {view['last']}: {view['would_take']} would go")
    elif view["checkpoint"] is None:
        say("nothing is older than that")
    else:
        made = view["checkpoint"]
        say(
            f"{count(view['taken'], 'entry', 'entries')} taken out, up to number {made['seq']}; its hash {made['hash']}"
        )
        say(f"keep {file}: sha256 {made['sha256']}")


def _refuse_too_young(config: Config, before: float) -> None:
    from idsync.clock import SystemClock, rfc3339

    kept = config.retention.audit
    if not kept:
        raise UsageError("retention.audit is not set, so the trail is kept for ever; set it to the time to keep it for")
    latest = SystemClock().now() - kept
    if before > latest:
        raise UsageError(f"retention.audit keeps what is younger: --before {rfc3339(latest)[:10]} at most")
