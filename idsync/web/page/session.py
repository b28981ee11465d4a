"""Who is at the page: sessions in memory, begun with an operator's token and over with it.

A cookie holds 256 random bits and nothing else; here they are kept as SHA-256, as tokens are in the store.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from idsync.clock import Clock, new_secret
from idsync.web.auth import Token, Tokens

LONGEST = 8 * 3600.0
"""Seconds after which a session is over, however busy it is."""
IDLE = 3600.0
"""Seconds without a request after which it is over."""
SESSIONS = 200
"""Sessions at a time; the one that rested longest makes room."""
TRIES, WITHIN = 10, 60.0
"""Failed log-ins of one address within so many seconds; a 256-bit token is not guessed, this keeps the log short."""
ADDRESSES = 1000
"""Addresses whose failures are remembered."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass
class Session:
    """A person who has logged in. `csrf` is what every form of theirs holds. Times are of the monotonic clock."""

    key: str
    token_id: str
    operator: str
    scope: str
    csrf: str
    made_at: float
    seen_at: float

    @property
    def may_approve(self) -> bool:
        return self.scope == "approve"

    def has_sent(self, csrf: str) -> bool:
        return hmac.compare_digest(self.csrf.encode(), csrf.encode())


class Sessions:
    def __init__(self, tokens: Tokens, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock
        self._open: OrderedDict[str, Session] = OrderedDict()

    def begin(self, token: Token) -> tuple[Session, str]:
        """Return a session and what its cookie holds."""
        secret, now = new_secret(), self._clock.monotonic()
        session = Session(_digest(secret), token.id, token.name, token.scope, new_secret(), now, now)
        self._open[session.key] = session
        while len(self._open) > SESSIONS:
            self._open.popitem(last=False)
        return session, secret

    def find(self, secret: str) -> Session | None:
        """Return the session of a cookie while it lasts, and its token does."""
        session = self._open.get(_digest(secret)) if secret else None
        if session is None:
            return None
        now = self._clock.monotonic()
        over = now - session.made_at > LONGEST or now - session.seen_at > IDLE
        if over or self._tokens.by_id(session.token_id) is None:
            self.end(session)
            return None
        session.seen_at = now
        self._open.move_to_end(session.key)
        return session

    def end(self, session: Session) -> None:
        self._open.pop(session.key, None)


class Attempts:
    """Failed log-ins of each address: after too many, none of it is looked at for a while."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Return for how many seconds this address has to wait; 0.0: it may try."""
        recent = self._recent(address)
        return WITHIN - (self._clock.monotonic() - recent[0]) if len(recent) >= TRIES else 0.0

    def failed(self, address: str) -> None:
        self._failed[address] = [*self._recent(address), self._clock.monotonic()]
        self._failed.move_to_end(address)
        while len(self._failed) > ADDRESSES:
            self._failed.popitem(last=False)

    def _recent(self, address: str) -> list[float]:
        now = self._clock.monotonic()
        return [at for at in self._failed.get(address, []) if now - at < WITHIN]


# -- the cookie -----------------------------------------------------------------------------------------------------


def cookie_name(host: str) -> str:
    """Return the cookie's name; browsers take `__Host-` only with Secure, from this very host, for all of its paths."""
    return "idsync" if is_loopback(host) else "__Host-idsync"


def cookie(host: str, secret: str) -> str:
    """Return the Set-Cookie header that keeps a session, or that ends it where `secret` is empty."""
    secure = "" if is_loopback(host) else "; Secure"
    kept = f"; Max-Age={LONGEST:.0f}" if secret else "; Max-Age=0"
    return f"{cookie_name(host)}={secret}; Path=/; HttpOnly; SameSite=Strict{kept}{secure}"


def cookie_of(headers: Mapping[str, str], host: str) -> str:
    """Return what the session cookie of a request holds, or nothing."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(cookie_name(host))
    except CookieError:
        return ""
    return found.value if found is not None and len(found.value) < 100 else ""


def is_loopback(host: str) -> bool:
    """Tell whether a Host header names this machine as seen from itself: only there does plain HTTP carry a session."""
    try:
        return urlsplit(f"//{host}").hostname in LOOPBACK
    except ValueError:
        return False


def is_from_here(headers: Mapping[str, str]) -> bool:
    """Tell whether a form was sent by a page of ours: every browser says so in Origin."""
    host = headers.get("host", "")
    ours = {f"https://{host}"} | ({f"http://{host}"} if is_loopback(host) else set())
    return bool(host) and headers.get("origin", "") in ours


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
