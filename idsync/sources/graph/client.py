"""Requests of Microsoft Graph, one by one or 20 in a batch, at the pace that the tenant allows.

answer                                    | what is done
------------------------------------------+-----------------------------------------------------------------------
401                                       | a new token, once
429, 5xx with Retry-After                 | everybody waits that long, then one asks; up to `PATIENCE` for a request
429, 5xx without                          | the same with 2, 4, 8 ... 60 s, `TRIES` times
no answer, broken off                     | the same, `TRIES` times
x-ms-throttle-limit-percentage from 0.5   | everybody waits for the next window of 10 s
more than half of the tenant's units      | everybody waits until the window has room again
anything else                             | the caller's
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from multidict import CIMultiDict

from idsync.clock import Clock
from idsync.errors import IncompleteSource, SourceRefused, SourceUnreachable
from idsync.sources.graph.settings import GraphSettings
from idsync.sources.graph.tokens import Observe, Tokens
from idsync.sources.graph.wire import Reply, Wire
from idsync.sources.pager import Answer, whole_json

Sleep = Callable[[float], Awaitable[None]]

PATIENCE = 900.0
"""Seconds that one request may wait in all because Graph asked for it."""
TRIES = 4
LONGEST_WAIT = 60.0
WINDOW = 10.0
"""Seconds over which Graph counts resource units (learn.microsoft.com/graph/throttling-limits)."""
HALVES = ((500, 4000.0), (50, 2500.0), (0, 1750.0))
"""Half of the units that a tenant of more than so many users has in a window."""
IN_A_BATCH = 20
EVENTUAL = (("ConsistencyLevel", "eventual"),)
"""What advanced queries (a cast, $count) have to say."""


@dataclass(frozen=True)
class Call:
    """One request: `what` is for people, `endpoint` for metrics, `needs` the permission that a 403 means is missing.

    `body` is JSON text, which makes it a POST.
    """

    url: str
    what: str
    endpoint: str
    needs: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None

    @property
    def verb(self) -> str:
        return "GET" if self.body is None else "POST"


class Units:
    """The resource units that were used within the last window, as the answers tell them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._used: deque[tuple[float, float]] = deque()
        self._most = HALVES[-1][1]

    def tenant_has(self, users: int) -> None:
        """Take note that there are at least so many users: a larger tenant has more units."""
        self._most = max(self._most, next(half for least, half in HALVES if users > least or not least))

    def add(self, headers: Mapping[str, str]) -> None:
        try:
            cost = float(headers.get("x-ms-resource-unit", ""))
        except ValueError:
            return
        if 0 < cost < self._most:
            self._used.append((self._clock.monotonic(), cost))

    def delay(self) -> float:
        """Return the seconds until there is room for more."""
        now = self._clock.monotonic()
        while self._used and self._used[0][0] <= now - WINDOW:
            self._used.popleft()
        over = sum(cost for _, cost in self._used) - self._most
        for at, cost in self._used:
            if over < 0:
                break
            over -= cost
            if over < 0:
                return at + WINDOW - now
        return 0.0


