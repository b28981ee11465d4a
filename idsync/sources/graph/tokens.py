"""Access tokens for Microsoft Graph: msal knows the credentials, our own wire carries its requests.

msal is synchronous and asks for an HTTP client: it runs in a thread, and the `Bridge` sends what it wants sent over the
connections of this source. So its requests have the same time-outs and authorities, see no proxy and no
REQUESTS_CA_BUNDLE of the environment, and go nowhere but to the configured authority.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from idsync.clock import Clock
from idsync.errors import ConfigError, IncompleteSource, SourceRefused, SourceUnreachable
from idsync.sources.graph.settings import (
    Certificate,
    ClientSecret,
    Credential,
    FederatedToken,
    GraphSettings,
    ManagedIdentity,
    is_beside,
)
from idsync.sources.graph.wire import Reply, Wire

Observe = Callable[[str, str, float], None]

EARLY = 300.0
"""Seconds before its end at which a token is renewed."""
AGAIN = 30.0
"""Seconds until the next try, while a token that could not be renewed still lives."""

REMEDIES = {
    "7000222": "the client secret has expired: make a new one (App registrations, Certificates & secrets) and write it "
    "to the secret's file; no restart is needed",
    "7000215": "the client secret is wrong: it has to be the secret's value, not its id",
    "700027": "the certificate is not one of the application's: upload its public part (App registrations, "
    "Certificates & secrets), or use the key that belongs to it",
    "700016": "the application is not known in this tenant: check client_id and tenant_id",
    "7000229": "the application has no service principal in this tenant: grant admin consent",
    "7000112": "the application is disabled in this tenant",
    "90002": "the tenant is not known there: check tenant_id, and authority (sovereign clouds have their own)",
    "900023": "the tenant is not known there: check tenant_id",
    "700024": "the assertion is not valid at this time: check this machine's clock",
    "700211": "no federated credential has this issuer: compare it with the application's federated credentials",
    "700212": "no federated credential has this audience: compare it with the application's federated credentials",
    "700213": "no federated credential has this subject: compare it with the application's federated credentials",
    "70021": "no federated credential matches: compare issuer and subject with the application's",
    "53003": "a conditional access policy for workload identities blocks the application",
}
"""What an administrator does about an error of Entra's token endpoint, by its AADSTS number."""


class Tokens:
    """The access token of one source: renewed before it ends, and once after it was refused."""

    def __init__(self, settings: GraphSettings, wire: Wire, clock: Clock, observe: Observe) -> None:
        self._settings = settings
        self._wire = wire
        self._clock = clock
        self._observe = observe
        self._one = asyncio.Lock()
        self._token = ""
        self._renew_at = 0.0
        self._ends_at = 0.0

    async def get(self, instead_of: str = "") -> str:
        """Return a token that lives; not `instead_of`, which was refused.

        Raises:
            SourceRefused: Entra does not accept the credential; the text says what to do.
            SourceUnreachable: no usable answer of the authority.
        """
        async with self._one:
            now = self._clock.monotonic()
            usable = self._token not in ("", instead_of)
            if usable and now < self._renew_at:
                return self._token
            try:
                token, lives = await asyncio.to_thread(self._issue, asyncio.get_running_loop())
            except SourceUnreachable:
                if not usable or now >= self._ends_at:
                    raise
                self._renew_at = now + AGAIN
                return self._token
            self._token = token
            self._ends_at = now + lives
            self._renew_at = now + max(lives - EARLY, lives / 2)
            return token

    def _issue(self, loop: asyncio.AbstractEventLoop) -> tuple[str, float]:
        """Ask for a token; a new msal application each time, so that a rotated credential is read and no cache lies."""
        bridge = Bridge(self._settings, self._wire, loop, self._clock, self._observe)
        try:
            answer = _asked(self._settings, bridge)
        except IncompleteSource:
            raise
        except ConfigError as error:
            raise SourceRefused(f"{self._settings.name}: {error}") from None
        except Exception:  # whatever it is, its words may hold what nobody should read
            raise self._refusal(bridge.codes, bridge.status) from None
        token, lives = answer.get("access_token"), answer.get("expires_in")
        if isinstance(token, str) and token and token.isascii() and token.isprintable():
            return token, float(lives) if isinstance(lives, (int, float)) else 2 * EARLY
        raise self._refusal(_codes(answer), bridge.status)

    def _refusal(self, codes: list[str], status: int) -> SourceRefused:
        name, credential = self._settings.name, self._settings.credential
        known = next((code for code in codes if code in REMEDIES), None)
        if known:
            return SourceRefused(f"{name}: {REMEDIES[known]} (AADSTS{known})", status=status)
        if isinstance(credential, ManagedIdentity):
            return SourceRefused(f"{name}: there is no such managed identity on this machine: assign it", status=status)
        if codes:
            return SourceRefused(f"{name}: Entra does not accept the credential (AADSTS{codes[0]})", status=status)
        if status >= 400:
            return SourceRefused(f"{name}: Entra does not know tenant or credential ({status})", status=status)
        what = "certificate or its passphrase" if isinstance(credential, Certificate) else "credential"
        return SourceRefused(f"{name}: the {what} cannot be used", status=status)


