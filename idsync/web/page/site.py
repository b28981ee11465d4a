"""The routes of the status page: who may see what, and forms that only our own pages can send.

request                                    | answer
-------------------------------------------+------------------------------------------------------------------------
no operator token exists                   | 401 and what to do
not logged in                              | 401 and the form to log in; nothing else
POST from elsewhere, or without the secret | 403, nothing done
deciding with scope view                   | 403, nothing done
a hold that changed since it was shown     | 409, nothing done
a source that could not be asked again     | 503, nothing done
"""

from __future__ import annotations

import asyncio
import importlib.resources
import re
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from idsync.clock import Clock
from idsync.config import Config
from idsync.errors import HeldByGuard, IdsyncError, IncompleteSource, NotFound, StoreError
from idsync.store.db import Store
from idsync.web.auth import Tokens
from idsync.web.limits import Gone, TooLarge, TooSlow, read_body
from idsync.web.page import departures, doors, holds, lists, overview, parts
from idsync.web.page.frame import Draw, Look, framed
from idsync.web.page.html import Markup, document
from idsync.web.page.session import Attempts, Session, Sessions, cookie, cookie_name, cookie_of, is_from_here

T = TypeVar("T")
Run = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Carries out a command by its name, as the command line's socket does."""
Form = Mapping[str, str]

