"""`idsync status`."""

from __future__ import annotations

from typing import Any

import click

from idsync.cli.beside import TO_DO, another, beside, remedy
from idsync.cli.client import JSON, ago, reading, say, settings, show
from idsync.words import count, to_the_second

KEYS_TOLD = {
    "expiring": "to be rotated",
    "undelivered": "made and not delivered",
    "ending": "replaced and not ended yet",
}


@click.command()
@JSON
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> int:
    """Sources and their freshness, open jobs, holds, conflicts, the last pass, time to revoke (p50, p99)."""
    from idsync.clock import SystemClock
    from idsync.config import expired
    from idsync.status import status_of
    from idsync.store import replicas

    config = settings(ctx)
    with reading(config) as db:
        now = replicas.time_of(db, SystemClock().now())
        view = status_of(db, sorted(config.source_names), config.polled, now)
    view["daemon"] = beside(config).view()
    view["expired_protections"] = [f"{path}: {what}" for path, what in expired(config, now)]
    if as_json:
        show(view)
    else:
        _print(view)
    return 0


def _print_source(source: dict[str, Any]) -> None:
    age = source["age_seconds"]
    if "polled" not in source:
        seen = f"last change {ago(age)} ago" if age is not None else "nothing yet"
        say(f"source {source['name']}: {seen}, {count(source['live_tokens'], 'live token')}")
        return
    full = source["full_age_seconds"]
    listed = f"everybody listed {ago(full)} ago" if full is not None else "never listed in full"
    seen = f"polled {ago(age)} ago" if age is not None else "not polled yet"
    say(f"source {source['name']} ({source['polled']}): {seen}, {listed}")
    if source["under_way"]:
        say(f"  a listing is under way: {source['under_way']}")
    if source["errors"]:
        say(f"  INCOMPLETE {count(source['errors'], 'time')} in a row: {source['problem']}; nobody is removed by it")


def _print_store(store: dict[str, Any]) -> None:
    """Say who shares the store; of a file there is nothing to say."""
    if not store["shared"]:
        return
    for one in store["replicas"]:
        leads = ", leads" if one["leads"] else ""
        say(f"replica {one['host']}: {one['role']}, release {one['release']}, up for {ago(one['age_seconds'])}{leads}")
    serving = [one for one in store["replicas"] if one["role"] != "command"]
    if not serving:
        say("NO REPLICA uses the database now: start idsync serve")
    elif store["leader"] is None:
        say("NOBODY LEADS: no polls, sweeps or full passes; one with the role all or worker has to run")
    if store["audit_unlinked"]:
        waited = ago(store["audit_unlinked_seconds"])
        say(f"audit entries that are committed and not linked yet: {store['audit_unlinked']}, the oldest for {waited}")


def _print_keys(keys: dict[str, Any]) -> None:
    if not any(keys.values()):
        return
    more = [f"{keys[name]} {what}" for name, what in KEYS_TOLD.items() if keys[name]]
    say(f"keys of teams: {', '.join([str(keys['managed']), *more])}; idsync keys list")
    for key in keys["failing"]:
        tries = f"{count(key['attempts'], 'failed try', 'failed tries')} since {to_the_second(key['since'] or '?')}, again at {to_the_second(key['next_try'] or '?')}"
        say(
            f"KEY {key['alias']} of team {key['team']} is not renewed: {key['error']} ({tries}); the one before works on"
        )


def _print_daemon(daemon: dict[str, Any]) -> None:
    differs = tuple(daemon["differs"] or ())
    if daemon["state"] == "runs":
        say("daemon: runs")
    else:
        say(f"DAEMON {daemon['state']}: {TO_DO[daemon['state']]}")
    if differs:
        say(f"note: {another(differs)}; {remedy(differs)}")


def _print(view: dict[str, Any]) -> None:
    _print_daemon(view["daemon"])
    _print_store(view["store"])
    for source in view["sources"]:
        _print_source(source)
    if view["frozen"]:
        say(
            f"FROZEN by {view['frozen']['by']}: {view['frozen']['reason']}; polled departures and grants wait: idsync thaw"
        )
    beat = view["last_pass"]
    say(
        f"last pass: {ago(beat['age_seconds'])} ago, {count(beat['changes'], 'change')}"
        if beat
        else "last pass: none yet"
    )
    revoke = view["time_to_revoke"]
    if revoke["count"]:
        counted = f"{count(revoke['count'], 'departure')} since {to_the_second(revoke['since'])}"
        say(f"time to revoke: p50 {revoke['p50']:.3f} s, p99 {revoke['p99']:.3f} s ({counted})")
    else:
        say(f"time to revoke: no departures since {to_the_second(revoke['since'])}")
    say(f"departures not yet verified: {view['unverified_departures']}")
    known = view["exposed_keys"]
    if known["keys"]:
        wanted = f", rotation wanted for {known['rotation_wanted']}" if known["rotation_wanted"] else ""
        say(f"keys that leavers may know: {known['keys']}{wanted}; idsync keys exposed")
    spent = view["spend_after_departure"]
    if spent["people"]:
        say(
            f"ALARM {count(spent['people'], 'person', 'people')} spent {spent['spend']:.4f} after their access had ended; idsync spend"
        )
    for what in spent["not_told"]:
        say(f"note: spend after a departure is watched only in part: {what}")
    _print_keys(view["keys"])
    kept = view["retention"]
    if kept["audit_first_entry"] not in (None, 1):
        say(
            f"audit trail: from entry {kept['audit_first_entry']} of {to_the_second(kept['audit_since'])}; before that it was exported"
        )
    for job in view["jobs"]:
        why = f": {job['error']}" if job["error"] else ""
        say(
            f"job {job['user']}: {job['lane']}, {job['state']}, {count(job['attempts'], 'failed try', 'failed tries')}{why}"
        )
    for hold in view["holds"]:
        say(
            f"HOLD {hold['id']}: {hold['reason']} ({count(hold['people'], 'person', 'people')}); idsync holds show {hold['id']}"
        )
    for refused in view["refused"]:
        say(
            f"note: the gateway refuses {refused['what']} (asked at {to_the_second(refused['at'])}, and once a day): {refused['why']}"
        )
    for one in view["undelivered_notifications"]:
        failing = f"; failing for {ago(one['failing_seconds'])}: {one['error']}" if one["error"] else ""
        say(f"NOT TOLD {one['receiver']}: {count(one['waiting'], 'notice')} undelivered{failing}")
    for protection in view["expired_protections"]:
        say(f"note: {protection}")
    for conflict in view["conflicts"]:
        say(f"CONFLICT {conflict['detail']}\n  -> {conflict['remedy']}")
