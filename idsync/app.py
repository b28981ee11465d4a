"""The only place that builds objects and knows in which order they start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from idsync import config as configuration
from idsync.audit import GENESIS, first_break
from idsync.clock import Clock, SystemClock, end_of_day
from idsync.commands import Commands
from idsync.config import Config
from idsync.control import Control
from idsync.drill.drills import Drills
from idsync.drill.tools import Place, Tools
from idsync.engine.desk import EngineSettings
from idsync.engine.workers import Engine
from idsync.errors import ConfigError, GatewayError, StoreError, UsageError
from idsync.gateway.client import Gateway, GatewaySettings
from idsync.intake import Intake
from idsync.metrics import Metrics
from idsync.model import DRILL
from idsync.plan import WantedTeam
from idsync.policy import GroupSpec, Protection, Rule, Rules
from idsync.reconcile import Reconciler
from idsync.store import facts, jobs, journal, tokens
from idsync.store.db import Db
from idsync.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from idsync.scim.extensions import Extension
    from idsync.web.scim import ScimApp

DRAIN = 20.0
"""Seconds that work under way may take after SIGTERM; Kubernetes kills after 30."""

DRILL_LOOKED_AT = 60.0
"""Seconds between two looks whether a drill is due, or whether one that was cut off has left something."""

TOKENS_NOTED = 60.0
"""Seconds between two notes of when tokens were used."""

FROM_FILE = "file-"
"""Ids of tokens that a file or the environment holds begin so."""

log = structlog.get_logger(__name__)


# -- from the configuration ---------------------------------------------------------------------------------------


def rules_of(config: Config) -> Rules:
    """Return the part of the configuration that decides about people."""
    names = config.source_names
    team_rules = [
        Rule("team", team.alias, tuple(GroupSpec.parse(group, names) for group in team.groups)) for team in config.teams
    ]
    role_rules = [
        Rule("role", role.role, tuple(GroupSpec.parse(group, names) for group in role.groups)) for role in config.roles
    ]
    return Rules(
        idp_of={source.name: source.directory for source in config.scim.sources} | {DRILL: DRILL},
        trust_email=frozenset(source.name for source in config.scim.sources if config.trusts_email(source)),
        rules=(*team_rules, *role_rules),
        default_role=config.policy.default_role,
        departed=config.policy.departed,
        protected=tuple(
            Protection(entry.match, entry.reason, end_of_day(entry.expires) if entry.expires else None)
            for entry in config.protected
        ),
        group_loss_delete_after=config.policy.group_loss_delete_after,
        max_push_departures=config.guard.max_push_departures,
        rotating=frozenset(team.alias for team in config.teams if team.on_member_departure == "rotate"),
    )


def wanted_teams(config: Config) -> list[WantedTeam]:
    return [
        WantedTeam(
            team.alias,
            team.team_id,
            team.adopt,
            team.max_budget,
            team.soft_budget,
            team.budget_duration,
            team.models,
        )
        for team in config.teams
    ]


def gateway_of(
    config: Config,
    clock: Clock,
    *,
    learned: dict[str, str] | None = None,
    on_learn: Callable[[str, str], None] | None = None,
    observe: Callable[[str, int | str, float], None] | None = None,
    make: Callable[..., Gateway] = Gateway,
) -> Gateway:
    """Build the gateway client; nothing is called yet."""
    more: dict[str, Any] = {"learned": learned or {}}
    if on_learn is not None:
        more["on_learn"] = on_learn
    if observe is not None:
        more["observe"] = observe
    return make(gateway_settings(config), configuration.AdminKey(config), clock, **more)


def gateway_settings(config: Config) -> GatewaySettings:
    return GatewaySettings(
        config.routero.base_url,
        config.routero.dialect,
        config.routero.organization_id,
        config.routero.timeout,
        config.routero.concurrency,
        config.http.ca_file,
    )


def start_problems(config: Config) -> list[tuple[str, str]]:
    """Return what keeps the daemon from starting: files it needs, and what is in them."""
    problems = configuration.start_problems(config)
    try:
        extensions_of(config)
    except ConfigError as error:
        problems += error.problems
    return problems


def extensions_of(config: Config) -> list[Extension]:
    """Read the schema extensions that the configuration names.

    Raises:
        ConfigError: a file cannot be read, or is no schema that can be served.
    """
    if not config.scim.extensions:
        return []
    from idsync.scim import extensions

    found: list[Extension] = []
    problems: list[tuple[str, str]] = []
    for index, entry in enumerate(config.scim.extensions):
        path = f"scim.extensions.{index}.schema_file"
        try:
            made = extensions.read(Path(entry.schema_file).read_bytes(), entry.resource)
        except OSError as error:
            problems.append((path, f"cannot read {entry.schema_file}: {error.strerror}"))
        except extensions.BadExtension as error:
            problems += [(path, what) for what in error.problems]
        else:
            if any(made.urn.lower() == other.urn.lower() for other in found):
                problems.append((path, f"{made.urn} is there twice"))
            found.append(made)
    if problems:
        raise ConfigError(problems)
    return found


# -- the core: everything but the servers -------------------------------------------------------------------------


@dataclass
class Core:
    """What the daemon and a command without a daemon have in common."""

    config: Config
    clock: Clock
    store: SqliteStore
    metrics: Metrics
    intake: Intake
    control: Control
    gateway: Gateway
    engine: Engine
    reconciler: Reconciler

    def commands(
        self, *, alone: bool, on_tokens: Callable[[], None] = lambda: None, drills: Drills | None = None
    ) -> Commands:
        parts = (self.store, self.control, self.engine, self.gateway, self.reconciler, self.clock)
        return Commands(*parts, on_tokens, alone, drills)

    def drills(self, address: str, scim: ScimApp) -> Drills:
        """Return what drills this idsync, whose SCIM endpoint is at that address."""
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
        return Drills(tools, on_tokens=scim.tokens.reload, on_purge=scim.forget)


@asynccontextmanager
async def opened(
    config: Config,
    *,
    clock: Clock | None = None,
    store: Callable[[str], SqliteStore] = SqliteStore,
    gateway: Callable[..., Gateway] = Gateway,
) -> AsyncIterator[Core]:
    """Open the store and everything behind it; close in the opposite order.

    Tests bring a clock that they move, and a store and a gateway client that break when they want them to.

    Raises:
        ConfigError: something needed to start is missing.
        StoreBusy: another process holds the store.
        StoreError: the store cannot be used.
    """
    problems = start_problems(config)
    if problems:
        raise ConfigError(problems)
    held = store(config.store.url)
    held.open()
    try:
        core = _core(config, clock or SystemClock(), held, gateway)
        held.write(lambda db: _prepare(db, core))
        async with core.gateway:
            yield core
    finally:
        held.close()


def _core(config: Config, clock: Clock, store: SqliteStore, make: Callable[..., Gateway]) -> Core:
    rules = rules_of(config)
    intake = Intake(rules, clock)
    learned = {name: str(value) for name, (value, _) in facts.under(store.reader(), "verb:").items()}

    def learn(name: str, verb: str) -> None:
        store.submit(lambda db: facts.put(db, f"verb:{name}", verb, clock.now()))

    metrics = Metrics(store.reader, clock.now, gateway_settings(config).name)
    gateway = gateway_of(config, clock, learned=learned, on_learn=learn, observe=metrics.gateway_call, make=make)
    settings = EngineSettings(
        on_departure=config.policy.on_departure,
        delete_user=config.policy.delete_user,
        cache_time=config.routero.cache_time,
        lease=max(60.0, 3 * config.routero.timeout),
    )
    engine = Engine(store, gateway, clock, rules, settings, metrics)
    intake.people.on_jobs = engine.wake
    deletes = config.policy.on_departure == "delete"
    reconciler = Reconciler(store, gateway, intake.people, clock, wanted_teams(config), deletes=deletes)
    control = Control(intake, config, clock)
    return Core(config, clock, store, metrics, intake, control, gateway, engine, reconciler)


def _prepare(db: Db, core: Core) -> None:
    """Bring the store in line with this process: leases of the dead, the configuration, tokens from files."""
    jobs.release_all(db)
    for source in core.config.scim.sources:
        _take_token(db, core, source)
    if core.control.adopt_configuration(db):
        log.warning("configuration.changed", note="what it alone would take from people is on hold: idsync holds list")


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
    """Run commands without a daemon: this process takes the store's lock and does the work itself."""
    async with opened(config) as core:
        yield core.commands(alone=True)


