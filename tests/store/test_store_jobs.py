"""Jobs: one a person, leased by one owner, closed only for the generation that was seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest

from idsync.model import Lane
from idsync.store import jobs
from idsync.store.db import Db, Store
from idsync.store.jobs import Job

NOW = 1000.0
LEASE = 60.0
T = TypeVar("T")
Write = Callable[[Callable[[Db], T]], T]


def claim(store: Store, owner: str = "w", *, at: float = NOW, lane: Lane = Lane.REVOKE, limit: int = 10) -> list[str]:
    return [job.person_id for job in store.write(lambda db: jobs.claim(db, lane, owner, at, LEASE, limit))]


def open_job(store: Store, person: str = "ada", lane: Lane = Lane.REVOKE, wanted: int = 1, at: float = NOW) -> None:
    store.write(lambda db: jobs.open_job(db, person, lane, wanted, at))


def job(store: Store, person: str = "ada") -> Job:
    found = jobs.get(store.reader(), person)
    assert found is not None
    return found


def test_a_claim_takes_due_jobs_of_its_lane_the_oldest_first(store: Store) -> None:
    open_job(store, "late", at=NOW + 1)
    open_job(store, "second", at=NOW - 1)
    open_job(store, "first", at=NOW - 2)
    open_job(store, "grant", Lane.GRANT, at=NOW - 3)
    assert claim(store, limit=1) == ["first"]
    assert claim(store) == ["second"]
    assert claim(store) == []
    assert claim(store, lane=Lane.GRANT) == ["grant"]
    assert claim(store, at=NOW + 1) == ["late"]


def test_a_leased_job_is_nobody_elses_until_the_lease_runs_out(store: Store) -> None:
    open_job(store)
    assert claim(store, "one") == ["ada"]
    assert claim(store, "two", at=NOW + LEASE - 1) == []
    assert claim(store, "two", at=NOW + LEASE) == ["ada"]
    assert not store.write(lambda db: jobs.close(db, "ada", "one", 1))
    assert store.write(lambda db: jobs.close(db, "ada", "two", 1))


def test_a_job_is_closed_only_by_its_owner_for_the_generation_that_was_seen(store: Store) -> None:
    open_job(store, wanted=3)
    claim(store)
    assert not store.write(lambda db: jobs.close(db, "ada", "other", 3))
    assert not store.write(lambda db: jobs.close(db, "ada", "w", 2))
    assert store.write(lambda db: jobs.close(db, "ada", "w", 3))
    assert jobs.get(store.reader(), "ada") is None


def test_a_job_that_was_raised_while_leased_is_not_closed_and_stays_with_its_owner(store: Store) -> None:
    open_job(store, wanted=1)
    claim(store)
    open_job(store, wanted=2)
    assert not store.write(lambda db: jobs.close(db, "ada", "w", 1))
    assert not store.write(lambda db: jobs.wait(db, "ada", "w", 1, NOW + 600))
    assert claim(store, "two") == []
    store.write(lambda db: jobs.release(db, "ada", "w", NOW))
    assert claim(store, "two") == ["ada"]
    assert job(store).wanted == 2


def test_a_person_has_one_job_and_a_revoke_never_becomes_a_grant(store: Store) -> None:
    open_job(store, lane=Lane.GRANT, wanted=1)
    open_job(store, lane=Lane.REVOKE, wanted=2)
    assert job(store).lane is Lane.REVOKE
    open_job(store, lane=Lane.GRANT, wanted=3, at=NOW + 5)
    [only] = jobs.all_jobs(store.reader())
    assert (only.lane, only.wanted, only.created_at) == (Lane.REVOKE, 3, NOW)


def test_a_job_that_only_waits_is_raised_into_the_lane_that_is_asked_for(store: Store) -> None:
    open_job(store)
    claim(store)
    assert store.write(lambda db: jobs.wait(db, "ada", "w", 1, NOW + 600))
    assert (job(store).waiting, job(store).leased, job(store).run_at) == (True, False, NOW + 600)
    assert claim(store, at=NOW + 599) == []
    open_job(store, lane=Lane.GRANT, wanted=2, at=NOW + 10)
    raised = job(store)
    assert (raised.lane, raised.waiting, raised.run_at, raised.created_at) == (Lane.GRANT, False, NOW + 10, NOW + 10)


def test_a_failed_job_is_kept_counted_and_tried_again_later(store: Store) -> None:
    open_job(store)
    for tries in (1, 2):
        at = NOW + 10.0 * tries
        assert claim(store, at=at) == ["ada"]
        failed = partial(jobs.retry, person_id="ada", owner="w", generation=1, run_at=at + 10.0, error="gateway down")
        store.write(failed)
        assert (job(store).attempts, job(store).last_error, job(store).run_at) == (tries, "gateway down", at + 10.0)
    assert claim(store, at=NOW + 29) == []


def test_a_failure_of_an_older_generation_does_not_put_off_the_newer_one(store: Store) -> None:
    open_job(store, wanted=1)
    claim(store)
    open_job(store, wanted=2)
    store.write(lambda db: jobs.retry(db, "ada", "w", 1, NOW + 600, "down"))
    assert (job(store).attempts, job(store).run_at) == (0, NOW)
    assert claim(store) == ["ada"]


def test_only_the_owner_can_give_a_job_back(store: Store) -> None:
    open_job(store)
    claim(store)
    store.write(lambda db: jobs.retry(db, "ada", "other", 1, NOW, "no"))
    store.write(lambda db: jobs.release(db, "ada", "other", NOW))
    assert (job(store).leased, job(store).last_error) == (True, None)


def test_hurry_makes_failed_jobs_due_and_leaves_waiting_and_leased_ones(store: Store) -> None:
    for person in ("failed", "waiting", "leased"):
        open_job(store, person)
        claim(store)
    store.write(lambda db: jobs.retry(db, "failed", "w", 1, NOW + 60, "down"))
    store.write(lambda db: jobs.wait(db, "waiting", "w", 1, NOW + 60))
    assert store.write(lambda db: jobs.hurry(db, NOW + 1)) == 1
    assert claim(store, "two", at=NOW + 1) == ["failed"]


def test_the_leases_of_the_dead_are_dropped_at_start(store: Store) -> None:
    open_job(store)
    claim(store, "dead")
    assert store.write(jobs.release_all) == 1
    assert claim(store, "alive") == ["ada"]


def test_a_lease_is_renewed_by_its_owner_alone(store: Store) -> None:
    for person in ("ada", "bob"):
        open_job(store, person)
        claim(store, person, limit=1)
    store.write(lambda db: jobs.renew(db, ("ada", "bob"), "ada", NOW + 2 * LEASE))
    assert claim(store, at=NOW + 1.5 * LEASE) == ["bob"]


@pytest.mark.parametrize(
    ("state", "ahead", "due"),
    [("new", 600, True), ("failed", 600, False), ("failed", 3600, True), ("waiting", 3600, False)],
)
def test_at_start_nothing_is_further_ahead_than_what_it_waits_for(
    store: Store, state: str, ahead: float, due: bool
) -> None:
    """The wall clock was set back while nobody looked; what waits for a deletion, or a look, may wait for days."""
    at = NOW + ahead
    open_job(store, at=at)
    claim(store, at=at)
    if state == "new":
        store.write(jobs.release_all)
    elif state == "failed":
        store.write(lambda db: jobs.retry(db, "ada", "w", 1, at, "down"))
    else:
        store.write(lambda db: jobs.wait(db, "ada", "w", 1, at))
    store.write(lambda db: jobs.pull_in(db, NOW, 900.0))
    assert claim(store) == (["ada"] if due else [])


@pytest.mark.parametrize(("leased", "due"), [(False, NOW), (True, NOW + LEASE)])
def test_the_next_due_time_is_when_a_job_can_be_claimed(store: Store, leased: bool, due: float) -> None:
    assert jobs.next_due(store.reader()) is None
    open_job(store)
    if leased:
        claim(store)
    assert jobs.next_due(store.reader()) == due


def test_what_only_waits_is_not_busy(store: Store) -> None:
    open_job(store, "ada")
    open_job(store, "bob")
    claim(store, limit=1)
    store.write(lambda db: jobs.wait(db, "ada", "w", 1, NOW + 60))
    assert jobs.busy(store.reader()) == 1
