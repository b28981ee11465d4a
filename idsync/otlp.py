"""Spans to a collector, by OpenTelemetry's own SDK over OTLP/HTTP. Only loaded where traces are configured.

Whoever sends us a `traceparent` is not believed: every request, departure and poll is a trace of its own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode

from idsync import __version__
from idsync.errors import Superseded

PATH = "/v1/traces"
QUEUE = 4096
"""Spans that may wait; of more, the oldest are dropped."""
BATCH = 512
SENT_EVERY = 2.0
SEND_SECONDS = 5.0
"""How long one batch may take, tries included."""
CLOSE_SECONDS = 2.0
"""How long the last spans may take when idsync stops."""
NOT_NOW = frozenset({401, 403, 429})

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class TraceSettings:
    """Where spans go. `headers` is asked before every request; `sample` is the share of traces that is told."""

    endpoint: str
    headers: Callable[[], Mapping[str, str]]
    sample: float = 1.0
    ca_file: str = ""


class OtlpTracer:
    """Hands spans to a thread, which sends them. `count` is told "sent" or "lost", and how many spans."""

    listens = True

    def __init__(self, settings: TraceSettings, count: Callable[[str, int], None]) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what goes wrong is said once, in our words
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.sample)),
            resource=Resource({"service.name": "idsync", "service.version": __version__}),
            shutdown_on_exit=False,
        )
        sender = BatchSpanProcessor(_Sender(_exporter(settings), count), QUEUE, SENT_EVERY * 1000, BATCH)
        self._provider.add_span_processor(sender)
        self._tracer = self._provider.get_tracer("idsync", __version__)

    def scim_request(self, method: str, route: str, status: int, source: str, seconds: float) -> None:
        told = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        named = {**told, "idsync.source": source} if source else told
        self._past(f"{method} {route}", SpanKind.SERVER, seconds, named, failed=status >= 500, within=Context())

    @contextmanager
    def departure(self, departure_id: str, evidence: str, *, drill: bool) -> Iterator[_Departing]:
        told = {"id": departure_id, "evidence": evidence, "drill": drill}
        with self._own("departure", {f"idsync.departure.{name}": value for name, value in told.items()}) as span:
            yield _Departing(span)

    @contextmanager
    def poll(self, source: str, kind: str) -> Iterator[None]:
        with self._own("poll", {"idsync.source": source, "idsync.poll.kind": kind}) as span:
            try:
                yield
            except BaseException as error:
                span.set_attribute("idsync.poll.result", type(error).__name__)
                raise
            span.set_attribute("idsync.poll.result", "ok")

    def gateway_call(self, operation: str, status: int | str, seconds: float) -> None:
        if not trace.get_current_span().get_span_context().is_valid:
            return
        told: dict[str, Any] = {"idsync.gateway.operation": operation}
        answered = isinstance(status, int)
        told |= {"http.response.status_code": status} if answered else {"error.type": "no answer"}
        failed = not isinstance(status, int) or status >= 500 or status in NOT_NOW
        self._past(f"gateway {operation}", SpanKind.CLIENT, seconds, told, failed=failed, within=None)

    async def close(self) -> None:
        closing = threading.Thread(target=self._provider.shutdown, name="idsync-traces-close", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_SECONDS)
        if closing.is_alive():
            log.warning("traces.cut_off", note="the collector did not take the last spans in time")

    @contextmanager
    def _own(self, name: str, told: Mapping[str, Any]) -> Iterator[Any]:
        """Begin a trace of its own; an exception is told by its class, since its words may hold who it was."""
        with self._tracer.start_as_current_span(
            name, Context(), attributes=told, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                if not isinstance(error, (Superseded, asyncio.CancelledError)):
                    span.set_status(Status(StatusCode.ERROR))
                raise

    def _past(
        self, name: str, kind: Any, seconds: float, told: Mapping[str, Any], *, failed: bool, within: Any
    ) -> None:
        end = time.time_ns()
        span = self._tracer.start_span(name, within, kind, told, start_time=end - int(seconds * 1e9))
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)


class _Departing:
    def __init__(self, span: Any) -> None:
        self._span = span

    def reached(self, stage: str, at: float, seconds: float) -> None:
        self._span.add_event(stage, {"idsync.seconds_since_received": seconds}, int(at * 1e9))

    def stands(self, state: str, fence: str) -> None:
        self._span.set_attributes({"idsync.departure.state": state, "idsync.departure.fence": fence})


class _Sender:
    """The exporter; counts what came of each batch, and says once that nothing arrives, and once that it does again."""

    def __init__(self, exporter: OTLPSpanExporter, count: Callable[[str, int], None]) -> None:
        self._exporter = exporter
        self._count = count
        self._arrives = True

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        result = self._exporter.export(spans)
        arrives = result is SpanExportResult.SUCCESS
        self._count("sent" if arrives else "lost", len(spans))
        if not arrives and self._arrives:
            log.warning("traces.lost", note="the collector takes no spans; nothing else depends on it")
        elif arrives and not self._arrives:
            log.info("traces.sent_again")
        self._arrives = arrives
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return bool(self._exporter.force_flush(timeout_millis))


def _exporter(settings: TraceSettings) -> OTLPSpanExporter:
    """Build the exporter on a session that knows no proxy, no .netrc and no redirect."""

    def named(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(settings.headers())
        return request

    def refuse_redirects(answer: requests.Response, *_: Any, **__: Any) -> None:
        if 300 <= answer.status_code < 400:  # which the exporter takes for success
            raise requests.TooManyRedirects

    session = requests.Session()
    session.trust_env = False
    session.auth = named
    session.hooks["response"].append(refuse_redirects)
    return OTLPSpanExporter(
        settings.endpoint.rstrip("/") + PATH,
        certificate_file=settings.ca_file or None,
        timeout=SEND_SECONDS,
        compression=Compression.Gzip,
        session=session,
    )
