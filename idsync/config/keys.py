"""What the shared keys of teams need: an alias of their own, a sink with room for them, times that leave them rest."""

from __future__ import annotations

from collections.abc import Iterator

from idsync.config.sinks import place_of
from idsync.config.tables import Config, SharedKey, Team
from idsync.errors import SinkFailed

EVERY_OF_THE_TEAM = "all-team-models"
"""What the gateway calls whatever the team may call (LiteLLM 1.108.0, source)."""


def key_checks(config: Config) -> list[tuple[str, str]]:
    """Return every mistake, each with its path."""
    keys = [(team, key) for team in config.teams for key in team.keys]
    problems = [
        (f"teams.{team.alias}.keys.{key.alias}{name and '.'}{name}", what)
        for team, key in keys
        for name, what in _mistakes(config, team, key)
    ]
    places: dict[tuple[str, str], str] = {}
    for team, key in keys:
        place = _place(config, team, key)
        other = places.setdefault((key.sink, place), key.alias) if place is not None else key.alias
        if other != key.alias:
            what = f"{other} has the same place in sink {key.sink}; name {{alias}} in it, or give each key a sink"
            problems.append((f"teams.{team.alias}.keys.{key.alias}.sink", what))
    return list(dict.fromkeys(problems))


def _mistakes(config: Config, team: Team, key: SharedKey) -> Iterator[tuple[str, str]]:
    aliases = [one.alias for other in config.teams for one in other.keys]
    sinks = {sink.name for sink in config.sinks}
    if aliases.count(key.alias) > 1:
        yield "", "named twice; the gateway takes an alias only once, over all teams"
    if key.sink not in sinks:
        known = ", ".join(sorted(sinks)) or "none"
        yield "sink", f"there is no [[sinks]] of the name {key.sink!r} (there are: {known})"
    if key.rotate_before >= key.duration:
        yield "rotate_before", "has to be shorter than duration; the key would never rest"
    if key.grace > key.rotate_before:
        yield "grace", "longer than rotate_before: the old key would expire within it"
    for name in _foreign_models(key.models, team.models):
        yield "models", f"the team may not call {name}"


def _foreign_models(models: tuple[str, ...], allowed: tuple[str, ...] | None) -> list[str]:
    """Return what a key would be given that its team may not call; without a list, or with patterns, who knows."""
    listed = allowed if allowed and not any("*" in name for name in allowed) else models
    return sorted(set(models) - {*listed, EVERY_OF_THE_TEAM})


def _place(config: Config, team: Team, key: SharedKey) -> str | None:
    """Return where its secret goes; None when that is unknown, and a mistake of another kind."""
    sink = next((sink for sink in config.sinks if sink.name == key.sink), None)
    try:
        return place_of(sink, key.alias, team.alias) if sink is not None else None
    except SinkFailed:
        return None
