"""Looking at the wanted keys: our own rows, who left that may know them, and what the gateway shows. Reads only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from idsync.engine import exposed
from idsync.engine.exposed import Knower
from idsync.errors import AdminKeyRefused, GatewayError, Throttled, Unsupported
from idsync.keys.due import Leaver, Sight, WantedKey
from idsync.keys.kit import Kit
from idsync.model import GatewayKey
from idsync.store import exposure, facts, ledger, people, teamkeys
from idsync.store.db import Db
from idsync.store.exposure import Exposed
from idsync.store.teamkeys import TeamKey


def leavers_of(db: Db, wanted: Iterable[WantedKey], now: float) -> dict[str, list[Leaver]]:
    """Return by alias who left and could have known a key, of teams that want theirs rotated then.

    Whoever's access ended before a key was made cannot know it. People who are suspended have not left.
    """
    keys = {key.alias: key for key in teamkeys.every(db) if key.key_id is not None}
    rotating = [keys[one.alias] for one in wanted if one.rotates and one.alias in keys]
    if not rotating:
        return {}
    noted = [row for row in exposure.every(db) if row.wants == "rotate" and _has_left(db, row.departure_id)]
    knowers = [knower for knower in exposed.ask(db, now).knowers if _has_left(db, knower.departure_id)]
    found = {key.alias: _could_know(db, key, noted, knowers) for key in rotating}
    return {alias: leavers for alias, leavers in found.items() if leavers}


def _could_know(db: Db, key: TeamKey, noted: Iterable[Exposed], knowers: Iterable[Knower]) -> list[Leaver]:
    """Return who was found to know it by a listing, and who has left its team since it was made."""
    team = ("team", str(facts.get(db, f"team:{key.team}")))
    since = {row.person_id: row.left_at for row in noted if row.key_id == key.key_id}
    since |= {one.person_id: one.since for one in knowers if team in one.subjects and key.made_at < one.since}
    leavers = [Leaver(person_id, _label(db, person_id), at) for person_id, at in sorted(since.items())]
    return [leaver for leaver in leavers if leaver.tag not in key.served]


def _has_left(db: Db, departure_id: str | None) -> bool:
    """Tell a departure, or the move to other teams, from a suspension."""
    departure = ledger.departure(db, departure_id) if departure_id is not None else None
    return departure is None or departure.kind == "departure"


def _label(db: Db, person_id: str) -> str:
    person = people.person(db, person_id)
    return person.label if person is not None else person_id


@dataclass(frozen=True)
class View:
    """Wanted keys as they are, and by alias what the gateway did not say."""

    sights: Sequence[Sight]
    failed: Mapping[str, GatewayError]


async def look(kit: Kit, aliases: Iterable[str]) -> View:
    """Look at these keys; one that cannot be read never hides the others.

    Raises:
        AdminKeyRefused, Throttled: none of them can be read.
    """
    wanted = [kit.wanted[alias] for alias in sorted(aliases)]
    leavers = await kit.read(lambda db: leavers_of(db, wanted, kit.clock.now()))
    found = await asyncio.gather(*map(partial(_look_at, kit, leavers), wanted), return_exceptions=True)
    failed: dict[str, GatewayError] = {}
    for one, result in zip(wanted, found, strict=True):
        if isinstance(result, GatewayError) and not isinstance(result, (AdminKeyRefused, Throttled)):
            failed[one.alias] = result
        elif isinstance(result, BaseException):
            raise result
    return View([result for result in found if isinstance(result, Sight)], failed)


async def _look_at(kit: Kit, leavers: Mapping[str, list[Leaver]], wanted: WantedKey) -> Sight:
    known = teamkeys.get(kit.db, wanted.alias)
    team_id = facts.get(kit.db, f"team:{wanted.team}")
    shown = await _shown(kit, known)
    namesakes: list[GatewayKey] = []
    if shown is None or shown.alias != wanted.alias:
        namesakes = await kit.gateway.keys_called(wanted.alias)
    return Sight(
        wanted,
        str(team_id) if team_id is not None else None,
        known,
        shown,
        [key for key in namesakes if known is None or key.id != known.key_id],
        leavers.get(wanted.alias, ()),
        wanted.alias in teamkeys.offered(kit.db),
    )


async def _shown(kit: Kit, known: TeamKey | None) -> GatewayKey | None:
    """Return our key as the gateway shows it now; None when it has none of that id."""
    if known is None or known.key_id is None:
        return None
    try:
        found = await kit.gateway.key_info(known.key_id)
    except Unsupported:
        found = next((key for key in await kit.gateway.list_keys() if key.id == known.key_id), None)
    return found if found is not None and not found.deleted else None
