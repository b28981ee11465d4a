"""`idsync serve`: servers, engine and scheduler, in the order in which they start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

import structlog

from idsync.audit import GENESIS, first_break
from idsync.config import Config, GraphSource, OktaSource, readable_secrets
from idsync.errors import ConfigError, GatewayError, IncompleteSource, StoreError, UsageError
from idsync.notify.notifier import LOOKED, Notifier
from idsync.polling.passes import Outcome
from idsync.retention.pruner import LOOKED_AT
from idsync.store import facts, journal, tokens
from idsync.store.address import is_shared
from idsync.store.db import Db

if TYPE_CHECKING:
    from idsync.engine.workers import Engine
    from idsync.keys.keeper import Keeper
    from idsync.schedule import Metronome
    from idsync.web.auth import Tokens

from idsync.app.core import Core, opened
from idsync.app.parts import cursor_secret, extensions_of
from idsync.app.reload import reload
from idsync.app.signals import Asked, whenever
from idsync.app.supervisor import Supervisor

DRAIN = 20.0
"""Seconds that work under way may take after SIGTERM; Kubernetes kills after 30."""

DRILL_LOOKED_AT = 60.0
"""Seconds between two looks whether a drill is due, or whether one that was cut off has left something."""

LEAD_LOOKED_AT = 0.5
"""Seconds between two looks whether the lead has come to this process."""

Role = Literal["all", "web", "worker"]
LOOPBACK = "127.0.0.1"
"""Where a worker answers SCIM, on any free port: for its own drills alone. At `server.port` it answers probes."""
ONE_PROCESS = "store.url is a file, which one process has for itself; postgresql://... is for several"

SPEND_LOOKED_AT = 60.0
"""Seconds between two looks whether a look at what leavers cost is due."""

TOKENS_NOTED = 60.0
"""Seconds between two notes of when tokens were used."""

log = structlog.get_logger(__name__)


class Daemon:
    """`idsync serve`. `on_ready` is called with the SCIM and operations addresses once both answer.

    `reread` reads the configuration again where it was found; without it there is nothing to reload. Of several that
    share a store, a `web` one answers SCIM and works nothing off, a `worker` does the opposite, and `all` do both.
    """

    def __init__(
        self,
        config: Config,
        *,
        on_ready: Callable[[str, str], None] = lambda scim, ops: None,
        reread: Callable[[], Config] | None = None,
        role: Role = "all",
    ) -> None:
        self.config = config
        self.role = role
        self._on_ready = on_ready
        self._reread = reread or (lambda: config)
        self._asked = Asked()
        self._stopping = self._asked.stop
        self._supervisor = Supervisor.of_process()
        self._passing = asyncio.Lock()
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
        with self._asked.noted():
            if self.role != "all" and not is_shared(self.config.store.url):
                raise UsageError(f"--role {self.role} needs others that share its store: {ONE_PROCESS}")
            async with opened(self.config, role=self.role) as core:
                for setting, what in readable_secrets(self.config):
                    log.warning("secret.readable", setting=setting, remedy=what)
                with self._asked.stoppable():
                    await self._serve(core)
                head = journal.head(core.store.reader())
                log.info("daemon.stopped", audit_entries=head[0], audit_head=head[1])

    async def _serve(self, core: Core) -> None:
        from idsync.schedule import Metronome
        from idsync.web import local, servers
        from idsync.web.paths import socket_path

        shared: dict[str, Any] = {"store": core.store, "clock": core.clock, "metrics": core.metrics}
        scim, app = servers.public_app(
            self.config,
            intake=core.intake,
            ready=self._problems,
            extensions=extensions_of(self.config),
            tracer=core.tracer,
            cursor_secret=cursor_secret(self.config) if core.store.shared else None,
            **shared,
        )
        core.gateway.give_way_to(lambda: scim.is_busy)
        server = self.config.server
        with contextlib.ExitStack() as sockets:
            public = sockets.enter_context(_bound(server.host, server.port, "server.port"))
            private = sockets.enter_context(_bound(server.ops_host, server.ops_port, "server.ops_port"))
            answers = public if self.role != "worker" else sockets.enter_context(_bound(LOOPBACK, 0, "server.port"))
            drills = core.drills(f"{_own_address(answers)}/scim/v2", scim)
            commands = core.commands(alone=False, on_tokens=scim.tokens.reload, drills=drills)
            wired: dict[str, Any] = {"tokens": scim.tokens, "gateway": core.gateway.name, "run": commands.run}
            page, ops = servers.operations_app(lambda: self.config, ready=self._problems, **wired, **shared)
            running = [
                servers.Server(app, answers, proxies=server.trusted_proxies),
                servers.Server(ops, private, proxies=server.trusted_proxies),
            ]
            if answers is not public:
                running.append(servers.Server(servers.probes_app(self._problems), public))
            if core.store.path is not None:  # of a database, commands are carried out by whoever gives them
                control = sockets.enter_context(local.listen(core.store.path))
                local_app = local.local_app(commands.run, lambda: self.config)
                running.append(servers.Server(local_app, control, http=local.PeerChecked))
            if self.role != "web":
                core.store.listen(core.engine.wake)
            tasks = [asyncio.create_task(entry.run()) for entry in running]
            working = [asyncio.create_task(part.run()) for part in self._parts(core)]
            for entry in running:
                await entry.started()
            metronome, pulse = Metronome(), core.metrics.pulse
            pass_ = pulse.timed("pass", lambda: self.config.reconcile.every, led(core, lambda: self._pass(core)))
            pace = metronome.every(self.config.reconcile.every, pass_)
            metronome.every(TOKENS_NOTED, lambda: self._note_tokens(core, scim.tokens.take_used()))
            drill = led(core, lambda: drills.beat(self.config.drill.every))
            drilled = pulse.timed("drill", lambda: DRILL_LOOKED_AT, drill)
            metronome.every(DRILL_LOOKED_AT, drilled)
            metronome.every(SPEND_LOOKED_AT, pulse.timed("spend", lambda: SPEND_LOOKED_AT, led(core, core.watch.beat)))
            notifier = Notifier(core.store, lambda: core.config, core.clock, core.metrics.notification)
            metronome.every(LOOKED, pulse.timed("notify", lambda: LOOKED, led(core, notifier.beat)))
            metronome.every(LOOKED_AT, pulse.timed("retention", lambda: LOOKED_AT, led(core, core.pruner().beat)))
            for source in self.config.sources.every:
                self._poll_regularly(core, source, metronome)
            metronome.start()
            gc.collect()
            gc.freeze()  # what is loaded by now stays: a full collection would look at all of it, and pushes would wait
            core.metrics.reloaded(successful=True)
            self._ready = True
            head = journal.head(core.store.reader())
            addresses = (_address(public), _address(private))
            trail = {"audit_entries": head[0], "audit_head": head[1]}
            scim_at = {} if self.role == "worker" else {"scim": f"{addresses[0]}/scim/v2"}
            log.info("daemon.ready", **scim_at, ops=addresses[1], **trail)
            self._on_ready(*addresses)
            status = _status(addresses[0], self.role)
            self._supervisor.ready(status)
            answering = self._answering(core, scim.tokens, pace, status)
            answering.append(asyncio.create_task(self._beat_when_leading(core, metronome)))
            await self._until_stopped([*working, *tasks, *answering])
            self._ready = False
            self._supervisor.stopping()
            for task in answering:
                task.cancel()
            await drills.close()
            metronome.stop()
            for entry in running:
                entry.stop()
            core.engine.stop()
            core.keeper.stop()
            await asyncio.wait([*working, *tasks], timeout=DRAIN)
            await self._note_tokens(core, scim.tokens.take_used())
            page.close()
            scim.close()
            if core.store.path is not None:
                socket_path(core.store.path).unlink(missing_ok=True)
            await self._supervisor.close()

    async def _until_stopped(self, tasks: list[asyncio.Task[None]]) -> None:
        """Wait for a signal, or for a part that ended by itself: that is a fault, told by its exception."""
        stopping = asyncio.create_task(self._stopping.wait())
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in done - {stopping}:
            task.result()

    def _parts(self, core: Core) -> list[Engine | Keeper]:
        return [] if self.role == "web" else [core.engine, core.keeper]

    async def _beat_when_leading(self, core: Core, metronome: Metronome) -> None:
        """Whoever takes the lead from another process does at once what is done regularly; so does a clock set back."""
        led = core.store.leads
        while True:
            await asyncio.sleep(LEAD_LOOKED_AT)
            metronome.mind_the_clock()
            if core.store.leads and not led:
                metronome.hurry()
            led = core.store.leads
            if core.store.shared:
                await self._keep_up(core)

    async def _keep_up(self, core: Core) -> None:
        """Without an engine go by the database's clock too; say anew by which rules we judge, where that was forgotten."""
        if self.role == "web":
            core.clock.follow(core.clock.strayed())
        with contextlib.suppress(StoreError):
            await asyncio.to_thread(core.control.say_rules, core.store)

    def _answering(
        self, core: Core, known: Tokens, pace: Callable[[float], None], status: str
    ) -> list[asyncio.Task[None]]:
        """Answer SIGHUP and SIGUSR1, each after the other of its kind. What was reloaded is acted on at once."""

        async def again() -> None:
            self._supervisor.reloading()
            try:
                if await self._reload(core):
                    known.reload()
                    pace(self.config.reconcile.every)
                    follow.set()
            except Exception:
                core.metrics.reloaded(successful=False)
                raise
            finally:
                self._supervisor.ready(status)

        async def look(poll: Callable[[str], Awaitable[Outcome]]) -> None:
            for name in sorted(core.poller.sources):
                await _quietly(poll(name))
            await self._pass(core)

        async def look_now() -> None:
            log.info("pass.asked_for")
            await look(core.poller.full)

        follow = asyncio.Event()
        kinds: Mapping[asyncio.Event, Callable[[], Awaitable[None]]] = {
            self._asked.reload: again,
            self._asked.look: look_now,
            follow: lambda: look(core.poller.recent),
        }
        return [asyncio.create_task(whenever(asked, act)) for asked, act in kinds.items()]

    async def _reload(self, core: Core) -> bool:
        """Take over the configuration as it is now, whole or not at all; tell whether it was taken over."""
        try:
            done = await reload(core, await asyncio.to_thread(self._reread))
        except (ConfigError, StoreError) as error:
            problems = error.problems if isinstance(error, ConfigError) else [("store", str(error))]
            told = [f"{path}: {what}" for path, what in problems]
            log.error("config.refused", problems=told, note="nothing has changed; idsync config check --start")
            core.metrics.reloaded(successful=False)
            return False
        self.config = done.config
        core.metrics.reloaded(successful=True)
        log.info("config.reloaded", changed=list(done.changed))
        if done.after_restart:
            log.warning("config.needs_restart", keys=list(done.after_restart))
        return True

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
        """One pass at a time; a gateway that is down, or a full disk, is met again at the next beat."""
        try:
            async with self._passing:
                await asyncio.to_thread(self._check_chain, core)
                await asyncio.wrap_future(core.store.submit(core.control.look_at_protected))
                if core.store.shared:
                    settle = partial(core.control.settle_configuration, replica=core.store.name)
                    await asyncio.wrap_future(core.store.submit(settle))
                done = await core.reconciler.apply()
                renewed = await core.keeper.turn()
        except (GatewayError, StoreError) as error:
            log.warning("pass.failed", error=str(error))
            return
        for change in done.refused:
            log.warning("team.refused", team=change.subject, why=change.why)
        failed = len(done.failed) + len(renewed.failed)
        log.info("pass.done", changes=len(done.changes) + len(renewed.changes), failed=failed, holds=done.held)

    def _poll_regularly(self, core: Core, source: OktaSource | GraphSource, metronome: Metronome) -> None:
        """List everybody when that is due, ask for changes in between, and read the event log where there is one."""
        poller, pulse = core.poller, core.metrics.pulse

        async def changes() -> None:
            due = poller.is_due(source.name, source.full_every)
            await _quietly(poller.full(source.name) if due else poller.recent(source.name))

        async def events() -> None:
            await _quietly(poller.events(source.name))

        polled = pulse.timed(f"poll:{source.name}", lambda: source.every, led(core, changes))
        metronome.every(source.every, polled, jitter=source.every / 10)
        if isinstance(source, OktaSource):
            read = pulse.timed(f"events:{source.name}", lambda: source.log_every, led(core, events))
            metronome.every(source.log_every, read, jitter=source.log_every / 10)

    def _check_chain(self, core: Core) -> None:
        """Check the audit entries that came since the last check (all of them at the first)."""
        db = core.store.reader()
        seq, sealed = max(self._checked, journal.start(db), key=itemgetter(0))
        events = list(journal.events(db, after=seq or None))
        broken = first_break(events, seq, sealed)
        core.metrics.chain_checked(whole=not broken)
        self._note_chain(core, broken)
        if broken:
            log.critical("audit.chain_broken", entry=broken, remedy="idsync audit verify; compare with a backup")
        elif events:
            self._checked = (events[-1].seq, events[-1].hash)

    def _note_chain(self, core: Core, broken: int | None) -> None:
        """Keep in the store whether the trail is whole, where notifications read it."""
        known = facts.get(core.store.reader(), journal.BROKEN)
        if broken and known is None:
            now = core.clock.now()
            core.store.write(lambda db: facts.put(db, journal.BROKEN, {"entry": broken, "at": now}, now))
        elif known is not None and not broken:
            core.store.write(lambda db: facts.drop(db, journal.BROKEN))

    def _problems(self) -> list[str]:
        if self._stopping.is_set():
            return ["stopping"]
        return [] if self._ready else ["starting"]


