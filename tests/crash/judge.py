"""Decides whether a crash did harm: from what the gateway shows, did and answers, and from the ledger's own books.

Nothing here trusts idsync's word about the gateway. A judgement is a list of sentences; an empty one is an acquittal.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from support.gateway import REFUSED, WORKS, Gateway, Holder, Key, Row
from support.settings import store_url

from idsync.audit import AuditEvent, first_break
from idsync.model import FENCE_FLAG, FENCE_TAG
from idsync.store import jobs, journal, ledger
from idsync.store.address import is_shared
from idsync.store.ledger import Departure
from idsync.store.opening import read_only
from idsync.store.sqlite import inspect

ENTRIES = {"departure.verified": "verified_at", "departure.settled": "settled_at", "departure.ended": "closed_at"}
"""The entry a departure has exactly once if, and only if, it has this time."""


@dataclass(frozen=True)
class Fate:
    """What has to become of one account: these keys and no others are left, these rosters have it.

    `state` is that of their one departure, None for somebody who had none. `spared` says that no call was ever about
    the keys that are left; otherwise they may have been blocked for a while, and nothing worse. `back`: they had gone
    for good, and are here again.
    """

    holder: Holder
    dead: Sequence[Key]
    left: Sequence[Key] = ()
    teams: frozenset[str] = frozenset()
    state: str | None = "settled"
    spared: bool = True
    back: bool = False

    @property
    def fenced(self) -> bool:
        return self.state in ("verified", "settled") and not self.back

    @property
    def outside(self) -> bool:
        """Whether they are in no organization any more."""
        return self.state == "settled" and not self.back


@dataclass(frozen=True)
class World:
    """What the gateway shows, by whose it is."""

    state: Mapping[str, list[Row]]

    @cached_property
    def users(self) -> dict[str, Row]:
        return {row["user_id"]: row for row in self.state["users"]}

    @cached_property
    def keys(self) -> dict[str, Row]:
        return {row["token"]: row for row in self.state["keys"]}

    @cached_property
    def keys_by_user(self) -> dict[str | None, set[str]]:
        found: dict[str | None, set[str]] = {}
        for row in self.state["keys"]:
            found.setdefault(row["user_id"], set()).add(row["token"])
        return found

    @cached_property
    def teams_by_user(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for team in self.state["teams"]:
            for member in team["members_with_roles"]:
                found.setdefault(member["user_id"], set()).add(team["team_id"])
        return found

    @cached_property
    def owners(self) -> dict[str, str | None]:
        """Whose each id and address is; None for a key that is nobody's."""
        owners: dict[str, str | None] = {row["token"]: row["user_id"] for row in self.state["keys"]}
        for row in self.state["users"]:
            owners |= {row["user_id"]: row["user_id"], row["user_email"] or row["user_id"]: row["user_id"]}
        return owners | {row["invitation_id"]: row["user_id"] for row in self.state["invitations"]}

    def without(self, leavers: Iterable[str]) -> Any:
        """Return everything but these people: what must not have changed."""
        gone = set(leavers)
        return {
            "users": {name: row for name, row in self.users.items() if name not in gone},
            "keys": {name: row for name, row in self.keys.items() if row["user_id"] not in gone},
            "teams": {row["team_id"]: _team_without(row, gone) for row in self.state["teams"]},
        }


def _kept(user: Row) -> Row:
    """Return what a departure leaves as it was."""
    metadata = {name: value for name, value in user["metadata"].items() if name not in (FENCE_FLAG, FENCE_TAG)}
    changed = ("teams", "updated_at", "organization_memberships")
    return {name: value for name, value in user.items() if name not in changed} | {"metadata": metadata}


def _organizations(user: Row) -> set[str]:
    return {row["organization_id"] for row in user.get("organization_memberships", [])}


def _team_without(team: Row, gone: set[str]) -> Row:
    kept = [member for member in team["members_with_roles"] if member["user_id"] not in gone]
    return {name: value for name, value in team.items() if name != "updated_at"} | {"members_with_roles": kept}


