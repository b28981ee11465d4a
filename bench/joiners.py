"""Joiners: from the push that puts them into a group to an account, two teams and a role at the gateway, and no key."""

from __future__ import annotations

from bench.leavers import PACE, last_call
from bench.load import Stream
from bench.report import Report
from bench.stage import CLIENTS, Bench, patch, team
from idsync.store import journal


def joiners(bench: Bench, report: Report, count: int) -> None:
    """People who are known already join, one after the other, a group that gives two teams and a role."""
    ids = bench.create(range(count))
    group = bench.scim.ask("POST", "/Groups", team("New", []))["id"]
    bench.settle()
    since = last_call(bench)
    requests = [
        bench.scim.encode("PATCH", f"/Groups/{group}", patch("add", path="members", value=[{"value": one}]))
        for one in ids
    ]
    pushed = bench.loader.run(Stream(bench.scim.port, requests, CLIENTS, rate=PACE))[0]
    bench.settle()
    entries = bench.hook(f"log?since={since}")["entries"]
    print(f"{count} joiners, one after the other; an account, 2 teams and a role each, the same gateway")
    part = "one joiner at a time"
    with bench.store() as db:
        events = list(journal.events(db))
    begun = [one.subject for one in events if one.action == "access.changed"]
    ended = {one.subject: one.at for one in events if one.action == "access.converged"}
    due = dict(zip(begun, pushed.at, strict=True))
    made = {entry["body"]["user_id"]: entry for entry in entries if entry["path"] == "/user/new"}
    added = {
        entry["body"]["member"]["user_id"]: entry["at"] for entry in entries if entry["path"] == "/team/member_add"
    }
    who = {account: entry["body"]["user_email"] for account, entry in made.items()}
    report.times(part, "request due -> account asked for", [made[one]["at"] - due[who[one]] for one in who])
    report.times(part, "request due -> last team asked for", [added[one] - due[who[one]] for one in who])
    report.times(part, "request due -> read back", [ended[one] - due[one] for one in begun], p50=80, p99=250)
    report.single(part, "gateway calls a joiner", len(entries) / count, "")
    unasked = sum(entry["body"].get("auto_create_key") is not False for entry in made.values())
    keys = sum(key["user_id"] in made for key in bench.hook("state")["keys"])
    report.failures(part, "keys that were made, or not forbidden", {200: unasked + keys} if unasked + keys else {})
    print()
