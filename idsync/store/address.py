"""Where a shared database is, and how to show that without what opens it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from idsync.errors import StoreError

SCHEMES = ("postgresql", "postgres")


def is_shared(url: str) -> bool:
    """Tell whether a store's address is that of a database which several processes may share."""
    return urlsplit(url).scheme in SCHEMES


class Address:
    """A `postgresql://` URL (libpq's form) and, apart from it, what returns the password, which may change."""

    def __init__(self, url: str, password: Callable[[], str] | None = None) -> None:
        """Keep an address.

        Raises:
            StoreError: the URL is of another kind.
        """
        if not is_shared(url):
            msg = f"{url.split(':', 1)[0]!r} is no PostgreSQL address; write postgresql://user@host:5432/database"
            raise StoreError(msg)
        self.url = url
        self._password = password

    def secrets(self) -> dict[str, Any]:
        """Return what a connection needs beside the URL.

        Raises:
            ConfigError: the password's file cannot be read.
        """
        return {} if self._password is None else {"password": self._password()}

    def __str__(self) -> str:
        """Return the address without a password and without options."""
        parts = urlsplit(self.url)
        _, at, host = parts.netloc.rpartition("@")
        user = parts.username or ""
        return urlunsplit(("postgresql", f"{user}{at}{host}", parts.path, "", ""))
