"""Read the file, lay the environment over it, and tell every mistake at once, each with its path."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from idsync.config import mistakes
from idsync.config.checks import cross_checks
from idsync.config.guarded import CREDENTIALS
from idsync.config.keys import key_checks
from idsync.config.sinks import sink_checks
from idsync.config.tables import Config
from idsync.errors import ConfigError

ENV = "IDSYNC_"
PLACES = (Path("config.toml"), Path("/etc/idsync/config.toml"))
NO_FILE = (
    "config.toml",
    f"there is no configuration file: neither ./{PLACES[0]} nor {PLACES[1]}; give one with -c or {ENV}CONFIG",
)
CREDENTIAL = re.compile(rf"\$(?:{CREDENTIALS}|\{{{CREDENTIALS}\}})/(?P<name>[^/]+)")
LISTS_BY_NAME = {
    ("scim", "sources"): "name",
    ("sources", "okta"): "name",
    ("sources", "graph"): "name",
    ("teams",): "alias",
    ("roles",): "role",
    ("sinks",): "name",
    ("notify",): "name",
}
"""Tables that are lists in the file; the environment addresses an entry by this field."""


@dataclass(frozen=True)
class Loaded:
    """A configuration with the file it came from and, for each key that was set, where: `file` or a variable."""

    config: Config
    path: Path | None
    origins: Mapping[str, str] = field(default_factory=dict)


def load(path: str | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read, merge and check the configuration.

    Raises:
        ConfigError: everything that is wrong with it, each problem with its path.
    """
    environ = os.environ if environ is None else environ
    file = _find(path, environ)
    tree = _read(file) if file else {}
    origins = dict.fromkeys(_leaves(tree), "file")
    problems = _secrets_in_file(tree)
    problems += _overlay(tree, environ, origins)
    problems += _credentials(tree, environ)
    if file is None and not problems and not origins:
        raise ConfigError([NO_FILE])
    try:
        config = Config.model_validate(tree)
        problems += _checked(config)
    except ValidationError as error:
        problems += mistakes.told(error, tree, entry_name)
        problems += mistakes.beside(tree, error, _checked, entry_name)
    if problems:
        raise ConfigError([*([NO_FILE] if file is None else []), *problems])
    return Loaded(config, file, origins)


def _checked(config: Config) -> list[tuple[str, str]]:
    return [*cross_checks(config), *sink_checks(config), *key_checks(config)]


def _find(path: str | None, environ: Mapping[str, str]) -> Path | None:
    named = path or environ.get(f"{ENV}CONFIG")
    if named:
        if not _is_there(Path(named)):
            raise ConfigError([(named, "no such file; give another with -c or IDSYNC_CONFIG")])
        return Path(named)
    return next((place for place in PLACES if _is_there(place)), None)


