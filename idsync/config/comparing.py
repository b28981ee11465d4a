"""Whether two processes go by one configuration: a digest of all of it but its secrets, and the names of what differs.

Secrets are left out, and so are the files that hold them: a service is given those elsewhere than a shell.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from idsync.config.guarded import NO_SECRETS
from idsync.config.live import LIVE, differing_trees
from idsync.config.tables import Config

ORDER = "the order of entries"
"""What differs when no key does."""


def comparable(config: Config) -> dict[str, Any]:
    """Return a configuration as plain JSON values, without what is secret."""
    plain: dict[str, Any] = to_jsonable_python(_plain(config))
    return plain


OF_ONE_MACHINE = ("server", "store")
"""Tables that differ from one replica to the next: where it listens, and how it reaches what all of them share."""


def served(config: Config) -> dict[str, Any]:
    """Return what replicas that share a store have in common of their configurations, without what is secret."""
    return {name: table for name, table in comparable(config).items() if name not in OF_ONE_MACHINE}


def unlike_served(ours: Config, theirs: Mapping[str, Any]) -> list[str]:
    """Return the paths of the keys in which a configuration differs from what the replicas go by."""
    mine = served(ours)
    return differing_trees(mine, theirs) or ([] if mine == theirs else [ORDER])


def digest(config: Config) -> str:
    """Return the SHA-256 of all that is comparable, in hex."""
    text = json.dumps(comparable(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def unlike(ours: Config, theirs: Mapping[str, Any]) -> list[str]:
    """Return the paths of the keys in which a configuration differs from what another process told of its own."""
    mine = comparable(ours)
    return differing_trees(mine, theirs) or ([] if mine == theirs else [ORDER])


def after_restart(paths: list[str]) -> list[str]:
    """Return those paths whose keys a running daemon takes over only at its next start."""
    return [path for path in paths if path != ORDER and path.partition(".")[0] not in LIVE]


def _plain(table: BaseModel) -> dict[str, Any]:
    return {
        name: _value(getattr(table, name))
        for name, field in type(table).model_fields.items()
        if not _is_secret(name, field)
    }


def _value(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _plain(value)
    return [_value(entry) for entry in value] if isinstance(value, tuple) else value


def _is_secret(name: str, field: FieldInfo) -> bool:
    return SecretStr in get_args(field.annotation) or (name.endswith("_file") and name not in NO_SECRETS)
