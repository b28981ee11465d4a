"""Configuration: a TOML file, the environment over it, secrets from files; frozen, and every mistake told at once.

Precedence: `IDSYNC_*` in the environment, then the file, then the defaults. `origins` remembers which one it was.
"""

from idsync.config.checks import (
    BUDGET_DURATION,
    RIGHT_ADDRESS,
    cross_checks,
    expired,
    notes,
    store_problems,
    wrong_address,
)
from idsync.config.comparing import after_restart, comparable, digest, served, unlike, unlike_served
from idsync.config.guarded import is_of_the_platform, readable_secrets, secret_files, writable_secrets
from idsync.config.live import LIVE, differing, restart_tables
from idsync.config.loading import Loaded, load
from idsync.config.secrets import (
    AdminKey,
    SecretFile,
    admin_key,
    notify_problems,
    read_secret,
    sink_file_problems,
    slack_webhook,
    start_problems,
    trace_headers,
    trace_problems,
    webhook_problems,
)
from idsync.config.showing import shown
from idsync.config.sinks import place_of, sink_varies
from idsync.config.tables import Config, GraphSource, Notify, OktaSource, ScimSource, Sink

__all__ = [
    "BUDGET_DURATION",
    "LIVE",
    "RIGHT_ADDRESS",
    "AdminKey",
    "Config",
    "GraphSource",
    "Loaded",
    "Notify",
    "OktaSource",
    "ScimSource",
    "SecretFile",
    "Sink",
    "admin_key",
    "after_restart",
    "comparable",
    "cross_checks",
    "differing",
    "digest",
    "expired",
    "is_of_the_platform",
    "load",
    "notes",
    "notify_problems",
    "place_of",
    "read_secret",
    "readable_secrets",
    "restart_tables",
    "secret_files",
    "served",
    "shown",
    "sink_file_problems",
    "sink_varies",
    "slack_webhook",
    "start_problems",
    "store_problems",
    "trace_headers",
    "trace_problems",
    "unlike",
    "unlike_served",
    "webhook_problems",
    "writable_secrets",
    "wrong_address",
]
