"""`idsync reconcile`."""

from __future__ import annotations

from typing import Any

import click

from idsync.cli.client import JSON, ask, say, settings, show
from idsync.errors import UsageError

WORDS = {
    "person.fence": "fence",
    "key.block": "block key",
    "key.delete": "delete key",
    "team.leave": "leave team",
    "team.refused": "REFUSED team",
    "team.create": "create team",
    "team.adopt": "adopt team",
    "team.update": "update team",
    "account.create": "create account",
    "account.lift": "lift fence",
    "role.set": "set role",
    "team.join": "join team",
}


@click.command()
@click.option("--source", metavar="NAME", help="Only this source (this release has pushed sources only).")
@click.option("--dry-run", is_flag=True, help="Print the plan with its reasons and checksum; change nothing.")
@JSON
@click.pass_context
def reconcile(ctx: click.Context, source: str | None, dry_run: bool, as_json: bool) -> int:
    """One full pass now: teams, members, roles, departures, against what the gateway shows."""
    config = settings(ctx)
    if source is not None and source not in config.source_names:
        raise UsageError(f"the configuration has no source {source!r}")
    if source is not None:
        raise UsageError(f"{source} pushes to idsync; there is nothing to poll. Leave out --source for a full pass")
    result = ask(config, "reconcile", dry_run=dry_run)
    if as_json:
        show(result)
    else:
        _print(result, dry_run)
    return _exit_code(result, dry_run)


def _print(result: dict[str, Any], dry_run: bool) -> None:
    changes = result["changes"]
    for change in changes:
        say(f"{WORDS[change['kind']]:14} {change['subject']}  {change['target']}  ({change['why']})")
    if not changes:
        say("nothing to do")
    else:
        people = {change["person_id"] for change in changes if change["person_id"]}
        verb = "would be made" if dry_run else "found and handed to the engine"
        say(f"{len(changes)} change(s) {verb}, {len(people)} person(s) concerned; checksum {result['checksum']}")
    for alias, count in result["extra_members"].items():
        say(f"note: team {alias} has {count} member(s) that no source put there; left alone")
    for alias, why in result["failed"].items():
        say(f"failed: team {alias}: {why}")
    for job in result["unfinished"]:
        say(f"unfinished: person {job['person']}: {job['error']} (tried {job['attempts']} times; tried again)")
    if result["open_holds"]:
        say(f"{result['open_holds']} hold(s) wait for a person: idsync holds list")


def _exit_code(result: dict[str, Any], dry_run: bool) -> int:
    """Several may apply: a key that should be dead comes before a hold, a hold before an error, that before changes."""
    if any(job["alive"] for job in result["unfinished"]):
        return 5
    if result["open_holds"]:
        return 4
    if result["failed"] or result["refused"] or result["unfinished"]:
        return 1
    return 3 if dry_run and result["changes"] else 0
