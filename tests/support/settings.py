"""A throw-away configuration: the file, the admin key, the source's token and a store, all in one folder."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from support.stores import url_of

ADMIN_KEY = "sk-admin-1234"
TOKEN = "idsync_token-of-the-test-source-0123456789"
SOURCE = "okta"
DATA, WEB = {"alias": "data", "groups": ["Data"]}, {"alias": "web", "groups": ["Web"]}
Tree = dict[str, Any]


def write_settings(folder: Path, gateway: str, **changed: Any) -> Path:
    """Write the configuration and its secrets; each of `changed` is laid over the table of that name.

    `admin_key` is the gateway's, where it is not the usual one.
    """
    (folder / "admin.key").write_text(changed.pop("admin_key", ADMIN_KEY))
    (folder / "source.token").write_text(TOKEN)
    for secret in ("admin.key", "source.token"):
        (folder / secret).chmod(0o600)
    tree: Tree = {
        "server": {"port": 0, "ops_port": 0},
        "store": {"url": url_of(folder / "idsync.db")},
        "routero": {
            "base_url": gateway,
            "admin_key_file": str(folder / "admin.key"),
            "dialect": "litellm",
            "cache_time": "60s",
        },
        "scim": {"sources": [{"name": SOURCE, "token_file": str(folder / "source.token")}]},
        "reconcile": {"every": "1h"},
        "teams": [DATA, WEB],
    }
    for name, value in changed.items():
        tree[name] = {**tree.get(name, {}), **value} if isinstance(value, dict) else value
    path = folder / "config.toml"
    path.write_text(toml(tree))
    return path


def store_url(settings: Path) -> str:
    """Return the address of the store of this configuration."""
    return str(tomllib.loads(settings.read_text())["store"]["url"])


def toml(tree: Tree) -> str:
    """Write tables of plain values and lists of such tables; a JSON value of that kind is a TOML value too."""
    lines: list[str] = []
    for name, table in tree.items():
        if isinstance(table, list):
            lines += [line for entry in table for line in _entry(name, entry)]
        else:
            lines += [f"[{name}]", *_values({key: value for key, value in table.items() if not _is_tables(value)})]
            lines += toml({f"{name}.{key}": value for key, value in table.items() if _is_tables(value)}).splitlines()
    return "\n".join(lines) + "\n"


def _entry(name: str, entry: Tree) -> list[str]:
    """Write an entry of a list, and the lists of tables within it."""
    inner = {f"{name}.{key}": value for key, value in entry.items() if _is_tables(value)}
    values = _values({key: value for key, value in entry.items() if not _is_tables(value)})
    return [f"[[{name}]]", *values, *(toml(inner).splitlines() if inner else [])]


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(entry, dict) for entry in value)


def _values(table: Tree) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in table.items()]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(key)} = {_value(entry)}' for key, entry in value.items())} }}"
    return json.dumps(value)
