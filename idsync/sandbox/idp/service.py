"""The pipeline of one call to a stand-in: log, rule, answer. What the answer is, its subclasses know."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from abc import ABC, abstractmethod
from typing import Any

from starlette.types import Receive, Scope, Send

from idsync.sandbox.clock import Clock
from idsync.sandbox.faults import Faults, Rule
from idsync.sandbox.idp.faults import HTML, PAGE, IdpRule, Listing
from idsync.sandbox.idp.settings import Settings
from idsync.sandbox.journal import Entry, Journal
from idsync.sandbox.replies import Refusal, Reply
from idsync.sandbox.wire import Request, date, drop, gone, read

log = logging.getLogger(__name__)

JSON = dict[str, Any]
_SECRETS = re.compile(rb"((?:client_secret|client_assertion|assertion)=)[^&]*")


class Service(ABC):
    """An ASGI application. Handlers run without a break, so every call is atomic."""

    logged: tuple[str, ...] = ()  # the headers the request log shows

    def __init__(self, prefixes: tuple[str, ...], manual_clock: bool = False) -> None:
        self.prefixes = prefixes
        self.manual_clock = manual_clock
        self.clock = Clock(manual_clock)
        self.journal = Journal()
        self.faults = Faults()
        self.settings = Settings()
        self.in_flight = 0
        self._served: dict[str, list[Any]] = {}  # path -> the records of the last page
        self._closing = asyncio.Event()

    # what a provider has to say

    @abstractmethod
    def answer(self, request: Request, entry: Entry) -> Reply:
        """The honest answer. Raises Refusal."""

    @abstractmethod
    def error(self, status: int, request: Request) -> Reply:
        """What this provider says with such a status."""

    @abstractmethod
    def throttled(self, kind: str, request: Request) -> Reply:
        """What it says to one who asks too often ("rate") or too much at once ("concurrency")."""

    @abstractmethod
    def page_of(self, request: Request) -> int:
        """Which page of a listing is asked for; 1 without a continuation."""

    @abstractmethod
    def listing(self, reply: Reply, request: Request) -> Listing | None:
        """The answer taken apart; None if it is no listing."""

    @abstractmethod
    def act(self, given: JSON) -> Any:
        """Do something to the directory. Raises ValueError."""

    @abstractmethod
    def seed(self, given: JSON) -> Any:
        """Fill the directory."""

    @abstractmethod
    def state(self) -> JSON:
        """Everything there is, shortly."""

    @abstractmethod
    def start_over(self) -> None:
        """Forget all there is and all that was set."""

    # the pipeline

    def inner(self, path: str) -> str:
        """The path as this provider knows it."""
        return path.removeprefix(self.prefixes[0])

    def now(self) -> float:
        """Epoch seconds as this provider has them, in the whole milliseconds it writes."""
        return int((self.clock.wall().timestamp() + self.settings.clock_skew) * 1000) / 1000

    def restart_clock(self) -> None:
        self.clock = Clock(self.manual_clock)

    def close(self) -> None:
        """Let hanging calls go."""
        self._closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await read(scope, receive)
        request.path = self.inner(request.path)
        raw = _SECRETS.sub(rb"\1...", request.raw) if b"=" in request.raw[:100] else request.raw
        entry = self.journal.open(request.method, request.path, request.query, raw, 0)
        entry.headers = {name: request.headers[name] for name in self.logged if name in request.headers}
        self.in_flight += 1
        try:
            rule = self._pick(request)
            if rule is not None:
                await self._misbehave(rule, request, entry, receive, send)
                return
            if self.settings.latency:
                await asyncio.sleep(self.settings.latency)
            reply = self._perform(request, entry)
            self._remember(reply, request)
            entry.status = reply.status
            await self._send(send, reply)
        finally:
            self.in_flight -= 1

    def _pick(self, request: Request) -> Rule | None:
        if not self.faults.rules:
            return None
        try:
            body = request.json()
        except Refusal:
            body = None
        query = request.query | {PAGE: str(self.page_of(request))}
        return self.faults.pick(request.method, request.path, 0, body, query)

    def _perform(self, request: Request, entry: Entry) -> Reply:
        try:
            return self.answer(request, entry)
        except Refusal as refusal:
            return refusal.reply
        except Exception:
            log.exception("the stand-in failed at %s %s", request.method, request.path)
            return self.error(500, request)

    async def _misbehave(self, rule: Rule, request: Request, entry: Entry, receive: Receive, send: Send) -> None:
        assert isinstance(rule, IdpRule)  # noqa: S101 - nothing else is put there
        entry.fault = rule.name
        await asyncio.sleep(rule.pause())
        reply = self._wrong(rule, request) if rule.before else self._bent(rule, request, entry)
        if act := rule.due():
            self.act(act)
        if rule.hang:
            await self._hang(receive)
        if rule.hang or rule.drop:
            await drop(receive, send)
            return
        if rule.status is not None and not rule.before:
            reply = self._wrong(rule, request)
        entry.status = reply.status
        await self._send(send, reply, rule.date or 0.0, cut=rule.truncate, drip=rule.drip)
        if rule.truncate:
            await drop(receive, send, abort=False)

    def _wrong(self, rule: IdpRule, request: Request) -> Reply:
        """The error a rule asks for, in this provider's words unless the rule has its own."""
        if rule.throttle:
            return self.throttled(rule.throttle, request)
        if rule.html:
            return Reply(rule.status or 200, HTML, tuple(rule.headers.items()), "text/html")
        if rule.body is not None or rule.status is None:
            return rule.answer()
        usual = self.error(rule.status, request)
        return Reply(usual.status, usual.body, usual.headers + tuple(rule.headers.items()), usual.content_type)

    def _bent(self, rule: IdpRule, request: Request, entry: Entry) -> Reply:
        """The honest answer with the rule's changes."""
        reply = self._perform(request, entry)
        listing = self.listing(reply, request) if reply.status == 200 else None
        if listing is not None:
            before = self._served.get(request.path, [])
            self._served[request.path] = listing.items
            reply = rule.reshape(listing, before)
        elif rule.edit and reply.status == 200:
            reply = Reply(200, rule.edited(json.loads(reply.encoded())), reply.headers, reply.content_type)
        if rule.damage:
            error = self.error(500, request).body
            reply = Reply(reply.status, rule.damaged(reply.encoded(), error), reply.headers, reply.content_type)
        return reply

    def _remember(self, reply: Reply, request: Request) -> None:
        """Keep the records of a page, if a rule may want to repeat them."""
        if any(isinstance(rule, IdpRule) and rule.items == "repeat" for rule in self.faults.rules):
            listing = self.listing(reply, request) if reply.status == 200 else None
            self._served[request.path] = listing.items if listing else []

    async def _hang(self, receive: Receive) -> None:
        waits = {asyncio.ensure_future(gone(receive)), asyncio.ensure_future(self._closing.wait())}
        _, open_ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in open_:
            wait.cancel()

    async def _send(
        self, send: Send, reply: Reply, ahead: float = 0.0, cut: bool = False, drip: float | None = None
    ) -> None:
        body = b"" if reply.status == 204 else reply.encoded()
        headers = [(b"date", date(self.now() - time.time() + ahead))]
        if reply.status != 204:
            headers += [(b"content-type", reply.content_type.encode()), (b"content-length", b"%d" % len(body))]
        headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        if drip:
            step = max(1, len(body) // 10)
            for start in range(0, len(body), step):
                part = body[start : start + step]
                await send({"type": "http.response.body", "body": part, "more_body": True})
                await asyncio.sleep(drip)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        part = body[: len(body) // 2] if cut else body
        await send({"type": "http.response.body", "body": part, "more_body": cut})
