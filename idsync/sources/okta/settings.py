"""How an Okta org is reached and read."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from idsync.errors import ConfigError
from idsync.sources.okta.auth import DPoP, Secret

SCOPES = ("okta.users.read", "okta.groups.read", "okta.logs.read")
APPS_SCOPE = "okta.apps.read"


@dataclass(frozen=True)
class OktaSettings:
    """How one org is reached and read. Durations in seconds.

    Either `client_id` and `private_key` (PEM or JWK text) or `api_token`; both are read when needed, so they can be
    exchanged without a restart. `app_id`: only people assigned to this app count; empty: the members of the groups
    do. `scopes` empty: those that are needed. `rate_share`: at most that part of each bucket is used.
    `page`, `app_page`, `log_page`: the most Okta gives at once. `give_up_after`: without any usable answer for so long, a
    pass ends.
    """

    name: str
    org_url: str
    client_id: str = ""
    private_key: Secret | None = field(default=None, repr=False)
    key_id: str = ""
    api_token: Secret | None = field(default=None, repr=False)
    dpop: DPoP = "auto"
    app_id: str = ""
    scopes: tuple[str, ...] = ()
    timeout: float = 30.0
    rate_share: float = 0.5
    concurrency: int = 4
    ca_file: str = ""
    overlap: float = 300.0
    page: int = 200
    app_page: int = 500
    log_page: int = 1000
    give_up_after: float = 900.0

    def asked_scopes(self) -> tuple[str, ...]:
        return self.scopes or (*SCOPES, *([APPS_SCOPE] if self.app_id else []))


def refuse_settings(settings: OktaSettings) -> None:
    """Raise ConfigError unless the address can be an org's and there is exactly one credential."""
    problems = []
    parts = urlsplit(settings.org_url)
    host = parts.hostname or ""
    if parts.scheme != "https" and host not in ("127.0.0.1", "::1", "localhost"):
        problems.append(("org_url", "has to begin with https://"))
    if "-admin" in host.partition(".")[0]:
        problems.append(("org_url", "is the address of the admin console; the API is at the one without -admin"))
    if (settings.api_token is None) == (settings.private_key is None or not settings.client_id):
        problems.append(("private_key_file", "either client_id with private_key_file, or api_token_file, and not both"))
    if problems:
        raise ConfigError([(f"sources.okta.{settings.name}.{path}", what) for path, what in problems])
