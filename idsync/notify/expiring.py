"""When the certificates that the configuration names end."""

from __future__ import annotations

from pathlib import Path

from idsync.config import Config
from idsync.notify.situations import Ending

UPLOAD = "upload a new certificate to the app registration, and put it into the file"


def endings_of(config: Config) -> list[Ending]:
    """Read the certificates of Entra sources; one that cannot be read is told by the source itself, which fails."""
    named = [(source.name, source.certificate_file) for source in config.sources.graph if source.certificate_file]
    ends = [(name, _ends(Path(file))) for name, file in named]
    return [Ending(f"the certificate of source {name}", at, UPLOAD) for name, at in ends if at is not None]


def _ends(file: Path) -> float | None:
    from cryptography import x509

    try:
        return min(
            found.not_valid_after_utc.timestamp() for found in x509.load_pem_x509_certificates(file.read_bytes())
        )
    except (OSError, ValueError):
        return None  # a PFX has a passphrase, and is opened where it is used
