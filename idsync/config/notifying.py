"""What belongs to which kind of [[notify]], and where it may go."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from idsync.config.tables import Config, Notify

COMMON = frozenset({"name", "kind", "events", "timeout"})
OF_KIND = {
    "slack": {"url_file", "allow_private"},
    "webhook": {"url", "secret_file", "allow_private"},
    "email": {"host", "port", "tls", "user", "password_file", "sender", "to"},
}
NEEDED = {"slack": ("url_file",), "webhook": ("url", "secret_file"), "email": ("host", "sender", "to")}


def problems(config: Config, loopback: Collection[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for entry in config.notify:
        path = f"notify.{entry.name}"
        strange = sorted(entry.model_fields_set - COMMON - OF_KIND[entry.kind])
        found += [(f"{path}.{key}", f"not a setting of {entry.kind}") for key in strange]
        found += [
            (f"{path}.{key}", f"missing; {entry.kind} needs it")
            for key in NEEDED[entry.kind]
            if not getattr(entry, key)
        ]
        if entry.url:
            found += [(f"{path}.url", what) for what in url_problems(entry.url, loopback, private=entry.allow_private)]
        found += [(f"{path}.{key}", what) for key, what in _mail(entry, loopback)]
    return found


def url_problems(url: str, loopback: Collection[str], *, private: bool) -> list[str]:
    """Say why notifications cannot go to an address. What a name resolves to is looked at when one is sent."""
    try:
        parts = urlsplit(url)
        named = parts.hostname, parts.port
    except ValueError:
        return ["must be an https address"]
    if parts.scheme not in ("http", "https") or not named[0] or any(not 32 < ord(sign) < 127 for sign in url):
        return ["must be an https address"]
    if parts.username is not None or parts.password is not None:
        return ["must not hold a user name or password"]
    if parts.scheme == "http" and not (private and named[0] in loopback):
        return ["must be https; plain http is taken only to loopback, with allow_private = true"]
    return []


def _mail(entry: Notify, loopback: Collection[str]) -> list[tuple[str, str]]:
    found = []
    if entry.tls == "none" and entry.host not in loopback:
        found.append(("tls", "mail would cross the network in clear; only loopback may do without TLS"))
    if bool(entry.user) != bool(entry.password_file):
        found.append(("user", "user and password_file belong together"))
    addresses = [("sender", entry.sender)] if entry.sender else []
    addresses += [("to", address) for address in entry.to]
    return found + [
        (key, f"{address!r} is not an e-mail address") for key, address in addresses if not _is_mail(address)
    ]


def _is_mail(address: str) -> bool:
    local, _, domain = address.rpartition("@")
    return bool(local and domain) and address.isascii() and not set(address) & set(' \t\r\n,;<>"()')