FORM, FORM_SECONDS = 8 * 1024, 10.0
"""Bytes of a form, and seconds in which it has to arrive."""
READERS = 2
"""Pages that are made at a time; others wait, so that looking never slows pushes down."""
OPERATOR = "operator"

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none';"
    " base-uri 'none'"
)
SAFE = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""`same-origin`, not `no-referrer`: with that, browsers would send `Origin: null` with our own forms."""
ASSETS = {"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}
_PATH = re.compile(r"/[a-z0-9/?=&-]*")
"""Where a log-in may lead: a path of ours."""

log = structlog.get_logger(__name__)


class StatusPage:
    """`gateway` is the fingerprint of the gateway; `config` returns the configuration in force."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        tokens: Tokens,
        config: Callable[[], Config],
        gateway: str,
        health: Callable[[], dict[str, Any]],
        run: Run,
    ) -> None:
        self._store = store
        self._clock = clock
        self._tokens = tokens
        self._config = config
        self._gateway = gateway
        self._health = health
        self._run = run
        self._sessions = Sessions(tokens, clock)
        self._attempts = Attempts(clock)
        self._readers = ThreadPoolExecutor(READERS, "page")

    def close(self) -> None:
        self._readers.shutdown(cancel_futures=True)

    def routes(self) -> list[Route]:
        pages: dict[str, Callable[[Request], Draw]] = {
            "/": lambda _: overview.page,
            "/departures": lambda _: departures.list_page,
            "/departures/{id:uuid}": lambda request: departures.page(str(request.path_params["id"])),
            "/holds": lambda _: holds.list_page,
            "/holds/{id:uuid}": lambda request: holds.page(str(request.path_params["id"])),
            "/holds/{id:uuid}/approve": lambda request: holds.question(str(request.path_params["id"]), "approve"),
            "/holds/{id:uuid}/reject": lambda request: holds.question(str(request.path_params["id"]), "reject"),
            "/jobs": lambda _: lists.jobs,
            "/keys": lambda _: lists.keys,
            "/conflicts": lambda _: lists.conflicts,
            "/components": lambda _: parts.page(self._health()),
        }
        return [
            *(Route(path, self._shown(draw_of), methods=["GET"]) for path, draw_of in pages.items()),
            *(Route(f"/{name}", self._asset(name, kind), methods=["GET"]) for name, kind in ASSETS.items()),
            Route("/login", self._log_in, methods=["POST"]),
            Route("/login", lambda _: self._moved("/"), methods=["GET"]),
            Route("/logout", self._log_out, methods=["POST"]),
            Route("/holds/{id:uuid}/approve", self._decide("approve"), methods=["POST"]),
            Route("/holds/{id:uuid}/reject", self._decide("reject"), methods=["POST"]),
        ]

    def session_of(self, request: Request) -> Session | None:
        """Return the session of a request, None when there is none that lasts."""
        return self._sessions.find(cookie_of(request.headers, request.headers.get("host", "")))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do what reads the store, away from the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    # -- looking ----------------------------------------------------------------------------------------------------

    def _shown(self, draw_of: Callable[[Request], Draw]) -> Callable[[Request], Awaitable[Response]]:
        async def show(request: Request) -> Response:
            session = self.session_of(request)
            if session is None:
                return self._closed(request)
            return await self._drawn(request, session, lambda: draw_of(request))

        return show

    async def _drawn(self, request: Request, session: Session, draw_of: Callable[[], Draw]) -> Response:
        def draw() -> tuple[bytes, int]:
            now, query = self._clock.now(), dict(request.query_params)
            look = Look(self._store.reader(), now, self._config(), self._gateway, session, query)
            page = draw_of()(look)
            return document(framed(page, look)), page.status

        try:
            body, status = await self.in_thread(draw)
        except StoreError as error:
            log.error("page.not_drawn", error=str(error))
            return _answer(doors.broken(str(error)), 503)
        return Response(body, status, SAFE, "text/html; charset=utf-8")

    def _closed(self, request: Request, problem: str = "", status: int = 401, wait: float = 0.0) -> Response:
        """Return the door: what to do to get in, and nothing of what is inside."""
        if not self._tokens.any_of(OPERATOR):
            return _answer(doors.no_token(), 401, _challenge(request))
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        wanted = wanted if request.method == "GET" else "/"
        more = {"Retry-After": f"{wait:.0f}"} if wait else _challenge(request)
        return _answer(doors.log_in(_path_of_ours(wanted), problem), status, more)

    def _asset(self, name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
        content = (importlib.resources.files("idsync.web.page") / name).read_bytes()

        async def send(_: Request) -> Response:
            return Response(content, 200, {**SAFE, "Cache-Control": "private, max-age=300"}, kind)

        return send

    # -- in and out -------------------------------------------------------------------------------------------------

    async def _log_in(self, request: Request) -> Response:
        address = request.client.host if request.client is not None else ""
        if not is_from_here(request.headers):
            return _answer(doors.foreign(), 403)
        if wait := self._attempts.wait(address):
            return self._closed(request, "Too many tries from here. Wait a minute.", 429, max(1.0, wait))
        form = await _form(request)
        token = self._tokens.check(form.get("token", "").strip().encode(), OPERATOR)
        if token is None:
            self._attempts.failed(address)
            log.warning("page.login_refused", client=address)
            return self._closed(request, "This token is not known here, is not an operator's, or has ended.")
        session, secret = self._sessions.begin(token)
        log.info("page.logged_in", operator=session.operator, token=token.id, client=address)
        return self._moved(_path_of_ours(form.get("next", "/")), {"Set-Cookie": cookie(_host(request), secret)})

    async def _log_out(self, request: Request) -> Response:
        session = self.session_of(request)
        if session is None:
            return self._moved("/")
        if await self._sent_by(request, session) is None:
            return _answer(doors.foreign(), 403)
        self._sessions.end(session)
        log.info("page.logged_out", operator=session.operator)
        return self._moved("/", {"Set-Cookie": cookie(_host(request), "")})

    async def _sent_by(self, request: Request, session: Session) -> Form | None:
        """Return the form, None when no page of this session sent it."""
        if not is_from_here(request.headers):
            return None
        form = await _form(request)
        return form if session.has_sent(form.get("csrf", "")) else None

    # -- deciding ---------------------------------------------------------------------------------------------------

    def _decide(self, what: str) -> Callable[[Request], Awaitable[Response]]:
        async def decide(request: Request) -> Response:
            session = self.session_of(request)
            if session is None:
                return self._closed(request)
            form = await self._sent_by(request, session)
            if form is None:
                return _answer(doors.foreign(), 403)
            hold_id = str(request.path_params["id"])
            if not session.may_approve:
                return await self._refused(request, session, hold_id, "This token may look only.", 403)
            if form.get("sure") != "yes":
                return self._moved(f"/holds/{hold_id}/{what}?{urlencode({'checksum': form.get('checksum', '')})}")
            try:
                await self._carry_out(what, hold_id, form.get("checksum", ""), session)
            except IdsyncError as error:
                log.warning("page.not_decided", hold=hold_id, operator=session.operator, error=str(error))
                return await self._refused(request, session, hold_id, str(error), _status(error))
            return self._moved(f"/holds/{hold_id}")

        return decide

    async def _carry_out(self, what: str, hold_id: str, checksum: str, session: Session) -> None:
        """Approve or reject through the same commands as the command line, in the operator's name.

        Raises:
            IdsyncError: nothing was decided.
        """
        asked = {"hold_id": hold_id, "by": f"{OPERATOR}:{session.operator}"}
        if what == "approve":
            await self._run("holds.approve", {**asked, "checksum": checksum})
            return
        await self.in_thread(lambda: holds.as_shown(self._store.reader(), hold_id, checksum))
        await self._run("holds.reject", asked)

    async def _refused(self, request: Request, session: Session, hold_id: str, why: str, status: int) -> Response:
        return await self._drawn(request, session, lambda: holds.refusal(hold_id, why, status))

    def _moved(self, to: str, headers: Mapping[str, str] | None = None) -> Response:
        return Response(b"", 303, {**SAFE, "Location": to, **(headers or {})})


def _answer(page: Markup, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(document(page), status, {**SAFE, **(headers or {})}, "text/html; charset=utf-8")


def _challenge(request: Request) -> dict[str, str]:
    """Say that the form gets in, and no header: a 401 has to name a way (RFC 9110 15.5.2; draft-broyer-http-cookie-auth)."""
    name = cookie_name(_host(request))
    return {"WWW-Authenticate": f'Cookie realm="idsync", form-action="/login", cookie-name="{name}"'}


def _host(request: Request) -> str:
    return str(request.headers.get("host", ""))


def _status(error: IdsyncError) -> int:
    """Return the HTTP status of what kept a hold from being decided."""
    for kind, status in ((HeldByGuard, 409), (IncompleteSource, 503), (NotFound, 404)):
        if isinstance(error, kind):
            return status
    return 500


def _path_of_ours(path: str) -> str:
    return path if _PATH.fullmatch(path) and not path.startswith("//") else "/"


async def _form(request: Request) -> Form:
    """Read a form; one that is too long, too slow or no form is an empty one."""
    length = request.headers.get("content-length")
    try:
        body = await read_body(request.receive, declared=length, limit=FORM, seconds=FORM_SECONDS)
        return dict(parse_qsl(body.decode("ascii"), strict_parsing=True, max_num_fields=20))
    except (TooLarge, TooSlow, Gone, ValueError):
        return {}
