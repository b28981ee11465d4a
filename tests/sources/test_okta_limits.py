"""How much of a bucket is used, and how long a refusal is waited for. No test waits: `sleep` moves both clocks."""

from __future__ import annotations

from collections import Counter

import pytest

from idsync.errors import SourceUnreachable
from idsync.snapshot import Wanted

from .org import PEOPLE, Org


def windows(org: Org, endpoint: str) -> Counter[int]:
    """Return how many requests to an endpoint were answered in each window of 60 seconds."""
    asked = [at for name, _, at in org.seen if name == endpoint]
    used: Counter[int] = Counter()
    began = asked[0]
    for at in asked:
        began = began if at < began + 60 else at  # a window begins with its first request
        used[int(began)] += 1
    return used


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("skew", [0.0, -86_400.0])
@pytest.mark.parametrize(("share", "limit", "most"), [(0.5, 20, 10), (0.25, 20, 5), (0.5, 1, 1)])
def test_never_more_than_a_share(org: Org, share: float, limit: int, most: int, skew: float, concurrency: int) -> None:
    org.options(limits={"groups/id": limit}, clock_skew=skew)
    names = [f"team-{n}" for n in range(8)]
    org.seed(groups=[{"name": name, "members": [f"{who}@example.com" for who in PEOPLE]} for name in names])
    found = org.snapshot(Wanted(names=frozenset(names)), rate_share=share, concurrency=concurrency)
    assert len(found.groups) == 8
    used = windows(org, "members")
    assert sum(used.values()) == 24
    assert max(used.values()) <= most, used
    assert {entry["status"] for entry in org.asked()} == {200}
    assert sum(org.slept) < 62 * 24 / most + 62, "but all of that is used"


def test_what_others_use_is_not_taken_from_them(org: Org) -> None:
    """12 of 20 are gone before we begin: one request finds that out, and the rest waits for the next window."""
    org.options(limits={"groups/id": 20})
    for _ in range(12):
        org.api("/api/v1/groups/x/users")
    org.snapshot()
    assert sorted(windows(org, "members").values()) == [1, 4]


@pytest.mark.parametrize("kind", ["rate", "concurrency"])
def test_ten_minutes_of_429_are_waited_for(org: Org, kind: str) -> None:
    times = 10 if kind == "rate" else 12
    org.break_with("/api/v1/groups*", throttle=kind, times=times)
    assert len(org.snapshot().users) == 5
    assert len(org.slept) == times
    assert all(1.0 <= seconds <= 90.0 for seconds in org.slept)


def test_patience_has_an_end(org: Org) -> None:
    org.break_with("/api/v1/groups*", throttle="rate")
    with pytest.raises(SourceUnreachable, match="429"):
        org.snapshot(give_up_after=600.0)
    assert 500 < sum(org.slept) <= 600


def test_what_was_asked_is_measured(org: Org) -> None:
    org.break_with("/api/v1/groups", status=503, times=1)
    org.break_with("/api/v1/groups", drop="before", times=1)
    org.snapshot()
    assert Counter(f"{endpoint} {code}" for endpoint, code, _ in org.seen) == {
        "groups 503": 1,
        "groups none": 1,
        "groups 200": 2,
        "members 200": 5,
    }
