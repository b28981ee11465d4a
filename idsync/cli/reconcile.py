"""`idsync reconcile`."""

from __future__ import annotations

from typing import Any

import click

from idsync.cli.client import JSON, ask, say, settings, show
from idsync.cli.progress import shown
from idsync.errors import NotFound, UsageError
from idsync.words import count, to_the_second

WORDS = {
    "person.fence": "fence",
    "key.block": "block key",
    "key.delete": "delete key",
    "team.leave": "leave team",
    "organization.leave": "leave organization",
    "member.remove": "remove member",
    "team.refused": "REFUSED team",
    "team.create": "create team",
    "team.adopt": "adopt team",
    "team.update": "update team",
    "alerts.set": "set alerts",
    "team.drift": "drift, left",
    "account.create": "create account",
    "account.lift": "lift fence",
    "role.set": "set role",
    "team.join": "join team",
    "team.role": "role in team",
    "organization.role": "role in org",
    "key.refused": "REFUSED key",
    "key.end": "end key",
    "key.rotate": "rotate key",
    "key.adopt": "adopt key",
    "key.make": "make key",
    "key.update": "update key",
}


@click.command()
@click.option(
    "--source", metavar="NAME", help="Poll only this source; the gateway is compared as a whole all the same."
)
@click.option("--dry-run", is_flag=True, help="Print the plan with its reasons and checksum; change nothing.")
@JSON
@click.pass_context
def reconcile(ctx: click.Context, source: str | None, dry_run: bool, as_json: bool) -> int:
    """One full pass now: list the polled sources, then compare teams, members, roles and departures with the gateway.

    A daemon does it by the configuration it has loaded. Where that is another one than is read here, nothing is done: exit
    code 2, with what differs.
    """
    config = settings(ctx)
    if source is not None and source not in config.source_names:
        known = ", ".join(sorted(config.polled)) or "none"
        raise NotFound(f"the configuration has no polled source {source!r} (it has: {known})")
    if source is not None and source not in config.polled:
        raise UsageError(f"{source} pushes to idsync; there is nothing to poll. Leave out --source for a full pass")
    polled = config.polled if source is None else [source]
    result = shown(config, polled, lambda: ask(config, "reconcile", dry_run=dry_run, source=source))
    if as_json:
        show(result)
    else:
        _print(result, dry_run)
    return _exit_code(result, dry_run)


def _print(result: dict[str, Any], dry_run: bool) -> None:
    for poll in result["polls"]:
        _print_poll(poll, dry_run)
    changes = result["changes"]
    for change in changes:
        say(f"{WORDS[change['kind']]:14} {change['subject']}  {change['target']}  ({change['why']})")
    if not changes and not any(poll["losses"] or poll["joins"] for poll in result["polls"]):
        say("nothing to do")
    elif not changes:
        say(f"the gateway shows what it should; checksum {result['checksum']}")
    else:
        people = {change["person_id"] for change in changes if change["person_id"]}
        verb = "would be made" if dry_run else "found and handed to the engine"
        made = sum(change["kind"] != "team.drift" for change in changes)
        say(
            f"{count(made, 'change')} {verb}, {count(len(people), 'person', 'people')} concerned; checksum {result['checksum']}"
        )
    _print_teams(result)
    for alias, why in result["failed"].items():
        say(f"failed: {alias if alias.startswith('[') else f'team {alias}'}: {why}")
    for alias, problem in result["failed_keys"].items():
        say(f"failed: key {alias}: {problem['what']}")
    for note in result["notes"]:
        say(f"note: {note}")
    for job in result["unfinished"]:
        say(f"unfinished: person {job['person']}: {job['error']} (tried {count(job['attempts'], 'time')}; tried again)")
    if result["open_holds"]:
        say(f"{count(result['open_holds'], 'hold waits', 'holds wait')} for a person: idsync holds list")


def _print_teams(result: dict[str, Any]) -> None:
    """Say what is known about teams beside their changes."""
    for alias, team_id in result["adopted"].items():
        say(f"note: team {alias} ({team_id}) is taken over as it is")
    judged = result["removals"]
    for alias, number in result["extra_members"].items():
        if not any(extra["team"] == alias for extra in judged):
            say(f"note: team {alias} has {count(number, 'member')} that no source put there; left alone")
    for extra in judged:
        if extra["verdict"] != "goes":
            say(
                f"{extra['verdict']:6} {extra['label']} on team {extra['team']}, put there by no source: {extra['why']}"
            )


def _print_poll(poll: dict[str, Any], dry_run: bool) -> None:
    """Say what one source's listing came to: who loses what and why, then who gains."""
    name = poll["source"]
    if poll.get("problem"):
        say(f"INCOMPLETE {name}: {poll['problem']}; nobody was removed")
        return
    for loss in poll["losses"]:
        what = "leaves" if loss["departs"] else f"loses {', '.join(loss['teams'])}"
        word = {"done": "would go" if dry_run else "done", "held": "HELD", "kept": "kept"}[loss["state"]]
        say(
            f"{word:10} {loss['user']} {what}  ({name}: {loss['why']})"
            + (f": {loss['reason']}" if loss["reason"] else "")
        )
        for key in loss.get("keys", ()):
            used = to_the_second(key["last_used_at"] or "never used")
            say(f"{'':10}   key {key['alias'] or key['name'] or '?'}, last use {used}")
    for user, group in poll["joins"]:
        say(f"{'would join' if dry_run else 'joined':10} {user}  {group}  ({name})")
    for external_id, why in sorted(poll["unknown"].items()):
        say(f"unknown    {external_id}  ({name}: {why}); nothing given, nothing taken")
    for external_id in poll["waiting"]:
        say(f"waiting    {external_id}  ({name} does not find them; counts when it says so again)")
    if poll["frozen"]:
        say(f"frozen: nothing of {name} was written; idsync thaw --reason TEXT")
    say(
        f"{name}: {count(poll['listed'], 'person', 'people')} listed, {count(len(poll['losses']), 'loss', 'losses')},"
        f" {count(len(poll['joins']), 'new membership')}"
    )


def _exit_code(result: dict[str, Any], dry_run: bool) -> int:
    """Several may apply: a key that should be dead, a hold, an incomplete source, an error, changes; in that order."""
    still = [*result["unfinished"], *result["failed_keys"].values()]
    if result["alive"] or any(one["alive"] for one in still):
        return 5
    polls = result["polls"]
    held = any(extra["verdict"] == "held" for extra in result["removals"])
    if result["open_holds"] or held or any(loss["state"] == "held" for poll in polls for loss in poll["losses"]):
        return 4
    if any(poll.get("problem") for poll in polls):
        return 6
    if result["failed"] or result["failed_keys"] or result["refused"] or result["unfinished"]:
        return 1
    found = result["changes"] or any(poll["losses"] or poll["joins"] for poll in polls)
    return 3 if dry_run and found else 0
