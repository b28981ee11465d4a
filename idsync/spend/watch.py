"""The regular look at what leavers' accounts and keys cost: asked of the gateway, judged, written down, told.

Its calls grow with the departures of the last `spend.watch`, never with the people: three for every account of theirs,
and more only where an answer has several pages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import structlog

from idsync.clock import Clock, rfc3339
from idsync.errors import AdminKeyRefused, BadAnswer, GatewayError, Rejected, StoreError, Transient, Unsupported
from idsync.gateway.client import Gateway
from idsync.model import GatewayKey, LoggedRequest
from idsync.spend.after import Amount, Margins, Told, Verdict, by_requests, days_of, judge, midnights
from idsync.store import facts, journal, ledger, spend, verdicts
from idsync.store.db import Db, Store
from idsync.store.ledger import Departure
from idsync.store.spend import After

T = TypeVar("T")
FRESH = 2 * 86400.0
"""Seconds after which a leaver is looked at less often."""
LATER = 6 * 3600.0
"""Seconds between two looks at them then."""
MOST = 100
"""Departures of one beat; the others come with the next one, who waited longest first."""
SIDE_BY_SIDE = 16
"""Departures that `find` asks about at once."""

log = structlog.get_logger(__name__)


class Telemetry(Protocol):
    """Who counts security events."""

    def reasserted(self, kinds: Sequence[str]) -> None:
        """Count events of these kinds."""


@dataclass(frozen=True)
class Settings:
    """Seconds. `watch`: how long after a departure (0: never); `every`: between two looks in the first days."""

    watch: float = 30 * 86400.0
    every: float = 3600.0
    booked_within: float = 900.0
    cache_time: float = 60.0


@dataclass(frozen=True)
class Seen:
    """What one look at one departure came to. `untold` says what the gateway does not tell."""

    departure: Departure
    verdict: Verdict
    names: dict[str, str]
    untold: tuple[str, ...]


def margins(db: Db, gateway: Gateway, settings: Settings, now: float) -> Margins:
    """Return how long what is dead may be honoured, as configured or as a drill has measured, and booked after that."""
    measured = verdicts.cache_window(db, gateway.name, now) or 0.0
    return Margins(max(settings.cache_time, measured), settings.booked_within)


async def see(db: Db, gateway: Gateway, departure: Departure, limits: Margins, now: float) -> Seen:
    """Ask the gateway what a leaver has cost, and judge it. Reads only.

    Raises:
        GatewayError: the gateway could not be asked; nothing is claimed then.
    """
    ended = departure.access_ended_at or now
    accounts = spend.accounts_of(db, departure)
    told, untold = await _ask(gateway, accounts, days_of(ended, now))
    verdict = judge(told, spend.accounted(db, departure.id), limits.over(ended))
    asked = [account for account in accounts if _is_to_be_asked(account, told, verdict)]
    told = replace(told, requests=await _requests(gateway, asked, midnights(ended, now)))
    verdict = by_requests(verdict, told, limits.over(ended))
    receipt = (departure.receipt or {}).get("keys", [])
    named = {str(key["id"]): str(key.get("alias") or key.get("name") or key["id"]) for key in receipt}
    named |= {key.id: key.alias or key.name or named.get(key.id, key.id) for key in told.keys.values()}
    return Seen(departure, verdict, named, untold)


async def _ask(gateway: Gateway, accounts: Sequence[str], days: tuple[str, str]) -> tuple[Told, tuple[str, ...]]:
    """Ask for the days of every account and the counters of its keys, live and deleted ones."""
    told, untold = Told(), []
    try:
        found = [await gateway.user_activity(account, *days) for account in accounts]
        told = replace(told, days=dict(zip(accounts, found, strict=True)))
    except (Unsupported, Rejected, BadAnswer) as error:
        untold.append(f"GET /user/daily/activity: {error}")
    keys: dict[str, GatewayKey] = {}
    try:
        for account in accounts:
            for status in ("deleted", None):
                keys |= {key.id: key for key in await gateway.list_keys(user_id=account, status=status)}
    except (Unsupported, Rejected, BadAnswer) as error:
        untold.append(f"GET /key/list: {error}")
    return replace(told, keys=keys), tuple(untold)


def _is_to_be_asked(account: str, told: Told, verdict: Verdict) -> bool:
    """Something was found of an account, or it is looked at for the first time and has spent on these days."""
    found = any(amount.account_id == account for amount in verdict.after)
    is_first = ("activity", account, "") in verdict.accounted
    return found or (is_first and any(day.spend for day in told.days.get(account, ())))


async def _requests(
    gateway: Gateway, accounts: Sequence[str], between: tuple[str, str]
) -> dict[str, list[LoggedRequest]]:
    """Ask for the requests of these accounts; a gateway that lists none decides nothing."""
    try:
        return {account: await gateway.requests_of(account, *between) for account in accounts}
    except (Unsupported, Rejected, BadAnswer):
        return {}


def found_of(seen: Seen, known: Iterable[After], now: float) -> list[After]:
    """Return what is new, or has grown, against what was found before."""
    before = {(one.account_id, one.key_id): one for one in known}
    found = []
    for amount in seen.verdict.after:
        earlier = before.get((amount.account_id, amount.key_id))
        if earlier is None or amount.spend > earlier.spend + 1e-6:
            found.append(_after(seen, amount, now if earlier is None else earlier.first_at, now))
    return found


def _after(seen: Seen, amount: Amount, first_at: float, now: float) -> After:
    return After(
        departure_id=seen.departure.id,
        person_id=seen.departure.person_id,
        account_id=amount.account_id,
        key_id=amount.key_id,
        key_name=seen.names.get(amount.key_id, amount.key_id) or None,
        spend=round(amount.spend, 6),
        used_at=amount.used_at,
        first_at=first_at,
        last_at=now,
    )


@dataclass(frozen=True)
class Found:
    """What is known of spend after departures: `after` by person and key, `untold` what the gateway does not tell.

    `problem` is why some of them could not be asked about this time.
    """

    after: tuple[tuple[str, After], ...]
    looked_at: int
    untold: tuple[str, ...]
    problem: str | None = None


async def find(db: Db, gateway: Gateway, settings: Settings, now: float) -> Found:
    """Ask about every leaver that is watched, now, and add what was found before. Reads only: nothing is written down."""
    known = {(one.departure_id, one.account_id, one.key_id): one for one in spend.after_since(db, now - spend.SHOWN)}
    limits = margins(db, gateway, settings, now)
    watched = spend.ended_since(db, now - settings.watch, now - limits.booked(0.0))
    untold: dict[str, None] = {}
    looked_at, problem = 0, None
    try:
        for start in range(0, len(watched), SIDE_BY_SIDE):
            some = watched[start : start + SIDE_BY_SIDE]
            for seen in await asyncio.gather(*(see(db, gateway, departure, limits, now) for departure in some)):
                untold |= dict.fromkeys(seen.untold)
                new = found_of(seen, spend.after_of(db, seen.departure.id), now)
                known |= {(one.departure_id, one.account_id, one.key_id): one for one in new}
            looked_at += len(some)
    except GatewayError as error:
        problem = str(error)
    labels = {one.id: one.label for one in watched}
    rows = sorted(known.values(), key=lambda one: (one.first_at, one.departure_id, one.account_id, one.key_id))
    return Found(tuple((_label(db, one, labels), one) for one in rows), looked_at, tuple(untold), problem)


def _label(db: Db, one: After, known: dict[str, str]) -> str:
    if one.departure_id in known:
        return known[one.departure_id]
    departure = ledger.departure(db, one.departure_id)
    return departure.label if departure is not None else one.person_id


class Watch:
    """Looks at who is due; holds no state, so it goes on after a restart as if there had been none."""

    def __init__(self, store: Store, gateway: Gateway, clock: Clock, settings: Settings, telemetry: Telemetry) -> None:
        self._store = store
        self._gateway = gateway
        self._clock = clock
        self._settings = settings
        self._telemetry = telemetry

    async def beat(self) -> None:
        """Look at the leavers that are due; a gateway that is down is asked later."""
        due = self._due() if self._settings.watch else []
        looked = 0
        try:
            for departure_id in due[:MOST]:
                looked += await self._look(departure_id)
            if due:
                long_ago = self._clock.now() - self._settings.watch
                await self._write(lambda db: spend.forget_before(db, long_ago))
        except (Transient, AdminKeyRefused, StoreError) as error:
            log.warning("spend.not_looked", waiting=len(due) - looked, error=str(error))

    def _due(self) -> list[str]:
        now, settings, db = self._clock.now(), self._settings, self._store.reader()
        booked = margins(db, self._gateway, settings, now).booked(0.0)
        return spend.due(
            db,
            now,
            since=now - settings.watch,
            before=now - booked,
            fresh=now - FRESH,
            every=settings.every,
            later=max(settings.every, LATER),
        )

    async def _look(self, departure_id: str) -> int:
        """Look at one leaver; what the gateway says of one never keeps it from the others."""
        db, now = self._store.reader(), self._clock.now()
        departure = ledger.departure(db, departure_id)
        if departure is None or departure.closed_at is not None:
            return 0
        try:
            seen = await see(db, self._gateway, departure, margins(db, self._gateway, self._settings, now), now)
        except (Transient, AdminKeyRefused):
            raise
        except GatewayError as error:
            log.warning("spend.unreadable", departure=departure_id, error=str(error))
            await self._write(lambda db: spend.looked(db, departure_id, now))
            return 1
        new = await self._write(lambda db: self._note(db, seen, now))
        self._tell(departure, new, seen)
        return 1

    async def _write(self, work: Callable[[Db], T]) -> T:
        return await asyncio.wrap_future(self._store.submit(work))

    def _note(self, db: Db, seen: Seen, now: float) -> list[After]:
        """Write down what is accounted for and what was found, unless the person came back meanwhile."""
        departure = ledger.departure(db, seen.departure.id)
        if departure is None or departure.closed_at is not None:
            return []
        spend.looked(db, departure.id, now)
        for place, amount in seen.verdict.accounted.items():
            spend.account(db, departure.id, place, amount, now)
        self._note_untold(db, seen.untold, now)
        new = found_of(seen, spend.after_of(db, departure.id), now)
        for one in new:
            spend.put_after(db, one)
            journal.append(
                db, at=now, actor="idsync", action="spend.after_departure", subject=departure.label, detail=_detail(one)
            )
        return new

    def _note_untold(self, db: Db, untold: tuple[str, ...], now: float) -> None:
        """Say once what this gateway does not tell, and again when that changes."""
        known = facts.get(db, spend.LOOKED) or {"untold": []}
        if untold and list(untold) != known["untold"]:
            db.after_commit(lambda: log.warning("spend.not_told", what=list(untold)))
        facts.put(db, spend.LOOKED, {"untold": list(untold)}, now)

    def _tell(self, departure: Departure, new: Sequence[After], seen: Seen) -> None:
        if not new:
            return
        self._telemetry.reasserted(["spend"])
        log.error(
            "spend.after_departure",
            departure=departure.id,
            places=len(new),
            spend=round(sum(amount.spend for amount in seen.verdict.after), 6),
            note="something of a leaver's still works, or is paid for: idsync spend",
        )


def _detail(one: After) -> dict[str, object]:
    return {
        "departure": one.departure_id,
        "account": one.account_id,
        "key": one.key_id or None,
        "key_name": one.key_name,
        "spend": one.spend,
        "used_at": rfc3339(one.used_at) if one.used_at is not None else None,
    }
