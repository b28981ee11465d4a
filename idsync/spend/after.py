"""Whether anything was spent after somebody's access had ended: what the gateway tells, compared with what was accounted for.

access ends              + cache time + clocks          + booked_within                       the look
   |---------------------------|---------------------------|---------------------------------->
   still honoured by a cache   requests under way, and      everything of before is booked:
                               what is booked in batches    what comes on top was spent afterwards

what is told                                            | what is made of it
--------------------------------------------------------+---------------------------------------------------------
days of an account, on the first look                   | accounted for, but for days that began after access ended
                                                        | in every time zone: those are spend after the departure
days of an account, later                               | what they have grown by is spend after the departure
a key's own counter, on the first look                  | accounted for, unless the key was made afterwards
a key's own counter, later                              | the same as days; one that fell was reset with its budget
the gateway's list of requests, asked for on the first  | what began afterwards is spend after the departure; where
look and when something was found                       | the list adds up to the days, nothing else is
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from idsync.clock import epoch_of
from idsync.model import DaySpend, GatewayKey, LoggedRequest
from idsync.store.spend import Place

CLOCKS = 60.0
"""Seconds by which the gateway's clock may differ from ours."""
FARTHEST = 14 * 3600.0
"""Seconds by which a gateway's day may begin before the UTC day of that name (UTC+14)."""
LEAST = 1e-6
"""What is less than this is an error of rounding."""
DAY = 86400.0


@dataclass(frozen=True)
class Margins:
    """Seconds. `cache`: how long a dead key may be honoured; `booking`: how late what it cost may be booked."""

    cache: float
    booking: float

    def over(self, ended_at: float) -> float:
        """Return the time after which no request is honoured any more."""
        return ended_at + self.cache + CLOCKS

    def booked(self, ended_at: float) -> float:
        """Return the time by which everything that was honoured is booked."""
        return self.over(ended_at) + self.booking


@dataclass(frozen=True)
class Told:
    """What the gateway tells of one leaver. An account or a key that is missing here was not told of."""

    days: Mapping[str, Sequence[DaySpend]] = field(default_factory=dict)
    keys: Mapping[str, GatewayKey] = field(default_factory=dict)
    requests: Mapping[str, Sequence[LoggedRequest]] = field(default_factory=dict)


@dataclass(frozen=True)
class Amount:
    """Spend of one account or key after access had ended. `used_at`: the last request that is told of."""

    account_id: str
    key_id: str
    spend: float
    used_at: float | None = None


@dataclass(frozen=True)
class Verdict:
    """`after` is what was spent afterwards; `accounted` is to be written down (nothing of it is to be told)."""

    after: tuple[Amount, ...]
    accounted: Mapping[Place, float]

    @property
    def is_suspicious(self) -> bool:
        return bool(self.after)


def days_of(ended_at: float, now: float) -> tuple[str, str]:
    """Return the first and the last day that are asked for: a day more at both ends, whatever the time zone."""
    return _date(ended_at - DAY), _date(now + DAY)


def midnights(ended_at: float, now: float) -> tuple[str, str]:
    """Return the midnights between which requests are asked for: the same days."""
    return _date(ended_at - DAY), _date(now + 2 * DAY)


def _date(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).date().isoformat()


def judge(told: Told, known: Mapping[Place, float], over: float) -> Verdict:
    """Compare what is told with what was accounted for; what never was may be from before. `over`: see `Margins.over`."""
    after: dict[tuple[str, str], float] = {}
    accounted: dict[Place, float] = {}
    for account, days in told.days.items():
        now = _amounts(account, days, told.keys)
        before = {place[2]: spend for place, spend in known.items() if place[:2] == ("activity", account)}
        if not before:
            sure = _amounts(account, [day for day in days if _began_after(day.day, over)], told.keys)
            before = {key_id: spend - sure.get(key_id, 0.0) for key_id, spend in now.items()}
            accounted |= {("activity", account, key_id): spend for key_id, spend in before.items()}
        after |= {(account, key_id): spend for key_id, spend in _growth(now, before).items()}
    for key_id, key in told.keys.items():
        if key.spend is None:
            continue
        place: Place = ("counter", "", key_id)
        counted = known.get(place, 0.0 if _is_new(key, over) else key.spend)
        if key.spend < counted - LEAST:
            counted = key.spend
        if known.get(place) != counted:
            accounted[place] = counted
        _raise_by_counter(after, key, key.spend - counted)
    found = [Amount(account, key_id, spend) for (account, key_id), spend in sorted(after.items()) if spend > LEAST]
    return Verdict(tuple(found), accounted)


