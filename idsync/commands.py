"""The commands that change something, as the CLI asks for them: the same functions in the daemon and without one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import structlog

from idsync.clock import Clock, rfc3339
from idsync.config import place_of
from idsync.control import Control, find_person
from idsync.drill.drills import Drills
from idsync.engine.desk import Desk
from idsync.engine.radius import radius
from idsync.engine.workers import Engine
from idsync.errors import GatewayError, IncompleteSource, NotFound, UsageError
from idsync.gateway.client import Gateway
from idsync.keys.issuing import Asked
from idsync.keys.keeper import Keeper, Turn
from idsync.model import GatewayKey, GatewayUser, Lane, Person
from idsync.plan import Change, checksum
from idsync.policy import protection
from idsync.polling.passes import Poller
from idsync.reconcile import Pass, Reconciler
from idsync.retention.trail import Trimming
from idsync.store import facts, jobs, ledger, people, teamkeys
from idsync.store.db import Db, Store
from idsync.teams.retiring import Retirement
from idsync.views import departure_view, radius_view

log = structlog.get_logger(__name__)
T = TypeVar("T")
SHARED_PAUSE = 0.2
"""Seconds between two looks at what other processes are doing."""
FOLLOWS_FROM_THE_CONFIGURATION = frozenset({"reconcile", "teams.retire", "groups.bind", "keys.issue"})
"""Commands that would do something else by another configuration; all others do what they are told, `revoke` always."""
JUDGES_BY_THE_CONFIGURATION = frozenset(
    {"restore", "link", "thaw", "holds.approve", "groups.unbind", "keys.rotate", "token.new"}
)
"""Commands that go by the daemon's configuration where one carries them out, and by their own on a shared store."""


