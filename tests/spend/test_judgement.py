"""Whether something was spent after access had ended, judged by what a gateway tells. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from idsync.clock import epoch_of
from idsync.model import DaySpend, GatewayKey, LoggedRequest
from idsync.spend.after import Margins, Told, by_requests, judge
from idsync.store.spend import Place


def at(text: str) -> float:
    found = epoch_of(text)
    assert found is not None
    return found


LEO, KEY, OTHER = "u-leo", "k-1", "k-2"
ENDED = at("2026-03-10T18:00:00Z")
MARGINS = Margins(cache=60.0, booking=900.0)
OVER = MARGINS.over(ENDED)


def day(date: str, spend: float, **keys: float) -> DaySpend:
    """A day of Leo's; `keys` by their last character, `k1`."""
    return DaySpend(date, spend, {LEO: spend}, {f"k-{name[-1]}": amount for name, amount in keys.items()})


def days(*told: DaySpend) -> dict[str, list[DaySpend]]:
    return {LEO: list(told)}


def counter(spend: float, key_id: str = KEY) -> dict[str, GatewayKey]:
    return {key_id: GatewayKey(key_id, user_id=LEO, spend=spend)}


def known(**amounts: float) -> dict[Place, float]:
    """What is accounted for: `days`, `days_k1`, `counter_k1`."""
    places: dict[str, Place] = {
        "days": ("activity", LEO, ""),
        "days_k1": ("activity", LEO, KEY),
        "days_k2": ("activity", LEO, OTHER),
        "counter_k1": ("counter", "", KEY),
    }
    return {places[name]: amount for name, amount in amounts.items()}


def used(when: str, spend: float, key_id: str = KEY) -> LoggedRequest:
    return LoggedRequest(key_id, at(when), spend)