@dataclass(frozen=True)
class Judge:
    """Judges what became of these people since `before`; `lives` is how often idsync was started meanwhile."""

    gateway: Gateway
    settings: Path
    fates: Sequence[Fate]
    before: World
    lives: int

    # -- the gateway --------------------------------------------------------------------------------------------------

    def of_the_gateway(self) -> list[str]:
        log = [row for row in self.gateway.log() if row["caller"] == "admin" and row["method"] != "GET"]
        after = World(self.gateway.state())
        named = chain.from_iterable(self._of(fate, after) for fate in self.fates)
        return [*named, *self._others(after), *self._strays(log), *self._harm(log), *self._repeats(log)]

    def _of(self, fate: Fate, after: World) -> Iterator[str]:
        who, user_id = fate.holder.email, fate.holder.user_id
        if after.keys_by_user.get(user_id, set()) != {key.id for key in fate.left}:
            yield f"{who} has {len(after.keys_by_user.get(user_id, ()))} key(s) where {len(fate.left)} should be left"
        if not self.gateway.answers(fate.dead) <= {REFUSED}:
            yield f"a key of {who} still works"
        if not self.gateway.answers(fate.left) <= {WORKS}:
            yield f"a key that {who} should have does not work"
        if after.teams_by_user.get(user_id, set()) != fate.teams:
            yield f"{who} is in {sorted(after.teams_by_user.get(user_id, ()))}, not in {sorted(fate.teams)}"
        if (after.users[user_id]["metadata"].get(FENCE_FLAG) is False) != fate.fenced:
            yield f"{who} is {'not fenced' if fate.fenced else 'fenced'}"
        inside = set() if fate.outside else _organizations(self.before.users[user_id])
        if _organizations(after.users[user_id]) != inside:
            yield f"{who} is in organizations {sorted(_organizations(after.users[user_id]))}, not in {sorted(inside)}"
        if _kept(after.users[user_id]) != _kept(self.before.users[user_id]):
            yield f"more of the account of {who} has changed than its fence and its teams"

    def _others(self, after: World) -> Iterator[str]:
        ours = {fate.holder.user_id for fate in self.fates}
        if after.without(ours) != self.before.without(ours):
            yield "the gateway shows something changed of somebody who stays"

    def _strays(self, log: Iterable[Row]) -> Iterator[str]:
        """Every write names somebody this is about, and nobody else."""
        ours, owners = {fate.holder.user_id for fate in self.fates}, self.before.owners
        for row in log:
            named = {owners[text] for text in _texts([row["body"], row["query"]]) if text in owners}
            if not named or not named <= ours:
                yield f"{row['method']} {row['path']} was about {sorted(map(str, named)) or 'nobody'}"

    def _harm(self, log: Iterable[Row]) -> Iterator[str]:
        """What is left was never deleted or taken; where nothing was to be taken for a while, it was never touched."""
        spared = {key.id for fate in self.fates if fate.spared for key in fate.left}
        left = {key.id for fate in self.fates for key in fate.left}
        joined = {(team, fate.holder.user_id) for fate in self.fates if not fate.back for team in fate.teams}
        for row in log:
            wrong = _texts(row["body"]) & (left if row["path"] == "/key/delete" else spared)
            if wrong:
                yield f"{row['path']} hit {len(wrong)} key(s) that their owner should have"
            if row["path"] == "/team/member_delete" and (row["body"]["team_id"], row["body"].get("user_id")) in joined:
                yield f"{row['path']} took a team that they should have"

    def _repeats(self, log: Iterable[Row]) -> Iterator[str]:
        """Whatever is done is done once in a life."""
        for (path, what), times in Counter(chain.from_iterable(map(acts, log))).items():
            if times > self.lives:
                yield f"{path} was sent {times} times for {what} in {self.lives} lives"

    # -- the books ----------------------------------------------------------------------------------------------------

    def of_the_books(self) -> list[str]:
        """The store is sound, the chain whole, nothing left to do, and everything that happened entered once."""
        url = store_url(self.settings)
        with read_only(url) as db:
            events, left = list(journal.events(db)), [job for job in jobs.all_jobs(db) if not _rests(job)]
            departures = ledger.departures(db, limit=1_000_000)
            calls = {departure.id: ledger.calls_of(db, departure.id)[1] for departure in departures}
        found = [] if is_shared(url) or inspect(url).sound else ["the database is damaged"]
        found += [f"the chain breaks at entry {broken}"] if (broken := first_break(events)) else []
        found += [f"a job is left: {job.last_error or job.lane.value}" for job in left]
        found += [*_uneven(events, departures), *_unnamed(events, self.fates)]
        return found + list(chain.from_iterable(_book_of(fate, departures, calls) for fate in self.fates))


