"""What a Microsoft Graph source needs to be told: which tenant, where, and by which of four credentials."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from idsync.errors import ConfigError

GLOBAL_AUTHORITY = "https://login.microsoftonline.com"
GLOBAL_GRAPH = "https://graph.microsoft.com"
NO_TENANT = frozenset({"common", "organizations", "consumers"})
"""What stands in the place of a tenant where people sign in."""


@dataclass(frozen=True)
class ClientSecret:
    """A secret of the application registration; read anew for every token, so that it may be rotated at any time."""

    read: Callable[[], str] = field(repr=False)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key: one PEM or PFX file, or the key in a PEM file of its own. Read for every token."""

    file: str
    key_file: str = ""
    passphrase: Callable[[], str] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class FederatedToken:
    """Workload identity: a file in which the platform (Kubernetes, a CI system) keeps a fresh token of its own."""

    file: str


@dataclass(frozen=True)
class ManagedIdentity:
    """The identity of the Azure machine itself, or the user-assigned one of this client id."""

    client_id: str = ""


Credential = ClientSecret | Certificate | FederatedToken | ManagedIdentity


@dataclass(frozen=True)
class GraphSettings:
    """`authority` and `graph_url` choose the cloud; `app_id` is the object id of the enterprise application.

    A managed identity needs neither tenant nor client. With `app_id`, only who is assigned to that application counts; without it, the members of the wanted groups do.

    Raises:
        ConfigError: an address that is not https (http to loopback only), or a tenant that is no name.
    """

    name: str
    credential: Credential
    tenant_id: str = ""
    client_id: str = ""
    authority: str = GLOBAL_AUTHORITY
    graph_url: str = GLOBAL_GRAPH
    app_id: str = ""
    timeout: float = 30.0
    concurrency: int = 4
    ca_file: str = ""

    def __post_init__(self) -> None:
        problems = [
            (key, "an https address (http is for loopback only)")
            for key, url in (("authority", self.authority), ("graph_url", self.graph_url))
            if not is_usable(url)
        ]
        if not isinstance(self.credential, ManagedIdentity):
            if not re.fullmatch(r"[A-Za-z0-9.-]+", self.tenant_id) or self.tenant_id in NO_TENANT:
                problems.append(("tenant_id", "the tenant's id, or one of its domains"))
            if not self.client_id:
                problems.append(("client_id", "the application (client) id of the registration"))
        if problems:
            raise ConfigError(problems)

    @property
    def base(self) -> str:
        """Return the address that every request and every link begins with."""
        return f"{self.graph_url.rstrip('/')}/v1.0"


def is_usable(url: str) -> bool:
    """Tell whether a secret may be sent there."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if not parts.hostname or parts.username or parts.query or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_beside(host: str) -> bool:
    """Tell whether a host is this machine or its platform: where managed identities are asked for, by plain http."""
    try:
        return is_loopback(host) or ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False
