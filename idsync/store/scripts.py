"""The migrations of this release: SQL files in one numbering for every store, and what each computes beside its SQL."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass


@dataclass(frozen=True)
class Script:
    """One migration, by the name it is recorded under."""

    name: str
    text: str


def scripts() -> list[Script]:
    """Return every migration of this release, in order."""
    folder = importlib.resources.files("idsync.store") / "migrations"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return [Script(entry.name.removesuffix(".sql"), entry.read_text("utf-8")) for entry in found]