@dataclass(frozen=True)
class Case:
    told: Told
    accounted: dict[Place, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    """By key, "" for what is not told by key."""


THAT_DAY, NEXT, LATER = "2026-03-10", "2026-03-11", "2026-03-12"
CASES = {
    "the first look accounts for the day of the departure": Case(Told(days(day(THAT_DAY, 9.0, k1=9.0)))),
    "the next day may be the same one at the gateway, in Singapore": Case(Told(days(day(NEXT, 9.0, k1=9.0)))),
    "a day that began afterwards wherever the gateway is": Case(
        Told(days(day(THAT_DAY, 9.0, k1=9.0), day(LATER, 2.0, k1=2.0))), after={KEY: 2.0}
    ),
    "nothing has come since": Case(Told(days(day(THAT_DAY, 9.0, k1=9.0))), known(days=0.0, days_k1=9.0)),
    "the same day has grown": Case(Told(days(day(THAT_DAY, 10.5, k1=10.5))), known(days=0.0, days_k1=9.0), {KEY: 1.5}),
    "a key that was never seen before": Case(
        Told(days(day(THAT_DAY, 10.0, k1=9.0, k2=1.0))), known(days=0.0, days_k1=9.0), {OTHER: 1.0}
    ),
    "the account alone is told of, not the key": Case(Told(days(day(THAT_DAY, 10.0))), known(days=9.0), {"": 1.0}),
    "the gateway has come to name keys": Case(Told(days(day(THAT_DAY, 9.0, k1=9.0))), known(days=9.0)),
    "it names keys now, and one has cost more": Case(
        Told(days(day(THAT_DAY, 9.5, k1=9.5))), known(days=9.0), {"": 0.5}
    ),
    "a correction that gives money back": Case(Told(days(day(THAT_DAY, 8.0, k1=8.0))), known(days=0.0, days_k1=9.0)),
    "an answer that does not say whose it is": Case(
        Told({LEO: [DaySpend(LATER, 50.0, None, {"somebody-elses": 50.0})]}), known(days=0.0)
    ),
    "such an answer, with a key of his": Case(
        Told({LEO: [DaySpend(LATER, 50.0, None, {KEY: 3.0})]}, counter(3.0)),
        known(days=0.0, counter_k1=3.0),
        {KEY: 3.0},
    ),
    "the first look at a key's counter": Case(Told(keys=counter(7.0))),
    "a counter that has grown": Case(Told(keys=counter(7.25)), known(counter_k1=7.0), {KEY: 0.25}),
    "a key that was made afterwards": Case(
        Told(keys={KEY: GatewayKey(KEY, user_id=LEO, spend=0.5, created_at="2026-03-10T19:00:00Z")}), after={KEY: 0.5}
    ),
    "a counter that was reset with its budget": Case(Told(keys=counter(0.0)), known(counter_k1=7.0)),
    "the same money in both": Case(
        Told(days(day(THAT_DAY, 10.0, k1=10.0)), counter(8.0)), known(days=0.0, days_k1=9.0, counter_k1=7.0), {KEY: 1.0}
    ),
    "the same money in both, where days do not name the key": Case(
        Told(days(day(THAT_DAY, 10.0)), counter(8.0)), known(days=9.0, counter_k1=7.0), {KEY: 1.0}
    ),
    "rounding": Case(Told(days(day(THAT_DAY, 0.1 + 0.2))), known(days=0.3)),
    "requests say that it was booked late": Case(
        Told(days(day(THAT_DAY, 10.0, k1=10.0)), {}, {LEO: [used("2026-03-10T17:59:00Z", 10.0)]}),
        known(days=0.0, days_k1=9.0),
    ),
    "requests within the gateway's cache time and the clocks' difference": Case(
        Told(days(day(THAT_DAY, 10.0, k1=10.0)), {}, {LEO: [used("2026-03-10T18:01:55Z", 10.0)]}),
        known(days=0.0, days_k1=9.0),
    ),
    "requests say which part was afterwards": Case(
        Told(
            days(day(THAT_DAY, 10.0, k1=10.0)),
            {},
            {LEO: [used("2026-03-10T12:00:00Z", 9.6), used("2026-03-10T18:30:00Z", 0.4)]},
        ),
        known(days=0.0, days_k1=9.0),
        {KEY: 0.4},
    ),
    "requests that do not add up decide nothing": Case(
        Told(days(day(THAT_DAY, 10.0, k1=10.0)), {}, {LEO: [used("2026-03-10T12:00:00Z", 0.1)]}),
        known(days=0.0, days_k1=9.0),
        {KEY: 1.0},
    ),
    "the first look comes late, and requests tell of the same day": Case(
        Told(
            days(day(THAT_DAY, 10.0, k1=10.0)),
            counter(10.0),
            {LEO: [used("2026-03-10T12:00:00Z", 9.6), used("2026-03-10T18:30:00Z", 0.4)]},
        ),
        after={KEY: 0.4},
    ),
    "such a look, where requests do not add up": Case(
        Told(days(day(THAT_DAY, 10.0, k1=10.0)), {}, {LEO: [used("2026-03-10T18:30:00Z", 0.4)]}), after={KEY: 0.4}
    ),
    "requests that cost nothing": Case(Told(days(day(THAT_DAY, 0.0)), {}, {LEO: [used("2026-03-10T18:30:00Z", 0.0)]})),
    "no requests are kept": Case(
        Told(days(day(THAT_DAY, 10.0, k1=10.0)), {}, {LEO: []}), known(days=0.0, days_k1=9.0), {KEY: 1.0}
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_is_spend_after_a_departure(case: Case) -> None:
    verdict = by_requests(judge(case.told, case.accounted, OVER), case.told, OVER)
    assert {amount.key_id: pytest.approx(amount.spend) for amount in verdict.after} == case.after


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_next_look_says_the_same_and_no_more(case: Case) -> None:
    """What a look accounts for must not hide what it has found, nor turn up as something new."""
    told = Told(case.told.days, case.told.keys)
    first = by_requests(judge(case.told, case.accounted, OVER), case.told, OVER)
    second = judge(told, {**case.accounted, **first.accounted}, OVER)
    assert sum(amount.spend for amount in second.after) == pytest.approx(sum(amount.spend for amount in first.after))


def test_the_last_request_is_named() -> None:
    requests = [used("2026-03-10T12:00:00Z", 9.0), used("2026-03-10T18:30:00Z", 0.5), used("2026-03-10T19:00:00Z", 0.5)]
    told = Told(days(day(THAT_DAY, 10.0, k1=10.0)), {}, {LEO: requests})
    (found,) = by_requests(judge(told, known(days=0.0, days_k1=9.0), OVER), told, OVER).after
    assert (found.account_id, found.used_at) == (LEO, at("2026-03-10T19:00:00Z"))