# -- the daemon ---------------------------------------------------------------------------------------------------


class Daemon:
    """`idsync serve`. `on_ready` is called with the SCIM and operations addresses once both answer."""

    def __init__(self, config: Config, *, on_ready: Callable[[str, str], None] = lambda scim, ops: None) -> None:
        self.config = config
        self._on_ready = on_ready
        self._stopping = asyncio.Event()
        self._ready = False
        self._checked = (0, GENESIS)

    def stop(self) -> None:
        self._stopping.set()

    async def serve(self) -> None:
        """Serve until a signal; then drain and close.

        Raises:
            ConfigError, StoreBusy, StoreError: it could not start.
            UsageError: a port is taken.
        """
        async with opened(self.config) as core:
            with self._signals():
                await self._serve(core)
            head = journal.head(core.store.reader())
            log.info("daemon.stopped", audit_entries=head[0], audit_head=head[1])

    async def _serve(self, core: Core) -> None:
        from idsync.schedule import Metronome
        from idsync.web import local, servers
        from idsync.web.paths import socket_path

        shared: dict[str, Any] = {"store": core.store, "clock": core.clock, "metrics": core.metrics}
        scim, app = servers.public_app(
            self.config, intake=core.intake, ready=self._problems, extensions=extensions_of(self.config), **shared
        )
        ops = servers.operations_app(tokens=scim.tokens, ready=self._problems, **shared)
        server = self.config.server
        with contextlib.ExitStack() as sockets:
            public = sockets.enter_context(_bound(server.host, server.port, "server.port"))
            private = sockets.enter_context(_bound(server.ops_host, server.ops_port, "server.ops_port"))
            control = sockets.enter_context(local.listen(core.store.path))
            drills = core.drills(f"{_own_address(public)}/scim/v2", scim)
            commands = core.commands(alone=False, on_tokens=scim.tokens.reload, drills=drills)
            running = [
                servers.Server(app, public, proxies=server.trusted_proxies),
                servers.Server(ops, private),
                servers.Server(local.local_app(commands.run), control, http=local.PeerChecked),
            ]
            tasks = [asyncio.create_task(entry.run()) for entry in running]
            worker = asyncio.create_task(core.engine.run())
            for entry in running:
                await entry.started()
            metronome = Metronome()
            metronome.every(self.config.reconcile.every, lambda: self._pass(core))
            metronome.every(TOKENS_NOTED, lambda: self._note_tokens(core, scim.tokens.take_used()))
            metronome.every(DRILL_LOOKED_AT, lambda: drills.beat(self.config.drill.every))
            metronome.start()
            gc.collect()
            gc.freeze()  # what is loaded by now stays: a full collection would look at all of it, and pushes would wait
            self._ready = True
            head = journal.head(core.store.reader())
            addresses = (_address(public), _address(private))
            trail = {"audit_entries": head[0], "audit_head": head[1]}
            log.info("daemon.ready", scim=f"{addresses[0]}/scim/v2", ops=addresses[1], **trail)
            self._on_ready(*addresses)
            await self._until_stopped([worker, *tasks])
            self._ready = False
            await drills.close()
            metronome.stop()
            for entry in running:
                entry.stop()
            core.engine.stop()
            await asyncio.wait([worker, *tasks], timeout=DRAIN)
            await self._note_tokens(core, scim.tokens.take_used())
            scim.close()
            socket_path(core.store.path).unlink(missing_ok=True)

    async def _until_stopped(self, tasks: list[asyncio.Task[None]]) -> None:
        """Wait for a signal, or for a part that ended by itself: that is a fault, told by its exception."""
        stopping = asyncio.create_task(self._stopping.wait())
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in done - {stopping}:
            task.result()

    async def _note_tokens(self, core: Core, used: Mapping[str, float]) -> None:
        """Write down when tokens were used, so that the old one of an exchange can be seen to rest."""
        if not used:
            return

        def write(db: Db) -> None:
            for token_id, at in used.items():
                tokens.touch_token(db, token_id, at)

        try:
            await asyncio.wrap_future(core.store.submit(write))
        except StoreError as error:
            log.warning("tokens.not_noted", error=str(error))

    async def _pass(self, core: Core) -> None:
        """One scheduled pass; a gateway that is down, or a full disk, is met again at the next beat."""
        try:
            await asyncio.to_thread(self._check_chain, core)
            await asyncio.wrap_future(core.store.submit(core.control.look_at_protected))
            done = await core.reconciler.apply()
        except (GatewayError, StoreError) as error:
            log.warning("pass.failed", error=str(error))
            return
        for change in done.refused:
            log.warning("team.refused", team=change.subject, why=change.why)
        log.info("pass.done", changes=len(done.changes), failed=len(done.failed), holds=done.held)

    def _check_chain(self, core: Core) -> None:
        """Check the audit entries that came since the last check (all of them at the first)."""
        seq, sealed = self._checked
        events = list(journal.events(core.store.reader(), after=seq or None))
        broken = first_break(events, seq, sealed)
        core.metrics.chain_ok.set(0 if broken else 1)
        if broken:
            log.critical("audit.chain_broken", entry=broken, remedy="idsync audit verify; compare with a backup")
        elif events:
            self._checked = (events[-1].seq, events[-1].hash)

    def _problems(self) -> list[str]:
        if self._stopping.is_set():
            return ["stopping"]
        return [] if self._ready else ["starting"]

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop in order; the second one ends the process at once."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if self._stopping.is_set():
                raise SystemExit(1)
            self._stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def _bound(host: str, port: int, key: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        msg = f"cannot listen on {host}:{port} ({error.strerror}); set {key} to a free port"
        raise UsageError(msg) from error
    return listener


def _own_address(listener: socket.socket) -> str:
    """Return where this machine reaches a listener, also one that listens on every address."""
    return _address(listener).replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
