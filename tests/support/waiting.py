"""Waiting for something to be true: asked again and again until a deadline, never slept for luck."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def until(met: Callable[[], T], what: str, seconds: float = 30.0, told: Callable[[], object] | None = None) -> T:
    """Return the first true answer of `met`; `told` says at a failure how things are instead."""
    end = time.monotonic() + seconds
    while not (answer := met()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}" + (f"; but: {told()}" if told else ""))
        time.sleep(0.005)
    return answer
