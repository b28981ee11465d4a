"""Where traces may go, and what may go there in clear."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from idsync.config.tables import Config


def problems(config: Config, loopback: Collection[str]) -> list[tuple[str, str]]:
    """Return what the file itself shows to be wrong. Without headers plain http is taken: spans hold no secret."""
    where, path = config.traces, "traces.otlp_endpoint"
    if not where.otlp_endpoint:
        return [(path, "missing; headers_file says what to send, not where")] if where.headers_file else []
    try:
        parts = urlsplit(where.otlp_endpoint)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return [(path, "must be an http(s) address, like http://127.0.0.1:4318")]
    if parts.username or parts.password or parts.query or parts.fragment:
        return [(path, "must be an address alone, without user name, password or query; see headers_file")]
    if parts.path.rstrip("/").endswith("/v1/traces"):
        return [(path, "leave /v1/traces out: it is added")]
    if where.headers_file and parts.scheme == "http" and parts.hostname not in loopback:
        return [(path, "plain http would show what is in headers_file to the network; only loopback may use it")]
    return []
