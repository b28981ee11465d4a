"""Which keys of the configuration a running daemon takes over, and which count after a restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from idsync.config.loading import entry_name
from idsync.config.tables import Config

LIVE = ("policy", "guard", "reconcile", "drill", "retention", "teams", "roles", "protected", "notify")
"""Tables that SIGHUP takes over. All others say where idsync listens, whom it asks and with which credential."""


def restart_tables() -> tuple[str, ...]:
    """Return the tables whose changes count after a restart."""
    return tuple(name for name in Config.model_fields if name not in LIVE)


def differing(one: Config, other: Config) -> list[str]:
    """Return the paths of the keys in which two configurations differ, sorted; entries of lists by their name.

    Of an entry that only one of them has, its own path alone: `teams.ops`, not each key of it.
    """
    return differing_trees(one.model_dump(), other.model_dump())


def differing_trees(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the same of two configurations as nested tables."""
    ours, theirs = dict(_leaves(one, "")), dict(_leaves(other, ""))
    paths = {path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path)}
    entries = set(_entries(one, "")) ^ set(_entries(other, ""))
    inside = {path for path in paths | entries for entry in entries if path.startswith(f"{entry}.")}
    lists = {entry.rpartition(".")[0] for entry in entries}  # of a list that was or is empty: a leaf of its own
    return sorted((paths | entries) - inside - lists)


def _entries(tree: Any, path: str) -> Iterator[str]:
    """Yield the paths of the entries of lists."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _entries(value, f"{path}.{key}" if path else key)
    elif isinstance(tree, (list, tuple)) and tree and all(isinstance(entry, dict) for entry in tree):
        for index, entry in enumerate(tree):
            here = f"{path}.{entry_name(path, entry) or index}"
            yield here
            yield from _entries(entry, here)


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