def _is_new(key: GatewayKey, over: float) -> bool:
    """Tell whether a key was made after access had ended."""
    made = epoch_of(key.created_at)
    return made is not None and made > over


def _growth(now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """Return by what each key's amount has grown; never more than all of it together has.

    A gateway may come to name keys that it did not name before.
    """
    grown = {key_id: spend - before.get(key_id, 0.0) for key_id, spend in now.items()}
    together = sum(now.values()) - sum(before.values())
    if together <= LEAST:
        return {"": 0.0}
    risen = {key_id: spend for key_id, spend in grown.items() if spend > LEAST}
    return risen if sum(risen.values()) <= together + LEAST else {"": together}


def _amounts(account: str, days: Iterable[DaySpend], keys: Mapping[str, GatewayKey]) -> dict[str, float]:
    """Add days up by key, "" for what is not told by key; always with "", which says that it was looked at.

    Where an answer does not say whose it is, only keys that are known to be theirs count.
    """
    sums = {"": 0.0}
    for day in days:
        mine = day.keys if day.shares is not None else {name: day.keys[name] for name in day.keys if name in keys}
        for key_id, spend in mine.items():
            sums[key_id] = sums.get(key_id, 0.0) + spend
        if day.shares is not None:
            sums[""] += day.shares.get(account, 0.0) - sum(mine.values())
    return sums


def _raise_by_counter(after: dict[tuple[str, str], float], key: GatewayKey, grown: float) -> None:
    """A key's own counter tells the same money again: the larger of the two counts, and what no key was named for less."""
    if grown <= LEAST:
        return
    account = next((account for account, key_id in after if key_id == key.id), None)
    if account is not None:
        after[account, key.id] = max(after[account, key.id], grown)
        return
    owner = key.user_id or ""
    after[owner, key.id] = grown
    if (owner, "") in after:
        after[owner, ""] -= grown


def _began_after(day: str, over: float) -> bool:
    midnight = dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC).timestamp()
    return midnight - FARTHEST >= over


def by_requests(verdict: Verdict, told: Told, over: float) -> Verdict:
    """Let the gateway's own list of requests decide, for every account whose requests add up to its days.

    What adds up and began before is accounted for from now on. A list that does not add up takes nothing back; what it
    shows to have begun afterwards counts all the same.
    """
    after = {(amount.account_id, amount.key_id): amount for amount in verdict.after}
    accounted = dict(verdict.accounted)
    for account, requests in told.requests.items():
        late = _by_key(account, (request for request in requests if request.at > over))
        days = told.days.get(account)
        if days is not None and _adds_up(account, days, requests):
            after = {place: amount for place, amount in after.items() if place[0] != account}
            decided = _decided(account, days, told.keys)
        else:
            decided = {
                place: now for place, now in _decided(account, days or (), told.keys).items() if place in accounted
            }
        after |= {place: _larger(after.get(place), amount) for place, amount in late.items()}
        for place, now in decided.items():
            found = after.get((account, place[2]))
            accounted[place] = now - (found.spend if found is not None else 0.0)
    return Verdict(tuple(after[place] for place in sorted(after)), accounted)


def _decided(account: str, days: Iterable[DaySpend], keys: Mapping[str, GatewayKey]) -> dict[Place, float]:
    """Return what is told of an account's days and of its keys' counters."""
    told: dict[Place, float] = {
        ("activity", account, name): spend for name, spend in _amounts(account, days, keys).items()
    }
    mine = [key for key in keys.values() if key.user_id == account and key.spend is not None]
    return told | {("counter", "", key.id): key.spend or 0.0 for key in mine}


def _by_key(account: str, requests: Iterable[LoggedRequest]) -> dict[tuple[str, str], Amount]:
    """Add requests up by key, with the time of the last one; those that cost nothing are not spend."""
    sums: dict[tuple[str, str], Amount] = {}
    for request in requests:
        place = (account, request.key_id or "")
        known = sums.get(place, Amount(*place, 0.0, 0.0))
        sums[place] = replace(known, spend=known.spend + request.spend, used_at=max(known.used_at or 0.0, request.at))
    return {place: amount for place, amount in sums.items() if amount.spend > LEAST}


def _larger(one: Amount | None, other: Amount) -> Amount:
    return other if one is None else replace(other, spend=max(one.spend, other.spend))


def _adds_up(account: str, days: Iterable[DaySpend], requests: Iterable[LoggedRequest]) -> bool:
    shares = [day.shares for day in days]
    if any(share is None for share in shares):
        return False
    booked = sum((share or {}).get(account, 0.0) for share in shares)
    return sum(request.spend for request in requests) >= booked - LEAST
