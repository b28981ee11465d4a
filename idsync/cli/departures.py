"""`idsync departures`."""

from __future__ import annotations

from typing import Any

import click

from idsync.cli.client import JSON, reading, say, settings, show
from idsync.errors import NotFound
from idsync.words import count


@click.command()
@click.argument("user", required=False)
@JSON
@click.pass_context
def departures(ctx: click.Context, user: str | None, as_json: bool) -> int:
    """The ledger of departures; with USER, the receipts of that person."""
    from idsync.control import find_person
    from idsync.store import ledger
    from idsync.views import departure_view

    with reading(settings(ctx)) as db:
        if user is None:
            found = ledger.departures(db)
        else:
            person = find_person(db, user)
            if person is None:
                raise NotFound(f"nobody is called {user!r} here; `idsync departures` lists everybody who left")
            found = ledger.departures_of(db, person.id)
        views = [departure_view(db, departure) for departure in found]
    if as_json:
        show(views)
        return 0
    for view in views:
        _print(view, with_receipt=user is not None)
    if not views:
        say("no departures")
    return 0


def _print(view: dict[str, Any], *, with_receipt: bool) -> None:
    took = view["time_to_revoke_seconds"]
    timed = f"verified after {took:.3f} s" if took is not None else "not verified"
    say(f"{view['stages']['received']}  {view['user']}  {view['state']}  ({view['evidence']}; {timed})")
    if view["problem"]:
        say(f"    {view['problem']}")
    if not with_receipt:
        return
    say(f"    cause: {view['cause']}; gateway account {view['gateway_user_id'] or 'none'}; fence {view['fence']}")
    for stage, at in sorted(view["stages"].items(), key=lambda reached: reached[1]):
        _line(stage.replace("_", " "), at)
    receipt = view["receipt"]
    for what, how in sorted(receipt.get("features", {}).items()):
        _line("gateway", f"{what}: {how}")
    for look in receipt.get("read_backs", []):
        seen = f"{count(look['keys_listed'], 'key')} listed, {look['keys_asked_by_id']} asked by id"
        also = f"{count(look['teams'], 'team')}, fence {'yes' if look['fenced'] else 'no'}"
        _line("read back", f"{look['at']}  {look['verdict']}: {seen}, {also}")
    for key in receipt.get("keys", []):
        say(f"    key gone: {key['alias'] or key['name'] or key['id']} (team {key['team_id'] or '-'})")
    for team in receipt.get("teams", []):
        say(f"    left team {team}")
    for role in receipt.get("roles", []):
        say(f"    role taken: {role}")
    for organization in receipt.get("organizations", []):
        say(f"    left organization {organization}")
    for invitation in receipt.get("invitations", []):
        say(f"    invitation ended: {invitation}")
    for call in receipt.get("calls", []):
        say(
            f"    {call['at']}  {call['method']:6} {call['path']}  {call['target']}  -> {call['status']}  {call['ms']} ms"
        )
    if receipt.get("calls_left_out"):
        say(f"    ({count(receipt['calls_left_out'], 'call')} in the middle left out)")
    for key in receipt.get("shared_keys") or []:
        say(f"    may be known to them: {key['alias'] or key['name'] or key['id']} (team {key['team_id']})")
    for account in receipt.get("other_accounts") or []:
        say(f"    another account with their e-mail: {account}")
    for sentence in receipt.get("left_standing", []):
        say(f"    left standing: {sentence}")


def _line(what: str, told: str) -> None:
    say(f"    {what:12}  {told}")
