"""`idsync revoke`."""

from __future__ import annotations

import sys
from typing import Any

import click

from idsync.cli.client import JSON, ask, say, settings, show, who
from idsync.errors import UsageError
from idsync.words import count, to_the_second


@click.command()
@click.argument("user")
@click.option("--reason", metavar="TEXT", help="Kept in the audit trail.")
@click.option("--dry-run", is_flag=True, help="Show what they hold; change nothing.")
@click.option("--wait", type=float, default=0.0, metavar="SECONDS", help="Wait so long for the receipt.")
@click.option("--override-protection", is_flag=True, help="Revoke somebody on the protected list; needs --reason.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
@click.pass_context
def revoke(
    ctx: click.Context,
    user: str,
    reason: str | None,
    dry_run: bool,
    wait: float,
    override_protection: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """End everything USER holds, now: e-mail, userName or gateway user_id.

    Works with every IdP down and for accounts no source knows. Sets a ban that no source can lift: see `restore`.
    """
    config = settings(ctx)
    if override_protection and not reason:
        raise UsageError("--override-protection needs a --reason")
    asked: dict[str, Any] = {
        "user": user,
        "reason": reason or "no reason given",
        "by": who(),
        "override": override_protection,
    }
    if dry_run or (sys.stdin.isatty() and not yes):
        radius = ask(config, "revoke", **asked, dry_run=True)
        if dry_run:
            show(radius) if as_json else _print_radius(radius)
            return 3
        _print_radius(radius)
        click.confirm("Revoke all of it?", abort=True, err=True)
    result = ask(config, "revoke", **asked, wait=wait)
    show(result) if as_json else _print(result)
    return _exit_code(result, wait)


def _print_radius(radius: dict[str, Any]) -> None:
    say(f"{radius['user']} (gateway user_id {radius['gateway_user_id'] or 'none'})")
    if radius["protected"]:
        say(f"  PROTECTED: {radius['protected']}")
    for warning in ("held", "conflict"):
        if radius[warning]:
            say(f"  {warning.upper()}: {radius[warning]}")
    for account in radius["accounts"]:
        _print_account(account, [key for key in radius["keys"] if key["account"] == account["gateway_user_id"]])
    for account in radius["other_accounts"]:
        say(f"  not touched: account {account} with their e-mail, linked to nobody")
    sums = radius["sums"]
    say(
        f"  ends: {count(sums['keys'], 'key')} of {count(sums['accounts'], 'account')}, spend {sums['spend']:.4f},"
        f" {count(sums['teams'], 'team membership')}"
    )
    say(f"  deletion: {radius['deletion_waits'] or 'at once'}")
    for key in radius["reported"]:
        wanted = ", rotation wanted" if key["rotation"] == "wanted" else ""
        say(f"  reported, works on: {_key(key)}  ({key['why']}{wanted})")
    if not radius["reported"]:
        say("  reported: no other key that they may know")


def _print_account(account: dict[str, Any], keys: list[dict[str, Any]]) -> None:
    found = "" if account["linked"] else ", found just now"
    say(f"  account {account['gateway_user_id']}{found}, role {account['role'] or 'none'}")
    for key in keys:
        say(f"    key {_key(key)}{'  (blocked)' if key['blocked'] else ''}")
    say(f"    teams: {', '.join(account['teams']) or 'none'}")
    if account["organizations"]:
        say(f"    organizations: {', '.join(account['organizations'])}")


def _key(key: dict[str, Any]) -> str:
    used = to_the_second(key["last_used"] or "never, or not told")
    spend = "not told" if key["spend"] is None else f"{key['spend']:.4f}"
    return f"{key['alias'] or key['name'] or key['key_id']}  team {key['team'] or '-'}  last used {used}  spend {spend}"


def _print(result: dict[str, Any]) -> None:
    departure = result["departure"] or {}
    if result["pending"]:
        why = f"not proven yet: {result['error']}" if result["error"] else "the work is under way"
        say(f"{result['user']}: banned; {why} (--wait SECONDS waits for the receipt)")
        return
    say(f"{result['user']}: banned; departure {departure.get('state', 'unknown')}")
    if result["had_left"]:
        verified = departure["stages"].get("verified")
        proof = f"verified at {to_the_second(verified)}" if verified else "not verified yet"
        say(f"  had left before, at {to_the_second(departure['stages']['received'])}: {proof}; looked at once more now")
    elif departure.get("time_to_revoke_seconds") is not None:
        say(f"  verified {departure['time_to_revoke_seconds']:.3f} s after it was asked for")
    if departure.get("problem"):
        say(f"  not further yet: {departure['problem']}")


def _exit_code(result: dict[str, Any], wait: float) -> int:
    departure = result["departure"] or {}
    if departure.get("state") in ("verified", "settled") and not result["pending"]:
        return 0
    if departure.get("state") == "held":
        return 4
    if departure.get("problem") or result["error"] or wait > 0:
        return 5
    return 0
