"""`idsync teams`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from idsync.cli.client import JSON, ask, asking_the_gateway, from_the_store, say, settings, show, table, told_of, who
from idsync.errors import UsageError
from idsync.words import count, to_the_second

if TYPE_CHECKING:
    from idsync.teams.listing import TeamRow

HEAD = ("TEAM", "STATE", "MEMBERS", "SPEND", "BUDGET", "MODELS", "NOTE")


@click.group()
def teams() -> None:
    """Teams at the gateway: where each stands, and the end of one."""


@teams.command("list")
@JSON
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> int:
    """Show every team with its spend against its budget; needs the gateway, and changes nothing.

    A team is made (by idsync), adopted, to adopt, missing, refused, left over (not configured any more), retiring (its
    retirement was broken off) or not ours.
    """
    from idsync.app import wanted_teams
    from idsync.teams import listing
    from idsync.teams.retiring import begun
    from idsync.teams.setting import known_teams

    config = settings(ctx)
    told_of(config)
    shown = asking_the_gateway(config, lambda gateway: gateway.list_teams())
    known = from_the_store(config, known_teams, dict[str, str])
    rows = listing.rows(shown, wanted_teams(config), known, from_the_store(config, begun, dict[str, str]))
    if as_json:
        show([asdict(row) for row in rows])
        return 0
    if not rows:
        say("no teams: neither the gateway nor the configuration has one")
        return 0
    table([_row(row) for row in rows], HEAD)
    return 0


def _row(row: TeamRow) -> tuple[str, ...]:
    notes = [f"{', '.join(row.differs)} not as configured"] if row.differs else []
    notes += ["blocked"] if row.blocked else []
    notes += [row.why] if row.why else []
    if row.state == "left over":
        notes.append(f"idsync teams retire {row.team_id}")
    return (
        row.team,
        row.state,
        str(row.members),
        "-" if row.spend is None else f"{row.spend:.2f}",
        _budget(row),
        ", ".join(row.models) or "any",
        "; ".join(notes) or "-",
    )


def _budget(row: TeamRow) -> str:
    if row.max_budget is None:
        return "none"
    every = f" per {row.budget_duration}" if row.budget_duration else ""
    used = f", {row.spend / row.max_budget:.0%} used" if row.spend is not None and row.max_budget else ""
    return f"{row.max_budget:g}{every}{used}"


@teams.command()
@click.argument("alias")
@click.option("--reason", metavar="TEXT", help="Kept in the audit trail.")
@click.option("--dry-run", is_flag=True, help="Show its keys, members and spend; change nothing.")
@click.option("--override-protection", is_flag=True, help="Also with somebody protected in it; needs --reason.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
@click.pass_context
def retire(
    ctx: click.Context,
    alias: str,
    reason: str | None,
    dry_run: bool,
    override_protection: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """End the team ALIAS (or of that team_id): block it and its keys, delete them, then the team, and look again.

    Only a team that the configuration does not name (any more). A run that was broken off is continued by another one.
    """
    config = settings(ctx)
    if override_protection and not reason:
        raise UsageError("--override-protection needs a --reason")
    asked = {"team": alias, "reason": reason or "no reason given", "by": who(), "override": override_protection}
    if dry_run or (sys.stdin.isatty() and not yes):
        view = ask(config, "teams.retire", **asked, dry_run=True)
        if dry_run:
            show(view) if as_json else _print(view)
            return 3
        _print(view)
        click.confirm("Retire it?", abort=True, err=True)
    result = ask(config, "teams.retire", **asked)
    if as_json:
        show(result)
    else:
        say(
            f"team {result['team']} is gone with {count(result['keys'], 'key')}; {count(result['members'], 'member')} had it"
        )
        if result["held"]:
            say(
                f"{count(result['held'], 'person has', 'people have')} no other team; what else they have waits: idsync holds list"
            )
    return 0


def _print(view: dict[str, Any]) -> None:
    budget = "no budget" if view["max_budget"] is None else f"budget {view['max_budget']:g}"
    spend = "spend not told" if view["spend"] is None else f"spend {view['spend']:.4f}"
    say(f"team {view['team']} ({view['team_id']}): {spend}, {budget}{', blocked' if view['blocked'] else ''}")
    if view["begun"]:
        say("  its retirement was begun and is not done")
    for why in view["protected"]:
        say(f"  PROTECTED: {why}")
    for key in view["keys"]:
        used = to_the_second(key["last_used"] or "never, or not told")
        spent = "not told" if key["spend"] is None else f"{key['spend']:.4f}"
        name = key["alias"] or key["name"] or key["key_id"]
        say(f"  key {name}  owner {key['owner'] or 'nobody'}  last used {used}  spend {spent}")
    for member in view["members"]:
        say(f"  member {member['email'] or member['user_id'] or '?'}  {member['role'] or '-'}")
    if view["without_another_team"]:
        say(
            f"  {count(view['without_another_team'], 'person has', 'people have')} no other team: what else they have becomes a hold"
        )
    say(f"  ends: {count(len(view['keys']), 'key')}, {count(len(view['members']), 'membership')}, the team")