def led(core: Core, beat: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Return a beat that only the process which leads does; to all others it is over at once.

    One that meets a store which does not answer is over as well, and the next one tries again.
    """

    async def call() -> None:
        try:
            if core.store.leads:
                await beat()
        except StoreError as error:
            log.warning("beat.refused", error=str(error))

    return call


async def _quietly(poll: Awaitable[Outcome | None]) -> None:
    """Poll; what goes wrong has been logged and noted, and the next beat tries again."""
    try:
        outcome = await poll
    except (IncompleteSource, GatewayError, StoreError) as error:
        log.debug("poll.failed", error=str(error))
        return
    except Exception:
        log.exception("poll.crashed")
        return
    if outcome is not None and (outcome.losses or outcome.joined or outcome.kind == "full"):
        done = sum(loss.state == "done" for loss in outcome.losses)
        held = sum(loss.state == "held" for loss in outcome.losses)
        told = {"source": outcome.source, "poll": outcome.kind, "listed": outcome.listed, "joined": outcome.joined}
        log.info("poll.done", **told, taken_in=outcome.taken_in, lost=done, held=held, frozen=outcome.frozen)


def _status(scim: str, role: Role) -> str:
    return "working" if role == "worker" else f"serving SCIM at {scim}/scim/v2"


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
