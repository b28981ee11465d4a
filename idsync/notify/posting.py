"""Over HTTP: signed, to the address that was looked at, without redirects, and with bounds on time and answer."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from idsync.errors import NotDelivered
from idsync.outbound import read, trust, why

ANSWER_LIMIT = 4096
"""Bytes that are read of an answer; nothing of it is shown."""
LONGEST_PAUSE = 3600.0
"""Seconds that a receiver may ask to be left alone."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_allowed(address: str, *, private: bool) -> bool:
    """Tell whether notifications may go to an IP address; `private` allows loopback and private networks too.

    Link-local (169.254.169.254 is the metadata service of clouds), multicast and reserved addresses never are. An IPv4
    address inside an IPv6 one (mapped, NAT64) counts as itself; tunnels (6to4, Teredo) are refused.
    """
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip.sixtofour is not None or ip.teredo is not None:
            return False
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or (ip.version == 4 and ip.is_reserved):
        return False
    if private and (ip.is_loopback or ip.is_private):
        return True
    return ip.is_global and not ip.is_reserved


class _Door:
    """Makes the sockets of a session, and none to an address that is not allowed: there is no other way out.

    What a name resolves to is looked at here, at the address that is then connected to; a second look-up cannot change it.
    """

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self.refused = False

    def __call__(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, proto, _, where = info
        if not is_allowed(str(where[0]), private=self._private):
            self.refused = True
            msg = "this address is not allowed"
            raise OSError(msg)
        return socket.socket(family, kind, proto)


@dataclass(frozen=True)
class Way:
    """How to get there: within how many seconds, whether to private networks too, and who looks names up."""

    timeout: float
    private: bool
    ca_file: str = ""
    resolver: AbstractResolver | None = None


async def post(url: str, body: bytes, headers: Mapping[str, str], way: Way, *, whom: str) -> None:
    """Send JSON to an address; done means an answer of 2xx in time.

    Raises:
        NotDelivered: anything else; the text never holds the address, which may be a secret.
    """
    door = _Door(private=way.private)
    connector = aiohttp.TCPConnector(
        ssl=trust(way.ca_file), use_dns_cache=False, force_close=True, resolver=way.resolver, socket_factory=door
    )
    sent = {**headers, "Content-Type": "application/json", "User-Agent": "idsync", "Accept-Encoding": "identity"}
    times = aiohttp.ClientTimeout(total=way.timeout)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=times) as session,
            session.post(URL(url, encoded=True), data=body, headers=sent, allow_redirects=False) as response,
        ):
            await read(response, ANSWER_LIMIT)
            _judge(response, whom)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        if door.refused:
            msg = f"{whom} is at a private or local address; allow_private = true allows private ones and loopback"
            raise NotDelivered(msg) from None
        if isinstance(error, aiohttp.InvalidURL):
            msg = f"{whom} has no address that can be called"
            raise NotDelivered(msg) from None
        raise NotDelivered(why(error, whom)) from None


def _judge(response: aiohttp.ClientResponse, whom: str) -> None:
    if 200 <= response.status < 300:
        return
    if 300 <= response.status < 400:
        msg = f"{whom} answered with a redirect ({response.status}), which is not followed; use the final address"
        raise NotDelivered(msg)
    told = response.headers.get("Retry-After", "")
    pause = min(float(told), LONGEST_PAUSE) if told.isascii() and told.isdigit() and len(told) < 10 else 0.0
    msg = f"{whom} answered {response.status}"
    raise NotDelivered(msg, retry_after=pause)


def encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def signed(message_id: str, body: bytes, secrets: Sequence[str], now: float) -> dict[str, str]:
    """Return the headers of Standard Webhooks (standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body`.

    Every secret signs, so that one can be exchanged for another without a gap. `whsec_` and Base64 is the form that
    libraries know; anything else is taken as it is.
    """
    at = str(int(now))
    text = b".".join([message_id.encode(), at.encode(), body])
    made = [base64.b64encode(hmac.digest(_key(secret), text, hashlib.sha256)).decode() for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": at,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in made),
    }


def _key(secret: str) -> bytes:
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            raise NotDelivered("the webhook's secret begins with whsec_ and is not Base64 after it") from None
    return secret.encode()
