"""What drills have shown of a gateway: kept for each gateway by itself, and for 30 days."""

from __future__ import annotations

import pytest

from idsync.gateway.client import GatewaySettings
from idsync.store import verdicts
from idsync.store.db import Store
from idsync.store.verdicts import Fence, Verdict, Window

NOW, MONTH = 1_800_000_000.0, 30 * 86400.0
HERE = GatewaySettings("https://gateway.example.com", "litellm").name


def test_nothing_is_known_before_a_drill(store: Store) -> None:
    assert verdicts.fence_verdict(store.reader(), HERE, NOW) == "assumed"
    assert verdicts.cache_window(store.reader(), HERE, NOW) is None


@pytest.mark.parametrize("verdict", ["proven", "unsupported"])
def test_a_verdict_counts_for_30_days(store: Store, verdict: Verdict) -> None:
    store.write(lambda db: verdicts.put_fence(db, HERE, Fence(verdict, 0.1, NOW)))
    store.write(lambda db: verdicts.put_window(db, HERE, Window(59.8, 3, NOW)))
    db = store.reader()
    assert verdicts.fence_verdict(db, HERE, NOW + MONTH) == verdict
    assert verdicts.cache_window(db, HERE, NOW + MONTH) == 59.8
    assert verdicts.fence_verdict(db, HERE, NOW + MONTH + 1) == "assumed"
    assert verdicts.cache_window(db, HERE, NOW + MONTH + 1) is None


@pytest.mark.parametrize(
    "other",
    [GatewaySettings("https://gateway.example.com", "routero"), GatewaySettings("https://gw.example.com", "litellm")],
    ids=repr,
)
def test_what_was_shown_of_one_gateway_says_nothing_of_another(store: Store, other: GatewaySettings) -> None:
    store.write(lambda db: verdicts.put_fence(db, HERE, Fence("proven", 0.1, NOW)))
    assert verdicts.fence_verdict(store.reader(), other.name, NOW) == "assumed"
    same = GatewaySettings("https://gateway.example.com/", "litellm", timeout=1.0)
    assert verdicts.fence_verdict(store.reader(), same.name, NOW) == "proven"
