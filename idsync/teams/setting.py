"""Carrying out what the plan says about teams: create, adopt, update; and reading back whether it is so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from idsync.clock import Clock
from idsync.errors import BadAnswer, Conflicting, GatewayError
from idsync.gateway.client import Gateway
from idsync.model import MANAGED, GatewayTeam
from idsync.plan import METADATA, Change, WantedTeam, agreed, differences, ours_among
from idsync.store import facts, journal
from idsync.store.db import Db, Store

T = TypeVar("T")
APPLIED = "applied:"
"""Facts of that prefix: by alias, the settings of a team as idsync has last set or seen them."""
DRIFTED = "drift:teams"
"""The fact that holds the settings somebody has changed at the gateway, by alias."""
DONE = frozenset({"team.create", "team.adopt", "team.update"})
"""Changes that are carried out here; the others are only shown."""
TRIES = 3
"""How often metadata is written when somebody else writes it at the same time."""

log = structlog.get_logger(__name__)


class TeamSetter:
    """Carries out one change of a team at a time; holds no state."""

    def __init__(self, store: Store, gateway: Gateway, clock: Clock, teams: Sequence[WantedTeam]) -> None:
        self._store = store
        self._gateway = gateway
        self._clock = clock
        self._teams = {team.alias: team for team in teams}

    async def carry_out(self, changes: Sequence[Change]) -> dict[str, str]:
        """Carry out what there is to do about teams; return why it failed, by alias. One never stops the others."""
        failed: dict[str, str] = {}
        for change in changes:
            if change.kind in DONE and change.subject not in failed:
                try:
                    await self._one(change)
                except GatewayError as error:
                    log.warning("team.failed", team=change.subject, change=change.kind, error=str(error))
                    failed[change.subject] = str(error)
        return failed

    async def _one(self, change: Change) -> None:
        before: Mapping[str, Any] | None = None
        if change.kind == "team.create":
            await self._create(change)
        elif change.kind == "team.update":
            before = await self._update(change)
        await self._write(lambda db: self._remember(db, change, before))

    async def _create(self, change: Change) -> None:
        fields = {name: value for name, value in change.fields.items() if not name.startswith(METADATA)}
        metadata = {MANAGED: "managed", **_metadata(change.fields)}
        try:
            await self._gateway.create_team(alias=change.subject, metadata=metadata, **fields)
        except Conflicting:
            await self._is_ours(change)
        else:
            await self._read_back(change)

    async def _is_ours(self, change: Change) -> None:
        """Look whether a team that is there already is one idsync made, in a run whose answer was lost.

        Raises:
            Conflicting: it is somebody else's, and the listing did not show it.
        """
        found = await self._gateway.get_team(change.target)
        if found is None or MANAGED not in found.metadata:
            msg = f"team {change.target} has come up meanwhile, or is not listed to us; the next pass looks whose it is"
            raise Conflicting(msg)
        log.info("team.there_already", team=change.subject)

    async def _update(self, change: Change) -> dict[str, Any]:
        """Write what differs; return what the gateway had of it."""
        wanted = self._teams[change.subject]
        found = await self._gateway.get_team(change.target)
        before = differences(wanted, found) if found is not None else {}
        plain = {name: value for name, value in change.fields.items() if not name.startswith(METADATA)}
        await self._gateway.update_team(change.target, **plain)
        await self._merge(change.target, _metadata(change.fields))
        await self._read_back(change)
        return {name: before.get(name) for name in change.fields}

    async def _merge(self, team_id: str, ours: Mapping[str, Any]) -> None:
        """Lay our keys over the team's metadata, and look whether they stay: whoever writes last replaces it all."""
        for _ in range(TRIES if ours else 0):
            await self._gateway.edit_team_metadata(team_id, lambda shown: {**shown, **ours})
            found = await self._gateway.get_team(team_id)
            if found is not None and all(found.metadata.get(key) == value for key, value in ours.items()):
                return

    async def _read_back(self, change: Change) -> None:
        """Look whether the gateway shows what was written: its 200 is not proof.

        Raises:
            BadAnswer: it does not.
        """
        found = await self._gateway.get_team(change.target)
        if found is None:
            raise BadAnswer(f"the gateway does not show team {change.target}, which it has just taken")
        missed = sorted(differences(self._teams[change.subject], found).keys() & change.fields.keys())
        if missed:
            raise BadAnswer(f"the gateway took {', '.join(missed)} and shows another value; it is tried again")

    def _remember(self, db: Db, change: Change, before: Mapping[str, Any] | None) -> None:
        now = self._clock.now()
        settings = {name: value for name, value in change.fields.items() if name != "team_id"}
        if change.kind in ("team.create", "team.adopt"):
            facts.put(db, f"team:{change.subject}", change.target, now)
        if settings:
            applied = facts.get(db, APPLIED + change.subject) or {}
            facts.put(db, APPLIED + change.subject, {**applied, **settings}, now)
        detail = {"team_id": change.target, "why": change.why, **change.fields}
        if before is not None:
            detail["before"] = dict(before)
        journal.append(db, at=now, actor="reconcile", action=change.kind, subject=change.subject, detail=detail)

    async def settle(self, shown: Sequence[GatewayTeam], changes: Sequence[Change]) -> None:
        """Note which settings were seen as configured, and which somebody has changed; written only where it is new."""
        drifted = {c.subject: sorted(c.fields) for c in changes if c.kind == "team.drift"}
        db = self._store.reader()
        known = known_teams(db)
        new: dict[str, Any] = {}
        for team in self._teams.values():
            found = ours_among(team, shown, known)
            seen = agreed(team, found) if found is not None else {}
            applied = facts.get(db, APPLIED + team.alias) or {}
            if {**applied, **seen} != applied:
                new[APPLIED + team.alias] = seen
        if new or (facts.get(db, DRIFTED) or {}) != drifted:
            await self._write(lambda db: self._note(db, new, drifted))

    def _note(self, db: Db, new: Mapping[str, Any], drifted: Mapping[str, Any]) -> None:
        now = self._clock.now()
        for name, seen in new.items():
            facts.put(db, name, {**(facts.get(db, name) or {}), **seen}, now)
        for alias, names in sorted(drifted.items()):
            if names != (facts.get(db, DRIFTED) or {}).get(alias):
                detail = {"settings": names}
                journal.append(db, at=now, actor="reconcile", action="team.drifted", subject=alias, detail=detail)
        facts.put(db, DRIFTED, dict(drifted), now)

    async def _write(self, work: Callable[[Db], T]) -> T:
        return await asyncio.wrap_future(self._store.submit(work))


def known_teams(db: Db) -> dict[str, str]:
    """Return the ids of the teams that idsync has made or adopted, by alias."""
    return {alias: str(team_id) for alias, (team_id, _) in facts.under(db, "team:").items()}


def applied_settings(db: Db) -> dict[str, dict[str, Any]]:
    """Return, by alias, the settings that idsync has last set or seen."""
    return {alias: dict(value) for alias, (value, _) in facts.under(db, APPLIED).items()}


def _metadata(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(METADATA): value for name, value in fields.items() if name.startswith(METADATA)}
