"""What each address idsync talks to shows without a credential: its certificate, and the time it takes it to be.

One connection each, one HEAD of `/`, closed again; no credential is sent, and a look ends after `PATIENCE`.
"""

from __future__ import annotations

import asyncio
import email.utils
import http.client
import io
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from idsync import certificates
from idsync.clock import Clock
from idsync.config import Config
from idsync.doctor.check import DAY, Check
from idsync.errors import ConfigError
from idsync.outbound import trust
from idsync.words import count

PATIENCE = 5.0
"""Seconds for one look, connecting included."""
SKEW = 5.0
"""Seconds by which two clocks may differ; a Date header has whole ones."""
FAR = 60.0
"""Seconds from which signed requests and delays are wrong."""
CA_REMEDY = "put the authority's new certificate into the file"
LEAF_REMEDY = "make a new one, upload its public part to the application, then exchange the file"
SOON = 21 * DAY
"""Seconds before its end at which a certificate is told."""


@dataclass(frozen=True)
class Look:
    """What an address has shown. `ends_at` is that of its certificate; `ahead` by how much its clock is before ours."""

    problem: str = ""
    ends_at: float | None = None
    ahead: float | None = None


async def outside(config: Config, clock: Clock) -> list[Check]:
    """Look at the gateway, its replicas, the IdPs and our own public address, all at the same time."""
    addresses = _addresses(config)
    looks = await asyncio.gather(*(look(url, config.http.ca_file, clock) for url in addresses))
    now = clock.now()
    checks = [check for url, seen in zip(addresses, looks, strict=True) for check in _judged(url, seen, config, now)]
    return [*checks, *_files(config, now)]


def _addresses(config: Config) -> list[str]:
    listed = [config.routero.base_url, *config.routero.replica_urls]
    listed += [okta.org_url for okta in config.sources.okta]
    for graph in config.sources.graph:
        listed += [graph.graph_url] if graph.managed_identity else [graph.authority, graph.graph_url]
    listed += [config.server.public_url] if urlsplit(config.server.public_url).scheme == "https" else []
    return list({_origin(url): None for url in listed if urlsplit(url).hostname})


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


async def look(url: str, ca_file: str, clock: Clock) -> Look:
    """Connect once, ask for the head of `/`, and return what was shown. Never raises for what the address does."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    try:
        trusted = trust(ca_file)
        context = (trusted if isinstance(trusted, ssl.SSLContext) else ssl.create_default_context()) if tls else None
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port or (443 if tls else 80), ssl=context
            )
            try:
                certificate = writer.get_extra_info("peercert") or {}
                asked_at = clock.now()
                writer.write(f"HEAD / HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                return Look("", _end_of(certificate), _ahead(head, (asked_at + clock.now()) / 2))
            finally:
                writer.close()
    except ConfigError as error:
        return Look(str(error))
    except ssl.SSLCertVerificationError as error:
        return Look(f"its certificate is not trusted: {error.verify_message}")
    except (OSError, ssl.SSLError, TimeoutError, ValueError, EOFError, asyncio.LimitOverrunError):
        return Look("no answer, or none that is HTTP")


def _end_of(certificate: Mapping[str, object]) -> float | None:
    ends = certificate.get("notAfter")
    return float(ssl.cert_time_to_seconds(ends)) if isinstance(ends, str) else None


def _ahead(head: bytes, at: float) -> float | None:
    """Return by how many seconds the Date of an answer is ahead of when it came; half a second is what it leaves out."""
    _, _, fields = head.partition(b"\r\n")
    try:
        told = http.client.parse_headers(io.BytesIO(fields)).get("Date")
        return email.utils.parsedate_to_datetime(told).timestamp() + 0.5 - at if told else None
    except (http.client.HTTPException, ValueError, OverflowError):
        return None


def _judged(url: str, seen: Look, config: Config, now: float) -> Iterator[Check]:
    ours = url == _origin(config.server.public_url)
    if seen.problem:
        trusted = "not trusted" not in seen.problem
        remedy = "renew it, or name its authority in http.ca_file"
        yield Check("certificate", None if trusted else False, f"{url}: {seen.problem}", {}, "" if trusted else remedy)
        return
    if seen.ends_at is not None:
        remedy = (
            "renew the proxy's certificate: IdPs refuse an expired one" if ours else "whoever runs it has to renew it"
        )
        yield expiry("certificate", f"{url}: the certificate", seen.ends_at, now, remedy)
    if seen.ahead is not None and not ours:
        yield _clock(url, seen.ahead)


def _clock(url: str, ahead: float) -> Check:
    off, more = abs(ahead), {"seconds": round(ahead, 1)}
    if off <= SKEW:
        return Check("clock", True, f"{url}: its clock and ours agree", more)
    says = f"{url}: its clock is {off:.0f} s {'ahead of' if ahead > 0 else 'behind'} ours"
    remedy = "`timedatectl` says whether this machine's clock is synchronised; else theirs is wrong"
    return Check("clock", False if off > FAR else None, says, more, remedy)


def expiry(name: str, what: str, ends_at: float, now: float, remedy: str) -> Check:
    """Judge something that ends at a time."""
    days = (ends_at - now) / DAY
    more = {"days_left": round(days, 1)}
    if days <= 0:
        return Check(name, False, f"{what} expired {count(round(-days), 'day')} ago", more, remedy)
    if ends_at - now < SOON:
        return Check(name, None, f"{what} expires in {count(round(days), 'day')}", more, remedy)
    return Check(name, True, f"{what} is good for {count(round(days), 'day')}", more)


# -- certificates in files ------------------------------------------------------------------------------------------


def _files(config: Config, now: float) -> Iterator[Check]:
    for one in certificates.named(config):
        remedy = CA_REMEDY if one.source is None else LEAF_REMEDY
        if one.ends_at is None:
            says = f"{one.setting}: holds no certificate that can be read"
            yield Check("certificate", False, says, {}, remedy)
        else:
            yield expiry("certificate", f"{one.setting}: the certificate", one.ends_at, now, remedy)
