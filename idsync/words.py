"""How numbers, settings, times and lengths of time are said to people. Programs get them from `--json` as they are."""

from __future__ import annotations

import json
import math
import re
from typing import Any

UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"))
_FRACTION = re.compile(r"(T\d\d:\d\d:\d\d)\.\d+")
AS_PEOPLE_WRITE = {86400.0: "24h", 60.0: "60s"}


def count(number: int, one: str, several: str | None = None) -> str:
    """Say a number of things: 1 person, 2 people."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def duration(seconds: float) -> str:
    """Write a length of time as a configuration file says it: 7d, 24h, 10m, 90s, 500ms."""
    if seconds in AS_PEOPLE_WRITE:
        return AS_PEOPLE_WRITE[seconds]
    if 0 < seconds < 1 and round(seconds * 1000, 6).is_integer():
        return f"{seconds * 1000:g}ms"
    for size, unit in UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.15g}s"


def at_most(seconds: float) -> str:
    """Say how long something lasts at most, rounded up: 0.1 s, 61.3 s."""
    return f"{math.ceil(round(seconds * 10, 6)) / 10:g} s"


def setting(value: Any) -> str:
    """Write a setting of the gateway for people: 2000, not set, empty, gpt-5-mini, {"a": 1}."""
    if value is None:
        return "not set"
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(setting, value)) or "empty"
    return (value or "empty") if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def to_the_second(at: str) -> str:
    """Leave the fraction out of a time in RFC 3339: gateways and our own records write from none to six digits."""
    return _FRACTION.sub(r"\1", at)
