"""What the hooks may change while a stand-in runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

SECRET = ("tokens", "identity_header", "secret")  # shown as their number only


@dataclass
class Settings:
    latency: float = 0.0  # seconds added to every answer
    clock_skew: float = 0.0  # seconds its clock is ahead, in the Date header and in what it writes

    def change(self, wanted: dict[str, Any]) -> None:
        """Take over the named settings. Raises ValueError for an unknown name or a value of another type."""
        unknown = set(wanted) - {field.name for field in fields(self)}
        if unknown:
            raise ValueError(f"unknown options: {', '.join(sorted(unknown))}")
        for name, value in wanted.items():
            known = getattr(type(self)(), name)
            if not _alike(value, known):
                raise ValueError(f"{name} cannot be {value!r}")
        for name, value in wanted.items():
            setattr(self, name, value)

    def shown(self) -> dict[str, Any]:
        return {name: _open(name, value) for name, value in asdict(self).items()}


def _open(name: str, value: Any) -> Any:
    if name in SECRET:
        return len(value)
    if isinstance(value, list):
        return [_open(name, item) for item in value]
    if isinstance(value, dict):
        return {
            inner: len(item) if inner in ("keys", "secrets") else _open(inner, item) for inner, item in value.items()
        }
    return value


def _alike(value: Any, known: Any) -> bool:
    if known is None or value is None:
        return known is None
    if isinstance(known, bool) or isinstance(value, bool):
        return isinstance(known, bool) and isinstance(value, bool)
    return isinstance(value, (int, float) if isinstance(known, int | float) else type(known))
