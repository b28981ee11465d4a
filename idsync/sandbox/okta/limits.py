"""Rate limits: a bucket an endpoint, a window of 60 seconds that begins with its first request."""

from __future__ import annotations

import re
from dataclasses import dataclass

WINDOW = 60
WARNING = 0.6  # the part of a limit from which on administrators are warned
GENEROUS = 100_000  # a stand-in is not to be waited for unless a test is about waiting
DOCUMENTED = {
    "users": 600,
    "users/id": 600,
    "groups": 500,
    "groups/id": 500,
    "apps": 100,
    "apps/id": 500,
    "logs": 120,
    "token": 1200,
}
_BUCKET = re.compile(r"/api/v1/(users|groups|apps|logs)(/.+)?$")


@dataclass
class _Window:
    ends: float
    used: int = 0
    full: bool = False  # somebody was refused
    told: str = ""  # the last alarm


class Buckets:
    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}
        self.limits: dict[str, int] = {}

    def take(self, path: str, now: float) -> tuple[int, int, int, bool]:
        """Count a request: limit, remaining, reset in epoch seconds, and whether it is let through."""
        name = bucket_of(path)
        limit = self.limits.get(name, GENEROUS)
        window = self._windows.get(name)
        if window is None or now >= window.ends:
            window = self._windows[name] = _Window(now + WINDOW)
        allowed = window.used < limit
        window.used += allowed
        window.full = window.full or not allowed
        return limit, max(0, limit - window.used), int(window.ends), allowed

    def exhaust(self, path: str, now: float) -> tuple[int, int, int]:
        """As it looks when nothing is left, without counting."""
        name = bucket_of(path)
        window = self._windows.get(name) or _Window(now + WINDOW)
        return self.limits.get(name, GENEROUS), 0, int(max(window.ends, now + 1))

    def alarm(self, path: str) -> str:
        """`warning` or `violation`, each once a window and only for a limit that was set; else nothing."""
        name = bucket_of(path)
        window, limit = self._windows[name], self.limits.get(name)
        if limit is None:
            return ""
        now = "violation" if window.full else "warning" if window.used >= WARNING * limit else ""
        if now in ("", window.told) or window.told == "violation":
            return ""
        window.told = now
        return now

    def clear(self) -> None:
        self._windows.clear()


def bucket_of(path: str) -> str:
    if path.startswith("/oauth2/"):
        return "token"
    found = _BUCKET.match(path)
    if found is None:
        return "other"
    return found[1] + "/id" if found[2] and found[1] != "logs" else found[1]
