"""Issuing a personal key: for somebody who has access, with an end, delivered to a sink or answered once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from idsync.clock import rfc3339
from idsync.errors import GatewayError, NotFound, SinkFailed, StillAlive, UsageError
from idsync.gateway.client import NewKey
from idsync.keys.ending import end_undelivered
from idsync.keys.kit import Kit
from idsync.keys.making import delivery_of, make, offer
from idsync.model import Person
from idsync.sinks.base import Sink
from idsync.store import facts, journal, ledger, people, teamkeys
from idsync.store.db import Db
from idsync.store.teamkeys import Undelivered

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Asked:
    """A personal key somebody asks for. `duration` in seconds; None: it never expires. `sink` None: it is answered."""

    person: Person
    duration: float | None
    team: str | None
    alias: str | None
    sink: str | None
    by: str


def refusal(db: Db, person: Person, team: str | None) -> str | None:
    """Say why somebody may have no key now, if so; the default is that they may not."""
    if people.live_ban(db, person.id) is not None:
        return f"{person.label} is revoked; `idsync restore {person.label} --reason TEXT` lifts that"
    if ledger.open_departure(db, person.id) is not None:
        return f"{person.label} has left; `idsync departures {person.label}` says why"
    if facts.get(db, facts.FROZEN):
        return "grants are frozen; `idsync status` says by whom, `idsync thaw --reason TEXT` ends it"
    granted = {grant.team for grant in people.grants(db, person.id) if grant.state == "granted"}
    if not granted and person.role is None:
        return f"no group gives {person.label} access; `idsync explain {person.label}` says more"
    if team is not None and team not in granted:
        return f"{person.label} is not in team {team}; `idsync explain {person.label}` says in which"
    if person.account_id is None:
        return f"{person.label} has no gateway account yet; `idsync reconcile` makes it"
    return None


async def issue(kit: Kit, asked: Asked) -> dict[str, Any]:
    """Make a key for somebody, and hand it over. What cannot be handed over is ended.

    Whoever is taken something from meanwhile wins: a key that was made for somebody who is leaving is ended at once.

    Raises:
        UsageError: they may have none now, or the gateway shows them fenced.
        SinkFailed: the sink has not taken it.
        GatewayError: the gateway did not make it.
    """
    account = await _account_of(kit, asked)
    sink = kit.sinks[asked.sink] if asked.sink is not None else None
    if sink is not None and (problems := await sink.check()):
        raise SinkFailed("; ".join(problems))
    team_id = facts.get(kit.db, f"team:{asked.team}") if asked.team is not None else None
    if asked.team is not None and team_id is None:
        raise NotFound(f"team {asked.team} is not set up at the gateway yet; `idsync reconcile` does that")
    if asked.alias in kit.wanted or (asked.alias is not None and await kit.gateway.keys_called(asked.alias)):
        raise UsageError(f"there is a key called {asked.alias} already; choose another --alias")
    wanted = asked.alias or asked.person.label
    made, key = await make(kit, wanted, asked.duration, user_id=account, team_id=team_id)
    try:
        await _hand_over(kit, asked, made, key, sink)
    except Exception:
        await _undo(kit, made)
        raise
    alias = await _renamed(kit, made, key) if asked.alias is not None else made.called
    told = {"alias": alias, "key_id": key.id, "user": asked.person.label, "team": asked.team, "expires": key.expires}
    return {**told, "sink": asked.sink, "key": key.secret if sink is None else None}


async def _account_of(kit: Kit, asked: Asked) -> str:
    """Return the account the key will be of.

    Raises:
        UsageError: they may have no key.
        NotFound: the gateway does not have their account.
    """
    problem = refusal(kit.db, asked.person, asked.team)
    if problem is not None:
        raise UsageError(problem)
    user = await kit.gateway.get_user(str(asked.person.account_id), sure=True)
    if user is None:
        msg = f"the gateway does not have the account of {asked.person.label}; `idsync reconcile` makes it"
        raise NotFound(msg)
    if user.metadata is None or user.fenced:
        msg = f"the gateway refuses every key of {asked.person.label}: the account is fenced; `idsync reconcile` looks at it"
        raise UsageError(msg)
    return user.user_id


async def _hand_over(kit: Kit, asked: Asked, made: Undelivered, key: NewKey, sink: Sink | None) -> None:
    _refuse_overtaken(kit.db, asked)
    if sink is not None:
        await offer(sink, delivery_of(key, asked.alias or made.called, asked.team))

    def write(db: Db) -> None:
        _refuse_overtaken(db, asked)
        detail: Mapping[str, Any] = {
            "key_id": key.id,
            "user": asked.person.label,
            "team": asked.team,
            "sink": asked.sink,
        }
        now = kit.clock.now()
        ends = None if asked.duration is None else rfc3339(now + asked.duration)
        teamkeys.end(db, made.called)
        detail = {**detail, "expires": ends}
        journal.append(db, at=now, actor=f"cli/{asked.by}", action="key.issued", subject=made.called, detail=detail)
        log.info("key.issued", alias=made.called, **detail)

    await kit.write(write)


def _refuse_overtaken(db: Db, asked: Asked) -> None:
    person = people.person(db, asked.person.id)
    problem = refusal(db, person, asked.team) if person is not None else f"{asked.person.label} is gone"
    if problem is not None:
        raise UsageError(problem)


async def _undo(kit: Kit, made: Undelivered) -> None:
    """End a key that was not handed over; where that fails, the next turn does it."""
    try:
        await end_undelivered(kit, made)
    except (StillAlive, GatewayError) as error:
        log.error("key.not_ended", alias=made.alias, error=str(error))


async def _renamed(kit: Kit, made: Undelivered, key: NewKey) -> str:
    """Give it the alias that was asked for, and return the one it has: not every gateway renames keys."""
    try:
        await kit.gateway.update_key(key.id, alias=made.alias)
    except GatewayError as error:
        log.warning("key.not_renamed", alias=made.alias, called=made.called, error=str(error))
        return made.called
    return made.alias
