"""When the certificates that the configuration names end."""

from __future__ import annotations

from idsync.certificates import named
from idsync.config import Config
from idsync.notify.situations import Ending

UPLOAD = "upload a new certificate to the app registration, and put it into the file"


def endings_of(config: Config) -> list[Ending]:
    """Return when those of Entra sources end; one that cannot be read is told by the source itself, which fails."""
    return [
        Ending(f"the certificate of source {one.source}", one.ends_at, UPLOAD)
        for one in named(config)
        if one.source is not None and one.ends_at is not None
    ]