def _is_there(place: Path) -> bool:
    try:
        return place.is_file()
    except OSError as error:
        raise ConfigError([(str(place), f"cannot be read: {error.strerror}")]) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
        _leaves(tree)  # whoever reads it after this goes as deep
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([(str(path), f"not valid TOML: {error}")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([(str(path), f"cannot be read: {error}")]) from None
    except RecursionError:
        raise ConfigError([(str(path), "not valid TOML: too many tables or lists in one another")]) from None
    return tree


def _leaves(tree: Any, path: str = "") -> list[str]:
    """Return the dotted path of every value in a tree; list entries by their name."""
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in _leaves(value, f"{path}.{key}" if path else key)]
    if isinstance(tree, list) and tree and all(isinstance(entry, dict) for entry in tree):
        return [
            leaf
            for index, entry in enumerate(tree)
            for leaf in _leaves(entry, f"{path}.{entry_name(path, entry) or index}")
        ]
    return [path]


def entry_name(path: str, entry: Mapping[str, Any]) -> str | None:
    name = entry.get(_named_by(path.split(".")) or "match")
    return name if isinstance(name, str) else None


def _named_by(path: Sequence[str]) -> str | None:
    """Return the field by which entries of that list are called; None: it is no such list."""
    if path[0] == "teams" and path[-1] == "keys" and len(path) > 2:
        return "alias"
    return LISTS_BY_NAME.get(tuple(path))


SECRETS = {
    ("routero", "admin_key"): "admin_key_file, or {env}ROUTERO__ADMIN_KEY",
    ("store", "password"): "password_file, or {env}STORE__PASSWORD",
    ("alerts", "slack_webhook"): "slack_webhook_file, or {env}ALERTS__SLACK_WEBHOOK",
    ("scim", "sources", "token"): "token_file, or `idsync token new`",
    ("sources", "okta", "private_key"): "private_key_file, or the environment",
    ("sources", "okta", "api_token"): "api_token_file, or the environment",
    ("sources", "graph", "client_secret"): "client_secret_file, or the environment",
    ("sinks", "token"): "token_file, or the environment",
    ("sinks", "secret_id"): "secret_id_file, or the environment",
}
"""Keys that hold a secret themselves, and what to use instead of writing it down."""


def _secrets_in_file(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Refuse secrets in the file itself: it is copied, committed and shown."""
    problems = []
    for (*tables, key), instead in SECRETS.items():
        for path, entry in _entries(tree, tables):
            if key in entry:
                problems.append((f"{path}.{key}", f"a secret; use {instead.format(env=ENV)}"))
    return problems


def _credentials(tree: Any, environ: Mapping[str, str], path: str = "") -> list[tuple[str, str]]:
    """Put systemd's folder of credentials into the keys that end in `_file` and begin with it (systemd.exec(5))."""
    problems: list[tuple[str, str]] = []
    rows = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in rows:
        name = entry_name(path, value) if isinstance(tree, list) and isinstance(value, dict) else key
        here = f"{path}.{name or key}" if path else str(key)
        if isinstance(value, (dict, list)):
            problems += _credentials(value, environ, here)
        elif isinstance(value, str) and str(key).endswith("_file") and (inside := CREDENTIAL.fullmatch(value)):
            if not environ.get(CREDENTIALS):
                problems.append(
                    (here, f"${CREDENTIALS} is not set; systemd sets it where the unit has LoadCredential=")
                )
            tree[key] = f"{environ.get(CREDENTIALS, '')}/{inside['name']}"
    return problems


def _entries(tree: Any, tables: Sequence[str], path: str = "") -> list[tuple[str, Mapping[str, Any]]]:
    """Return the tables at a path of tables, each with its own path; entries of lists by their name."""
    if isinstance(tree, list):
        entries = [(index, entry) for index, entry in enumerate(tree) if isinstance(entry, dict)]
        named = [(f"{path}.{entry_name(path, entry) or index}", entry) for index, entry in entries]
        return [found for name, entry in named for found in _entries(entry, tables, name)]
    if not isinstance(tree, dict):
        return []
    if not tables:
        return [(path, tree)]
    return _entries(tree.get(tables[0]), tables[1:], f"{path}.{tables[0]}" if path else tables[0])


def _overlay(tree: dict[str, Any], environ: Mapping[str, str], origins: dict[str, str]) -> list[tuple[str, str]]:
    """Lay `IDSYNC_A__B` over the tree; list entries are named: `IDSYNC_TEAMS__data-science__MAX_BUDGET`."""
    problems = []
    for name in sorted(environ):
        if not name.startswith(ENV) or name == f"{ENV}CONFIG":
            continue
        keys = name.removeprefix(ENV).split("__")
        problem = _place(tree, keys, environ[name], origins, name)
        if problem:
            problems.append((name, problem))
    return problems


def _place(tree: dict[str, Any], keys: list[str], value: str, origins: dict[str, str], name: str) -> str | None:
    here: Any = tree
    walked: list[str] = []
    depth = 0
    while depth < len(keys) - 1:
        key = keys[depth].lower()
        walked.append(key)
        by = _named_by(walked)
        if by is not None:
            entry = _list_entry(here.setdefault(key, []), by, keys[depth + 1])
            if entry is None or depth + 2 >= len(keys):
                return f"names no entry of {'.'.join(walked)}"
            walked.append(str(entry[by]))
            here, depth = entry, depth + 2
            continue
        here = here.setdefault(key, {})
        if not isinstance(here, dict):
            return f"{'.'.join(walked)} is not a table"
        depth += 1
    last = keys[-1].lower()
    here[last] = _typed(value)
    origins[".".join([*walked, last])] = f"environment {name}"
    return None


def _list_entry(entries: Any, by: str, name: str) -> dict[str, Any] | None:
    """Find the entry of that name; letters, `-` and `_` are taken as the environment can spell them."""
    plain = name.lower().replace("-", "_")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and str(entry.get(by, "")).lower().replace("-", "_") == plain:
            return entry
    return None


def _typed(value: str) -> Any:
    """Read lists as TOML; everything else stays text, which the model converts."""
    if value.startswith("["):
        try:
            return tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            return value
    return value
