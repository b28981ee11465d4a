"""Raw keys never reach the request log or the audit rows."""

from __future__ import annotations

import re
from typing import Any

# After a hyphen only long ones: an alias such as "disk-sk-1" is a name, not a key.
_RAW_KEY = re.compile(r"(?<![A-Za-z0-9])sk-[\w-]{12,}|(?<![\w-])sk-[\w-]+")


def mask(value: str) -> str:
    return _RAW_KEY.sub(lambda found: f"sk-...{found.group()[-4:]}", value) if "sk-" in value else value


def masked(value: Any) -> Any:
    """A copy of a JSON value with every raw key in it shortened."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {mask(str(name)): masked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return value
