"""Who is calling: SSWS tokens, OAuth for service apps with private_key_jwt, and DPoP, checked for real."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from idsync.sandbox.replies import Headers, Refusal, Reply
from idsync.sandbox.wire import Request

JSON = dict[str, Any]
ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LIFETIME = 3600
LEEWAY = 300
OLDEST_PROOF = 300


@dataclass(frozen=True)
class Caller:
    kind: str  # "ssws", "oauth" or "dpop"
    scopes: frozenset[str] | None  # None: all of them


@dataclass(frozen=True)
class _Issued:
    client_id: str
    scopes: frozenset[str]
    until: float
    thumbprint: str | None


class Tokens:
    """`clients` are {"client_id", "keys": [JWK or PEM, ...], "scopes": [...], "dpop": bool}."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._issued: dict[str, _Issued] = {}
        self._seen: set[tuple[str, str]] = set()  # (client or proof, jti)
        self._nonce = secrets.token_urlsafe(18)
        self.ssws: list[str] = []
        self.clients: list[JSON] = []

    def revoke_all(self) -> None:
        """Every access token is refused from now on."""
        self._issued.clear()

    def new_nonce(self) -> None:
        """The nonce changes, as it does once a day."""
        self._nonce = secrets.token_urlsafe(18)

    # POST /oauth2/v1/token

    def token(self, request: Request, base: str) -> Reply:
        form = {name: values[0] for name, values in parse_qs(request.raw.decode("latin-1")).items()}
        if form.get("grant_type") != "client_credentials":
            raise _oauth(400, "unsupported_grant_type", "The authorization grant type is not supported.")
        client = self._authenticated(form, f"{base}/oauth2/v1/token")
        proof = self._proven(request, client, f"{base}/oauth2/v1/token")
        asked = frozenset(form.get("scope", "").split())
        granted = frozenset(client.get("scopes", ()))
        if not asked:
            raise _oauth(
                400,
                "invalid_scope",
                "The authorization server resource does not have any configured default scopes, 'scope' must be provided.",
            )
        if asked - granted:
            raise _oauth(
                400, "invalid_scope", "One or more scopes are not configured for the authorization server resource."
            )
        token = f"eyJraWQiOiJzYW5kYm94In0.{secrets.token_urlsafe(48)}.{secrets.token_urlsafe(32)}"
        self._issued[token] = _Issued(str(client["client_id"]), asked, self._now() + LIFETIME, proof)
        body = {
            "token_type": "DPoP" if proof else "Bearer",
            "expires_in": LIFETIME,
            "access_token": token,
            "scope": " ".join(sorted(asked)),
        }
        return Reply(200, body, (("cache-control", "no-cache, no-store"), ("pragma", "no-cache")))

    def _authenticated(self, form: dict[str, str], address: str) -> JSON:
        import jwt

        assertion = form.get("client_assertion", "")
        if form.get("client_assertion_type") != ASSERTION or not assertion:
            raise _client("Client authentication failed. Either the client or the client credentials are invalid.")
        try:
            unverified = jwt.decode(assertion, options={"verify_signature": False})
            header = jwt.get_unverified_header(assertion)
        except jwt.PyJWTError:
            raise _client("The client_assertion token is not a valid JWT.") from None
        client = next((c for c in self.clients if c["client_id"] == unverified.get("sub")), None)
        if client is None or unverified.get("iss") != client["client_id"]:
            raise _client("Invalid value for 'client_id' parameter.")
        claims = self._verified(assertion, header, client["keys"])
        self._check_times(claims)
        audience = claims.get("aud")
        if address not in (audience if isinstance(audience, list) else [audience]):
            raise _client(
                f"The audience claim for client_assertion must be the endpoint invoked for the request: {address}."
            )
        if jti := claims.get("jti"):
            if (str(client["client_id"]), str(jti)) in self._seen:
                raise _client("The client_assertion token has already been used.")
            self._seen.add((str(client["client_id"]), str(jti)))
        return client

    def _verified(self, assertion: str, header: JSON, keys: list[Any]) -> JSON:
        import jwt

        for algorithm, key in _keys(keys, header):
            try:
                claims: JSON = jwt.decode(
                    assertion,
                    key,
                    algorithms=[algorithm] if algorithm else ALGORITHMS,
                    options={"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False},
                )
            except (jwt.PyJWTError, TypeError, ValueError):
                continue
            return claims
        raise _client("The client_assertion signature is invalid.")

    def _check_times(self, claims: JSON) -> None:
        now, until = self._now(), claims.get("exp")
        if not isinstance(until, int | float):
            raise _client("The client_assertion token must contain an expiration claim.")
        if until < now - LEEWAY:
            raise _client("The client_assertion token is expired.")
        if until > now + LIFETIME + LEEWAY:
            raise _client("The client_assertion token has an expiration too far into the future.")

    # DPoP, RFC 9449

    def _proven(self, request: Request, client: JSON, address: str) -> str | None:
        """The thumbprint of the key the token is bound to; None for a bearer token."""
        proof = request.headers.get("dpop")
        if not client.get("dpop"):
            if proof is None:
                return None
        elif proof is None:
            raise _oauth(400, "invalid_dpop_proof", "The DPoP proof JWT header is missing.")
        claims, thumbprint = self._checked(proof or "", "POST", address)
        if claims.get("nonce") != self._nonce:
            headers = (("dpop-nonce", self._nonce),)
            raise _oauth(400, "use_dpop_nonce", "Authorization server requires nonce in DPoP proof.", headers)
        return thumbprint

    def _checked(self, proof: str, method: str, address: str) -> tuple[JSON, str]:
        import jwt

        try:
            header = jwt.get_unverified_header(proof)
            key = jwt.PyJWK(header["jwk"])
            claims: JSON = jwt.decode(
                proof, key, algorithms=ALGORITHMS, options={"verify_iat": False, "verify_aud": False}
            )
        except (jwt.PyJWTError, KeyError, ValueError, TypeError):
            raise _proof("The DPoP proof JWT is invalid.") from None
        if header.get("typ") != "dpop+jwt" or "d" in header["jwk"]:
            raise _proof("The DPoP proof JWT header is invalid.")
        if claims.get("htm") != method or claims.get("htu") != address:
            raise _proof("The DPoP proof JWT is for another method or address.")
        if abs(self._now() - float(claims.get("iat") or 0)) > OLDEST_PROOF:
            raise _proof("The DPoP proof JWT was issued too long ago, or in the future.")
        thumbprint = _thumbprint(header["jwk"])
        if not claims.get("jti") or (thumbprint, str(claims["jti"])) in self._seen:
            raise _proof("The DPoP proof JWT has already been used.")
        self._seen.add((thumbprint, str(claims["jti"])))
        return claims, thumbprint

    # every other call

    def caller(self, request: Request, address: str) -> Caller:
        """Raises 401 for whom it does not know. `address` is the one of the request, without its query."""
        given = request.headers.get("authorization", "")
        scheme, _, value = given.partition(" ")
        if given.startswith("SSWS"):  # okta 3.4.6 writes no space after it
            if given.removeprefix("SSWS").lstrip() not in self.ssws:
                raise refused(401, "E0000011", "Invalid token provided")
            return Caller("ssws", None)
        if scheme not in ("Bearer", "DPoP"):
            raise refused(403, "E0000005", "Invalid session")
        issued = self._issued.get(value)
        if issued is None or issued.until <= self._now():
            raise _token(scheme, "invalid_token", "The access token is invalid.")
        if issued.thumbprint is None:
            if scheme != "Bearer":
                raise _token(scheme, "invalid_token", "The access token is not bound to a key.")
            return Caller("oauth", issued.scopes)
        if scheme != "DPoP":
            raise _token("DPoP", "invalid_token", "The access token is bound to a key.")
        self._check_bound(request, value, issued, address)
        return Caller("dpop", issued.scopes)

    def _check_bound(self, request: Request, token: str, issued: _Issued, address: str) -> None:
        try:
            claims, thumbprint = self._checked(request.headers.get("dpop", ""), request.method, address)
        except Refusal as refusal:
            raise _token("DPoP", "invalid_dpop_proof", refusal.reply.body["error_description"]) from None
        digest = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
        if thumbprint != issued.thumbprint or claims.get("ath") != digest:
            raise _token("DPoP", "invalid_dpop_proof", "The DPoP proof JWT does not belong to the access token.")


def refused(status: int, code: str, summary: str, causes: tuple[str, ...] = (), headers: Headers = ()) -> Refusal:
    return Refusal(failure(status, code, summary, causes, headers))


def failure(status: int, code: str, summary: str, causes: tuple[str, ...] = (), headers: Headers = ()) -> Reply:
    """Okta's error body. https://developer.okta.com/docs/reference/error-codes/"""
    body = {
        "errorCode": code,
        "errorSummary": summary,
        "errorLink": code,
        "errorId": f"oae{secrets.token_urlsafe(16)}",
        "errorCauses": [{"errorSummary": cause} for cause in causes],
    }
    return Reply(status, body, headers)


def _keys(keys: list[Any], header: JSON) -> list[tuple[str | None, Any]]:
    """The registered keys that may have signed, each with the algorithm it is for."""
    import jwt

    found: list[tuple[str | None, Any]] = []
    for key in keys:
        if not isinstance(key, dict):
            found.append((None, key))
        elif header.get("kid") is None or key.get("kid") in (None, header["kid"]):
            public = {name: value for name, value in key.items() if name not in ("d", "p", "q", "dp", "dq", "qi")}
            algorithm = key.get("alg") or header.get("alg")
            found.append((None, jwt.PyJWK(public, algorithm if algorithm in ALGORITHMS else None)))
    return found


def _thumbprint(jwk: JSON) -> str:
    """RFC 7638."""
    names = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y")}.get(str(jwk.get("kty")), ())
    text = json.dumps({name: jwk[name] for name in names}, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _oauth(status: int, error: str, description: str, headers: Headers = ()) -> Refusal:
    return Refusal(Reply(status, {"error": error, "error_description": description}, headers))


def _client(description: str) -> Refusal:
    return _oauth(401, "invalid_client", description)


def _proof(description: str) -> Refusal:
    return _oauth(400, "invalid_dpop_proof", description)


def _token(scheme: str, error: str, description: str) -> Refusal:
    challenge = f'{scheme} error="{error}", error_description="{description}"'
    body = {"error": error, "error_description": description}
    return Refusal(Reply(401, body, (("www-authenticate", challenge),)))
