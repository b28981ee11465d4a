"""One way of calling the gateway: a slot, the gate, the verb this gateway takes, one exchange, one error or JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import structlog

from idsync.clock import Clock
from idsync.errors import AdminKeyRefused, GatewayError, Rejected, Transient, Unsupported
from idsync.gateway.answers import Answer, clean, error_of, json_of
from idsync.gateway.dialects import DIALECTS, Dialect, Operation, Verbs
from idsync.gateway.gate import Gate
from idsync.gateway.receipts import record
from idsync.gateway.slots import Slots
from idsync.gateway.transport import NoAnswer, Transport
from idsync.model import Call

RELIED_ON = frozenset({"user_update", "key_block", "key_info", "invitation_list"})
"""Where the gateway has no such operation, departures close on less: one answer that says so is not enough."""

PASSING = 600.0
"""Seconds for which an operation that has worked may be missing on some replica while a new version is rolled out."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Request:
    """What is asked of an operation. `target` names whom or what it is about, for the receipt."""

    name: str
    target: str
    query: Mapping[str, Any]
    body: Mapping[str, Any] | None


@dataclass(frozen=True)
class GatewaySettings:
    """Where the gateway is and how it is spoken to. `timeout` is seconds for one whole call."""

    base_url: str
    dialect: Dialect
    organization_id: str = ""
    timeout: float = 10.0
    concurrency: int = 16
    ca_file: str = ""

    @property
    def name(self) -> str:
        """Return the fingerprint of address and dialect under which the store keeps what was learnt of a gateway."""
        return hashlib.sha256(f"{self.base_url.rstrip('/')} {self.dialect}".encode()).hexdigest()[:16]


def forget(_name: str, _value: str) -> None:
    """Take note of nothing."""


def ignore(_endpoint: str, _status: int | str, _seconds: float) -> None:
    """Measure nothing."""


