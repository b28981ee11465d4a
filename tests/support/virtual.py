"""Half an hour in a second: idsync and a sandbox on one event loop whose time jumps to whatever comes next.

The calls go over real sockets and real time-outs; only nobody waits for them. Nothing moves between two steps of a
test, which runs in the same thread: it looks at the gateway, changes something, and lets time pass.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import socket
import sqlite3
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import uvicorn
from sandbox.client import ADMIN, Answer, _decoded
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from idsync import config
from idsync.app import Core, opened
from idsync.errors import GatewayError
from idsync.gateway import client
from idsync.model import Origin
from idsync.sandbox.clock import Clock as SandboxClock
from idsync.sandbox.journal import Entry, Journal
from idsync.sandbox.server import App, Options
from idsync.store import jobs
from idsync.store.address import is_shared
from idsync.store.db import Db, Store
from idsync.store.postgres import PostgresStore
from idsync.store.queued import Queue
from idsync.store.sqlite import SqliteDb, SqliteStore
from support.directory import Directory
from support.gateway import Gateway
from support.settings import write_settings

T = TypeVar("T")
GRACE = 0.002
"""Real seconds in which what was sent on a loopback socket may still arrive; time does not jump over it."""

MOMENT = 1e-6
"""Virtual seconds that a turn of the loop takes: whoever asks again and again must see time go by."""


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: where nothing is ready, so much time has passed."""

    passed = 0.0
    on_the_way = 0
    """How many calls were sent and have not arrived, or were answered and the answer has not."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.passed += MOMENT
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.on_the_way > 0 and (ready := super().select(GRACE)):
            return ready
        if timeout is None:
            raise AssertionError("nothing will ever happen again")
        self.passed += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time. What others do in threads it does at once."""

    def __init__(self) -> None:
        self.jumping = _Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.passed

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


class VirtualClock:
    """The loop's time; the wall clock can be set apart from it."""

    def __init__(self, loop: VirtualLoop, seed: int = 0) -> None:
        self._loop = loop
        self._wall = time.time()
        self._dice = Random(seed)

    def now(self) -> float:
        return self._wall + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()

    def jitter(self) -> float:
        return self._dice.random()

    def set(self, step: float) -> None:
        """Set the wall clock by so many seconds."""
        self._wall += step


class _PromptFile(SqliteStore):
    """Commits while virtual time stands still: at once, in the thread that asks. Its own one only closes the file."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._given: Future[SqliteDb] = Future()

    def _work(self, connection: sqlite3.Connection) -> None:
        self._given.set_result(SqliteDb(connection))
        super()._work(connection)

    def submit(self, run: Callable[[Db], T], *, urgent: bool = False) -> Future[T]:
        waiting, future = _alone(run, urgent)
        self._commit_batch(self._given.result(), waiting)
        return future


class _PromptDatabase(PostgresStore):
    """The same for a shared database; its own thread only links what was left."""

    shared = False
    """Nobody else is in this world: so nothing asks every half a virtual second what others have done."""
    _own: Any = None

    def submit(self, run: Callable[[Db], T], *, urgent: bool = False) -> Future[T]:
        waiting, future = _alone(run, urgent)
        self._own = self._connected(self._own)
        self._commit_batch(self._own, waiting)
        return future

    def close(self) -> None:
        if self._own is not None:
            self._own.connection.close()
        super().close()


def _prompt(made: config.Config) -> Store:
    url = made.store.url
    return _PromptDatabase(url) if is_shared(url) else _PromptFile(url)


def _alone(run: Callable[[Db], T], urgent: bool) -> tuple[Queue, Future[T]]:
    """Return a queue in which one piece of work is, and its future."""
    waiting, future = Queue(), Future[T]()
    waiting.put(run, future, urgent=urgent)
    return waiting, future


class _SeenGateway(client.Gateway):
    """Says when a call is sent, and when it is over."""

    async def _exchange(self, *args: Any) -> Any:
        jumping = _loop().jumping
        jumping.on_the_way += 1
        try:
            return await super()._exchange(*args)
        finally:
            jumping.on_the_way -= 1


class _SeenApp(App):
    """Says when a call has arrived, and when it is answered."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        jumping = _loop().jumping
        jumping.on_the_way -= 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            jumping.on_the_way += 1


def _loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


class _Journal(Journal):
    """Notes calls at virtual times."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def open(self, *args: Any) -> Entry:
        entry = super().open(*args)
        entry.at, entry.t = self._clock.now(), self._clock.monotonic()
        return entry


class _SandboxClock(SandboxClock):
    """The gateway's own wall clock, which nobody sets."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def now(self) -> float:
        return self._loop.time()


