"""The SCIM 2.0 endpoint as one ASGI application, to be mounted at /scim/v2.

Authentication comes before everything else: there is no path under it, known or not, that answers without a live
token. Frequent reads run on the event loop, from rows; frequent changes run as a whole inside one transaction of the
store, and their 2xx follows the commit (promise 1). The rest goes through the core, in threads.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import structlog
from scim2_models import Context, NotFoundException, SCIMException
from scim2_server.conditions import Conditions
from scim2_server.routing import Operation, Target
from starlette.routing import BaseRoute, Match

from idsync.clock import Clock
from idsync.errors import StoreError
from idsync.scim import hot, parse, tolerance
from idsync.scim.attributes import PATCH_OP, Catalogue
from idsync.scim.documents import projection
from idsync.scim.extensions import Extension
from idsync.scim.provider import MAX_BODY, Description, Service
from idsync.store.db import Db
from idsync.store.tokens import live_tokens
from idsync.traces import UNTRACED, Tracer
from idsync.web import scim_rows
from idsync.web.auth import Caller, ScimSource, Tokens, scim_caller
from idsync.web.limits import Flooded, Gone, Receive, TooLarge, TooSlow, Turnstile, read_body
from idsync.web.scim_core import Core
from idsync.web.scim_messages import (
    UNAUTHORIZED,
    Call,
    Incoming,
    Reply,
    Scope,
    Send,
    check_media_type,
    headers_of,
    labels,
    path_of,
    problem,
    refusal,
    route_of,
    send_reply,
    target_of,
)
from idsync.web.scim_rows import LARGE, Memory
from idsync.web.scim_storage import Intake, Store, Submit

log = structlog.get_logger("idsync.scim")

T = TypeVar("T")

BODY_SECONDS = 10.0
"""How long a body may take to arrive."""
RETRY_AFTER = "5"
"""Seconds to wait when the store refuses a write, or after a flood."""
_KINDS = {"users": "User", "groups": "Group"}


class Observe(Protocol):
    """Counts a request that was answered: method, resource, status code, seconds."""

    def __call__(self, method: str, resource: str, code: int, seconds: float, /) -> None: ...


Contact = Callable[[str, int], None]
"""Notes that a source was here: its name and the status it was answered."""


class ScimApp:
    """The endpoint. `tokens.reload()` makes a new or revoked token count at once; `close()` ends its threads."""

    def __init__(
        self,
        *,
        store: Store,
        intake: Intake,
        sources: Mapping[str, ScimSource],
        clock: Clock,
        public_url: str,
        observe: Observe,
        contact: Contact,
        body_seconds: float = BODY_SECONDS,
        short_cuts: bool = True,
        extensions: Sequence[Extension] = (),
        tracer: Tracer = UNTRACED,
        cursor_secret: str | None = None,
    ) -> None:
        self.tokens = Tokens(lambda: live_tokens(store.reader()), clock)
        self._store = store
        self._intake = intake
        self._sources = sources
        self._clock = clock
        self._base = f"{public_url.rstrip('/')}/scim/v2"
        self._observe = observe
        self._contact = contact
        self._tracer = tracer
        self._body_seconds = body_seconds
        self._short_cuts = short_cuts
        self._description = Description(extensions, secret=cursor_secret)
        self._catalogue = Catalogue(self._description)
        self._core = Core(store, intake, self._description, self._base)
        self._memory = Memory(shared=store.shared)
        self._turnstiles = {name: Turnstile() for name in sources}
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="idsync-scim")
        self._change_threads = ThreadPoolExecutor(2, thread_name_prefix="idsync-scim-change")
        self._bulk_threads = ThreadPoolExecutor(2, thread_name_prefix="idsync-scim-bulk")

    def forget(self, source: str) -> None:
        """Drop what is kept of a source whose records were changed past this endpoint; safe from any thread."""
        self._memory.forget(source)

    def close(self) -> None:
        """End the threads; the store closes their connections."""
        for threads in (self._bulk_threads, self._change_threads, self._threads):
            threads.shutdown(wait=True)

    @property
    def is_busy(self) -> bool:
        """Whether some request is being served now."""
        return any(turnstile.inside for turnstile in self._turnstiles.values())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started, received_at = self._clock.monotonic(), self._clock.now()
        try:
            reply = await self._reply(scope, receive, received_at)
        except Gone:
            return
        await send_reply(send, reply)
        if "idsync.source" in scope:
            self._contact(scope["idsync.source"], int(reply.status))
        method, resource = labels(scope)
        status, seconds = int(reply.status), self._clock.monotonic() - started
        self._observe(method, resource, status, seconds)
        if self._tracer.listens:
            self._tracer.scim_request(
                method, route_of(scope, resource), status, scope.get("idsync.source", ""), seconds
            )

    async def _reply(self, scope: Scope, receive: Receive, received_at: float) -> Reply:
        """Answer whatever happens; only a client that hung up gets nothing."""
        try:
            caller = scim_caller(scope, self.tokens, self._sources)
            if caller is None:
                return UNAUTHORIZED
            scope["idsync.source"] = caller.source.name
            turnstile, headers = self._turnstiles[caller.source.name], headers_of(scope)
            async with turnstile.room(headers):
                incoming = await self._read(scope, receive, headers, caller, received_at)
                async with turnstile:
                    return await self._serve(incoming)
        except Gone:
            raise
        except SCIMException as error:
            return refusal(error)
        except TooLarge:
            return problem(413, f"A request body has at most {MAX_BODY} bytes.", Connection="close")
        except TooSlow:
            return problem(408, "The request body did not arrive in time.", Connection="close")
        except Flooded as flood:
            if flood.first:
                log.warning("scim_flooded", source=scope["idsync.source"])
            return problem(429, "Too many requests are waiting; come again later.", Retry_After=RETRY_AFTER)
        except StoreError as error:
            log.warning("scim_store_refused", method=scope["method"], error=str(error))
            return problem(503, "The change could not be stored; try again.", Retry_After=RETRY_AFTER)
        except Exception:
            log.exception("scim_request_failed", method=scope["method"], resource=labels(scope)[1])
            return problem(500, "Something went wrong inside idsync.")

    async def _read(
        self, scope: Scope, receive: Receive, headers: Mapping[str, str], caller: Caller, received_at: float
    ) -> Incoming:
        body = await read_body(
            receive, declared=headers.get("content-length"), limit=MAX_BODY, seconds=self._body_seconds
        )
        query = tolerance.read_query(scope.get("query_string", b""), self._catalogue, strict=caller.source.strict)
        return Incoming(scope["method"].upper(), path_of(scope), query, headers, body, caller, received_at)

    # -- where a request goes -------------------------------------------------------------------------------------

    async def _serve(self, incoming: Incoming) -> Reply:
        target = target_of(incoming.method, incoming.path)
        kind = _KINDS.get((target.endpoint or "").lower())
        if incoming.body and incoming.method in ("POST", "PUT", "PATCH"):
            check_media_type(incoming.headers.get("content-type"))
        if target.endpoint is not None and kind is None and not target.me:
            raise NotFoundException(detail=f"No resource type found at {target.endpoint!r}")
        if target.me or (target.endpoint is not None and kind is None):
            return await self._read_by_core(incoming)
        if incoming.method == "GET":
            return await self._get(incoming, target, kind)
        if target.operation is Operation.search_with_body:
            return await self._search_with_body(incoming, target)
        if target.operation is Operation.bulk:
            return await self._bulk(incoming)
        return await self._write(incoming, self._call(incoming, target, str(kind)), target.operation)

    def _serves(self, call: Call) -> bool:
        """Tell whether rows can answer a change; an involved projection they cannot (RFC 7644 §3.9)."""
        return self._short_cuts and projection(call.query, call.kind)[1]

    def _call(self, incoming: Incoming, target: Target, kind: str) -> Call:
        conditions = Conditions(incoming.headers.get("if-match"), incoming.headers.get("if-none-match"))
        return Call(
            kind,
            target.resource_id,
            incoming.query,
            conditions,
            self._base,
            incoming.origin,
            self._description.known[kind],
        )

    async def _get(self, incoming: Incoming, target: Target, kind: str | None) -> Reply:
        if kind is not None and self._short_cuts:
            reply = await self._from_rows(self._call(incoming, target, kind))
            if reply is not None:
                return reply
            if target.operation is Operation.search:
                return await self._search(incoming, target)
        return await self._read_by_core(incoming)

    async def _from_rows(self, call: Call) -> Reply | None:
        db = self._store.reader()
        if not scim_rows.is_long(db, call, self._memory):
            return scim_rows.read(db, call, self._memory)
        return await self._in_thread(lambda: scim_rows.read(self._store.reader(), call, self._memory))

    async def _search_with_body(self, incoming: Incoming, target: Target) -> Reply:
        """POST .search (RFC 7644 §3.4.3): the parameters of a query in a body."""
        asked = tolerance.search_body(parse.loads(incoming.body), self._catalogue, strict=incoming.strict)
        shaped = incoming.with_body(asked)
        if target.endpoint is None or not self._short_cuts:
            return await self._read_by_core(shaped)
        return await self._search(shaped, target)

    async def _search(self, incoming: Incoming, target: Target) -> Reply:
        endpoint = str(target.endpoint)
        call = self._call(incoming, target, _KINDS[endpoint.lower()])
        by_body = target.operation is not Operation.search
        return await self._in_thread(lambda: self._core.search(incoming, call, endpoint, by_body=by_body))

    async def _write(self, incoming: Incoming, call: Call, operation: Operation) -> Reply:
        if operation is Operation.delete:
            if not self._short_cuts:
                return await self._write_by_core(incoming)
            return await self._commit(call.source, lambda db: scim_rows.delete(db, self._intake, call))
        document = parse.loads(incoming.body)
        notes = tolerance.Notes(call.kind, call.resource_id, self._catalogue)
        if operation is Operation.patch:
            return await self._patch(incoming, call, document, notes)
        resource = tolerance.resource(document, notes, strict=incoming.strict)
        if not self._serves(call):
            reply = await self._write_by_core(incoming.with_body(resource))
        elif operation is Operation.create:
            made = await self._judge(incoming, call.kind, resource, Context.RESOURCE_CREATION_REQUEST)
            reply = await self._commit(call.source, lambda db: scim_rows.create(db, self._intake, call, made))
        else:
            made = await self._judge(incoming, call.kind, resource, Context.RESOURCE_REPLACEMENT_REQUEST)
            reply = await self._commit(call.source, lambda db: scim_rows.replace_whole(db, self._intake, call, made))
        _tell(incoming, notes)
        return reply

    async def _judge(
        self, incoming: Incoming, kind: str, document: Mapping[str, Any], context: Context
    ) -> dict[str, Any]:
        """Validate a whole resource, a large one in a thread so that the others do not wait for it."""
        core = self._description.service(strict=incoming.strict)
        if len(incoming.body) < LARGE:
            return _validated(core, incoming, kind, document, context)
        return await self._in_thread(lambda: _validated(core, incoming, kind, document, context))

    async def _patch(self, incoming: Incoming, call: Call, document: Any, notes: tolerance.Notes) -> Reply:
        ops = None if incoming.strict else hot.plain(document, call.kind)
        if ops is None:
            ops = (tolerance.strict_patch if incoming.strict else tolerance.patch)(document, notes)
        plain = not incoming.strict or (
            document.keys() == {"schemas", "Operations"} and document["schemas"] == [PATCH_OP]
        )
        work = self._short_cut(incoming, call, ops) if plain or not ops else None
        if work is not None:
            reply = await self._commit(call.source, work)
        else:
            message = tolerance.message(ops) if not incoming.strict else {**document, "Operations": ops}
            reply = await self._write_by_core(incoming.with_body(message))
        _tell(incoming, notes)
        return reply

    def _short_cut(self, incoming: Incoming, call: Call, ops: list[dict[str, Any]]) -> Callable[[Db], Reply] | None:
        if not projection(call.query, call.kind)[1]:
            return None
        if not ops:
            return lambda db: scim_rows.nothing_to_do(db, call)
        if not self._short_cuts or incoming.strict:
            return None
        if call.kind == "User":
            active = hot.active(ops)
            if active is not None:
                return lambda db: scim_rows.set_active(db, self._intake, call, active)
            wanted = hot.settings(ops, self._catalogue, incoming.strict)
            return None if wanted is None else lambda db: scim_rows.set_attributes(db, self._intake, call, wanted)
        change = hot.group_change(ops)
        return None if change is None else lambda db: scim_rows.change_group(db, self._intake, call, change)

    # -- how it runs ------------------------------------------------------------------------------------------------

    async def _commit(self, source: str, work: Callable[[Db], T]) -> T:
        """Run `work` inside one write of the store and wait until it is on disk.

        The shield keeps a cancelled request from cancelling a write that is already queued. What was remembered of
        the source is dropped twice: before the answer, and after the commit even if nobody waits for one.
        """

        try:
            return await asyncio.shield(asyncio.wrap_future(self._submit(source, work)))
        finally:
            self._memory.forget(source)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _read_by_core(self, incoming: Incoming) -> Reply:
        return await self._in_thread(lambda: self._core.read(incoming))

    async def _write_by_core(self, incoming: Incoming) -> Reply:
        return await self._changing(self._change_threads, incoming, self._core.write)

    async def _bulk(self, incoming: Incoming) -> Reply:
        """Run a bulk request operation by operation, in a thread that waits for each commit."""
        document = parse.loads(incoming.body)
        shaped, failures = tolerance.bulk(document, strict=incoming.strict, catalogue=self._catalogue)
        request = incoming.with_body(shaped)
        return await self._changing(
            self._bulk_threads, request, lambda request, submit: self._core.bulk(request, failures, submit)
        )

    async def _changing(
        self, threads: ThreadPoolExecutor, incoming: Incoming, run: Callable[[Incoming, Submit], Reply]
    ) -> Reply:
        """Run a change in a thread that waits for its commits; it goes on when nobody waits for the answer."""

        def submit(work: Callable[[Db], T]) -> T:
            return self._submit(incoming.source, work).result()

        try:
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(threads, run, incoming, submit))
        finally:
            self._memory.forget(incoming.source)

    def _submit(self, source: str, work: Callable[[Db], T]) -> Future[T]:
        """Queue a change; what is remembered of its source is dropped once it is on disk, even if nobody waits."""

        def watched(db: Db) -> T:
            db.after_commit(lambda: self._memory.forget(source))
            return work(db)

        return self._store.submit(watched, urgent=True)


def scim_app(
    *,
    store: Store,
    intake: Intake,
    sources: Mapping[str, ScimSource],
    clock: Clock,
    public_url: str,
    observe: Observe,
    contact: Contact = lambda source, code: None,
    body_seconds: float = BODY_SECONDS,
    short_cuts: bool = True,
    extensions: Sequence[Extension] = (),
    tracer: Tracer = UNTRACED,
    cursor_secret: str | None = None,
) -> ScimApp:
    """Build the endpoint; locations are published under `public_url`, never under what a request names.

    `cursor_secret` seals cursors; processes that answer for the same records have the same. None: one of its own.

    Without `short_cuts` every request goes through the core: the other side of the differential test.
    """
    return ScimApp(
        store=store,
        intake=intake,
        sources=sources,
        clock=clock,
        public_url=public_url,
        observe=observe,
        contact=contact,
        body_seconds=body_seconds,
        short_cuts=short_cuts,
        extensions=extensions,
        tracer=tracer,
        cursor_secret=cursor_secret,
    )


class ScimMount(BaseRoute):
    """Mounts the endpoint under a prefix whatever follows it.

    Starlette's Mount matches with a pattern that a line break in the decoded path escapes; such a request would be
    answered by nobody's rules.
    """

    def __init__(self, prefix: str, app: ScimApp) -> None:
        self.prefix = prefix
        self.app = app

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = str(scope.get("path", ""))
        root = str(scope.get("root_path", "")) + self.prefix
        if scope["type"] == "http" and (path == root or path.startswith(f"{root}/")):
            return Match.FULL, {"root_path": root}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


def _validated(
    core: Service, incoming: Incoming, kind: str, document: Mapping[str, Any], context: Context
) -> dict[str, Any]:
    """Let the core's model judge a whole resource; the members of a tolerant source are judged already."""
    members = document.get("members") if not incoming.strict else None
    lean = {name: value for name, value in document.items() if name != "members"} if members else document
    with core.provider, core.reading:
        resource_type = core.get_resource_type(kind)
        model = core.read_body(core.get_model(resource_type), json.dumps(lean).encode(), None, context)
        found: dict[str, Any] = model.model_dump()
    return {**found, "members": members} if members else found


def _tell(incoming: Incoming, notes: tolerance.Notes) -> None:
    """Log which attributes were not known: their names, never their values."""
    if notes.unknown:
        log.info("scim_unknown_attributes", source=incoming.caller.source.name, names=sorted(set(notes.unknown))[:20])
