"""`idsync groups`."""

from __future__ import annotations

import click

from idsync.cli.client import JSON, ask, reading, say, settings, show, table, who


@click.group()
def groups() -> None:
    """Groups, and the teams and roles they are bound to."""


@groups.command("list")
@JSON
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> int:
    """Show every group of every source, with its bindings."""
    from idsync.policy import gives
    from idsync.store import directory, people

    with reading(settings(ctx)) as db:
        found = directory.live_groups(db)
        bound = {group.id: [gives(b.kind, b.target) for b in people.bindings_of_group(db, group.id)] for group in found}
        sizes = {group.id: directory.count_members(db, group.id) for group in found}
    if as_json:
        show(
            [
                {
                    "id": group.id,
                    "source": group.source,
                    "external_id": group.external_id,
                    "name": group.display_name,
                    "members": sizes[group.id],
                    "bound_to": bound[group.id],
                }
                for group in found
            ]
        )
    else:
        rows = [
            (group.id, group.source, str(sizes[group.id]), ", ".join(bound[group.id]) or "-", group.display_name)
            for group in found
        ]
        table(rows, ("ID", "SOURCE", "MEMBERS", "BOUND TO", "NAME"))
    return 0


@groups.command()
@click.argument("team_or_role")
@click.argument("group_id")
@click.pass_context
def bind(ctx: click.Context, team_or_role: str, group_id: str) -> int:
    """Bind TEAM_OR_ROLE to the group of this id; TEAM/admin binds those who are the team's admins."""
    result = ask(settings(ctx), "groups.bind", target=team_or_role, group_id=group_id, by=who())
    say(f"{result['what']} is bound to {result['group']} ({result['group_id']})")
    return 0


@groups.command()
@click.argument("team_or_role")
@click.argument("group_id")
@click.pass_context
def unbind(ctx: click.Context, team_or_role: str, group_id: str) -> int:
    """Undo a binding. Whoever would lose access by it alone is held until somebody approves."""
    result = ask(settings(ctx), "groups.unbind", target=team_or_role, group_id=group_id, by=who())
    say(f"{result['what']} is no longer bound to {result['group_id']}; see: idsync holds list")
    return 0
