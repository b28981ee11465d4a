"""What proves to Okta who is asking: a service app with a key of its own (with or without DPoP), or an API token.

The client assertion is ours, with PyJWT, because the `okta` package signs with RSA keys only; its DPoP proofs are used,
with the key made by `cryptography`. Nothing else of the package is: its executor waits and retries by a clock and a
sleep of its own, returns errors that hold answers, and cannot find out by itself that an org wants DPoP. So none of
the configuration it would read (~/.okta, ./okta.yaml, OKTA_*) is ever read, and it is imported when DPoP is first used.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from idsync.clock import Clock
from idsync.errors import IncompleteSource, SourceRefused
from idsync.sources.okta.http import Request, Wire
from idsync.sources.pager import Answer, text, whole_json

DPoP = Literal["auto", "on", "off"]
Secret = Callable[[], str]

ASSERTION_LIFE = 300
EARLY = 0.9
"""The part of an access token's life after which a new one is asked for."""
TOKEN_TRIES = 6
"""Without a proof, with one, with a nonce, without the scope that may be missing, and a nonce that changed between."""
OPTIONAL_SCOPE = "okta.logs.read"
"""Without it the System Log is refused and all the rest goes on."""
CLOCK_TOLERANCE = 60.0
_TOKEN = re.compile(r"[\x21-\x7e]+")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class ApiToken:
    """An API token ("SSWS"): all the power of the administrator who made it, and it dies with them."""

    def __init__(self, read: Secret, name: str) -> None:
        self._read = read
        self._name = name
        self._token: str | None = None

    async def headers(self, url: str) -> dict[str, str]:
        del url
        if self._token is None:
            self._token = self._current()
        return {"Authorization": f"SSWS {self._token}"}

    async def renew(self, answer: Answer) -> bool:
        """Read the token again after a 401: it may have been exchanged meanwhile."""
        if answer.status != 401:
            return False
        before, self._token = self._token, self._current()
        return self._token != before

    def _current(self) -> str:
        token = read_secret(self._read, self._name).strip()
        if not _TOKEN.fullmatch(token):
            msg = f"{self._name}: the API token is empty or holds what no token has"
            raise SourceRefused(msg)
        return token


@dataclass
class _Possession:
    """The key that proofs are made with, and the nonces that Okta's two servers asked for."""

    proofs: _Proofs | None = None
    nonce: str | None = None
    api_nonce: str | None = None


@dataclass(frozen=True)
class _Access:
    kind: str
    token: str
    until: float


class ServiceApp:
    """An OAuth service app: a signed assertion is exchanged for an access token of an hour.

    `key` is read at each exchange, so a new one needs no restart. With `dpop` "auto" proofs are sent once Okta asks
    for them.
    """

    def __init__(
        self,
        wire: Wire,
        clock: Clock,
        *,
        client_id: str,
        key: Secret,
        key_id: str = "",
        scopes: tuple[str, ...],
        dpop: DPoP = "auto",
        possession: _Possession | None = None,
    ) -> None:
        self._wire = wire
        self._clock = clock
        self._client_id = client_id
        self._key = key
        self._key_id = key_id
        self._scopes = self._asked = scopes
        self._dpop = dpop
        self._address = f"{wire.base}/oauth2/v1/token"
        self._access: _Access | None = None
        self._one_at_a_time = asyncio.Lock()
        self._possession = possession or _Possession()

    def asking_for(self, scope: str) -> ServiceApp:
        """Return the same app with only one scope, to see whether that is granted."""
        return ServiceApp(
            self._wire,
            self._clock,
            client_id=self._client_id,
            key=self._key,
            key_id=self._key_id,
            scopes=(scope,),
            dpop=self._dpop,
            possession=self._possession,
        )

    async def headers(self, url: str) -> dict[str, str]:
        access = await self._current()
        sent = {"Authorization": f"{access.kind} {access.token}"}
        if access.kind == "DPoP" and self._possession.proofs is not None:
            sent["DPoP"] = self._possession.proofs.proof("GET", url, access.token, self._possession.api_nonce)
        return sent

    async def renew(self, answer: Answer) -> bool:
        """Take the nonce that Okta asks for, or forget the access token it does not accept any more."""
        nonce = answer.headers.get("DPoP-Nonce")
        if self._possession.proofs is not None and nonce and nonce != self._possession.api_nonce:
            self._possession.api_nonce = nonce
            return True
        if answer.status != 401:
            return False
        self._access = None
        return True

    async def _current(self) -> _Access:
        async with self._one_at_a_time:
            if self._access is None or self._clock.monotonic() >= self._access.until:
                self._access = await self._exchange()
            return self._access

    async def _exchange(self) -> _Access:
        """Exchange an assertion for an access token.

        Raises:
            SourceRefused: Okta does not accept the app, its key or a scope.
            SourceUnreachable: no usable answer.
            IncompleteSource: an answer that is not one.
        """
        if self._dpop == "on" or self._possession.proofs is not None:
            await self._use_proofs()
        self._asked = self._scopes
        for _ in range(TOKEN_TRIES):
            asked = self._clock.monotonic()
            answer = await self._wire.exchange("token", self._request)
            if answer.status == 200:
                return self._access_of(answer, asked)
            code = _code_of(answer)
            nonce = answer.headers.get("DPoP-Nonce")
            if code == "use_dpop_nonce" and nonce and self._dpop != "off":
                await self._use_proofs()
                self._possession.nonce = nonce
            elif code == "invalid_scope" and set(self._asked) > {OPTIONAL_SCOPE}:
                self._asked = tuple(scope for scope in self._asked if scope != OPTIONAL_SCOPE)
            elif code == "invalid_dpop_proof" and self._dpop == "auto" and self._possession.proofs is None:
                await self._use_proofs()
            else:
                self._refuse(answer, code)
        msg = f"{self._wire.name}: Okta asks for another DPoP nonce again and again"
        raise SourceRefused(msg)

    async def _request(self) -> Request:
        form = {
            "grant_type": "client_credentials",
            "scope": " ".join(self._asked),
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": self._assertion(),
        }
        sent = {"Accept": "application/json"}
        if self._possession.proofs is not None:
            sent["DPoP"] = self._possession.proofs.proof("POST", self._address, None, self._possession.nonce)
        return Request(self._address, sent, form)

    def _assertion(self) -> str:
        """Sign a fresh assertion: Okta takes each one once, whatever it answers."""
        key, algorithm, key_id = signing_key(read_secret(self._key, self._wire.name), self._wire.name)
        now = int(self._clock.now())
        claims = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": self._address,
            "iat": now,
            "exp": now + ASSERTION_LIFE,
            "jti": str(uuid.uuid4()),
        }
        named = self._key_id or key_id
        return jwt.encode(claims, key, algorithm, {"kid": named} if named else None)

    def _access_of(self, answer: Answer, asked: float) -> _Access:
        what = f"{self._wire.name}: token"
        given = whole_json(answer, what)
        token = text(given.get("access_token")) if isinstance(given, dict) else None
        kind = str(given.get("token_type", "")).lower() if token else ""
        life = given.get("expires_in") if token else None
        if token is None or kind not in ("bearer", "dpop") or not isinstance(life, int) or not _TOKEN.fullmatch(token):
            msg = f"{what}: the answer holds no access token"
            raise IncompleteSource(msg)
        if kind == "dpop" and self._possession.proofs is None:
            msg = f"{what}: a DPoP token was given to somebody who sent no proof"
            raise IncompleteSource(msg)
        return _Access("DPoP" if kind == "dpop" else "Bearer", token, asked + life * EARLY)

    def _refuse(self, answer: Answer, code: str) -> None:
        """Raise what a refusal of the token endpoint means, in our own words."""
        if answer.status == 429 or answer.status >= 500 or not 400 <= answer.status < 500:
            whole_json(answer, f"{self._wire.name}: token")
        off = self._wire.clock_is_off
        clock = (
            f" (this machine's clock is {abs(off):.0f} s {'behind' if off > 0 else 'ahead of'} Okta's: set it)"
            if abs(off) > CLOCK_TOLERANCE
            else ""
        )
        advice = _ADVICE.get(code, "look at the app's system log in Okta")
        if code == "invalid_dpop_proof" and self._possession.proofs is not None:
            advice = "the proof of possession is not accepted; is this machine's clock right?"
        msg = f"{self._wire.name}: Okta gives no access token ({answer.status} {code or 'without a reason'}): {advice}{clock}"
        raise SourceRefused(msg, status=answer.status)

    async def _use_proofs(self) -> None:
        held = self._possession
        if held.proofs is None or held.proofs.is_old():
            held.proofs, held.nonce, held.api_nonce = await asyncio.to_thread(_new_proofs), None, None