class GraphClient:
    """Sends calls; knows nothing of what they mean."""

    def __init__(
        self, settings: GraphSettings, wire: Wire, tokens: Tokens, clock: Clock, observe: Observe, sleep: Sleep
    ) -> None:
        self._name = settings.name
        self._base = settings.base
        self._wire = wire
        self._tokens = tokens
        self._clock = clock
        self._observe = observe
        self._sleep = sleep
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._alone = asyncio.Lock()
        self._free_at = 0.0
        self._held = False
        self.units = Units(clock)

    async def send(self, call: Call) -> Answer:
        """Send one call and return its answer, whatever it says.

        Raises:
            SourceRefused: no token is to be had.
            SourceUnreachable: no usable answer, also after waiting.
        """
        async with self._slots:
            return await self._until_answered(call)

    async def prefetch(self, calls: Sequence[Call]) -> dict[Call, Answer]:
        """Send several calls 20 at a time; what a batch has no final answer to is missing and has to be sent alone."""
        found: dict[Call, Answer] = {}
        for start in range(0, len(calls), IN_A_BATCH):
            some = calls[start : start + IN_A_BATCH]
            if len(some) == 1:
                found[some[0]] = await self.send(some[0])
                continue
            body = json.dumps({"requests": self._parts(some)}, separators=(",", ":"))
            batch = Call(f"{self._base}/$batch", f"{self._name}: a batch", "$batch", body=body)
            answer = await self.send(batch)
            found |= self._sorted_out(some, answer, checked(answer, batch))
        return found

    def _parts(self, calls: Sequence[Call]) -> list[dict[str, Any]]:
        parts = []
        for number, call in enumerate(calls):
            part: dict[str, Any] = {"id": str(number), "method": call.verb, "url": call.url.removeprefix(self._base)}
            if call.body is not None:
                part |= {"body": json.loads(call.body), "headers": {"Content-Type": "application/json"}}
            elif call.headers:
                part["headers"] = dict(call.headers)
            parts.append(part)
        return parts

    def _sorted_out(self, calls: Sequence[Call], outer: Answer, told: Any) -> dict[Call, Answer]:
        """Return the answers by call. An outer 200 hides inner failures: each has a status of its own."""
        responses = told.get("responses") if isinstance(told, dict) else None
        if not isinstance(responses, list):
            raise IncompleteSource(f"{self._name}: a batch came back without its answers")
        found: dict[Call, Answer] = {}
        for response in responses:
            if not isinstance(response, dict) or not str(response.get("id")).isdigit():
                continue
            number, status = int(response["id"]), response.get("status")
            headers = CIMultiDict({str(k): str(v) for k, v in _mapping(response.get("headers")).items()})
            if number >= len(calls) or not isinstance(status, int):
                continue
            if _is_later(status):
                self._hold(_asked_to_wait(headers) or 0.0)
                continue
            self.units.add(headers)
            if status != 401 and calls[number] not in found:
                body = json.dumps(response.get("body")).encode()
                found[calls[number]] = Answer(status, headers, body, outer.at)
        return found

    async def _until_answered(self, call: Call) -> Answer:
        waited, tries, refused = 0.0, 0, ""
        while True:
            token = await self._tokens.get(refused)
            async with self._turn():
                at = self._clock.now()
                reply, trouble = await self._exchange(call, token)
            if reply is not None and reply.status == 401 and not refused:
                refused = token
                continue
            if reply is not None and not _is_later(reply.status):
                return Answer(reply.status, reply.headers, reply.body, at)
            tries += 1
            asked = None if reply is None else _asked_to_wait(reply.headers)
            wait = (min(2.0**tries, LONGEST_WAIT) if asked is None else max(asked, 1.0)) + self._clock.jitter()
            waited += wait
            status = None if reply is None else reply.status
            if waited > PATIENCE or (asked is None and tries >= TRIES):
                raise SourceUnreachable(f"{call.what}: {trouble or f'Graph answered {status}'}", status=status)
            self._hold(wait)

    async def _exchange(self, call: Call, token: str) -> tuple[Reply | None, str]:
        headers = {"Authorization": f"Bearer {token}", "x-ms-throttle-priority": "low", **dict(call.headers)}
        body = None if call.body is None else call.body.encode()
        if body is not None:
            headers["Content-Type"] = "application/json"
        began, status = self._clock.monotonic(), "error"
        try:
            reply = await self._wire.exchange(call.verb, call.url, headers, body)
            status = str(reply.status)
        except SourceUnreachable as error:
            return None, str(error)
        except IncompleteSource as error:
            raise IncompleteSource(f"{call.what}: {error}") from None
        finally:
            self._observe(call.endpoint, status, self._clock.monotonic() - began)
        self._take_note(reply)
        return reply, ""

    # -- the pace -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait as long as Graph asked for. After that one call goes alone; the others follow once it was answered."""
        if not self._held:
            delay = self.units.delay()
            if delay > 0:
                await self._sleep(delay)
            yield
            return
        async with self._alone:
            delay = self._free_at - self._clock.monotonic()
            if delay > 0:
                await self._sleep(delay)
            yield

    def _hold(self, seconds: float) -> None:
        self._held = True
        self._free_at = max(self._free_at, self._clock.monotonic() + seconds)

    def _take_note(self, reply: Reply) -> None:
        if _is_later(reply.status):
            return
        self.units.add(reply.headers)
        self._held = False
        try:
            share = float(reply.headers.get("x-ms-throttle-limit-percentage", ""))
        except ValueError:
            return
        if share >= 0.5:
            self._hold(WINDOW + self._clock.jitter())


def checked(answer: Answer, call: Call) -> Any:
    """Return the JSON of a 2xx.

    Raises:
        SourceRefused: 401 or 403, naming the permission.
        IncompleteSource: anything else that is not a 2xx with whole JSON.
    """
    if answer.status == 403 and call.needs:
        msg = f"{call.what}: Graph refuses it (403): grant {call.needs} (application) and admin consent"
        raise SourceRefused(msg, status=403)
    return whole_json(answer, call.what)


def error_code(answer: Answer) -> str:
    """Return Graph's own word for an error ("Request_ResourceNotFound"), "" if there is none."""
    try:
        told = json.loads(answer.body)
    except (ValueError, RecursionError):
        return ""
    return str(_mapping(_mapping(told).get("error")).get("code") or "")


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_later(status: int) -> bool:
    return status == 429 or status >= 500


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of Retry-After, which is a number or a date; a date counts from the answer's own clock."""
    told = headers.get("Retry-After", "")
    if told.strip().isdigit():
        return float(told)
    until, since = _date(told), _date(headers.get("Date", ""))
    return max((until - since).total_seconds(), 0.0) if until and since else None


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else None
