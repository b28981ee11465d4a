"""`idsync db`."""

from __future__ import annotations

from pathlib import Path

import click

from idsync.cli.client import JSON, say, settings, show


@click.group()
def db() -> None:
    """Back up and check the store while the daemon runs."""


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