class Caller:
    """Calls operations of a dialect. Use it as an async context manager, or `open` and `close` it."""

    def __init__(
        self,
        settings: GatewaySettings,
        admin_key: Callable[[], str],
        clock: Clock,
        *,
        learned: Mapping[str, str] | None = None,
        on_learn: Callable[[str, str], None] = forget,
        observe: Callable[[str, int | str, float], None] = ignore,
    ) -> None:
        self._settings = settings
        self._admin_key = admin_key
        self._clock = clock
        self._observe = observe
        self._operations: dict[str, Operation] = DIALECTS[settings.dialect]
        self._verbs = Verbs(self._operations, learned or {}, on_learn)
        self._gate = Gate(clock)
        self._slots = Slots(settings.concurrency)
        self._transport: Transport | None = None
        self._absent: set[str] = set()
        """What this gateway turned out not to have, beside the verbs."""
        self._working: set[str] = set()
        self._lacking: set[str] = set()
        self._lost: dict[str, float] = {}
        """Since when (monotonic) an operation that has worked is said not to be there."""

    def __repr__(self) -> str:
        return f"<Gateway {self._settings.dialect} {self._settings.base_url}>"

    async def open(self) -> None:
        """Make the connection pool; nothing is called yet.

        Raises:
            ConfigError: `ca_file` cannot be read.
        """
        self._pool()

    async def close(self) -> None:
        """Close every connection; calls made afterwards open new ones."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    def _pool(self) -> Transport:
        if self._transport is None:
            self._transport = Transport(
                self._settings.base_url,
                timeout=self._settings.timeout,
                connections=self._settings.concurrency,
                ca_file=self._settings.ca_file,
            )
        return self._transport

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def name(self) -> str:
        """Return the name under which the store keeps what was learnt of this gateway."""
        return self._settings.name

    @property
    def probing(self) -> bool:
        """Whether the gateway seems to be down; single calls find out when it is back."""
        return self._gate.probing

    def give_way_to(self, is_busy: Callable[[], bool]) -> None:
        """Make only a few calls side by side while this is true."""
        self._slots.is_busy = is_busy

    def closed_for(self) -> float:
        """Return the seconds until it makes sense to call again; 0.0 when that is at once."""
        return self._gate.closed_for()

    # -- one call -----------------------------------------------------------------------------------------------------

    async def _call(
        self,
        name: str,
        target: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call an operation and return the JSON of its answer, with the verb this gateway takes."""
        request = Request(name, target, query or {}, body)
        try:
            return await self._with_any_verb(request)
        except Unsupported as error:
            if name not in RELIED_ON or error.status not in (404, 405) or name in self._lacking:
                raise
        try:
            return await self._with_any_verb(request)
        except Unsupported as error:
            self._refuse_a_passing_loss(name, error)
            self._lacking.add(name)
            raise

    def _refuse_a_passing_loss(self, name: str, error: Unsupported) -> None:
        """What has worked is not taken for missing before it has been missing for a while.

        Raises:
            Transient: it worked until a short time ago.
        """
        if name not in self._working:
            return
        now = self._clock.monotonic()
        if now - self._lost.setdefault(name, now) < PASSING:
            msg = f"the gateway says that it has no {self._operations[name].path}, which it has had"
            raise Transient(msg, status=error.status) from None
        self._working.discard(name)

    def _works(self, name: str) -> None:
        self._working.add(name)
        self._lacking.discard(name)
        self._lost.pop(name, None)

    async def _with_any_verb(self, request: Request) -> Any:
        name = request.name
        refusal: GatewayError = Unsupported("this dialect has no such operation")
        for verb in self._verbs.candidates(name):
            try:
                value = await self._through_gate(request, verb)
            except Unsupported as error:
                refusal = error
                if error.status != 405:
                    break
            except Rejected:
                self._verbs.learn(name, verb)
                self._works(name)
                raise
            else:
                self._verbs.learn(name, verb)
                self._works(name)
                return value
        raise refusal

    async def _through_gate(self, request: Request, verb: str) -> Any:
        """Wait for a free slot first: whoever queued must see that the gate has closed meanwhile."""
        async with self._slots.turn():
            key = self._read_key()
            if self._operations[request.name].aside:
                return await self._through_no_gate(request, verb, key)
            with self._gate.passing(key):
                return await self._judged(request, verb, key)

    async def _through_no_gate(self, request: Request, verb: str, key: str) -> Any:
        """Call what is no part of the management API; it waits while the gateway is closed, and closes it for nobody."""
        if (closed := self._gate.closed_for()) > 0 or self._gate.refused:
            raise Transient(f"the gateway is not to be called now; in {closed:.0f} s at the earliest")
        try:
            return await self._judged(request, verb, key)
        except AdminKeyRefused as error:
            raise Unsupported(str(error), status=error.status) from None

    async def _judged(self, request: Request, verb: str, key: str) -> Any:
        answer = await self._answer(request, verb, key)
        error = error_of(answer, now=self._clock.now(), secrets=(key,))
        if error is not None:
            raise error
        return json_of(answer, writes=request.body is not None)

    def _read_key(self) -> str:
        key = self._admin_key().strip()
        if not key or not key.isascii() or not key.isprintable():
            raise AdminKeyRefused("there is no usable admin key to call the gateway with")
        return key

    async def _answer(self, request: Request, verb: str, key: str) -> Answer:
        """Exchange once, and once more where a pooled connection turned out to be dead and repeating is harmless.

        LiteLLM 1.108.0 closes the connection after an unhandled 500: the next call on it dies (observed).
        """
        try:
            return await self._exchange(request, verb, key)
        except NoAnswer as error:
            if not (error.stale and self._operations[request.name].repeatable):
                raise
        return await self._exchange(request, verb, key)

    async def _exchange(self, request: Request, verb: str, key: str) -> Answer:
        operation = self._operations[request.name]
        at, began = self._clock.now(), self._clock.monotonic()
        status: int | None = None
        try:
            answer = await self._pool().exchange(
                verb,
                operation.path,
                query=urlencode(request.query, quote_via=quote, errors="surrogatepass"),
                body=request.body,
                headers=self._headers(key, writes=request.body is not None),
                patient=operation.patient,
                limit=operation.limit,
            )
            status = answer.status
            return answer
        except NoAnswer as error:
            raise self._located(error) from None
        finally:
            seconds = self._clock.monotonic() - began
            self._observe(operation.path, "error" if status is None else status, seconds)
            record(
                Call(
                    at,
                    verb,
                    operation.path,
                    clean(request.target, (key,), limit=2000),
                    status,
                    round(seconds * 1000, 3),
                )
            )
            log.debug("gateway_call", verb=verb, path=operation.path, status=status, seconds=round(seconds, 4))

    def _located(self, error: NoAnswer) -> NoAnswer:
        """Say where nobody could be reached, and what to look at."""
        if not error.unreached:
            return error
        told = f"{error} ({self._settings.base_url}); check routero.base_url and the network"
        return NoAnswer(told, stale=error.stale, unreached=True, plain=str(error))

    def _headers(self, key: str, *, writes: bool) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {key}"}
        if self._settings.organization_id:
            headers["X-Organization-Id"] = self._settings.organization_id
        if writes:
            headers["litellm-changed-by"] = "idsync"
        return headers
