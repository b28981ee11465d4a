"""The account of a run, short enough to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from idsync.demo.story import Leaver, Run

WORDS = {
    "/user/update": "fence the person",
    "/key/block": "block a key",
    "/key/delete": "delete the keys",
    "/team/member_delete": "leave a team",
    "/key/list": "list their keys",
    "/key/info": "ask for a key by id",
    "/team/list": "list their teams",
    "/v2/user/info": "read the user",
    "/user/info": "read the user",
    "/team/info": "read a team",
    "/invitation/list": "list invitations",
    "/invitation/delete": "delete an invitation",
}


def account_of(run: Run) -> Iterator[str]:
    """Yield the lines of the account."""
    yield f"== {run.title}"
    yield ""
    yield "Control: a key used on every replica, then deleted through the API without idsync"
    yield f"  replicas answer {_row(run.control)}  -> {_control_verdict(run.control)}"
    yield ""
    yield f"Teams made from the configuration: {', '.join(run.teams)}"
    yield ""
    yield "Joiners and a mover"
    for email, teams in run.joined.items():
        yield f"  {email:18} joins {', '.join(teams)}"
    mover = run.mover
    yield f"  {mover['email']:18} moves to {', '.join(mover['teams'])}: old team key {_row(mover['old'])}, own key {_row(mover['own'])}"
    yield "    (blocked at once; deleted after policy.group_loss_delete_after: 10 min by default, 1 s here)"
    for leaver in run.leavers:
        yield ""
        yield from _leaver(leaver)
    yield ""
    yield "Everybody else's keys, on every replica"
    for alias, row in run.others.items():
        yield f"  {alias:24} {_row(row)}"
    yield ""
    for problem in run.problems:
        yield f"  FAILED: {problem}"


def _words(entry: dict[str, Any]) -> str:
    if "password" in (entry.get("body") or {}):
        return "end dashboard sessions"
    return WORDS.get(entry["path"], "")


def _leaver(leaver: Leaver) -> Iterator[str]:
    yield f"{leaver.email} leaves ({leaver.how})"
    yield f"  before: keys {', '.join(leaver.keys)}; teams {', '.join(leaver.teams)}"
    yield "  at the gateway, ms after the push (the gateway's own log):"
    for count, entry in _grouped(leaver.calls):
        times = f" x{count}" if count > 1 else ""
        at = (entry["at"] - leaver.pushed_at) * 1000
        yield f"    {at:7.1f}  {entry['method']:6} {entry['path']:20} {_words(entry)}{times}"
    for alias, row in leaver.statuses.items():
        yield f"  after:  {alias:24} {_row(row)}"
    yield f"  teams after: {', '.join(leaver.teams_after) or 'none'}"
    yield f"  receipt: {leaver.state}, {(leaver.took or 0.0) * 1000:.0f} ms after the request came in"


def _grouped(calls: Sequence[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Fold the same call made side by side into one line."""
    index = 0
    while index < len(calls):
        end = index
        while end < len(calls) and calls[end]["path"] == calls[index]["path"]:
            end += 1
        yield end - index, calls[index]
        index = end


def _row(statuses: Sequence[int]) -> str:
    words = {200: "works", 401: "refused"}
    return " ".join(words.get(status, str(status)) for status in statuses)


def _control_verdict(statuses: Sequence[int]) -> str:
    alive = sum(1 for status in statuses if status == 200)
    return f"still works on {alive} of {len(statuses)} replicas, for up to a minute"


def summary(runs: Sequence[Run]) -> str:
    """Return the closing sentence."""
    if any(run.problems for run in runs):
        return "FAILED: see above"
    leavers = [leaver for run in runs for leaver in run.leavers]
    keys = sum(len(leaver.keys) for leaver in leavers)
    worst = max((leaver.took or 0.0) for leaver in leavers) * 1000
    return (
        f"{len(leavers)} leavers, {keys} keys: every one refused on every replica, slowest receipt {worst:.0f} ms after "
        "the push; nobody else lost anything."
    )
