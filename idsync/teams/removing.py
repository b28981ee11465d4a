"""Taking extra members off a team: their keys of it first, then the membership, then a look whether both are gone.

Before anything is ended it is written down that it begins; a run that is broken off is continued by the next one. If
somebody is to stay by then, the keys it had blocked are unblocked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from idsync.clock import Clock
from idsync.errors import GatewayError, StillAlive
from idsync.gateway.client import Gateway
from idsync.model import GatewayKey, Lane
from idsync.store import exposure, facts, journal, ledger, people
from idsync.store.db import Db, Store
from idsync.store.people import BlockedKey
from idsync.teams.ending import end_keys
from idsync.teams.extras import REMOVED, SEEN, WINDOW, Extra, House, kind_of, still_goes

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Remover:
    """Takes extra members off teams; holds no state."""

    def __init__(self, store: Store, gateway: Gateway, clock: Clock, open_job: Callable[[Db, str, Lane], None]) -> None:
        """`open_job` has the engine look at somebody again, who gets back there what was blocked."""
        self._open_job = open_job
        self._store = store
        self._gateway = gateway
        self._clock = clock

    async def carry_out(self, extras: Sequence[Extra], house: House) -> tuple[dict[str, str], bool]:
        """Write down who was seen, open holds, and take off who goes.

        Return why somebody could not be taken off, by team and name, and whether a key that was deleted still lives.
        One that fails never stops the others.
        """
        failed = await self._give_back(extras)
        await self._write(lambda db: self._note(db, extras))
        alive = False
        for extra in extras:
            if extra.verdict != "goes":
                continue
            try:
                await self._take_off(extra, house)
            except (GatewayError, StillAlive) as error:
                log.warning("extra_member.failed", team=extra.team, error=str(error))
                failed[f"{extra.team}: {extra.label}"] = str(error)
                alive = alive or isinstance(error, StillAlive)
        return failed, alive

    async def _give_back(self, extras: Sequence[Extra]) -> dict[str, str]:
        """Unblock the keys of whoever stays after all; return why that failed, by team and name."""
        going = {extra.fact for extra in extras if extra.verdict in ("goes", "waits", "held")}
        failed: dict[str, str] = {}
        for name, (noted, _) in facts.under(self._store.reader(), SEEN).items():
            if noted.get("blocked") and name not in going:
                try:
                    await self._unblock(name, noted)
                except GatewayError as error:
                    log.warning("extra_member.still_blocked", team=noted["team"], error=str(error))
                    failed[f"{noted['team']}: {noted['label']}"] = str(error)
        return failed

    async def _unblock(self, name: str, noted: Mapping[str, Any]) -> None:
        """Give back what an earlier run has blocked: to somebody idsync knows by the engine, which sees who leaves."""
        db = self._store.reader()
        if people.person_of_account(db, noted["account"]) is None and not facts.get(db, facts.FROZEN):
            for key in await self._gateway.list_keys(user_id=noted["account"]):
                if key.id in noted["blocked"]:
                    await self._gateway.unblock_key(key.id)

        def write(db: Db) -> None:
            now, person = self._clock.now(), people.person_of_account(db, noted["account"])
            if person is not None:
                for key_id in noted["blocked"]:
                    row = BlockedKey(key_id, person.id, noted["account"], noted["team_id"], doomed=False)
                    people.note_blocked(db, row, now)
                self._open_job(db, person.id, Lane.GRANT)
            elif facts.get(db, facts.FROZEN):
                return
            facts.put(db, SEEN + name, {**noted, "going": False, "blocked": []}, now)
            detail = {"team": noted["team"], "account": noted["account"], "keys": noted["blocked"]}
            journal.append(
                db, at=now, actor="reconcile", action="member.restored", subject=noted["label"], detail=detail
            )

        await self._write(write)

    def _note(self, db: Db, extras: Sequence[Extra]) -> None:
        """Note since when each is seen, forget who is no extra member any more, and open a hold for who is held."""
        now = self._clock.now()
        named = {extra.fact: extra for extra in extras if extra.verdict != "reported" and extra.user_id}
        known = facts.under(db, SEEN)
        for name, extra in named.items():
            if name not in known:
                facts.put(db, SEEN + name, _seen(extra, now), now)
        for name in [name for name in known.keys() - named.keys() if not known[name][0].get("blocked")]:
            facts.drop(db, SEEN + name)
            ledger.drop_items(db, known[name][0]["account"], known[name][0]["team"])
        for name, (_, at) in facts.under(db, REMOVED).items():
            if at <= now - WINDOW:
                facts.drop(db, REMOVED + name)
        for extra in named.values():
            if extra.verdict == "held":
                self._hold(db, extra, now)

    def _hold(self, db: Db, extra: Extra, now: float) -> None:
        hold, is_new = ledger.join_hold(db, kind_of(extra.team), extra.why, now)
        cause = f"extra member {extra.label}"
        ledger.add_item(db, ledger.HoldItem(hold.id, extra.user_id or "", extra.team, cause, extra.team_id))
        if is_new:
            detail = {"hold": hold.id, "reason": extra.why}
            journal.append(db, at=now, actor="reconcile", action="hold.opened", subject=extra.team, detail=detail)
            log.warning("hold.opened", hold=hold.id, reason=extra.why)

    async def _take_off(self, extra: Extra, house: House) -> None:
        account = extra.user_id
        if account is None or not still_goes(self._store.reader(), extra, house):
            return

        async def theirs() -> list[GatewayKey]:
            keys = await self._gateway.list_keys(user_id=account, steady=True)
            return [key for key in keys if key.team_id == extra.team_id]

        begun = await theirs()
        await self._write(lambda db: self._begin(db, extra, begun))
        ended = await end_keys(self._gateway, theirs)
        await self._gateway.remove_member(extra.team_id, account)
        team = await self._gateway.get_team(extra.team_id)
        if team is not None and team.may_have_member(account):
            raise StillAlive(f"the gateway still shows {extra.label} on team {extra.team}")
        ended += await end_keys(self._gateway, theirs)  # made while they were still on the roster
        await self._write(lambda db: self._end(db, extra, ended))

    def _begin(self, db: Db, extra: Extra, keys: Sequence[GatewayKey]) -> None:
        now = self._clock.now()
        noted = facts.get(db, SEEN + extra.fact) or _seen(extra, now)
        blocked = sorted({*noted.get("blocked", ()), *(key.id for key in keys if not key.blocked)})
        going = {**noted, "going": True, "blocked": blocked, "team_id": extra.team_id}
        facts.put(db, SEEN + extra.fact, going, now)
        self._audit(db, "member.removing", extra, {"keys": [key.id for key in keys], "why": extra.why})

    def _end(self, db: Db, extra: Extra, keys: Sequence[str]) -> None:
        now = self._clock.now()
        facts.drop(db, SEEN + extra.fact)
        facts.put(db, REMOVED + extra.fact, {"team": extra.team, "account": extra.user_id}, now)
        ledger.drop_items(db, extra.user_id or "", extra.team)
        person = people.person_of_account(db, extra.user_id or "")
        if person is not None:
            exposure.left_team(db, person.id, extra.team, now)
        self._audit(db, "member.removed", extra, {"keys": sorted(set(keys))})

    def _audit(self, db: Db, action: str, extra: Extra, more: Mapping[str, Any]) -> None:
        detail = {"team": extra.team, "team_id": extra.team_id, "account": extra.user_id, **more}
        journal.append(db, at=self._clock.now(), actor="reconcile", action=action, subject=extra.label, detail=detail)

    async def _write(self, work: Callable[[Db], T]) -> T:
        return await asyncio.wrap_future(self._store.submit(work))


def _seen(extra: Extra, now: float) -> dict[str, Any]:
    return {"team": extra.team, "account": extra.user_id, "label": extra.label, "since": now, "going": False}