def acts(row: Row) -> list[tuple[str, str]]:
    """Return what a write does, each key of a deletion by itself."""
    if row["path"] == "/key/delete":
        return [(row["path"], key) for key in row["body"]["keys"]]
    return [(row["path"], json.dumps(row["body"], sort_keys=True))]


def repeated_deletions(log: Iterable[Row]) -> int:
    """Return how often a key was deleted that had been deleted before: needless, and harmless."""
    deletions = chain.from_iterable(acts(row) for row in log if row["path"] == "/key/delete")
    return sum(times - 1 for times in Counter(deletions).values())


def _texts(value: Any) -> set[str]:
    """Return every text in a JSON value."""
    if isinstance(value, str):
        return {value}
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(_texts, inner))


def _rests(job: jobs.Job) -> bool:
    """Tell whether only a second look is left to do, at a time that has not come."""
    return job.waiting and not job.leased


def _uneven(events: Sequence[AuditEvent], departures: Sequence[Departure]) -> Iterator[str]:
    """Every departure has each of its entries once, and no entry is about a departure that is not there."""
    written = Counter((event.action, event.detail.get("departure")) for event in events)
    known = {departure.id for departure in departures}
    yield from (f"{action} about no departure" for action, which in written if which and which not in known)
    for departure in departures:
        due = {"departure.accepted": 1}
        due |= {action: int(getattr(departure, time) is not None) for action, time in ENTRIES.items()}
        for action, times in due.items():
            if written[action, departure.id] != times:
                yield f"{departure.label} ({departure.state}) has {written[action, departure.id]} entries {action}"


def _unnamed(events: Sequence[AuditEvent], fates: Sequence[Fate]) -> Iterator[str]:
    """Every key that is dead is named by an entry about its holder, and by one entry of a kind only."""
    named: dict[tuple[str, str], Counter[str]] = {}
    for event in events:
        for text in _texts(event.detail):
            named.setdefault((event.subject, text), Counter())[event.action] += 1
    for fate in fates:
        for key in fate.dead:
            entries = named.get((fate.holder.email, key.id), Counter())
            if set(entries.values()) != {1}:
                yield f"a dead key of {fate.holder.email} is named by {dict(entries) or 'no entry'}"


def _book_of(fate: Fate, departures: Sequence[Departure], calls: Mapping[str, int]) -> Iterator[str]:
    who = fate.holder.email
    theirs = [departure for departure in departures if departure.label == who]
    if [departure.state.value for departure in theirs] != ([fate.state] if fate.state else []):
        yield f"{who} has departures {[departure.state.value for departure in theirs]}, not {fate.state}"
    for departure in theirs:
        if departure.verified_at is not None:
            receipt = departure.receipt or {}
            named = {key["id"] for key in receipt["keys"]}
            made = calls[departure.id]
            if named != {key.id for key in fate.dead} or not made:
                yield f"the receipt of {who} names {len(named)} key(s) of {len(fate.dead)}, {made} calls"
