"""Prometheus series, under the names users build alarms on. Labels never carry an e-mail, a key or a group."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from idsync import __version__
from idsync.errors import StoreError
from idsync.model import DRILL, Lane
from idsync.pulse import Pulse
from idsync.store import canary, exposure, facts, jobs, ledger, replicas, spend, teamkeys, tokens, verdicts
from idsync.store.db import Db, Store
from idsync.store.teamkeys import TeamKey

REVOKE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400)
CALL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
POLL_BUCKETS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)


class _Departures:
    """What the engine measures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        seconds = partial(Histogram, registry=registry, buckets=REVOKE_BUCKETS)
        self.to_verified = seconds(
            "idsync_time_to_revoke_seconds", "Request received to verified, since this process started", ["source"]
        )
        self.to_stage = seconds(
            "idsync_revocation_stage_seconds", "Request received to this stage of a departure", ["stage"]
        )
        self.verified = counter("idsync_departures", "Departures verified, by evidence", ["evidence"])
        self.read_backs = counter("idsync_verification", "Read-backs at the gateway, by result", ["result"])
        self.reasserted = counter(
            "idsync_security_events",
            "What came back of a departed person, or a key nobody had asked for, and was ended, by kind",
            ["kind"],
        )


class _Rims:
    """What is asked of idsync, and what it asks of the gateway."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        seconds = partial(Histogram, registry=registry, buckets=CALL_BUCKETS)
        self.scim = counter("idsync_scim_requests", "SCIM requests", ["method", "resource", "code"])
        self.scim_time = seconds(
            "idsync_scim_request_duration_seconds", "Time to answer a SCIM request", ["method", "resource"]
        )
        self.gateway = counter("idsync_gateway_requests", "Calls to the gateway", ["endpoint", "code"])
        self.gateway_time = seconds("idsync_gateway_request_duration_seconds", "Time of a gateway call", ["endpoint"])
        self.sinks = counter(
            "idsync_sink_deliveries", "New keys handed to a sink, and what came of it", ["sink", "result"]
        )


class _Sources:
    """What is measured of the identity providers, whether they push or are polled."""

    def __init__(self, registry: CollectorRegistry, db: Db) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        seconds = partial(Histogram, registry=registry)
        self.success = gauge(
            "idsync_source_last_success_timestamp_seconds",
            "Last request of a pushing source that was served, or last poll that was whole",
            ["source"],
        )
        self.errors = gauge(
            "idsync_source_consecutive_errors",
            "Failed in a row: requests of a pushing source through our fault, or polls",
            ["source"],
        )
        self.polls = counter(
            "idsync_polls", "Polls of a source, by kind and how they ended", ["source", "kind", "result"]
        )
        self.poll_time = seconds(
            "idsync_poll_duration_seconds", "Length of a poll", ["source", "kind"], buckets=POLL_BUCKETS
        )
        self.asked = counter("idsync_source_requests", "Requests to a polled source", ["source", "endpoint", "code"])
        self.asked_time = seconds(
            "idsync_source_request_duration_seconds", "Length of a request to a polled source", ["source"]
        )
        for source, (at, _) in facts.under(db, "source_success:").items():
            self.success.labels(source).set(float(at))
            self.errors.labels(source).set(0)
        for source, (errors, _) in facts.under(db, "source_errors:").items():
            self.errors.labels(source).set(int(errors))


class Metrics:
    """The series of one process. What the store knows is read from it at scrape time, never counted twice."""

    def __init__(
        self, db: Callable[[], Db], now: Callable[[], float], gateway: str = "", store: Store | None = None
    ) -> None:
        """`gateway` is the name under which the store keeps what was learnt of the gateway; `store` is what `db` reads."""
        self.registry = CollectorRegistry()
        self.pulse = Pulse(now)
        self._now = now
        self._departures = _Departures(self.registry)
        self._rims = _Rims(self.registry)
        self._sources = _Sources(self.registry, db())
        self._rotations = Counter(
            "idsync_key_rotations",
            "New keys for teams: delivered to their sink, failed tries, secrets given up undelivered",
            ["result"],
            registry=self.registry,
        )
        self.told = Counter(
            "idsync_notifications",
            "Messages to receivers, by kind and how it went",
            ["kind", "result"],
            registry=self.registry,
        )
        self._pruned = Counter(
            "idsync_retention_pruned", "Rows taken because they were kept long enough", ["what"], registry=self.registry
        )
        self._spans = Counter(
            "idsync_trace_spans", "Spans for the collector, by what came of them", ["result"], registry=self.registry
        )
        self.chain_ok = Gauge(
            "idsync_audit_chain_ok", "1: the audit chain was whole when last checked", registry=self.registry
        )
        self.chain_ok.set(math.nan)  # not checked yet, by this process: of several, one checks
        info = Gauge("idsync_build_info", "What is running", ["version", "python"], registry=self.registry)
        info.labels(__version__, platform.python_version()).set(1)
        self._reload_ok = Gauge(
            "idsync_config_last_reload_successful",
            "1: the configuration in force is the one that was last asked for",
            registry=self.registry,
        )
        self._reloaded_at = Gauge(
            "idsync_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was taken over",
            registry=self.registry,
        )
        self.registry.register(_StoreCollector(db, now, gateway))
        if store is not None:
            self.registry.register(_ReplicaCollector(store, now))

    # -- what the engine reports ------------------------------------------------------------------------------------

    def stage(self, stage: str, seconds: float) -> None:
        self._departures.to_stage.labels(stage).observe(max(0.0, seconds))

    def reasserted(self, kinds: Sequence[str]) -> None:
        for kind in kinds:
            self._departures.reasserted.labels(kind).inc()

    def revoked(self, source_kind: str, evidence: str, seconds: float) -> None:
        self._departures.to_verified.labels(source_kind).observe(max(0.0, seconds))
        self._departures.verified.labels(evidence).inc()

    def verification(self, result: str) -> None:
        self._departures.read_backs.labels(result).inc()

    def key_rotation(self, result: str) -> None:
        self._rotations.labels(result).inc()

    def source_contact(self, source: str, code: int) -> None:
        """Note a request of a source: served, or failed through our fault (5xx). A drill's source is nobody's."""
        if source == DRILL:
            return
        if code >= 500:
            self._sources.errors.labels(source).inc()
        else:
            self._sources.errors.labels(source).set(0)
            self._sources.success.labels(source).set(self._now())

    def polled(self, source: str, kind: str, result: str, seconds: float) -> None:
        """Note a poll: `result` is ok, or the class of the error it ended with."""
        self._sources.polls.labels(source, kind, result).inc()
        self._sources.poll_time.labels(source, kind).observe(seconds)
        if result == "ok":
            self._sources.errors.labels(source).set(0)
            self._sources.success.labels(source).set(self._now())
        else:
            self._sources.errors.labels(source).inc()

    def source_request(self, source: str, endpoint: str, code: str, seconds: float) -> None:
        """Note a request to a polled source; `endpoint` is a template without ids, `code` "error" for no answer."""
        self._sources.asked.labels(source, endpoint, code).inc()
        self._sources.asked_time.labels(source).observe(seconds)

    def reloaded(self, *, successful: bool) -> None:
        """Note that the configuration was read: taken over, or refused."""
        self._reload_ok.set(int(successful))
        if successful:
            self._reloaded_at.set(self._now())

    # -- what the rims report -----------------------------------------------------------------------------------------

    def scim_request(self, method: str, resource: str, code: int, seconds: float) -> None:
        self._rims.scim.labels(method, resource, str(code)).inc()
        self._rims.scim_time.labels(method, resource).observe(seconds)

    def sink_delivery(self, sink: str, taken: bool) -> None:
        self._rims.sinks.labels(sink, "taken" if taken else "failed").inc()

    def chain_checked(self, *, whole: bool) -> None:
        self.chain_ok.set(int(whole))
        self.pulse.checked_chain(whole=whole)

    def gateway_call(self, endpoint: str, code: int | str, seconds: float) -> None:
        self.pulse.gateway(code)
        self._rims.gateway.labels(endpoint, str(code)).inc()
        self._rims.gateway_time.labels(endpoint).observe(seconds)

    def pruned(self, what: str, count: int) -> None:
        """Note what retention has taken; `what` is the setting that asked for it."""
        self._pruned.labels(what).inc(count)

    def notification(self, kind: str, result: str) -> None:
        """Note a message: `result` is delivered or failed."""
        self.told.labels(kind, result).inc()

    def spans(self, result: str, count: int) -> None:
        """Note a batch of spans: `result` is sent or lost."""
        self._spans.labels(result).inc(count)

    def text(self) -> bytes:
        """Return the exposition text (prometheus.io/docs/instrumenting/exposition_formats)."""
        return generate_latest(self.registry)


class _StoreCollector(Collector):
    """Reads gauges from the store when they are asked for."""

    def __init__(self, db: Callable[[], Db], now: Callable[[], float], gateway: str) -> None:
        self._db = db
        self._now = now
        self._gateway = gateway

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        try:
            read = list(self._read(self._db()))
        except StoreError:
            read = []
        yield _gauge("idsync_store_readable", "1: the store was read for this answer", int(bool(read)))
        yield from read

    def _read(self, db: Db) -> Iterable[Metric]:
        yield _gauge("idsync_unverified_revocations", "Departures not yet proven", ledger.unverified(db, self._now()))
        yield _gauge("idsync_holds", "Holds that wait for a person", len(ledger.holds(db)))
        canaries = canary.persons(db)
        yield from self._jobs([job for job in jobs.all_jobs(db) if job.person_id not in canaries])
        known = GaugeMetricFamily("idsync_exposed_keys", "Keys that somebody who left may know", labels=["wants"])
        for wants, keys in exposure.tally(db).items():
            known.add_metric([wants], keys)
        yield known
        drifted: Any = facts.get(db, "drift:teams") or {}
        settings = sum(map(len, drifted.values()))
        yield _gauge(
            "idsync_team_settings_drifted", "Settings of teams that somebody changed and idsync leaves", settings
        )
        yield from self._keys(teamkeys.every(db), len(teamkeys.undelivered(db)))
        ends = GaugeMetricFamily(
            "idsync_token_expiry_timestamp_seconds", "When a token ends", labels=["token_id", "kind"]
        )
        for token in tokens.live_tokens(db):
            if token.expires_at is not None:
                ends.add_metric([token.id, token.kind], token.expires_at)
        yield ends
        listing = GaugeMetricFamily("idsync_poll_read", "What a listing under way has read so far", labels=["source"])
        for source, (said, _) in facts.under(db, "progress:").items():
            listing.add_metric([source], said["done"])
        yield listing
        found = spend.after_since(db, self._now() - spend.SHOWN)
        text = "People who spent after their access had ended, in the last 30 days"
        yield _gauge("idsync_spend_after_departure", text, spend.spenders(found))
        yield from self._drills(db)

    def _keys(self, keys: Sequence[TeamKey], undelivered: int) -> Iterable[Metric]:
        """How the shared keys of teams are."""
        late = sum(1 for key in keys if key.rotate_at is not None and key.rotate_at <= self._now())
        failing = sum(1 for key in keys if key.error is not None)
        yield _gauge(
            "idsync_team_keys", "Shared keys of teams that are in their sinks", sum(1 for key in keys if key.key_id)
        )
        yield _gauge("idsync_keys_expiring", "Shared keys whose time to be rotated has come, and that are not", late)
        yield _gauge("idsync_key_rotations_failing", "Shared keys whose last rotation or change failed", failing)
        yield _gauge(
            "idsync_keys_undelivered", "Keys that were made, or may have been, and that no sink has taken", undelivered
        )

    def _drills(self, db: Db) -> Iterable[Metric]:
        """What drills have shown; what none has measured yet is no series."""
        last: Any = facts.get(db, "drill:last") or {}
        window = verdicts.cache_window(db, self._gateway, self._now())
        proven = verdicts.fence_verdict(db, self._gateway, self._now()) == "proven"
        yield _gauge("idsync_fence_proven", "1: a drill has seen the gateway refuse a fenced user's key", int(proven))
        for name, text, value in (
            ("idsync_drill_last_success_timestamp_seconds", "The last drill that went well", last.get("succeeded_at")),
            ("idsync_drill_refused_seconds", "Push to the last refusal in the last drill", last.get("refused_seconds")),
            ("idsync_cache_window_seconds", "How long a deleted key may live at this gateway", window),
        ):
            if value is not None:
                yield _gauge(name, text, value)

    def _jobs(self, open_jobs: list[jobs.Job]) -> Iterable[Metric]:
        counts = GaugeMetricFamily("idsync_jobs", "Open jobs", labels=["lane", "state"])
        oldest = GaugeMetricFamily("idsync_oldest_job_seconds", "Age of the oldest unfinished job", labels=["lane"])
        for lane in Lane:
            here = [job for job in open_jobs if job.lane is lane]
            for state in ("ready", "running", "retrying", "waiting"):
                counts.add_metric([lane.value, state], sum(1 for job in here if state_of(job) == state))
            ages = [self._now() - job.created_at for job in here if not job.waiting]
            oldest.add_metric([lane.value], max(ages, default=0.0))
        yield counts
        yield oldest


class _ReplicaCollector(Collector):
    """Reads who shares the store, and how this process fares with the others."""

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        yield _gauge("idsync_leader", "1: this process polls, sweeps and does full passes", int(self._store.leads))
        yield CounterMetricFamily(
            "idsync_store_retries", "Transactions begun again: another one was in the way", value=self._store.retries
        )
        with suppress(StoreError):
            yield from list(self._read(self._store.reader()))

    def _read(self, db: Db) -> Iterable[Metric]:
        now = replicas.time_of(db, self._now())
        serving = [one for one in replicas.present(db, now) if one.role != replicas.COMMAND]
        yield _gauge("idsync_replicas", "Processes that serve on the store", len(serving) if db.shared else 1)
        tail = replicas.tail(db)
        yield _gauge("idsync_audit_unlinked", "Audit entries that are committed, not yet linked", tail.entries)
        yield _gauge("idsync_audit_unlinked_seconds", "Age of the oldest entry not yet linked", tail.age(now))


def state_of(job: jobs.Job) -> str:
    """Return the word for where a job stands."""
    if job.leased:
        return "running"
    if job.waiting:
        return "waiting"
    return "retrying" if job.last_error else "ready"


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