class Response:
    """An answer in the form in which msal reads it."""

    def __init__(self, reply: Reply, text: str) -> None:
        self.status_code = reply.status
        self.headers = reply.headers
        self.text = text

    def raise_for_status(self) -> None:
        if self.status_code >= 400:
            raise SourceUnreachable(status=self.status_code)


class Bridge:
    """The HTTP client that msal is given: requests go over our wire, and nowhere but where they are meant to.

    `status` and `codes` are those of the last answer.
    """

    def __init__(
        self, settings: GraphSettings, wire: Wire, loop: asyncio.AbstractEventLoop, clock: Clock, observe: Observe
    ) -> None:
        self._name = settings.name
        self._managed = isinstance(settings.credential, ManagedIdentity)
        self._authority = urlsplit(settings.authority)
        self._wire = wire
        self._loop = loop
        self._clock = clock
        self._observe = observe
        self.status = 0
        self.codes: list[str] = []

    def get(
        self, url: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, **_: Any
    ) -> Response:
        return self._send("GET", url, params, headers, None)

    def post(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **_: Any,
    ) -> Response:
        return self._send("POST", url, params, headers, data)

    def close(self) -> None:
        """Leave the connections open: they belong to the source."""

    def _send(
        self,
        verb: str,
        url: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        data: Mapping[str, str] | None,
    ) -> Response:
        query = f"{'&' if '?' in url else '?'}{urlencode(params)}" if params else ""
        sent = dict(headers or {})
        body = None
        if data is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(data).encode()
        going = self._exchange(verb, self._address(url) + query, sent, body)
        reply = asyncio.run_coroutine_threadsafe(going, self._loop).result()
        return self._response(reply)

    def _address(self, url: str) -> str:
        """Return where to really send it: plain http where the authority is on loopback, which msal does not know."""
        wanted = urlsplit(url)
        if self._managed and (wanted.scheme == "https" or is_beside(wanted.hostname or "")):
            return url
        if wanted.scheme == "https" and wanted.netloc == self._authority.netloc:
            return wanted._replace(scheme=self._authority.scheme).geturl()
        msg = f"{self._name}: the authority sends idsync to another address, which is not followed"
        raise SourceRefused(msg)

    async def _exchange(self, verb: str, url: str, headers: dict[str, str], body: bytes | None) -> Reply:
        began = self._clock.monotonic()
        status = "error"
        try:
            reply = await self._wire.exchange(verb, url, headers, body)
            status = str(reply.status)
        except SourceUnreachable as error:
            msg = f"{self._name}: {self._authority.hostname if not self._managed else 'managed identity'}: {error}"
            raise SourceUnreachable(msg) from None
        finally:
            self._observe("token", status, self._clock.monotonic() - began)
        return reply

    def _response(self, reply: Reply) -> Response:
        self.status = reply.status
        if reply.status == 429 or reply.status >= 500:
            msg = f"{self._name}: the authority answered {reply.status}"
            raise SourceUnreachable(msg, status=reply.status)
        try:
            text = reply.body.decode()
            told = json.loads(text)  # msal logs what is no JSON, and there may be a token in it
        except (ValueError, RecursionError):
            msg = f"{self._name}: the authority's answer is not whole JSON ({reply.status})"
            raise SourceUnreachable(msg, status=reply.status) from None
        self.codes = _codes(told)
        if self._authority.scheme == "http":
            text = text.replace(f"http://{self._authority.netloc}", f"https://{self._authority.netloc}")
        return Response(reply, text)