class VirtualSandbox:
    """A sandbox that is served on the virtual loop."""

    def __init__(self, loop: VirtualLoop, clock: VirtualClock, options: Options) -> None:
        self.options = options
        self.app = _SeenApp(options)
        self.app.gateway.journal = _Journal(clock)
        self.app.gateway.world.clock = self.app.gateway.world.fleet._clock = _SandboxClock(loop)
        self._loop = loop
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio: no Nagle then
        self._listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._state = ServerState()

    async def start(self) -> None:
        usual: dict[str, Any] = {"ws": "none", "lifespan": "off", "log_config": None, "access_log": False}
        made = uvicorn.Config(self.app, http=HttpToolsProtocol, timeout_keep_alive=75, **usual)
        made.load()
        protocol = partial(HttpToolsProtocol, made, self._state, {})
        self._server = await self._loop.create_server(protocol, sock=self._listener)

    async def stop(self) -> None:
        self.app.gateway.close()
        self._server.close()
        for connection in list(self._state.connections):
            connection.transport.abort()
        await asyncio.gather(*self._state.tasks)


class VirtualGateway(Gateway):
    """Asks the sandbox past its socket, so that no time passes."""

    sandbox: VirtualSandbox  # type: ignore[assignment]

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = ADMIN,
        headers: Mapping[str, str] | None = None,
        replica: int | None = None,
        timeout: float = 5,
    ) -> Answer:
        raw = json.dumps(body).encode() if body is not None else b""
        sent = {"content-type": "application/json"} if raw else {}
        sent |= {"authorization": f"Bearer {key}"} if key else {}
        asked = urlsplit(path if replica is None else f"/replica/{replica}{path}")
        scope = {
            "type": "http",
            "method": method,
            "path": asked.path,
            "query_string": asked.query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in {**sent, **(headers or {})}.items()],
        }
        parts: list[dict[str, Any]] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: Any) -> None:
            parts.append(message)

        self.sandbox._loop.run_until_complete(self.sandbox.app(scope, receive, send))
        told = {name.decode(): value.decode() for name, value in parts[0]["headers"]}
        return Answer(parts[0]["status"], _decoded(b"".join(part.get("body", b"") for part in parts[1:])), told)


class _Directory(Directory):
    """Pushes at the time of idsync's clock."""

    def __init__(self, core: Core) -> None:
        super().__init__(core.store, core.intake)
        self._clock = core.clock

    def _origin(self) -> Origin:
        return Origin(self.source, "test", self._clock.now())


class Simulation:
    """idsync at work beside its gateway, from the start on; time passes only in `pass_time` and `until`."""

    def __init__(self, folder: Path, *, dialect: str = "litellm", seed: int = 0, **changed: Any) -> None:
        self.loop = VirtualLoop()
        self.clock = VirtualClock(self.loop, seed)
        self.sandbox = VirtualSandbox(self.loop, self.clock, Options(dialect=dialect))
        self.gateway = VirtualGateway(self.sandbox)  # type: ignore[arg-type]
        self.gateway.hook("options", {"licence": True})
        changed["routero"] = {"dialect": dialect, **changed.get("routero", {})}
        self.settings = write_settings(folder, self.sandbox.url, **changed)
        self._stack = AsyncExitStack()

    def __enter__(self) -> Self:
        self.run(self._begin())
        self.directory = _Directory(self.core)
        return self

    async def _begin(self) -> None:
        await self.sandbox.start()
        self._stack.push_async_callback(self.sandbox.stop)
        made = config.load(str(self.settings), {}).config
        kinds: dict[str, Any] = {"clock": self.clock, "store": _prompt, "gateway": _SeenGateway}
        self.core = await self._stack.enter_async_context(opened(made, **kinds))
        await self.core.reconciler.apply()
        self._worker = self.loop.create_task(self.core.engine.run())
        self._passes = self.loop.create_task(self._pass_again_and_again(made.reconcile.every))

    async def _pass_again_and_again(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            with suppress(GatewayError):
                await self.core.reconciler.apply()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.run(self._end())
        finally:
            self.loop.close()

    async def _end(self) -> None:
        self._passes.cancel()
        self.core.engine.stop()
        await self._worker
        await self._stack.aclose()

    # -- time ---------------------------------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something to its end, however long that takes in virtual time."""
        return self.loop.run_until_complete(work)

    @property
    def time(self) -> float:
        """Seconds since the beginning."""
        return self.loop.time()

    def pass_time(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))
        for task in (self._worker, self._passes):
            if task.done():
                task.result()

    def until(self, met: Callable[[], object], what: str, *, within: float, look: float = 1.0) -> float:
        """Let time pass until it is so; return how long that took. `look` is how often it is looked at."""
        began = self.time
        while not met():
            assert self.time - began < within, f"not within {within:g} virtual s: {what}; {self.troubles()}"
            self.pass_time(look)
        return self.time - began

    # -- looking --------------------------------------------------------------------------------------------------------

    @property
    def db(self) -> Db:
        return self.core.store.reader()

    def troubles(self) -> set[str | None]:
        return {job.last_error for job in jobs.all_jobs(self.db)}

    def quiet(self) -> bool:
        """Tell whether nothing is left to do but looks and deletions whose time has not come."""
        return all(job.waiting and not job.leased for job in jobs.all_jobs(self.db))
