"""Show every setting with where its value came from, secrets masked."""

from __future__ import annotations

from typing import Any

from idsync.config.loading import Loaded, entry_name


def shown(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Return (key, value, origin) of every setting, secrets masked, in the order of the tables."""
    tree = loaded.config.model_dump(mode="json")
    rows = []
    for key, value in _values(tree, ""):
        secret = key.endswith(
            (
                ".password",
                ".admin_key",
                ".token",
                ".private_key",
                ".api_token",
                ".client_secret",
                ".secret_id",
                ".slack_webhook",
            )
        )
        text = ("***" if value else "") if secret else _written(value)
        rows.append((key, text, loaded.origins.get(key, "default")))
    return rows


def _values(tree: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(tree, dict):
        return [pair for key, value in tree.items() for pair in _values(value, f"{path}.{key}" if path else key)]
    if isinstance(tree, list) and tree and all(isinstance(entry, dict) for entry in tree):
        return [
            pair
            for index, entry in enumerate(tree)
            for pair in _values(entry, f"{path}.{entry_name(path, entry) or index}")
        ]
    return [(path, tree)]


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
