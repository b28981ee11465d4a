"""The pipeline of one API call: log, fault, authentication, handler, answer."""

from __future__ import annotations

import asyncio
import copy
import logging
from typing import Any

from starlette.types import Receive, Scope, Send

from idsync.sandbox import access, acts
from idsync.sandbox.calls import Call, Endpoint
from idsync.sandbox.faults import Faults, Rule
from idsync.sandbox.journal import Entry, Journal
from idsync.sandbox.options import Options
from idsync.sandbox.replies import Refusal, Reply, broken, invalid, plain
from idsync.sandbox.table import Table
from idsync.sandbox.wire import Request, drop, gone, read, send_reply
from idsync.sandbox.world import World

log = logging.getLogger(__name__)

READ_TO_WRITE = 0.02  # seconds between reading and writing a roster when updates may be lost


class Gateway:
    """An ASGI application. Handlers run without a break, so every call is atomic."""

    def __init__(self, options: Options) -> None:
        self.world = World(options)
        self.journal = Journal()
        self.faults = Faults()
        self._table = Table(options.dialect)
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Let hanging calls go."""
        self._closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await read(scope, receive)
        entry = self.journal.open(request.method, request.path, request.query, request.raw, request.replica)
        rule = self._pick(request)
        if rule is None:
            reply = await self._perform(request, entry)
            entry.status = reply.status
            await send_reply(send, reply)
        else:
            await self._misbehave(rule, request, entry, receive, send)

    def _pick(self, request: Request) -> Rule | None:
        if not self.faults.rules:
            return None
        try:
            body = request.json()
        except Refusal:
            body = None
        return self.faults.pick(request.method, request.path, request.replica, body, request.query)

    async def _misbehave(self, rule: Rule, request: Request, entry: Entry, receive: Receive, send: Send) -> None:
        entry.fault = rule.name
        await asyncio.sleep(rule.pause())
        reply = rule.answer() if rule.before else await self._perform(request, entry, rule.lie)
        if act := rule.due():
            acts.perform(self.world, act)
        if rule.hang:
            await self._hang(receive)
        if rule.hang or rule.drop:
            await drop(receive, send)
            return
        reply = rule.answer() if rule.status is not None else reply
        entry.status = reply.status
        await send_reply(send, reply, cut=rule.truncate)
        if rule.truncate:
            await drop(receive, send, abort=False)

    async def _hang(self, receive: Receive) -> None:
        waits = {asyncio.ensure_future(gone(receive)), asyncio.ensure_future(self._closing.wait())}
        _, open_ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in open_:
            wait.cancel()

    async def _perform(self, request: Request, entry: Entry, lie: bool = False) -> Reply:
        try:
            endpoint, params = self._find(request)
            await self._take_time(endpoint, request)
            if lie:
                return self._pretend(endpoint, params, request, entry)
            return self._handle(endpoint, params, request, entry)
        except Refusal as refusal:
            return refusal.reply
        except Exception:
            log.exception("the sandbox failed at %s %s", request.method, request.path)
            return broken()

    def _find(self, request: Request) -> tuple[Endpoint, dict[str, str]]:
        if request.replica >= len(self.world.fleet.replicas):
            raise plain(404, "Not Found")
        return self._table.find(request.method, request.path, self.world.settings.both_verbs)

    async def _take_time(self, endpoint: Endpoint, request: Request) -> None:
        settings = self.world.settings
        if settings.latency and not endpoint.offline:
            await asyncio.sleep(settings.latency)
        if settings.lost_updates and endpoint.roster_of:
            await self._read_early(endpoint.roster_of, request)

    async def _read_early(self, field: str, request: Request) -> None:
        """Work from the roster as it was a moment ago, so that parallel writes overwrite each other."""
        body = request.json()
        team = self.world.state.teams.get(body.get(field, "")) if isinstance(body, dict) else None
        if team:
            stale = list(team.members)
            await asyncio.sleep(READ_TO_WRITE)
            team.members = stale

    def _pretend(self, endpoint: Endpoint, params: dict[str, str], request: Request, entry: Entry) -> Reply:
        """Do it to a copy that is thrown away."""
        truth = self.world.state
        self.world.state = copy.deepcopy(truth)
        try:
            return self._handle(endpoint, params, request, entry)
        finally:
            self.world.state = truth

    def _handle(self, endpoint: Endpoint, params: dict[str, str], request: Request, entry: Entry) -> Reply:
        call = self._admit(endpoint, params, request, entry)
        if request.method != "GET":
            self.world.remember()
        result = endpoint.handler(call)
        return result if isinstance(result, Reply) else Reply(200, result)

    def _admit(self, endpoint: Endpoint, params: dict[str, str], request: Request, entry: Entry) -> Call:
        """In the order of the real thing: broken JSON, key, rights, then the shape of the body."""
        given = None if request.method == "GET" else request.json()
        caller = access.NOBODY
        if endpoint.access != "open":
            authorization = request.headers.get("authorization")
            entry.caller = "key" if authorization else "none"  # stays if the key is refused
            caller = access.identify(self.world, request.replica, authorization)
            entry.caller = caller.kind
            access.authorize(caller, endpoint)
        if self.world.settings.db_down and not endpoint.offline:
            raise Refusal(broken("DB not connected"))
        body = self._body(endpoint, request, given)
        organization = access.chosen_organization(self.world, caller, request.headers, request.query, body)
        return Call(self.world, request.replica, request.query, body, request.headers, caller, organization, params)

    def _body(self, endpoint: Endpoint, request: Request, given: Any) -> dict[str, Any]:
        if request.method == "GET" or (given is None and not endpoint.needs_body):
            return {}
        media_type = request.headers.get("content-type")
        if media_type and "json" not in media_type and not self.world.routero:
            raise invalid("model_attributes_type", ["body"], "Input should be a valid dictionary")
        if given is None:
            raise invalid("missing", ["body"], "Field required")
        if not isinstance(given, dict):
            raise invalid("model_attributes_type", ["body"], "Input should be a valid dictionary")
        return given
