"""Much to take at once: in many small commits that others overtake, killed in the middle, and finished afterwards."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import pytest
from support.stores import SHARED, UsualStore, url_of

from idsync.audit import first_break
from idsync.clock import SystemClock
from idsync.model import Call, DepartureState, Evidence
from idsync.retention.pruner import Kept, Pruner
from idsync.retention.trail import Trimming
from idsync.store import facts, journal, ledger, people, pruning
from idsync.store.db import Db, Store
from idsync.store.ledger import Departure
from idsync.store.opening import store_of
from idsync.store.postgres import PostgresStore

T = TypeVar("T")
DAY = 86400.0
LEAVERS, CALLS, ENTRIES = 400, 9, 1000
KEPT = Kept(receipts=DAY)
KILLED_AFTER = 3
"""Writes."""


class Uncounted:
    def pruned(self, what: str, count: int) -> None:
        pass


class Mortal(UsualStore):
    """Its process is killed before the next write, after so many."""

    left = KILLED_AFTER

    def submit(self, run: Callable[[Db], T], *, urgent: bool = False) -> Future[T]:
        if self.left == 0:
            os._exit(9)
        self.left -= 1
        return super().submit(run, urgent=urgent)


def fill(db: Db) -> None:
    for number in range(LEAVERS):
        person = people.new_person(db, f"p{number}", 1.0)
        times: dict[str, Any] = {
            "received_at": 1.0,
            "accepted_at": 1.0,
            "pushed_at": 1.0,
            "delete_at": 1.0,
            "verified_at": 2.0,
        }
        gone: dict[str, Any] = {"keys": [{"id": f"k{number}", "name": "n", "alias": "a", "team_id": "t"}]}
        ledger.put_departure(
            db,
            Departure(
                id=f"d{number:04}",
                person_id=person,
                label=f"p{number}",
                account_id=f"a{number}",
                kind="departure",
                evidence=Evidence.SCIM_INACTIVE,
                cause="left",
                source="okta",
                state=DepartureState.SETTLED,
                settled_at=3.0,
                receipt={"cause": "left", **gone},
                **times,
            ),
        )
        ledger.add_calls(db, f"d{number:04}", [Call(1.5, "POST", "/key/delete", "k", 200, 1.0)] * CALLS)
    for number in range(ENTRIES):
        journal.append(db, at=1.0, actor="a", action="b", subject=f"s{number}", detail={})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = store_of(url_of(tmp_path / "idsync.db"))
    made.open()
    made.write(fill)
    yield made
    made.close()


def pruner(store: Store, kept: Kept = KEPT) -> Pruner:
    return Pruner(store, SystemClock(), lambda: kept, Uncounted())


def trimmed(store: Store) -> dict[str, Any]:
    """Take out all but the newest entries, as if a file had been proven."""
    row = store.reader().one("SELECT hash FROM audit WHERE seq = :seq", seq=ENTRIES)
    assert row is not None
    proven: dict[str, Any] = {"last": ENTRIES, "hash": row["hash"], "entries": ENTRIES, "sha256": "f" * 64}
    return asyncio.run(Trimming(store, SystemClock()).run(before=DAY, by="test", **proven))


def left(db: Db) -> dict[str, bool]:
    """Return each departure, and whether it has its receipt and all its calls still; one without the other is a fault."""
    rows = db.all(
        "SELECT d.id, d.receipt_pruned_at IS NULL AS there, COUNT(c.seq) AS calls FROM departures d"
        " LEFT JOIN departure_calls c ON c.departure_id = d.id GROUP BY d.id"
    )
    assert all(row["calls"] == (CALLS if row["there"] else 0) for row in rows)
    return {row["id"]: bool(row["there"]) for row in rows}


def killed(store: Store, work: str) -> None:
    """Do it in a process that is killed in the middle, and take the store over from it."""
    store.close()
    url = store.address.url if isinstance(store, PostgresStore) else f"sqlite:///{store.path}"
    here = Path(__file__)
    code = (
        f"import asyncio, sys; sys.path[:0] = {[str(here.parent), str(here.parents[1])]!r}; from test_small_steps import *\n"
        f"store = Mortal({url!r}); store.open(); {work}"
    )
    environ = {**os.environ, "IDSYNC_TEST_STORE": "postgresql" if SHARED else ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False, env=environ)
    assert done.returncode == 9, done.stderr.decode()
    store.open()


def test_a_turn_that_is_killed_loses_nothing_and_is_finished(store: Store) -> None:
    killed(store, "asyncio.run(pruner(store).beat())")
    half = left(store.reader())
    assert 0 < sum(half.values()) < LEAVERS
    tally = facts.get(store.reader(), "retention:under_way")
    assert tally == {"receipts": (CALLS + 1) * (LEAVERS - sum(half.values()))}
    asyncio.run(pruner(store).beat())
    assert not any(left(store.reader()).values())
    (said,) = [one for one in journal.events(store.reader()) if one.action == "retention.pruned"]
    assert said.detail["taken"] == {"receipts": (CALLS + 1) * LEAVERS}
    departure = ledger.departure(store.reader(), "d0000")
    assert departure is not None
    assert [key["id"] for key in (departure.receipt or {})["keys"]] == ["k0"]


def test_a_trail_half_taken_out_is_whole_and_the_next_beat_takes_the_rest(store: Store) -> None:
    killed(store, "trimmed(store)")
    db = store.reader()
    assert 0 < journal.left_to_take(db) < ENTRIES
    assert first_break(journal.kept(db), *journal.start(db)) is None
    asyncio.run(pruner(store, Kept()).beat())
    assert (journal.left_to_take(db), first_break(journal.kept(db), *journal.start(db))) == (0, None)
    assert trimmed_again(store) == 0


def trimmed_again(store: Store) -> int:
    made = journal.checkpoint(store.reader())
    assert made is not None
    proven: dict[str, Any] = {"last": made.seq, "hash": made.hash, "entries": made.entries, "sha256": made.sha256}
    taken: int = asyncio.run(Trimming(store, SystemClock()).run(before=DAY, by="test", **proven))["taken"]
    return taken


def test_who_waits_for_an_answer_overtakes(store: Store) -> None:
    """Each push that comes during a turn is on disk while most is still to be taken, and no commit takes many rows."""
    seen: list[int] = []

    async def push() -> None:
        await asyncio.wrap_future(store.submit(lambda db: facts.put(db, "pushed", 1, 1.0), urgent=True))
        seen.append(sum(left(store.reader()).values()))

    async def both() -> None:
        turn = asyncio.create_task(pruner(store).turn(KEPT))
        await asyncio.sleep(0)
        for _ in range(5):
            await push()
        await turn

    asyncio.run(both())
    assert seen[0] > LEAVERS - 3 * pruning.ROWS / CALLS
    assert seen[-1] > 0
    assert max(a - b for a, b in zip([LEAVERS, *seen], seen, strict=False)) <= 3 * pruning.ROWS / CALLS
    assert not any(left(store.reader()).values())
