"""A configuration of what a gateway has: `[[teams]]` with `adopt = true`, and `[[roles]]`. Pure.

What the gateway shows and no configuration may say (a budget below zero, a duration it alone understands) stands in a
comment, without which the file would be refused. The metadata of a team is never written down: gateways keep callbacks
with their secrets in it; its keys are named in a comment.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from idsync.config import BUDGET_DURATION
from idsync.engine.admins import people_on
from idsync.model import MANAGED, GatewayTeam, GatewayUser
from idsync.words import count

GIVEN_BY_GROUPS = frozenset({"internal_user", "internal_user_viewer"})
EXACT = 2**53
"""Whole numbers up to here are the same as floats and as integers."""


@dataclass(frozen=True)
class FoundTeam:
    """One entry of `[[teams]]`. `said` are comments above it."""

    settings: Mapping[str, Any]
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What a gateway has and the configuration does not name yet. `left_out` says what is not written, and why."""

    teams: tuple[FoundTeam, ...] = ()
    roles: tuple[tuple[str, int], ...] = ()
    others: tuple[tuple[str, int], ...] = ()
    left_out: tuple[str, ...] = field(default=())


def found(
    teams: Sequence[GatewayTeam],
    users: Iterable[GatewayUser],
    *,
    named: Collection[str],
    ids: Collection[str],
    roles: Collection[str],
) -> Found:
    """Return what is to be written; `named`, `ids` and `roles` are in the configuration already."""
    namesakes = Counter(team.alias for team in teams)
    new = [
        team for team in teams if team.team_id not in ids and not (team.alias in named and namesakes[team.alias] == 1)
    ]
    left_out = [f"team {team.alias or team.team_id}: configured already" for team in teams if team not in new]
    taken = set(named)
    written = []
    for team in sorted(new, key=lambda team: (team.alias or team.team_id, team.team_id)):
        if not _writable(team.team_id):
            left_out.append(f"a team whose id no TOML file can hold ({team.team_id!a})")
            continue
        written.append(_team(team, namesakes[team.alias], taken))
        taken.add(written[-1].settings["alias"])
    counts = Counter(user.role for user in users if user.role)
    new_roles = [(role, number) for role, number in sorted(counts.items()) if role not in roles]
    plain = tuple(one for one in new_roles if one[0] in GIVEN_BY_GROUPS)
    return Found(tuple(written), plain, tuple(one for one in new_roles if one not in plain), tuple(left_out))


def _team(team: GatewayTeam, namesakes: int, taken: Collection[str]) -> FoundTeam:
    name = team.alias if team.alias and _writable(team.alias) else team.team_id
    said = [f"{count(people_on(team), 'member')} at the gateway"]
    if namesakes > 1 and team.alias:
        said.append(f"the gateway has {namesakes} teams of this alias: told apart by their ids")
    if name in taken or (namesakes > 1 and team.alias):
        name = f"{name} {team.team_id}"
    while name in taken:
        name += "+"
    settings: dict[str, Any] = {"alias": name}
    if name != team.team_id:
        settings["id"] = team.team_id
    settings |= {"adopt": True, "groups": []}
    for key, value in _settings(team).items():
        if _may_be_configured(key, value, team):
            settings[key] = value
        else:
            said.append(f"{key} is {value!a} at the gateway, which cannot be configured and is left alone")
    keys = sorted(key for key in team.metadata if key != MANAGED)
    if keys:
        said.append(f"keys of its metadata, left alone: {', '.join(map(ascii, keys))}")
    return FoundTeam(settings, tuple(said))


def _settings(team: GatewayTeam) -> dict[str, Any]:
    every = {
        "max_budget": team.max_budget,
        "soft_budget": team.soft_budget,
        "budget_duration": team.budget_duration,
        "models": list(team.models),
        "tpm_limit": team.tpm_limit,
        "rpm_limit": team.rpm_limit,
    }
    return {name: _plain(value) for name, value in every.items() if value is not None}


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value == int(value) and abs(value) < EXACT else value


def _may_be_configured(name: str, value: Any, team: GatewayTeam) -> bool:
    if name == "models":
        return all(map(_writable, value))
    if name == "budget_duration":
        return BUDGET_DURATION.fullmatch(value) is not None
    if name == "soft_budget" and team.max_budget is not None and value >= team.max_budget:
        return False
    return bool(value >= 0) and (isinstance(value, int) or name.endswith("_budget"))


def _writable(text: str) -> bool:
    """Tell whether a TOML file can hold a text: half a surrogate pair is no character."""
    return not any(unicodedata.category(character) == "Cs" for character in text)


# -- TOML ---------------------------------------------------------------------------------------------------------


def toml(what: Found) -> str:
    """Write it as TOML."""
    blocks = [_table("teams", team.settings, team.said) for team in what.teams]
    for role, number in what.roles:
        said = (f"{count(number, 'account')} at the gateway {'has' if number == 1 else 'have'} it",)
        blocks.append(_table("roles", {"role": role, "groups": []}, said))
    blocks += [
        f"# {_comment(role)}: {count(number, 'account')}; given by hand, and left alone" for role, number in what.others
    ]
    return "\n\n".join(blocks) + "\n" if blocks else ""


def _table(name: str, settings: Mapping[str, Any], said: Iterable[str]) -> str:
    lines = [f"# {_comment(line)}" for line in said]
    return "\n".join([*lines, f"[[{name}]]", *(f"{key} = {written(value)}" for key, value in settings.items())])


def written(value: Any) -> str:
    """Write a value of a setting (https://toml.io/en/v1.0.0).

    Every character that is not seen, or not alone, becomes an escape; so a name moves no cursor and ends no string.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, str):
        return f'"{"".join(map(_character, value))}"'
    return repr(value)


def _character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character == " " or unicodedata.category(character)[0] not in "CZ":
        return character
    return f"\\u{ord(character):04X}" if ord(character) < 0x10000 else f"\\U{ord(character):08X}"


def _comment(text: str) -> str:
    return "".join(map(_character, text)).replace('\\"', '"')
