"""One finding of the doctor, in one line: what was looked at, how it stands, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

DAY = 86400.0
Severity = Literal["ok", "note", "warning", "wrong"]


@dataclass(frozen=True)
class Check:
    """`ok` is None where nothing is wrong and something should be known; with a `remedy`, somebody should act.

    Only what is wrong (`ok` False) makes the exit code 1.
    """

    name: str
    ok: bool | None
    says: str
    more: Mapping[str, Any] = field(default_factory=dict)
    remedy: str = ""

    @property
    def severity(self) -> Severity:
        if self.ok is None:
            return "warning" if self.remedy else "note"
        return "ok" if self.ok else "wrong"


def ago(seconds: float) -> str:
    if seconds < 2 * 60:
        return "just now"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min ago"
    return f"{seconds / 3600:.0f} h ago" if seconds < 2 * DAY else f"{seconds / DAY:.0f} days ago"
