"""`idsync config`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from idsync.cli.client import JSON, asking_the_gateway, from_the_store, loaded, say, settings, show, table
from idsync.errors import ConfigError, UsageError
from idsync.words import count

if TYPE_CHECKING:
    from idsync.config import Config
    from idsync.gateway.client import Gateway
    from idsync.model import GatewayTeam, GatewayUser
    from idsync.teams.found import Found


@click.group()
def config() -> None:
    """Check and show the configuration, or write one of what the gateway has."""


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
    from idsync.config import LIVE, expired, notes, notify_problems, restart_tables, trace_problems, webhook_problems

    try:
        found = loaded(ctx)
        asked = (start_problems, sink_problems, webhook_problems, notify_problems, trace_problems) if start else ()
        problems = [problem for ask in asked for problem in ask(found.config)]
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
        tables = {"reload": LIVE, "restart": restart_tables()}
        show({"ok": True, "problems": [], "notes": [{"path": path, "what": what} for path, what in told], **tables})
        return 0
    say(f"{found.path or 'no file, environment and defaults only'}: ok")
    for path, what in told:
        say(f"  note: {path}: {what}")
    if start:
        say(
            f"  a running daemon takes over with SIGHUP: {', '.join(LIVE)}; after a restart: {', '.join(restart_tables())}"
        )
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


@config.command("import")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Else stdout.")
@JSON
@click.pass_context
def import_(ctx: click.Context, output: Path | None, as_json: bool) -> int:
    """Write `[[teams]]` and `[[roles]]` of what the gateway has and the configuration does not name yet.

    Teams have `adopt = true` and their settings as they are, so the next pass changes nothing; groups are yours to fill
    in. Append it to the configuration. Metadata is not written: gateways keep secrets there.
    """
    from idsync.teams.found import toml

    what = _found(settings(ctx))
    if as_json:
        show(asdict(what))
    elif output is not None:
        _write(output, toml(what))
        say(f"{output}: {count(len(what.teams), 'team')}, {count(len(what.roles), 'role')}", err=True)
    else:
        for line in toml(what).splitlines():
            say(line)
    for one in what.left_out:
        say(f"left out: {one}", err=True)
    return 0


def _found(config: Config) -> Found:
    from idsync.teams.found import found
    from idsync.teams.setting import known_teams

    async def read(gateway: Gateway) -> tuple[list[GatewayTeam], list[GatewayUser]]:
        teams = await gateway.list_teams()
        return teams, await gateway.list_users()

    teams, users = asking_the_gateway(config, read)
    known = from_the_store(config, known_teams, dict[str, str])
    return found(
        teams,
        users,
        named={team.alias for team in config.teams},
        ids={known.get(team.alias, team.team_id) for team in config.teams},
        roles={role.role for role in config.roles},
    )


def _write(output: Path, text: str) -> None:
    """Make a file; one that is there is somebody's work."""
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{output} is there already; name another file") from None
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from error
