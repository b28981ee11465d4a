"""`idsync db`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from idsync.cli.client import JSON, say, settings, show, who


@click.group()
def db() -> None:
    """Back up and check the store while the daemon runs; restore it while none does."""


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def backup(ctx: click.Context, file: Path) -> int:
    """Copy the store to FILE, consistent, online."""
    from idsync.store.sqlite import backup as copy

    copy(settings(ctx).store.url, file)
    say(f"{file}: {file.stat().st_size} bytes")
    return 0


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
@click.pass_context
def restore(ctx: click.Context, file: Path, yes: bool, as_json: bool) -> int:
    """Put the backup FILE in the place of the store; the old store is kept beside it. No daemon may run.

    What was restored is frozen: nothing is granted until `idsync thaw`, because the backup does not know who left since.
    """
    from idsync.clock import SystemClock, rfc3339
    from idsync.store.restoring import restore as put_back

    config = settings(ctx)
    if sys.stdin.isatty() and not yes:
        click.confirm(f"Put {file} in the place of {config.store.url}?", abort=True, err=True)
    done = put_back(config.store.url, file, at=SystemClock().now(), by=who())
    until = rfc3339(done.known_until) if done.known_until is not None else None
    kept = str(done.kept) if done.kept is not None else None
    if as_json:
        told = {"known_until": until, "audit_entries": done.audit_entries, "audit_head": done.audit_head, "kept": kept}
        show({**told, "frozen": True})
        return 0
    say(f"restored; known until {until or 'nothing'}; audit entries {done.audit_entries}, head {done.audit_head}")
    if kept:
        say(f"the old store is {kept}")
    say(
        "frozen. Start the daemon, `idsync revoke` whoever left since then, let the identity provider send everything again,"
    )
    say("look at `idsync reconcile --dry-run`, then: idsync thaw --reason TEXT")
    return 0


@db.command()
@JSON
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> int:
    """Check the store's pages and the version of SQLite under it."""
    from idsync.store.sqlite import inspect

    report = inspect(settings(ctx).store.url)
    if as_json:
        show({"sound": report.sound, "lines": list(report.lines)})
        return 0 if report.sound else 1
    for line in report.lines:
        say(line)
    return 0 if report.sound else 1
