"""Structured logs on stderr: JSON for machines, lines for people, secrets for nobody."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

SECRET = re.compile(r"\b(?:sk-[A-Za-z0-9_\-]{6,}|idsync_[A-Za-z0-9_\-]{16,})|(?i:bearer)\s+[A-Za-z0-9._~+/=\-]{8,}")
"""What a virtual key, one of our tokens, or an Authorization header looks like."""
HIDDEN_FIELDS = frozenset({"password", "authorization", "token", "secret", "admin_key", "key", "api_key"})


def mask(text: str) -> str:
    """Replace everything in a text that looks like a secret, and characters that would break a line."""
    return SECRET.sub("***", text).replace("\r", "\\r").replace("\n", "\\n").replace("\x1b", "\\x1b")


def _redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if name in HIDDEN_FIELDS:
            event[name] = "***"
        elif isinstance(value, str) and name != "exception":
            event[name] = mask(value)
        elif name == "exception":
            event[name] = SECRET.sub("***", str(value))
    return event


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
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "apscheduler"):
        logging.getLogger(name).setLevel(logging.ERROR)
