"""The only place that builds objects and knows in which order they start and stop."""

from idsync.app.core import Core, alone, opened
from idsync.app.daemon import Daemon
from idsync.app.parts import (
    gateway_of,
    gateway_settings,
    rules_of,
    sink_problems,
    sinks_of,
    sources_of,
    start_problems,
    wanted_keys,
    wanted_teams,
    watch_settings,
)

__all__ = [
    "Core",
    "Daemon",
    "alone",
    "gateway_of",
    "gateway_settings",
    "opened",
    "rules_of",
    "sink_problems",
    "sinks_of",
    "sources_of",
    "start_problems",
    "wanted_keys",
    "wanted_teams",
    "watch_settings",
]
