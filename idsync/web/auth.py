"""Who is calling: bearer tokens, kept as SHA-256 only, each good for one source (RFC 6750 §2.1).

Every refusal is the same 401 with the same words, so that a caller learns nothing from it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from idsync.clock import Clock
from idsync.store.tokens import REREAD

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_TOKEN = 512
"""Bytes; ours are about fifty."""


@dataclass(frozen=True)
class ScimSource:
    """A SCIM source as the web needs it. An empty `allow_from` allows every network."""

    name: str
    strict: bool = False
    allow_from: tuple[Network, ...] = ()


class Token(Protocol):
    """What a check needs of a token; `digest` is the SHA-256 in hex."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def expires_at(self) -> float | None: ...


class Tokens:
    """The live tokens in memory, read again when they are old or when a caller's is not among them."""

    def __init__(self, load: Callable[[], Sequence[Token]], clock: Clock) -> None:
        self._load = load
        self._clock = clock
        self._known: tuple[Token, ...] = ()
        self._read_at = float("-inf")
        self._missed_at = float("-inf")
        self._used: dict[str, float] = {}

    def reload(self) -> None:
        """Read the tokens now; whoever makes or revokes one calls this."""
        self._known = tuple(self._load())
        self._read_at = self._clock.monotonic()

    def check(self, secret: bytes, kind: str) -> Token | None:
        """Return the live token of this kind with this secret, or None."""
        if not secret or len(secret) > MAX_TOKEN:
            return None
        now = self._clock.monotonic()
        if now - self._read_at >= REREAD:
            self.reload()
        found = self._find(secret, kind)
        if found is None and now - self._missed_at >= REREAD:
            self._missed_at = now
            self.reload()
            found = self._find(secret, kind)
        if found is not None:
            self._used[found.id] = self._clock.now()
        return found

    def any_of(self, kind: str) -> bool:
        """Tell whether there is a live token of this kind."""
        return any(token.kind == kind for token in self._fresh())

    def by_id(self, token_id: str) -> Token | None:
        """Return a token while it lives, for what was begun with it; that is a use of it."""
        found = next((token for token in self._fresh() if token.id == token_id), None)
        if found is not None:
            self._used[found.id] = self._clock.now()
        return found

    def _fresh(self) -> list[Token]:
        if self._clock.monotonic() - self._read_at >= REREAD:
            self.reload()
        now = self._clock.now()
        return [token for token in self._known if token.expires_at is None or token.expires_at > now]

    def take_used(self) -> dict[str, float]:
        """Return when each token was used last, in epoch seconds, since this was asked before."""
        used, self._used = self._used, {}
        return used

    def _find(self, secret: bytes, kind: str) -> Token | None:
        digest = hashlib.sha256(secret).hexdigest().encode()
        found = None
        for token in self._known:  # all of them, so that the time taken says nothing
            if hmac.compare_digest(digest, token.digest.encode()) and token.kind == kind:
                found = token
        over = found is not None and found.expires_at is not None and found.expires_at <= self._clock.now()
        return None if over else found


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the bearer credentials of a request, or nothing when there is not exactly one well-formed header."""
    given = [value for name, value in headers if name.lower() == b"authorization"]
    if len(given) != 1:
        return b""
    scheme, _, secret = given[0].partition(b" ")
    return secret.strip() if scheme.lower() == b"bearer" and secret.isascii() else b""


def allowed(client: Any, networks: Sequence[Network]) -> bool:
    """Tell whether a client address is in one of the networks; no networks allow everybody."""
    if not networks:
        return True
    try:
        address = ipaddress.ip_address(client[0])
    except (ValueError, TypeError, IndexError):
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return any(address in network for network in networks)


@dataclass(frozen=True)
class Caller:
    """An authenticated SCIM client."""

    source: ScimSource
    token_id: str


def scim_caller(scope: Mapping[str, Any], tokens: Tokens, sources: Mapping[str, ScimSource]) -> Caller | None:
    """Return the source a request speaks for, or None for every reason there is to refuse it."""
    token = tokens.check(bearer(scope["headers"]), "source")
    source = sources.get(token.name) if token else None
    if token is None or source is None or not allowed(scope.get("client"), source.allow_from):
        return None
    return Caller(source, token.id)
