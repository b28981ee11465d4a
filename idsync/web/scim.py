"""The SCIM 2.0 endpoint as one ASGI application, to be mounted at /scim/v2.

Authentication comes before everything else: there is no path under it, known or not, that answers without a live
token. Reads run on the event loop from rows, or in a few threads through the core; every write runs as a whole inside
one transaction of the store, and its 2xx follows the commit (promise 1). An error rolls that transaction back.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

import structlog
from scim2_models import (
    Context,
    NotFoundException,
    PayloadTooLargeException,
    SCIMException,
)
from scim2_server.conditions import Conditions
from scim2_server.errors import MethodNotAllowedException, UnsupportedMediaTypeException
from scim2_server.requests import ScimRequest
from scim2_server.responses import SCIM_MEDIA_TYPE, ScimResponse
from scim2_server.routing import Operation, Target, match
from starlette.routing import BaseRoute, Match

from idsync.clock import Clock
from idsync.errors import StoreError
from idsync.model import Origin
from idsync.scim import hot, parse, tolerance
from idsync.scim.attributes import PATCH_OP, Catalogue
from idsync.scim.documents import compact
from idsync.scim.extensions import Extension
from idsync.scim.provider import MAX_BODY, Description, Service, plain
from idsync.store.db import Db
from idsync.store.tokens import live_tokens
from idsync.web import scim_rows
from idsync.web.auth import Caller, ScimSource, Tokens, scim_caller
from idsync.web.limits import Flooded, Gone, Receive, TooLarge, TooSlow, Turnstile, read_body
from idsync.web.scim_bulk import BulkHandler
from idsync.web.scim_rows import LARGE, Call, Memory, Reply
from idsync.web.scim_storage import DirectoryStorage, Handler, Intake, Store

log = structlog.get_logger("idsync.scim")

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Any]

BODY_SECONDS = 10.0
"""How long a body may take to arrive."""
MAX_SLOW = 50
"""Operations of a PATCH that needs the core: each costs as much as the record is large, and the writer waits."""
RETRY_AFTER = "5"
"""Seconds to wait when the store refuses a write, or after a flood."""
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
_KINDS = {"users": "User", "groups": "Group"}
_RESOURCES = ("Users", "Groups", "Bulk", "Me", "Schemas", "ResourceTypes", "ServiceProviderConfig")
_OF_ONE = {
    "GET": Operation.query,
    "PUT": Operation.replace,
    "PATCH": Operation.patch,
    "DELETE": Operation.delete,
}
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class Observe(Protocol):
    """Counts a request that was answered: method, resource, status code, seconds."""

    def __call__(self, method: str, resource: str, code: int, seconds: float, /) -> None: ...


Contact = Callable[[str, int], None]
"""Notes that a source was here: its name and the status it was answered."""


@dataclass(frozen=True)
class Incoming:
    """One authenticated request with its body read."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    caller: Caller
    received_at: float

    @property
    def strict(self) -> bool:
        return self.caller.source.strict

    @property
    def origin(self) -> Origin:
        return Origin(self.caller.source.name, self.caller.token_id, self.received_at)


def problem(status: int, detail: str, *, scim_type: str | None = None, **headers: str) -> Reply:
    """Return a SCIM Error (RFC 7644 §3.12); the status in it is a string."""
    body = {"schemas": [ERROR], "status": str(status), "detail": detail}
    if scim_type:
        body["scimType"] = scim_type
    return Reply(status, json.dumps(body), {name.replace("_", "-"): value for name, value in headers.items()})


UNAUTHORIZED = problem(401, "A valid bearer token is needed.", WWW_Authenticate='Bearer realm="scim"')


