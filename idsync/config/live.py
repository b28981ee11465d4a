"""Which keys of the configuration a running daemon takes over, and which count after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsync.config.loading import entry_name
from idsync.config.tables import Config

LIVE = ("policy", "guard", "reconcile", "drill", "retention", "teams", "roles", "protected", "notify")
"""Tables that SIGHUP takes over. All others say where idsync listens, whom it asks and with which credential."""


def restart_tables() -> tuple[str, ...]:
    """Return the tables whose changes count after a restart."""
    return tuple(name for name in Config.model_fields if name not in LIVE)


def differing(one: Config, other: Config) -> list[str]:
    """Return the paths of the keys in which two configurations differ, sorted; entries of lists by their name."""
    return differing_trees(one.model_dump(), other.model_dump())


def differing_trees(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the same of two configurations as nested tables."""
    ours, theirs = dict(_leaves(one, "")), dict(_leaves(other, ""))
    return sorted(path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path))


def _leaves(tree: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        return [leaf for key, value in tree.items() for leaf in _leaves(value, f"{path}.{key}" if path else key)]
    if isinstance(tree, (list, tuple)) and tree and all(isinstance(entry, dict) for entry in tree):
        return [
            leaf
            for index, entry in enumerate(tree)
            for leaf in _leaves(entry, f"{path}.{entry_name(path, entry) or index}")
        ]
    return [(path, tree)]