_ADVICE = {
    "invalid_client": "is client_id this app's, its public key registered and active, the app itself active?",
    "invalid_scope": "a scope is not granted: in the app, Okta API Scopes, grant those that idsync doctor names",
    "invalid_dpop_proof": 'the app wants proofs of possession: set dpop = "auto", or untick them in the app',
    "use_dpop_nonce": 'the app wants proofs of possession: set dpop = "auto", or untick them in the app',
    "unauthorized_client": "the app may not use client credentials: it has to be of the kind API Services",
    "access_denied": "the app may not have these scopes: in the app, Okta API Scopes and Admin roles",
}


def _code_of(answer: Answer) -> str:
    """Return the machine-readable reason of a refusal; nothing else of it goes anywhere."""
    try:
        given = json.loads(answer.body)
    except (ValueError, RecursionError):
        return ""
    code = (given.get("error") or given.get("errorCode")) if isinstance(given, dict) else None
    return code if isinstance(code, str) and re.fullmatch(r"[A-Za-z0-9_]{1,40}", code) else ""


def read_secret(read: Secret, name: str) -> str:
    """Read a key or a token as it is now.

    Raises:
        SourceRefused: its file is not there or cannot be read.
    """
    try:
        return read()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{name}: the file of its key or token cannot be read ({type(error).__name__})"
        raise SourceRefused(msg) from None


def signing_key(given: str, name: str) -> tuple[Any, str, str]:
    """Return a private key, the algorithm it signs with, and its id if it has one, from PEM or JWK text.

    Raises:
        SourceRefused: it is neither an RSA nor an EC key.
    """
    try:
        if given.lstrip().startswith("{"):
            shown = json.loads(given)
            key, key_id = jwt.PyJWK.from_dict(shown).key, text(shown.get("kid")) or ""
        else:
            key, key_id = load_pem_private_key(given.strip().encode(), password=None), ""
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, UnsupportedAlgorithm, jwt.PyJWTError):
        key, key_id = None, ""
    if isinstance(key, RSAPrivateKey):
        return key, "RS256", key_id
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return key, _CURVES[key.curve.name], key_id
    msg = (
        f"{name}: the private key is neither PEM nor JWK of an RSA or EC key (P-256, P-384 or P-521) without a password"
    )
    raise SourceRefused(msg)


class _Proofs(Protocol):
    def proof(self, method: str, url: str, token: str | None, nonce: str | None) -> str: ...

    def is_old(self) -> bool: ...


def _new_proofs() -> _Proofs:
    from idsync.sources.okta.proofs import Proofs

    return Proofs()
