"""The series users build alarms on: their names, their values from the store, and what no label may carry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.stores import url_of

from idsync.clock import ManualClock
from idsync.metrics import Metrics
from idsync.model import DepartureState, Evidence, Lane
from idsync.status import quantile
from idsync.store import facts, jobs, ledger, people, verdicts
from idsync.store.db import Db, Store
from idsync.store.ledger import Departure
from idsync.store.opening import store_of
from idsync.store.verdicts import Fence, Window

NOW = 1_800_000_000.0
GATEWAY = "0123456789abcdef"
NAMES = {
    "idsync_time_to_revoke_seconds",
    "idsync_revocation_stage_seconds",
    "idsync_departures_total",
    "idsync_unverified_revocations",
    "idsync_security_events_total",
    "idsync_jobs",
    "idsync_oldest_job_seconds",
    "idsync_holds",
    "idsync_source_last_success_timestamp_seconds",
    "idsync_source_consecutive_errors",
    "idsync_scim_requests_total",
    "idsync_scim_request_duration_seconds",
    "idsync_gateway_requests_total",
    "idsync_gateway_request_duration_seconds",
    "idsync_verification_total",
    "idsync_audit_chain_ok",
    "idsync_fence_proven",
    "idsync_cache_window_seconds",
    "idsync_drill_refused_seconds",
    "idsync_drill_last_success_timestamp_seconds",
    "idsync_build_info",
    "idsync_exposed_keys",
    "idsync_team_settings_drifted",
}
LABELS = {"source", "stage", "evidence", "lane", "state", "method", "resource", "code", "endpoint", "result", "le"}
LABELS |= {"version", "python", "kind", "wants"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = store_of(url_of(tmp_path / "idsync.db"))
    made.open()
    yield made
    made.close()


@pytest.fixture
def metrics(store: Store) -> Metrics:
    return Metrics(store.reader, ManualClock(NOW).now, GATEWAY)


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return every value by name and sorted labels, as a scraper reads them."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, tuple(sorted(labels.items()))]


def exercise(metrics: Metrics) -> None:
    metrics.stage("fenced", 0.1)
    metrics.revoked("scim", "scim_inactive", 0.2)
    metrics.verification("gone")
    metrics.reasserted(["key"])
    metrics.scim_request("PATCH", "Users", 200, 0.003)
    metrics.gateway_call("/key/block", 200, 0.004)
    metrics.source_contact("okta", 201)


def departure(
    db: Db,
    label: str,
    *,
    delete_at: float = NOW,
    verified_at: float | None = None,
    access_ended_at: float | None = None,
) -> None:
    person = people.new_person(db, label, NOW, account_id=f"account-of-{label}")
    opened = Departure(
        id=f"d-{label}",
        person_id=person,
        label=label,
        account_id=None,
        kind="departure",
        evidence=Evidence.SCIM_INACTIVE,
        cause="",
        source="okta",
        state=DepartureState.ACCEPTED,
        received_at=NOW,
        accepted_at=NOW,
        pushed_at=NOW,
        delete_at=delete_at,
        verified_at=verified_at,
        access_ended_at=access_ended_at,
    )
    ledger.put_departure(db, opened)


def drilled(db: Db) -> None:
    verdicts.put_fence(db, GATEWAY, Fence("proven", 0.1, NOW))
    verdicts.put_window(db, GATEWAY, Window(59.7, 3, NOW))
    facts.put(db, "drill:last", {"at": NOW, "succeeded_at": NOW, "refused_seconds": 0.2}, NOW)


def test_every_series_of_the_contract_exists(metrics: Metrics, store: Store) -> None:
    exercise(metrics)
    store.write(drilled)
    names = {name.removesuffix("_count") for name, _ in samples(metrics)}
    assert names >= NAMES


def test_labels_are_a_closed_set_and_carry_no_person_key_or_group(metrics: Metrics, store: Store) -> None:
    def seed(db: Db) -> None:
        departure(db, "ada@example.com")
        person = people.new_person(db, "zoe@example.com", NOW)
        jobs.open_job(db, person, Lane.REVOKE, 1, NOW)
        hold, _ = ledger.join_hold(db, "group:okta", "mapped group Secret Project was emptied", NOW)
        ledger.add_item(db, ledger.HoldItem(hold.id, person, "", "group_loss", "1"))

    store.write(seed)
    exercise(metrics)
    assert {label for _, labels in samples(metrics) for label, _ in labels} <= LABELS
    text = metrics.text().decode()
    assert not re.search(r"@|\bada\b|zoe|Secret|sk-", text)


def test_what_the_store_knows_is_read_when_it_is_asked_for(metrics: Metrics, store: Store) -> None:
    assert value(metrics, "idsync_unverified_revocations") == 0

    def seed(db: Db) -> None:
        departure(db, "ada")
        departure(db, "bob", verified_at=NOW + 1)
        departure(db, "eve", delete_at=NOW + 600, access_ended_at=NOW)
        departure(db, "kim", delete_at=NOW + 600)
        ledger.join_hold(db, "push:okta", "reason", NOW)

    store.write(seed)
    assert value(metrics, "idsync_unverified_revocations") == 2, "unproven, or with access that has not ended"
    assert value(metrics, "idsync_holds") == 1


def test_what_no_drill_has_measured_is_no_series_and_what_one_has_counts_for_a_month(store: Store) -> None:
    clock = ManualClock(NOW)
    metrics = Metrics(store.reader, clock.now, GATEWAY)
    measured = {"idsync_cache_window_seconds", "idsync_drill_refused_seconds"}
    assert not measured & {name for name, _ in samples(metrics)}
    store.write(drilled)
    assert [value(metrics, name) for name in sorted(measured)] == [59.7, 0.2]
    clock.advance(31 * 86400)
    assert value(metrics, "idsync_fence_proven") == 0
    assert "idsync_cache_window_seconds" not in {name for name, _ in samples(metrics)}


def test_a_source_is_fresh_from_what_was_served_and_counts_our_faults_since(store: Store) -> None:
    store.write(lambda db: facts.put(db, "source_success:okta", NOW - 5, NOW))
    metrics = Metrics(store.reader, ManualClock(NOW).now)
    last, errors = "idsync_source_last_success_timestamp_seconds", "idsync_source_consecutive_errors"
    assert (value(metrics, last, source="okta"), value(metrics, errors, source="okta")) == (NOW - 5, 0)
    metrics.source_contact("okta", 500)
    metrics.source_contact("okta", 503)
    assert (value(metrics, last, source="okta"), value(metrics, errors, source="okta")) == (NOW - 5, 2)
    metrics.source_contact("drill", 200)
    assert [dict(labels) for name, labels in samples(metrics) if name == last] == [{"source": "okta"}]
    metrics.source_contact("okta", 404)
    assert (value(metrics, last, source="okta"), value(metrics, errors, source="okta")) == (NOW, 0)


def test_jobs_are_counted_by_lane_and_state_and_the_oldest_unfinished_one_has_an_age(
    metrics: Metrics, store: Store
) -> None:
    def seed(db: Db) -> None:
        jobs.open_job(db, "ready", Lane.GRANT, 1, NOW - 30)
        jobs.open_job(db, "running", Lane.REVOKE, 1, NOW - 60)
        jobs.claim(db, Lane.REVOKE, "w", NOW, 60.0, 1)
        jobs.open_job(db, "retrying", Lane.REVOKE, 1, NOW - 90)
        jobs.claim(db, Lane.REVOKE, "w", NOW, 60.0, 1)
        jobs.retry(db, "retrying", "w", 1, NOW + 5, "down")
        jobs.open_job(db, "waiting", Lane.REVOKE, 1, NOW - 900)
        jobs.claim(db, Lane.REVOKE, "w", NOW, 60.0, 1)
        jobs.wait(db, "waiting", "w", 1, NOW + 600)

    store.write(seed)
    found = samples(metrics)
    counted = {
        dict(labels)["lane"] + " " + dict(labels)["state"]: count
        for (name, labels), count in found.items()
        if name == "idsync_jobs" and count
    }
    assert counted == {"grant ready": 1, "revoke running": 1, "revoke retrying": 1, "revoke waiting": 1}
    assert value(metrics, "idsync_oldest_job_seconds", lane="revoke") == 90
    assert value(metrics, "idsync_oldest_job_seconds", lane="grant") == 30


def test_a_clock_that_was_set_back_never_makes_a_negative_time(metrics: Metrics) -> None:
    metrics.stage("fenced", -5.0)
    metrics.revoked("scim", "scim_delete", -5.0)
    assert value(metrics, "idsync_revocation_stage_seconds_sum", stage="fenced") == 0
    assert value(metrics, "idsync_departures_total", evidence="scim_delete") == 1


def test_build_info_says_what_is_running(metrics: Metrics) -> None:
    [labels] = [dict(labels) for name, labels in samples(metrics) if name == "idsync_build_info"]
    assert set(labels) == {"version", "python"}


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [([], 0.5, None), ([7.0], 0.99, 7.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0), (list(range(1, 101)), 0.99, 99)],
)
def test_quantiles_are_values_that_were_seen(values: list[float], q: float, expected: float | None) -> None:
    assert quantile(values, q) == expected
