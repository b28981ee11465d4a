"""Configuration: a TOML file, the environment over it, secrets from files; frozen, and every mistake told at once.

Precedence: `IDSYNC_*` in the environment, then the file, then the defaults. `origins` remembers which one it was.
"""

from idsync.config.checks import expired, notes
from idsync.config.loading import Loaded, load
from idsync.config.secrets import AdminKey, SecretFile, admin_key, read_secret, start_problems
from idsync.config.showing import shown
from idsync.config.tables import Config, GraphSource, OktaSource, ScimSource, Sink

__all__ = [
    "AdminKey",
    "Config",
    "GraphSource",
    "Loaded",
    "OktaSource",
    "ScimSource",
    "SecretFile",
    "Sink",
    "admin_key",
    "expired",
    "load",
    "notes",
    "read_secret",
    "shown",
    "start_problems",
]