@dataclass(frozen=True)
class Commands:
    """`on_tokens` is called after tokens changed, `alone` says that no daemon works the jobs off.

    `drills` is there while the public port is.
    """

    store: Store
    control: Control
    engine: Engine
    gateway: Gateway
    reconciler: Reconciler
    poller: Poller
    keeper: Keeper
    clock: Clock
    on_tokens: Callable[[], None]
    alone: bool
    drills: Drills | None = None

    async def run(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command by its name on the wire.

        Raises:
            UsageError: there is no such command, or its parameters do not fit.
        """
        known: dict[str, Callable[..., Any]] = {
            "revoke": self.revoke,
            "restore": self.restore,
            "reconcile": self.reconcile,
            "drill": self.drill,
            "teams.retire": self.retire_team,
            "audit.prune": Trimming(self.store, self.clock).run,
            "link": self._writing(self.control.link),
            "unlink": self._writing(self.control.unlink),
            "token.new": self.new_token,
            "token.revoke": self.revoke_token,
            "holds.approve": self.approve,
            "holds.reject": self._writing(self.control.reject),
            "freeze": self._writing(self.control.freeze),
            "thaw": self._writing(self.control.thaw),
            "keys.issue": self.issue_key,
            "keys.rotate": self.rotate_key,
            "groups.bind": self._writing(self.control.bind),
            "groups.unbind": self._writing(self.control.unbind),
        }
        if name not in known:
            msg = f"this daemon knows no command {name!r}; is it an older release than the command line?"
            raise UsageError(msg)
        try:
            result: dict[str, Any] = await known[name](**params)
        except TypeError as error:
            if "argument" in str(error):
                msg = f"the parameters of {name} do not fit this daemon's release"
                raise UsageError(msg) from error
            raise
        return result

    async def _write(self, work: Callable[[Db], T]) -> T:
        return await asyncio.wrap_future(self.store.submit(work, urgent=True))

    def _writing(self, action: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
        async def run(**params: Any) -> dict[str, Any]:
            result = await self._write(lambda db: action(db, **params))
            await self._work_off()
            return result

        return run

    async def _work_off(self) -> None:
        """Without a daemon nobody else does the work; with one, it is woken by the commit."""
        if self.alone:
            await self.engine.run_until_idle()

    # -- holds ----------------------------------------------------------------------------------------------------

    async def approve(self, *, hold_id: str, checksum: str, by: str) -> dict[str, Any]:
        """Let go what a hold kept back; whoever polling found is looked up by id once more before.

        Raises:
            NotFound: no such open hold.
            HeldByGuard: the hold, or what the source says of somebody in it, is not as it was shown.
            IncompleteSource: the source did not answer; nothing was done.
        """
        self.control.as_shown(self.store.reader(), hold_id, checksum)
        await self.poller.confirm(hold_id)
        result: dict[str, Any] = await self._writing(self.control.approve)(hold_id=hold_id, checksum=checksum, by=by)
        return result

    # -- tokens ---------------------------------------------------------------------------------------------------

    async def new_token(self, **params: Any) -> dict[str, Any]:
        result = await self._write(lambda db: self.control.new_token(db, **params))
        self.on_tokens()
        return result

    async def revoke_token(self, **params: Any) -> dict[str, Any]:
        result = await self._write(lambda db: self.control.revoke_token(db, **params))
        self.on_tokens()
        return result

    # -- revoke ---------------------------------------------------------------------------------------------------

    async def revoke(
        self, *, user: str, reason: str, by: str, override: bool = False, dry_run: bool = False, wait: float = 0.0
    ) -> dict[str, Any]:
        """Show the blast radius, or ban the person and end what they hold; wait up to `wait` seconds for the receipt.

        Raises:
            NotFound: neither a source nor the gateway knows such a person.
            UsageError: the name is ambiguous, or the person is protected.
        """
        received_at = self.clock.now()
        person, account = await self._whom(user)
        if dry_run:
            return await self._blast_radius(user, person, account)
        asked: dict[str, Any] = {"reason": reason, "override": override, "by": by, "received_at": received_at}
        if person is not None:
            known = person.id
            banned = await self._write(lambda db: self.control.revoke(db, known, **asked))
        else:
            unknown = account.user_id if account is not None else user
            email = account.email if account is not None else None
            banned = await self._write(lambda db: self.control.revoke_account(db, unknown, user, email=email, **asked))
        if self.alone:
            await self._work_until_verified(banned["person"], max(wait, 30.0))
            await self._renew_exposed()
        else:
            await self._wait_for(banned["person"], wait)
        return self._revoked(banned, received_at)

    async def _whom(self, user: str) -> tuple[Person | None, GatewayUser | None]:
        """Find whom a name means: a person of a source, else an account of the gateway."""
        person = find_person(self.store.reader(), user)
        if person is not None:
            return person, None
        account = await self.gateway.get_user(user)
        found = [account] if account is not None else []
        if not found and "@" in user:
            found = await self.gateway.find_users(email=user)
        if len(found) > 1:
            ids = ", ".join(sorted(entry.user_id for entry in found))
            msg = f"{len(found)} gateway accounts have the e-mail {user}; give the user_id of one: {ids}"
            raise UsageError(msg)
        if not found:
            msg = f"neither a source nor the gateway knows {user!r}; give an e-mail, a userName or a gateway user_id"
            raise NotFound(msg)
        return None, found[0]

    async def _blast_radius(self, user: str, person: Person | None, unknown: GatewayUser | None) -> dict[str, Any]:
        """Show all that would end, be reported, or be held."""
        db = self.store.reader()
        if person is not None:
            shield = self.control.intake.people.protected(db, person)
        else:
            names = [user, unknown.user_id if unknown else None, unknown.email if unknown else None]
            shield = protection(names, self.control.intake.rules, self.clock.now())
        label = person.label if person is not None else user
        found = await radius(self._desk(person), label, person, unknown)
        return {"user": label, "protected": shield, **radius_view(db, found)}

    def _desk(self, person: Person | None) -> Desk:
        engine = self.engine
        return Desk(
            self.store,
            self.gateway,
            self.clock,
            engine.rules,
            engine.settings,
            engine.telemetry,
            person.id if person is not None else "",
            person.generation if person is not None else 0,
        )

    async def _wait_for(self, person_id: str, seconds: float) -> None:
        end = self.clock.monotonic() + seconds
        while not self._is_verified(person_id) and (left := end - self.clock.monotonic()) > 0:
            await self._progress(left)

    async def _progress(self, left: float) -> None:
        """Wait for the engine to have done something: ours, or those of other processes, whom only the store tells of."""
        await self.engine.progress(min(left, SHARED_PAUSE) if self.store.shared else left)

    async def _work_until_verified(self, person_id: str, seconds: float) -> None:
        """Without a daemon: work, and retry what the gateway could not do yet, until verified or out of time."""
        end = self.clock.monotonic() + seconds
        await self.engine.run_until_idle()
        while self.clock.monotonic() < end and not self._is_verified(person_id):
            await asyncio.sleep(0.5)
            await self.engine.run_until_idle()

    def _is_verified(self, person_id: str) -> bool:
        departure = ledger.open_departure(self.store.reader(), person_id)
        job = jobs.get(self.store.reader(), person_id)
        return departure is None or (departure.verified_at is not None and (job is None or job.waiting))

    def _revoked(self, banned: dict[str, Any], received_at: float) -> dict[str, Any]:
        """Return how it stands. `had_left`: the departure is an earlier one, whose times are not those of this command."""
        departure = ledger.open_departure(self.store.reader(), banned["person"])
        job = jobs.get(self.store.reader(), banned["person"])
        pending = job is not None and not job.waiting
        error = job.last_error if job is not None and pending else None
        return {
            **banned,
            "had_left": departure is not None and departure.received_at < received_at,
            "pending": pending,
            "error": error,
            "departure": departure_view(self.store.reader(), departure) if departure is not None else None,
        }

    async def restore(self, **params: Any) -> dict[str, Any]:
        result = await self._write(lambda db: self.control.restore(db, **params))
        await self._work_off()
        return result

    # -- reconcile ------------------------------------------------------------------------------------------------

    async def reconcile(
        self, *, dry_run: bool = False, source: str | None = None, wait: float = 600.0
    ) -> dict[str, Any]:
        """Poll the sources (or one), then plan, and unless it is a dry run apply; wait until nothing is left to do now.

        Raises:
            GatewayError: the gateway could not be read in full; nothing was changed there.
        """
        names = sorted(self.poller.sources) if source is None else [source]
        polls = [await self._poll(name, dry_run=dry_run) for name in names]
        if dry_run:
            await self._add_costs(polls)
            return _pass_view(await self.reconciler.plan(), [], polls, Turn(await self.keeper.plan(), {}))
        await self._write(lambda db: jobs.hurry(db, self.clock.now()))
        done = await self.reconciler.apply()
        await self._drain(wait)
        renewed = await self.keeper.turn(hurry=True)
        left = [job for job in jobs.all_jobs(self.store.reader()) if job.last_error and not job.waiting]
        return _pass_view(done, left, polls, renewed)

    async def _poll(self, name: str, *, dry_run: bool) -> dict[str, Any]:
        """List one source in full; one that fails never stops the others."""
        try:
            outcome = await self.poller.full(name, dry_run=dry_run)
        except IncompleteSource as error:
            return {"source": name, "problem": str(error), "losses": [], "joins": []}
        return {**asdict(outcome), "at": rfc3339(outcome.at)}

    async def _add_costs(self, polls: Sequence[dict[str, Any]]) -> None:
        """Say which keys each loss would cost, and when they were last used."""
        losses = [loss for poll in polls for loss in poll["losses"]]
        if not losses:
            return
        keys: dict[str, list[GatewayKey]] = {}
        for key in await self.gateway.list_keys():
            if key.user_id is not None:
                keys.setdefault(key.user_id, []).append(key)
        db = self.store.reader()
        for loss in losses:
            person = people.person(db, loss["person_id"])
            accounts = [person.account_id, *people.further_accounts(db, person.id)] if person is not None else []
            found = [key for account in accounts if account for key in keys.get(account, [])]
            loss["keys"] = [
                {"alias": key.alias, "name": key.name, "team_id": key.team_id, "last_used_at": key.last_used_at}
                for key in sorted(found, key=lambda key: key.id)
                if loss["departs"] or key.team_id in loss["teams"]
            ]

    async def retire_team(
        self, *, team: str, reason: str, by: str, override: bool = False, dry_run: bool = False
    ) -> dict[str, Any]:
        """Show what would end with a team that is not configured any more, or end it; see `idsync/teams/retiring.py`."""
        parts = (self.store, self.gateway, self.clock, self.control.intake.people, self.reconciler.teams)
        retirement = Retirement(*parts)
        return await (
            retirement.show(team) if dry_run else retirement.run(team, by=by, reason=reason, override=override)
        )

    # -- keys -----------------------------------------------------------------------------------------------------

    async def issue_key(
        self,
        *,
        user: str,
        duration: float | None,
        team: str | None,
        alias: str | None,
        sink: str | None,
        by: str,
    ) -> dict[str, Any]:
        """Make a key for somebody; without a sink its secret is in the answer, and nowhere else.

        Raises:
            NotFound: no source knows them, or there is no such sink.
            UsageError: they may have none now.
            SinkFailed, GatewayError: it was not made, or ended again.
        """
        person = find_person(self.store.reader(), user)
        if person is None:
            msg = f"no source knows {user!r}; a key is issued only to people a source knows"
            raise NotFound(msg)
        if sink is not None:
            self._refuse_a_place_for_one(sink, team)
        return await self.keeper.issue(Asked(person, duration, team, alias, sink, by))

    def _refuse_a_place_for_one(self, name: str, team: str | None) -> None:
        """Personal keys go where each has a place of its own: one must never take that of another.

        Raises:
            NotFound: there is no such sink.
            UsageError: it has one place for all keys.
        """
        entries = {entry.name: entry for entry in self.control.config.sinks}
        if name not in entries:
            known = ", ".join(sorted(entries)) or "none"
            msg = f"the configuration has no [[sinks]] of the name {name!r} (there are: {known})"
            raise NotFound(msg)
        if place_of(entries[name], "one", team) == place_of(entries[name], "another", team):
            msg = f"sink {name} has one place for all keys, and would lose what is there; use one that names {{alias}}"
            raise UsageError(msg)

    async def rotate_key(
        self, *, alias: str, by: str, compromised: bool = False, dry_run: bool = False
    ) -> dict[str, Any]:
        """Rotate a shared key now; what fails is tried again by the daemon.

        Raises:
            NotFound: there is no such key.
            GatewayError: the gateway could not be read.
        """
        before = self.keeper.managed(alias)
        if dry_run:
            due = [_change_view(change) for change in await self.keeper.plan([alias])]
            return {"alias": alias, "key_id": before.key_id, "rotated": False, "error": None, "changes": due}
        turn = await self.keeper.rotate(alias, compromised=compromised, by=by)
        after = self.keeper.managed(alias)
        db, problem = self.store.reader(), turn.failed.get(alias)
        return {
            "alias": alias,
            "key_id": after.key_id,
            "replaced": before.key_id,
            "rotated": after.key_id != before.key_id,
            "old_ends": [rfc3339(key.end_at) for key in teamkeys.ending(db) if key.key_id == before.key_id],
            "error": problem.what if problem is not None else None,
            "alive": problem is not None and problem.alive,
            "changes": [_change_view(change) for change in turn.changes],
        }

    async def _renew_exposed(self) -> None:
        """Without a daemon: rotate what somebody who was revoked just now could have known."""
        try:
            await self.keeper.beat()
        except GatewayError as error:
            log.warning("keys.failed", error=str(error))

    async def drill(self, **params: Any) -> dict[str, Any]:
        """Send a canary through the whole chain; see `idsync/drill`.

        Raises:
            NotFound: no daemon runs, so there is no way in.
            UsageError: a drill is under way, or there is no such source.
        """
        if self.drills is None:
            msg = "no daemon runs here, and a drill begins at its public port; start `idsync serve`"
            raise NotFound(msg)
        return await self.drills.run(**params)

    async def _drain(self, seconds: float) -> None:
        end = self.clock.monotonic() + seconds
        if self.alone:
            await self.engine.run_until_idle()
            return
        self.engine.wake()
        while self._has_fresh_work() and (left := end - self.clock.monotonic()) > 0:
            await self._progress(left)

    def _has_fresh_work(self) -> bool:
        now, db = self.clock.now(), self.store.reader()
        frozen = facts.get(db, facts.FROZEN) is not None
        fresh = [job for job in jobs.all_jobs(db) if not (frozen and job.lane is Lane.GRANT)]
        return any(job.leased or (not job.waiting and job.run_at <= now) for job in fresh)


def _pass_view(done: Pass, left: list[jobs.Job], polls: Sequence[dict[str, Any]], renewed: Turn) -> dict[str, Any]:
    """Return a pass as `idsync reconcile --json` shows it."""
    changes = [*done.changes, *renewed.changes]
    refused = [change for change in changes if change.kind in ("team.refused", "key.refused")]
    lost = [f"{loss['person_id']}|{loss['why']}|{loss['teams']}" for poll in polls for loss in poll["losses"]]
    differing = {change.subject for change in done.changes if change.kind == "team.update"}
    as_they_are = [c for c in done.changes if c.kind == "team.adopt" and c.subject not in differing]
    return {
        "polls": list(polls),
        "changes": [_change_view(change) for change in changes if change not in as_they_are],
        "adopted": {change.subject: change.target for change in as_they_are},
        "checksum": checksum(changes, lost),
        "refused": [_change_view(change) for change in refused],
        "failed": dict(done.failed),
        "failed_keys": {alias: asdict(problem) for alias, problem in sorted(renewed.failed.items())},
        "unfinished": [
            {"person": job.person_id, "attempts": job.attempts, "error": job.last_error, "alive": job.alive}
            for job in left
        ],
        "open_holds": done.held,
        "extra_members": dict(sorted(Counter(extra.team for extra in done.extras).items())),
        "removals": [asdict(extra) for extra in done.extras if extra.verdict != "reported"],
        "notes": list(done.notes),
        "alive": done.alive,
    }


def _change_view(change: Change) -> dict[str, Any]:
    view = asdict(change)
    view["fields"] = dict(change.fields)
    return view
