"""Structured logs on stderr: JSON for machines, lines for people, secrets for nobody."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

SECRET = re.compile(
    r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2}))(?:sk-[A-Za-z0-9_\-]{6,}|idsync_[A-Za-z0-9_\-]{16,})"
    r"|(?i:bearer)\s+[A-Za-z0-9._~+/=\-]{8,}"
)
"""What a virtual key, one of our tokens, or an Authorization header looks like."""
CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    0x0A: "\\n",
    0x0D: "\\r",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
"""Characters that would break a line or drive a terminal, and how they are written instead."""
HIDDEN_FIELDS = frozenset({"password", "authorization", "token", "secret", "admin_key", "key", "api_key"})


def mask(text: str) -> str:
    """Replace everything in a text that looks like a secret, and characters that would break a line."""
    return SECRET.sub("***", text).translate(CONTROL)


def _redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    trace = event.pop("exception", None)
    for name, value in event.items():
        event[name] = _clean(name, value)
    if trace is not None:
        event["exception"] = "\n".join(mask(line) for line in str(trace).split("\n"))
    return event


def _clean(name: str, value: Any) -> Any:
    """Mask a value, and whatever is inside it."""
    if name.lower() in HIDDEN_FIELDS:
        return "***"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {mask(str(key)): _clean(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", inner) for inner in value]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return mask(str(value))


def configure(level: str = "info", style: str | None = None, *, color: bool = False) -> None:
    """Set up logging for the process. `style` is "json" or "text"; by default text on a terminal, else JSON."""
    style = style or ("text" if sys.stderr.isatty() else "json")
    renderer: Any = structlog.processors.JSONRenderer(ensure_ascii=False)
    if style == "text":
        renderer = structlog.dev.ConsoleRenderer(colors=color, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.format_exc_info,
            _redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # what it cannot reach we tell by ourselves
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "apscheduler"):
        logging.getLogger(name).setLevel(logging.ERROR)
