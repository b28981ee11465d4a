"""Everything but the servers: what the daemon and a command without one have in common."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from idsync import config as configuration
from idsync.alerts import Alerts
from idsync.app.parts import (
    gateway_of,
    gateway_settings,
    kept_by,
    limits_of,
    rules_of,
    sinks_of,
    sources_of,
    start_problems,
    store_password,
    tracer_of,
    wanted_keys,
    wanted_teams,
    watch_settings,
    webhook_of,
)
from idsync.clock import Clock, EvenClock, SystemClock
from idsync.commands import Commands
from idsync.config import Config
from idsync.control import Control
from idsync.drill.drills import Drills
from idsync.drill.tools import Place, Tools
from idsync.engine.desk import EngineSettings
from idsync.engine.workers import PARKED_AFTER, Engine
from idsync.errors import ConfigError
from idsync.gateway.client import Gateway
from idsync.intake import Intake
from idsync.intake.polls import Polls
from idsync.keys.keeper import Keeper
from idsync.keys.kit import Kit
from idsync.metrics import Metrics
from idsync.polling.passes import Poller
from idsync.reconcile import Reconciler
from idsync.retention.pruner import Pruner
from idsync.snapshot import PolledSource
from idsync.spend.watch import Watch
from idsync.store import facts, jobs, replicas, tokens
from idsync.store.db import Db, Store
from idsync.store.opening import store_of
from idsync.traces import Tracer

if TYPE_CHECKING:
    from idsync.web.scim import ScimApp

WORKING = frozenset({"all", "worker"})
"""Roles of those who do the work that others have only written down."""
FROM_FILE = "file-"
"""Ids of tokens that a file or the environment holds begin so."""

log = structlog.get_logger(__name__)


def store_at(config: Config, role: str) -> Store:
    """Return the configured store, not opened yet.

    Raises:
        StoreError: its address is of no kind that is known.
    """
    return store_of(config.store.url, password=store_password(config), role=role)


@dataclass
class Core:
    """What the daemon and a command without a daemon have in common."""

    config: Config
    clock: EvenClock
    store: Store
    metrics: Metrics
    intake: Intake
    control: Control
    gateway: Gateway
    engine: Engine
    reconciler: Reconciler
    poller: Poller
    watch: Watch
    keeper: Keeper
    tracer: Tracer
    serves: bool = False
    """Whether this process is a daemon, and no command."""

    def serving_beside(self, db: Db) -> bool:
        """Tell whether this is a command, and daemons are there that share the store and do the work."""
        if self.serves or not db.shared:
            return False
        now = replicas.time_of(db, self.clock.now())
        return any(one.role in WORKING for one in replicas.present(db, now) if one.id != self.store.name)

    def commands(
        self, *, alone: bool, on_tokens: Callable[[], None] = lambda: None, drills: Drills | None = None
    ) -> Commands:
        parts = (self.store, self.control, self.engine, self.gateway, self.reconciler, self.poller, self.keeper)
        return Commands(*parts, self.clock, on_tokens, alone, drills)

    def pruner(self) -> Pruner:
        """Return what takes what was kept long enough, by the settings of the moment."""
        return Pruner(self.store, self.clock, lambda: kept_by(self.config), self.metrics)

    def drills(self, address: str, scim: ScimApp | None = None) -> Drills:
        """Return what drills the idsync whose SCIM endpoint is at that address; `scim`: it is in this process."""
        config = self.config
        place = Place(
            scim=address,
            replicas=config.routero.replica_urls or (config.routero.base_url,),
            told_apart=bool(config.routero.replica_urls),
            sources=config.source_names,
            role=config.policy.default_role,
            ca_file=config.http.ca_file,
            cache_time=config.routero.cache_time,
            call_timeout=config.routero.timeout,
        )
        tools = Tools(self.store, self.gateway, self.clock, place)
        if scim is None:
            return Drills(tools, on_tokens=lambda: None, on_purge=lambda source: None)
        return Drills(tools, on_tokens=scim.tokens.reload, on_purge=scim.forget)


@asynccontextmanager
async def opened(
    config: Config,
    *,
    clock: Clock | None = None,
    store: Callable[[Config], Store] | None = None,
    role: str = "command",
    gateway: Callable[..., Gateway] = Gateway,
    sources: Callable[[Config, Clock, Metrics], Mapping[str, PolledSource]] = sources_of,
) -> AsyncIterator[Core]:
    """Open the store and everything behind it; close in the opposite order.

    Tests bring a clock that they move, a store and a gateway client that break when they want them to, and sources.

    Raises:
        ConfigError: something needed to start is missing.
        StoreBusy: another process holds the store.
        StoreError: the store cannot be used.
    """
    problems = start_problems(config)
    if problems:
        raise ConfigError(problems)
    held = store(config) if store is not None else store_at(config, role)
    held.open()
    try:
        core = _core(config, EvenClock(clock or held.clock(SystemClock())), held, gateway, sources)
        core.serves = role != "command"
        if role == "web" or core.serving_beside(held.reader()):
            core.intake.people.on_jobs = held.tell
        async with _told(core.tracer):
            held.write(lambda db: _prepare(db, core))
            async with core.gateway:
                try:
                    yield core
                finally:
                    await core.poller.close()
                    await core.keeper.close()
    finally:
        held.close()


@asynccontextmanager
async def _told(tracer: Tracer) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await tracer.close()


def _core(
    config: Config,
    clock: EvenClock,
    store: Store,
    make: Callable[..., Gateway],
    sources: Callable[[Config, Clock, Metrics], Mapping[str, PolledSource]],
) -> Core:
    rules = rules_of(config)
    intake = Intake(rules, clock)
    learned = {name: str(value) for name, (value, _) in facts.under(store.reader(), "verb:").items()}

    def learn(name: str, verb: str) -> None:
        store.submit(lambda db: facts.put(db, f"verb:{name}", verb, clock.now()))

    metrics = Metrics(store.reader, clock.now, gateway_settings(config).name, store)
    tracer = tracer_of(config, metrics)

    def observe(endpoint: str, code: int | str, seconds: float) -> None:
        metrics.gateway_call(endpoint, code, seconds)
        tracer.gateway_call(endpoint, code, seconds)

    gateway = gateway_of(config, clock, learned=learned, on_learn=learn, observe=observe, make=make)
    engine = Engine(store, gateway, clock, rules, engine_settings(config), metrics, tracer)
    intake.people.on_jobs = engine.wake
    deletes = config.policy.on_departure == "delete"
    alerts = Alerts(store, gateway, clock, webhook_of(config), wanted=config.alerts.budget_alerts)
    reconciler = Reconciler(
        store,
        gateway,
        intake.people,
        clock,
        wanted_teams(config),
        deletes=deletes,
        alerts=alerts,
        limits=limits_of(config),
        check_models=config.routero.check_models,
    )
    control = Control(intake, config, clock)
    polls = Polls(intake, clock)
    polled = sources(config, clock, metrics)
    poller = Poller(store, polls, rules, limits_of(config), polled, clock, metrics, reconciler.unlinked, tracer)
    watch = Watch(store, gateway, clock, watch_settings(config), metrics)
    places = sinks_of(config.sinks, config.http.ca_file, metrics)
    keeper = Keeper(Kit(store, gateway, clock, wanted_keys(config), places, metrics))
    engine.on_revoked = keeper.wake
    parts = (intake, control, gateway, engine, reconciler, poller, watch, keeper, tracer)
    return Core(config, clock, store, metrics, *parts)


def engine_settings(config: Config) -> EngineSettings:
    return EngineSettings(
        on_departure=config.policy.on_departure,
        delete_user=config.policy.delete_user,
        cache_time=config.routero.cache_time,
        lease=max(60.0, 3 * config.routero.timeout),
    )


def _prepare(db: Db, core: Core) -> None:
    """Bring the store in line with this process: leases of the dead, the configuration, tokens from files."""
    if db.shared and core.serving_beside(db):
        return  # a command: whose leases run, by which rules people are judged and which tokens count is theirs to say
    if not db.shared:
        jobs.release_all(db)
    if back := jobs.mind_a_step_back(db, core.clock.now(), PARKED_AFTER):
        log.warning("clock.set_back", seconds=round(back, 1))
    if db.shared and core.serves:
        facts.put(db, facts.SERVED, configuration.served(core.config), core.clock.now())
    take_tokens(db, core)
    if core.control.adopt_configuration(db):
        log.warning("configuration.changed", note="what it alone would take from people is on hold: idsync holds list")
    if db.shared and core.serves:
        core.control.settle_configuration(db, core.store.name)


def take_tokens(db: Db, core: Core) -> None:
    """Make the tokens that files and the environment hold the live ones.

    Raises:
        ConfigError: a file cannot be read.
    """
    for source in core.config.scim.sources:
        _take_token(db, core, source)


def _take_token(db: Db, core: Core, source: configuration.ScimSource) -> None:
    """Make the token of `token_file` (or of the environment) the live one of its kind; an older one of it ends."""
    secret = source.token.get_secret_value() if source.token else ""
    secret = configuration.read_secret(source.token_file) if source.token_file else secret
    digest = hashlib.sha256(secret.encode()).hexdigest() if secret else None
    earlier = [
        token
        for token in tokens.live_tokens(db)
        if (token.kind, token.name) == ("source", source.name) and token.id.startswith(FROM_FILE)
    ]
    for token in earlier:
        if token.digest != digest:
            tokens.revoke_token(db, token.id, core.clock.now())
    if digest is not None and all(token.digest != digest for token in earlier):
        now = core.clock.now()
        made = f"{FROM_FILE}{source.name}-{digest[:6]}"
        tokens.put_token(db, id=made, kind="source", name=source.name, scope="scim", digest=digest, at=now)


@asynccontextmanager
async def alone(config: Config) -> AsyncIterator[Commands]:
    """Run commands in this process: it takes the store's lock and does the work itself, unless daemons share the store."""
    async with opened(config) as core:
        beside = core.serving_beside(core.store.reader())
        port = config.server.port
        drills = core.drills(f"http://127.0.0.1:{port}/scim/v2") if beside and port else None
        yield core.commands(alone=not beside, drills=drills)
