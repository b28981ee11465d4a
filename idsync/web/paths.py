"""Where the daemon's command socket is and what is said there; apart, so that the command line need not load a web server to know."""

from __future__ import annotations

from pathlib import Path

DIGEST = "Idsync-Configuration"
"""The header that says by which configuration a command is meant."""


def socket_path(store: Path) -> Path:
    """Return where the daemon that holds this store listens."""
    return store.with_name(store.name + ".ctl") / "s"