def _asked(settings: GraphSettings, bridge: Bridge) -> Mapping[str, Any]:
    """Return the answer of the authority, as msal gives it."""
    import msal  # heavy, and needed by nobody without a source of this kind

    logging.getLogger("msal").setLevel(logging.WARNING)
    resource = settings.graph_url.rstrip("/")
    credential = settings.credential
    if isinstance(credential, ManagedIdentity):
        who = (
            msal.UserAssignedManagedIdentity(client_id=credential.client_id)
            if credential.client_id
            else msal.SystemAssignedManagedIdentity()
        )
        told = msal.ManagedIdentityClient(who, http_client=bridge).acquire_token_for_client(resource=resource)
    else:
        authority = urlsplit(settings.authority.rstrip("/"))._replace(scheme="https").geturl()
        told = msal.ConfidentialClientApplication(
            settings.client_id,
            client_credential=_in_msals_words(credential),
            authority=f"{authority}/{settings.tenant_id}",
            instance_discovery=False,  # it asks login.microsoftonline.com, whatever the cloud
            azure_region=False,  # whatever MSAL_FORCE_REGION says
            http_client=bridge,
        ).acquire_token_for_client(scopes=[f"{resource}/.default"])
    return told if isinstance(told, Mapping) else {}


def _in_msals_words(credential: Credential) -> Any:
    """Read a credential as it is now.

    Raises:
        ConfigError: a file that cannot be read, or does not hold what it should.
    """
    if isinstance(credential, ClientSecret):
        return credential.read()
    if isinstance(credential, FederatedToken):
        return {"client_assertion": lambda: _text(credential.file).strip()}
    assert isinstance(credential, Certificate)  # noqa: S101  (the union has no other)
    passphrase = credential.passphrase() if credential.passphrase else None
    if Path(credential.file).suffix.lower() in (".pfx", ".p12"):
        _bytes(credential.file)
        return {"private_key_pfx_path": credential.file, "passphrase": passphrase}
    certificate = _block(credential.file, "CERTIFICATE")
    key = _block(credential.key_file or credential.file, "PRIVATE KEY")
    return {"private_key": key, "public_certificate": certificate, "passphrase": passphrase}


def _block(file: str, kind: str) -> str:
    """Return the first PEM block of a kind."""
    found = re.search(rf"-----BEGIN ([A-Z]+ )*{kind}-----.+?-----END ([A-Z]+ )*{kind}-----", _text(file), re.DOTALL)
    if found is None:
        raise ConfigError([(file, f"there is no PEM {kind.lower()} in it")])
    return f"{found.group()}\n"


def _text(file: str) -> str:
    try:
        return _bytes(file).decode()
    except UnicodeDecodeError:
        raise ConfigError([(file, "is not a text file")]) from None


def _bytes(file: str) -> bytes:
    try:
        found = Path(file).read_bytes()
    except OSError as error:
        raise ConfigError([(file, f"cannot be read: {error.strerror}")]) from None
    if not found.strip():
        raise ConfigError([(file, "is empty")])
    return found


def _codes(answer: Any) -> list[str]:
    """Return the AADSTS numbers of an error; nothing else of it, for the rest may say more than it should."""
    if not isinstance(answer, Mapping) or "error" not in answer:
        return []
    listed = answer.get("error_codes")
    told = [str(code) for code in listed if isinstance(code, int)] if isinstance(listed, list) else []
    return told + re.findall(r"AADSTS(\d+)", str(answer.get("error_description")))
