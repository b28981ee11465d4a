"""The certificates in files that the configuration names, and when each of them ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idsync.config import Config, GraphSource, SecretFile
from idsync.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


@dataclass(frozen=True)
class Named:
    """One setting that names a file. `ends_at` is epoch seconds, None: the file holds no certificate that can be read.

    `source` is whose it is; None: it is `http.ca_file`, of which the one that ends first counts.
    """

    setting: str
    source: str | None
    ends_at: float | None


def named(config: Config) -> Iterator[Named]:
    """Read each file that is named, anew."""
    if config.http.ca_file:
        yield Named("http.ca_file", None, _end(config.http.ca_file, None))
    for graph in config.sources.graph:
        if graph.certificate_file:
            setting = f"sources.graph.{graph.name}.certificate_file"
            yield Named(setting, graph.name, _end(graph.certificate_file, graph))


def _end(file: str, graph: GraphSource | None) -> float | None:
    try:
        return min(one.not_valid_after_utc.timestamp() for one in _read(Path(file), graph))
    except (OSError, ValueError, ConfigError):
        return None


def _read(file: Path, graph: GraphSource | None) -> list[Certificate]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import pkcs12

    data = file.read_bytes()
    if graph is None:
        return x509.load_pem_x509_certificates(data)
    if file.suffix.lower() not in (".pfx", ".p12"):
        return x509.load_pem_x509_certificates(data)[:1]  # the leaf: what is behind it is not what Entra compares
    passphrase = graph.certificate_passphrase_file
    secret = SecretFile(passphrase)().encode() if passphrase else None
    _, leaf, _ = pkcs12.load_key_and_certificates(data, secret)
    return [leaf] if leaf is not None else []
