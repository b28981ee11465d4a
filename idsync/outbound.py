"""HTTP out: what calls of the gateway and of the identity providers have in common."""

from __future__ import annotations

import ssl

import aiohttp

from idsync.errors import ConfigError


def trust(ca_file: str) -> ssl.SSLContext | bool:
    """Return what to verify certificates with: the system's authorities, and those of `ca_file` if it is given.

    Raises:
        ConfigError: the file cannot be read or holds no certificate.
    """
    if not ca_file:
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError):
        raise ConfigError([("ca_file", "cannot be read as PEM certificates")]) from None
    return context


async def read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read the body, at most one byte more than `limit`; what is left over ends with the connection."""
    chunks, left = [], limit + 1
    while chunk := await response.content.read(left):  # of nothing more to read, nothing comes
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)


def why(error: Exception, whom: str = "") -> str:
    """Say in our own words why nothing came (of `whom`); foreign words may hold addresses and more."""
    to, by, whose = (f" to {whom}", f" from {whom}", f"{whom}'s") if whom else ("", "", "the")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection{to} in time"
    if isinstance(error, TimeoutError):
        return f"no answer{by} in time"
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError)):
        return f"{whose} certificate is not trusted (http.ca_file adds an authority)"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection{to}"
    if isinstance(error, aiohttp.ClientPayloadError):
        return f"{whose} answer broke off"
    return f"{whom} closed the connection without an answer" if whom else "the connection was closed without an answer"
