"""`idsync config`."""

from __future__ import annotations

import click

from idsync.cli.client import JSON, loaded, say, show, table
from idsync.errors import ConfigError


@click.group()
def config() -> None:
    """Check and show the configuration; offline."""


@config.command()
@click.option(
    "--start",
    is_flag=True,
    help="Also ask whether the daemon could start: secrets readable, a source there, sinks ready.",
)
@JSON
@click.pass_context
def check(ctx: click.Context, start: bool, as_json: bool) -> int:
    """Report everything that is wrong, each problem with its path, and what is accepted but not carried out yet."""
    from idsync.app import sink_problems, start_problems
    from idsync.clock import SystemClock
    from idsync.config import expired, notes, webhook_problems

    try:
        found = loaded(ctx)
        problems = (
            [*start_problems(found.config), *sink_problems(found.config), *webhook_problems(found.config)]
            if start
            else []
        )
        if problems:
            raise ConfigError(problems)
    except ConfigError as error:
        if not as_json:
            raise
        problems_told = [{"path": path, "what": what} for path, what in error.problems]
        show({"ok": False, "problems": problems_told, "notes": []})
        return error.exit_code
    told = [*notes(found.config), *expired(found.config, SystemClock().now())]
    if as_json:
        show({"ok": True, "problems": [], "notes": [{"path": path, "what": what} for path, what in told]})
        return 0
    say(f"{found.path or 'no file, environment and defaults only'}: ok")
    for path, what in told:
        say(f"  note: {path}: {what}")
    return 0


@config.command("show")
@JSON
@click.pass_context
def show_(ctx: click.Context, as_json: bool) -> int:
    """Show every setting, secrets masked, and where its value came from."""
    from idsync.config import shown

    rows = shown(loaded(ctx))
    if as_json:
        show([{"key": key, "value": value, "origin": origin} for key, value, origin in rows])
    else:
        table([(key, value, origin) for key, value, origin in rows], ("KEY", "VALUE", "FROM"))
    return 0
