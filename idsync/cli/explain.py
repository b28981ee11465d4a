"""`idsync explain`."""

from __future__ import annotations

from typing import Any

import click

from idsync.cli.client import JSON, reading, say, settings, show
from idsync.errors import NotFound


@click.command()
@click.argument("user")
@JSON
@click.pass_context
def explain(ctx: click.Context, user: str, as_json: bool) -> int:
    """Say which record, rule, group and source give or take each thing USER has."""
    from idsync.app import rules_of
    from idsync.clock import SystemClock
    from idsync.control import find_person
    from idsync.explain import explain as why

    config = settings(ctx)
    with reading(config) as db:
        person = find_person(db, user)
        if person is None:
            raise NotFound(f"nobody is called {user!r} here; give an e-mail, a userName or a gateway user_id")
        found = why(db, person, rules_of(config), SystemClock())
    if as_json:
        show(found)
    else:
        _print(found)
    return 0


def _print(found: dict[str, Any]) -> None:
    evidence = f" ({found['evidence']})" if found["evidence"] else ""
    say(
        f"{found['user']} is {found['standing']}{evidence}; gateway account {found['gateway_user_id'] or 'not known yet'}"
    )
    for reason in found["because"]:
        say(f"  {reason['what']}: {reason['why']}")
    verb = "gives" if found["standing"] == "present" else "would give"
    for record in found["records"]:
        gone = ", deleted" if record["deleted"] else ""
        unused = "" if record["configured"] else " (not in the configuration any more: does not count)"
        say(
            f"record of {record['source']}{unused}: {record['user_name']} {record['says']}{gone}, as of {record['as_of']}"
        )
        for group in record["groups"]:
            say(f"  in {group['group']}: {verb} {', '.join(group['gives']) or 'nothing'}")
        for ended in record["ended"]:
            say(f"  not in {ended['group']} since {ended['at']}")
    for team in found["teams"]:
        held = f", held by {team['hold']}" if team["hold"] else ""
        ends = f", deleted at {team['deleted_at']}" if team["deleted_at"] else ""
        say(f"team {team['team']}: {team['state']} since {team['since']}{ends}{held}")
        say(f"  {team['role']} of it ({team['role_because']})")
    if found["role"]:
        say(f"role {found['role']} ({found['role_because']})")
    for given in found["given_roles"]:
        say(
            f"made {given['role']} by idsync at {given['since']} ({given['place']}; {given['before'] or 'nothing'} before)"
        )
    for what, why in found["refused"].items():
        say(f"note: this gateway refuses {what}: {why}")
    if found["ban"]:
        say(
            f"banned by {found['ban']['by']} at {found['ban']['at']}: {found['ban']['reason']}; idsync restore lifts it"
        )
    if found["protected"]:
        say(f"protected: {found['protected']}")
    if found["departure"]:
        say(f"departure {found['departure']['id']}: {found['departure']['state']}; {found['departure']['cause']}")
    for held in found["holds"]:
        say(f"held: what {held['source']} would take waits for a person: idsync holds show {held['hold']}")
