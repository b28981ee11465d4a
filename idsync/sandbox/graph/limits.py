"""Throttling by resource units. https://learn.microsoft.com/graph/throttling-limits"""

from __future__ import annotations

import re

WINDOW = 10
_COSTS = ((re.compile(r"/transitiveMembers|/transitiveMemberOf"), 5), (re.compile(r"/groups/[^/]+/members"), 3))


def cost(path: str, query: dict[str, str]) -> int:
    """1 unless documented otherwise."""
    units = next((price for pattern, price in _COSTS if pattern.search(path)), None)
    if units is None:
        units = 2 if re.search(r"/users(/delta)?$", path) else 1
    if "$select" in query:
        units -= 1
    if "$expand" in query:
        units += 1
    if query.get("$top", "").isdecimal() and int(query["$top"]) < 20:
        units -= 1
    return max(1, units)


class Budget:
    """So many units in every 10 seconds."""

    def __init__(self) -> None:
        self._ends = 0.0
        self.used = 0

    def take(self, units: int, limit: int, now: float, low: bool) -> tuple[bool, float, int]:
        """Whether it is let through, the part of the budget that is used, and the seconds to wait.

        Requests of low priority are shed at nine tenths already.
        """
        if now >= self._ends:
            self._ends, self.used = now + WINDOW, 0
        allowed = self.used + units <= limit * (0.9 if low else 1.0)
        if allowed:
            self.used += units
        return allowed, self.used / limit, max(1, round(self._ends - now))
