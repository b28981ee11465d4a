"""What systemd is told: ready, reloading, stopping, alive. Without NOTIFY_SOCKET all of it does nothing.

The protocol is one datagram a message (man 3 sd_notify); a dozen lines need no library.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Mapping

import structlog

SENDING = 1.0
"""Seconds to wait for room in the queue of whoever listens."""

log = structlog.get_logger(__name__)


class Supervisor:
    """Tells whoever started us how we are. A message that cannot be sent is no reason to stop working."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watch = _watchdog_seconds(environ)
        self._beats: asyncio.Task[None] | None = None

    @classmethod
    def of_process(cls) -> Supervisor:
        """Return that of this process. What it starts must not speak in its name, so the variables are taken away."""
        names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        return cls({name: os.environ.pop(name) for name in names if name in os.environ})

    def ready(self, status: str) -> None:
        """Say that everything answers; from now on the event loop proves twice a watchdog interval that it turns."""
        self._send("READY=1", f"STATUS={status}")
        if self._watch and self._beats is None:
            self._beats = asyncio.create_task(self._beat(self._watch / 2))

    def reloading(self) -> None:
        """Say that a reload has begun; `ready` ends it. systemd ignores the message without its time."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=ending what is under way")

    async def close(self) -> None:
        """End the beats."""
        if self._beats is not None:
            self._beats.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._beats

    async def _beat(self, seconds: float) -> None:
        while True:
            self._send("WATCHDOG=1", patience=0.0)  # the next one follows anyway
            await asyncio.sleep(seconds)

    def _send(self, *lines: str, patience: float = SENDING) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker:
                speaker.settimeout(patience)
                speaker.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("supervisor.not_told", said=lines[0], error=str(error))


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """Return how long we may be silent, 0 for ever; it is for the process WATCHDOG_PID names, or for any."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    given = environ.get("WATCHDOG_USEC", "")
    return int(given) / 1_000_000 if given.isdecimal() else 0.0
