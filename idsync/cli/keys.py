"""`idsync keys`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from idsync.cli.client import JSON, ask, reading, say, settings, show, table, who
from idsync.errors import ConfigError, NotFound, UsageError
from idsync.words import duration, to_the_second

if TYPE_CHECKING:
    from idsync.config import Config

EXPOSED = ("USER", "DEPARTED", "KEY", "TEAM", "WHY", "LAST USED", "SPEND", "ROTATION")
LISTED = ("KEY", "TEAM", "OWNER", "AGE", "LAST USED", "EXPIRES", "SPEND", "ROTATION")
MOVED = "left the team "
NO_SINK = (
    "rotation is wanted for {count} of them; idsync rotates keys that [[teams.keys]] names, as soon as somebody has left: "
    "`idsync status` says what keeps it from that. Others are yours to rotate"
)
ONCE = "this is the only time it is shown; idsync keeps no copy"


@click.group()
def keys() -> None:
    """Keys: list, issue and rotate them, and those that work on although somebody who may know them has left."""


# -- list -------------------------------------------------------------------------------------------------------------


@keys.command("list")
@click.option("--team", metavar="ALIAS", help="Only keys of this team.")
@click.option("--user", metavar="USER", help="Only keys of this owner: e-mail or gateway user_id.")
@click.option("--managed", is_flag=True, help="Only the shared keys that [[teams.keys]] names.")
@JSON
@click.pass_context
def list_(ctx: click.Context, team: str | None, user: str | None, managed: bool, as_json: bool) -> int:
    """Every key of the gateway: age, last use, owner, expiry, and of those idsync keeps how their rotation goes.

    Exit code 1 when a rotation fails.
    """
    config = settings(ctx)
    teams, listed = asyncio.run(_listed(config))
    if team is not None and team not in teams:
        raise NotFound(f"there is no team {team!r} (there are: {', '.join(sorted(teams)) or 'none'})")
    rows = [
        row
        for row in listed
        if (team is None or row["team"] == team)
        and (user is None or (row["owner"] or "").lower() == user.lower())
        and (not managed or row["managed"] is not None)
    ]
    if as_json:
        show(rows)
    elif rows:
        table([_listed_row(row) for row in rows], LISTED)
    else:
        say("no keys")
    return 1 if any(row["error"] for row in rows) else 0


async def _listed(config: Config) -> tuple[set[str], list[dict[str, Any]]]:
    """Ask the gateway for every key, and the store, where there is one, for what idsync does with them.

    Returns the names of all teams beside it, those of the gateway and those of the configuration.
    """
    from idsync.app import gateway_of, start_problems, wanted_keys
    from idsync.app.parts import store_password
    from idsync.clock import SystemClock
    from idsync.keys.showing import keys_view
    from idsync.store.opening import exists

    problems = [problem for problem in start_problems(config) if problem[0].startswith("routero")]
    if problems:
        raise ConfigError(problems)
    async with gateway_of(config, SystemClock()) as gateway:
        teams = await gateway.list_teams()
        users, found = await asyncio.gather(gateway.list_users(), gateway.list_keys())
    named = {team.alias or team.team_id for team in teams} | {team.alias for team in config.teams}
    if not exists(config.store.url, store_password(config)):
        return named, keys_view(None, wanted_keys(config), found, users, teams)
    with reading(config) as db:
        return named, keys_view(db, wanted_keys(config), found, users, teams)


def _listed_row(row: dict[str, Any]) -> tuple[str, ...]:
    from idsync.cli.client import ago
    from idsync.clock import SystemClock, epoch_of

    created = epoch_of(row["created"])
    return (
        (row["alias"] or row["name"] or row["key_id"] or "-") + (" (blocked)" if row["blocked"] else ""),
        row["team"] or "-",
        row["owner"] or "-",
        "-" if created is None else ago(max(0.0, SystemClock().now() - created)),
        to_the_second(row["last_used"] or "never, or not told"),
        to_the_second(row["expires"] or "") or ("never" if row["key_id"] else "-"),
        "-" if row["spend"] is None else f"{row['spend']:.4f}",
        row["rotation"] or "not kept by idsync",
    )


# -- issue ------------------------------------------------------------------------------------------------------------


@keys.command()
@click.option("--user", required=True, metavar="USER", help="Whose key: e-mail, userName or gateway user_id.")
@click.option("--duration", metavar="TIME", help="How long it works: 12h, 30d.")
@click.option("--forever", is_flag=True, help="A key that never expires; instead of --duration.")
@click.option("--team", metavar="ALIAS", help="A team of theirs that it counts for.")
@click.option("--alias", metavar="NAME", help="Its name; default: theirs, with a random end.")
@click.option("--sink", metavar="NAME", help="Deliver it to this [[sinks]] entry and show nothing.")
@click.option("--print", "printed", is_flag=True, help="Print the secret although stdout is no terminal.")
@JSON
@click.pass_context
def issue(
    ctx: click.Context,
    user: str,
    duration: str | None,
    forever: bool,
    team: str | None,
    alias: str | None,
    sink: str | None,
    printed: bool,
    as_json: bool,
) -> int:
    """Make a key for somebody who has access. Its secret is shown once, on a terminal or with --print, or delivered."""
    config = settings(ctx)
    if (duration is None) == (not forever):
        raise UsageError("say how long the key works: --duration 30d, or --forever")
    if sink is None and not printed and not sys.stdout.isatty():
        raise UsageError("stdout is no terminal, and the secret is shown only once: add --print, or --sink NAME")
    if sink is not None and printed:
        raise UsageError("with --sink the secret is delivered and not shown; leave out --print")
    seconds = None if duration is None else _seconds(duration)
    asked = {"duration": seconds, "team": team, "alias": alias, "sink": sink, "by": who()}
    made = ask(config, "keys.issue", user=user, **asked)
    if as_json:
        show(made)
    elif sink is not None:
        say(f"key {made['alias']} for {made['user']}, {_until(made)}, is delivered to {sink}")
    else:
        say(made["key"])
        say(f"key {made['alias']} for {made['user']}, {_until(made)}; {ONCE}", err=True)
    return 0


def _seconds(text: str) -> float:
    from idsync.clock import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--duration: {error}") from None
    if seconds < 1:
        raise UsageError("--duration: at least 1s")
    return seconds


def _until(made: dict[str, Any]) -> str:
    return f"until {to_the_second(made['expires'])}" if made["expires"] else "for ever"


# -- rotate -----------------------------------------------------------------------------------------------------------


@keys.command()
@click.argument("alias")
@click.option("--compromised", is_flag=True, help="Somebody else has it: the old key has no grace.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and what is due; change nothing.")
@JSON
@click.pass_context
def rotate(ctx: click.Context, alias: str, compromised: bool, dry_run: bool, as_json: bool) -> int:
    """Make a new key for a [[teams.keys]], deliver it to its sink, then end the old one.

    What fails stays asked for: the daemon tries again, and `idsync status` says why.
    """
    config = settings(ctx)
    done = ask(config, "keys.rotate", alias=alias, compromised=compromised, dry_run=dry_run, by=who())
    if as_json:
        show(done)
    elif dry_run:
        _print_plan(config, done, compromised)
    elif done["error"]:
        said = "is delivered, but" if done["rotated"] else "is not rotated, the old one works on:"
        say(f"key {alias} {said} {done['error']}")
    else:
        ends = (
            f"the old one ends at {to_the_second(done['old_ends'][0])}"
            if done["old_ends"]
            else "the old one is read back as gone"
        )
        say(f"key {alias} is rotated: {done['key_id']} is delivered, {ends}")
    if dry_run:
        return 3
    return 5 if done["alive"] else 1 if done["error"] else 0


def _print_plan(config: Config, done: dict[str, Any], compromised: bool) -> None:
    (team, key), *_ = [(team, key) for team in config.teams for key in team.keys if key.alias == done["alias"]]
    grace = "at once" if compromised or not key.grace else f"after {duration(key.grace)}"
    say(f"would make a key for team {team.alias}, deliver it to sink {key.sink}, and end {done['key_id']} {grace}")
    for change in done["changes"]:
        say(f"due anyhow: {change['why']}")


# -- exposed ----------------------------------------------------------------------------------------------------------


@keys.command()
@click.argument("user", required=False)
@JSON
@click.pass_context
def exposed(ctx: click.Context, user: str | None, as_json: bool) -> int:
    """Keys that leavers may still know: made by them for others, or shared in a team they were in.

    A key drops out when it is gone from the gateway (deleted, or rotated to another id), or when the person is back
    in that team. Last use and spend are as of the last pass.
    """
    from idsync.control import find_person
    from idsync.store import exposure
    from idsync.views import exposed_view

    with reading(settings(ctx)) as db:
        person = find_person(db, user) if user is not None else None
        if user is not None and person is None:
            raise NotFound(f"nobody is called {user!r} here; `idsync departures` lists everybody who left")
        found = exposure.listed(db, person.id if person is not None else None)
        views = [exposed_view(db, key) for key in found]
    if as_json:
        show(views)
        return 0
    _print_exposed(views)
    return 0


def _print_exposed(views: list[dict[str, Any]]) -> None:
    if not views:
        say("no key that somebody who left may know")
        return
    table([_exposed_row(view) for view in views], EXPOSED)
    wanted = len({view["key_id"] for view in views if view["rotation"] == "wanted"})
    if wanted:
        say(NO_SINK.format(count=wanted))


def _exposed_row(view: dict[str, Any]) -> tuple[str, ...]:
    spend = "-" if view["spend"] is None else f"{view['spend']:.4f}"
    return (
        view["user"],
        ("" if view["departure"] else MOVED) + to_the_second(view["departed"]),
        view["alias"] or view["name"] or view["key_id"],
        view["team"] or "-",
        view["why"],
        to_the_second(view["last_used"] or "never, or not told"),
        spend,
        view["rotation"],
    )