def _refusal(error: SCIMException) -> Reply:
    """Answer what the protocol refuses, with its scimType and sentence."""
    found = error.to_error()
    reply = problem(error.status, plain(error, found.detail), scim_type=found.scim_type)
    if isinstance(error, MethodNotAllowedException):
        return replace(reply, headers={"Allow": ", ".join(error.allowed)})
    return reply


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
    ) -> None:
        self.tokens = Tokens(lambda: live_tokens(store.reader()), clock)
        self._store = store
        self._intake = intake
        self._sources = sources
        self._clock = clock
        self._base = f"{public_url.rstrip('/')}/scim/v2"
        self._observe = observe
        self._contact = contact
        self._body_seconds = body_seconds
        self._short_cuts = short_cuts
        self._description = Description(extensions)
        self._catalogue = Catalogue(self._description)
        self._memory = Memory()
        self._turnstiles = {name: Turnstile() for name in sources}
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="idsync-scim")
        self._bulk_threads = ThreadPoolExecutor(2, thread_name_prefix="idsync-scim-bulk")

    def close(self) -> None:
        """End the reading threads; the store closes their connections."""
        self._bulk_threads.shutdown(wait=True)
        self._threads.shutdown(wait=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started, received_at = self._clock.monotonic(), self._clock.now()
        try:
            reply = await self._reply(scope, receive, received_at)
        except Gone:
            return
        await _send(send, reply)
        if "idsync.source" in scope:
            self._contact(scope["idsync.source"], int(reply.status))
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._observe(method, _resource(_path(scope)), int(reply.status), self._clock.monotonic() - started)

    async def _reply(self, scope: Scope, receive: Receive, received_at: float) -> Reply:
        """Answer whatever happens; only a client that hung up gets nothing."""
        try:
            caller = scim_caller(scope, self.tokens, self._sources)
            if caller is None:
                return UNAUTHORIZED
            scope["idsync.source"] = caller.source.name
            incoming = await self._read(scope, receive, caller, received_at)
            async with self._turnstiles[caller.source.name]:
                return await self._serve(incoming)
        except Gone:
            raise
        except SCIMException as error:
            return _refusal(error)
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
            log.exception("scim_request_failed", method=scope["method"], resource=_resource(_path(scope)))
            return problem(500, "Something went wrong inside idsync.")

    async def _read(self, scope: Scope, receive: Receive, caller: Caller, received_at: float) -> Incoming:
        headers = _headers(scope)
        body = await read_body(
            receive, declared=headers.get("content-length"), limit=MAX_BODY, seconds=self._body_seconds
        )
        query = tolerance.read_query(scope.get("query_string", b""), self._catalogue, strict=caller.source.strict)
        return Incoming(scope["method"].upper(), _path(scope), query, headers, body, caller, received_at)

    # -- where a request goes -------------------------------------------------------------------------------------

    async def _serve(self, incoming: Incoming) -> Reply:
        target = _target(incoming.method, incoming.path)
        kind = _KINDS.get((target.endpoint or "").lower())
        if incoming.body and incoming.method in ("POST", "PUT", "PATCH"):
            _check_media_type(incoming.headers.get("content-type"))
        if target.endpoint is not None and kind is None and not target.me:
            raise NotFoundException(detail=f"No resource type found at {target.endpoint!r}")
        if target.me or (target.endpoint is not None and kind is None):
            return await self._through_core(incoming)
        if incoming.method == "GET":
            return await self._get(incoming, target, kind)
        if target.operation is Operation.search_with_body:
            return await self._search_with_body(incoming, target)
        if target.operation is Operation.bulk:
            return await self._bulk(incoming)
        return await self._write(incoming, self._call(incoming, target, str(kind)), target.operation)

    def _call(self, incoming: Incoming, target: Target, kind: str) -> Call:
        conditions = Conditions(incoming.headers.get("if-match"), incoming.headers.get("if-none-match"))
        return Call(kind, target.resource_id, incoming.query, conditions, self._base, incoming.origin)

    async def _get(self, incoming: Incoming, target: Target, kind: str | None) -> Reply:
        if kind is not None and self._short_cuts:
            reply = await self._from_rows(self._call(incoming, target, kind))
            if reply is not None:
                return reply
            if target.operation is Operation.search:
                return await self._search(incoming, target)
        return await self._through_core(incoming)

    async def _from_rows(self, call: Call) -> Reply | None:
        db = self._store.reader()
        if not scim_rows.is_long(db, call, self._memory):
            return scim_rows.read(db, call, self._memory)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, lambda: scim_rows.read(self._store.reader(), call, self._memory)
        )

    async def _search_with_body(self, incoming: Incoming, target: Target) -> Reply:
        """POST .search (RFC 7644 §3.4.3): the parameters of a query in a body."""
        asked = tolerance.search_body(parse.loads(incoming.body), self._catalogue, strict=incoming.strict)
        shaped = replace(incoming, body=json.dumps(asked).encode())
        if target.endpoint is None or not self._short_cuts:
            return await self._through_core(shaped)
        return await self._search(shaped, target)

    async def _search(self, incoming: Incoming, target: Target) -> Reply:
        """Search one kind of resource, in a thread: from rows where the database can do it alone."""
        call = self._call(incoming, target, _KINDS[str(target.endpoint).lower()])
        core = self._description.service(strict=incoming.strict)

        def work() -> Reply:
            with scim_rows.snapshot(self._store.reader()) as db:
                with core.provider:
                    types = core.searched_types(target.endpoint)
                    if target.operation is Operation.search:
                        request, position = core.read_search_query(types, incoming.query)
                    else:
                        request, position = core.read_search_body(types, incoming.body, None)
                    reply = scim_rows.search(db, call, request, position, core.sealer(types, request))
                return reply or self._handle(db, incoming)

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _write(self, incoming: Incoming, call: Call, operation: Operation) -> Reply:
        if operation is Operation.delete:
            if not self._short_cuts:
                return await self._core_write(incoming)
            return await self._commit(call.source, lambda db: scim_rows.delete(db, self._intake, call))
        document = parse.loads(incoming.body)
        notes = tolerance.Notes(call.kind, call.resource_id, self._catalogue)
        if operation is Operation.patch:
            return await self._patch(incoming, call, document, notes)
        resource = tolerance.resource(document, notes, strict=incoming.strict)
        if not self._short_cuts or _projected(incoming):
            reply = await self._core_write(replace(incoming, body=json.dumps(resource).encode()))
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
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _validated, core, incoming, kind, document, context)

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
        elif len(ops) > MAX_SLOW:
            detail = f"One PATCH holds at most {MAX_SLOW} operations unless they set single values or members."
            raise PayloadTooLargeException(detail=detail)
        else:
            message = tolerance.message(ops) if not incoming.strict else {**document, "Operations": ops}
            reply = await self._core_write(replace(incoming, body=json.dumps(message).encode()))
        _tell(incoming, notes)
        return reply

    def _short_cut(self, incoming: Incoming, call: Call, ops: list[dict[str, Any]]) -> Callable[[Db], Reply] | None:
        if not ops:
            return lambda db: scim_rows.nothing_to_do(db, call)
        if not self._short_cuts or incoming.strict or _projected(incoming):
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
            return await asyncio.shield(asyncio.wrap_future(self._store.submit(self._forgetting(source, work))))
        finally:
            self._memory.forget(source)

    async def _core_write(self, incoming: Incoming) -> Reply:
        return await self._commit(incoming.origin.source, lambda db: self._handle(db, incoming))

    async def _through_core(self, incoming: Incoming) -> Reply:
        """Run a request that changes nothing through the core, in a thread of its own."""

        def work() -> Reply:
            with scim_rows.snapshot(self._store.reader()) as db:
                return self._handle(db, incoming)

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _handle(self, db: Db, incoming: Incoming) -> Reply:
        core = self._description.service(strict=incoming.strict)
        return _reply(Handler(core, self._storage(db, incoming, core)).handle(self._request(incoming)))

    def _storage(self, db: Db, incoming: Incoming, core: Service) -> DirectoryStorage:
        return DirectoryStorage(db, self._intake, incoming.caller.source.name, incoming.origin, core.provider)

    def _request(self, incoming: Incoming) -> ScimRequest:
        return ScimRequest(
            method=incoming.method,
            base_url=self._base,
            path=incoming.path,
            query=incoming.query,
            headers=incoming.headers,
            body=incoming.body,
        )

    async def _bulk(self, incoming: Incoming) -> Reply:
        """Run a bulk request operation by operation, in a thread that waits for each commit."""
        document = parse.loads(incoming.body)
        shaped, failures = tolerance.bulk(document, strict=incoming.strict, catalogue=self._catalogue)
        core = self._description.service(strict=incoming.strict)
        request = self._request(replace(incoming, body=json.dumps(shaped).encode()))

        def submit(step: Callable[[Db], T]) -> Future[T]:
            return self._store.submit(self._forgetting(incoming.origin.source, step))

        def work() -> Reply:
            storage = self._storage(self._store.reader(), incoming, core)
            return _reply(BulkHandler(core, storage, submit, failures).handle(request))

        try:
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._bulk_threads, work))
        finally:
            self._memory.forget(incoming.origin.source)

    def _forgetting(self, source: str, work: Callable[[Db], T]) -> Callable[[Db], T]:
        """Drop what is remembered of a source once a change to it is on disk, even if nobody waits for an answer."""

        def watched(db: Db) -> T:
            db.after_commit(lambda: self._memory.forget(source))
            return work(db)

        return watched


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
) -> ScimApp:
    """Build the endpoint; locations are published under `public_url`, never under what a request names.

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


def _reply(response: ScimResponse) -> Reply:
    """Write an answer of the core; the media type is ours to send."""
    body = None if response.body is None else compact(response.body)
    kept = {name: value for name, value in response.headers.items() if name.lower() != "content-type"}
    return Reply(response.status, body, kept)


# -- small readers ---------------------------------------------------------------------------------------------------


def _path(scope: Scope) -> str:
    """Return the decoded path below the mount."""
    return str(scope["path"]).removeprefix(str(scope.get("root_path", ""))) or "/"


def _target(method: str, path: str) -> Target:
    """Route a request; a single user or group, nearly all of them, without trying every pattern of the core.

    Raises:
        NotFoundException, MethodNotAllowedException: there is no such endpoint, or not with this method.
    """
    parts = path.split("/")
    operation = _OF_ONE.get(method)
    if len(parts) == 3 and operation and not parts[0] and parts[1] in ("Users", "Groups") and parts[2]:
        return Target(operation, parts[1], parts[2])
    return match(method, path)


def _resource(path: str) -> str:
    """Return the bounded label of a path for the metrics."""
    first = path.strip("/").partition("/")[0].lower()
    return next((name for name in _RESOURCES if name.lower() == first), "other")


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers by lower-case name; repeated ones are joined (RFC 9110 §5.3)."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _projected(incoming: Incoming) -> bool:
    """Tell whether the answer to a change is to hold some attributes only (RFC 7644 §3.9)."""
    return "attributes" in incoming.query or "excludedAttributes" in incoming.query


def _check_media_type(header: str | None) -> None:
    """Refuse bodies that are not JSON in UTF-8 (RFC 7644 §3.8, §8.1); without a header JSON is taken."""
    if not header:
        return
    media_type, _, parameters = header.partition(";")
    charset = next((one.partition("=")[2] for one in parameters.lower().split(";") if "charset" in one), "utf-8")
    json_type = media_type.strip().lower() in (SCIM_MEDIA_TYPE, "application/json")
    if not json_type or charset.strip(' "') not in ("utf-8", "utf8"):
        raise UnsupportedMediaTypeException


def _validated(
    core: Service, incoming: Incoming, kind: str, document: Mapping[str, Any], context: Context
) -> dict[str, Any]:
    """Let the core's model judge a whole resource; the members of a tolerant source are judged already."""
    members = document.get("members") if not incoming.strict else None
    lean = {name: value for name, value in document.items() if name != "members"} if members else document
    with core.provider:
        resource_type = core.get_resource_type(kind)
        model = core.read_body(core.get_model(resource_type), json.dumps(lean).encode(), None, context)
        found: dict[str, Any] = model.model_dump()
    return {**found, "members": members} if members else found


def _tell(incoming: Incoming, notes: tolerance.Notes) -> None:
    """Log which attributes were not known: their names, never their values."""
    if notes.unknown:
        log.info("scim_unknown_attributes", source=incoming.caller.source.name, names=sorted(set(notes.unknown))[:20])


async def _send(send: Send, reply: Reply) -> None:
    body = reply.body.encode() if isinstance(reply.body, str) else reply.body or b""
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()]
    if reply.body is not None:
        headers.append((b"content-type", SCIM_MEDIA_TYPE.encode()))
    if reply.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": int(reply.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
