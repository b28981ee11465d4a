"""What is due for the shared keys of teams: sorted changes, each with its reason. Pure.

the key                                        | what is due
-----------------------------------------------+---------------------------------------------------------------
there is none                                  | key.make
the one we made is gone from the gateway       | key.make
one of that alias is there that is not ours    | key.refused; with `adopt = true` on the team key.adopt
somebody left who could have known it, and     | key.rotate, without grace
the team says "rotate"                         |
somebody asked for it                          | key.rotate; without grace when it is compromised
it expires within `rotate_before`, or never,   | key.rotate
or is of another team, or in another sink,     |
or nobody knows what its sink has taken        |
its models or budget differ, or its name       | key.update
it was replaced and its grace is over          | key.end
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from idsync.clock import epoch_of
from idsync.model import GatewayKey
from idsync.plan import Change, in_order
from idsync.store.teamkeys import Ending, TeamKey
from idsync.words import setting

MAKING = frozenset({"key.make", "key.rotate"})
"""Changes after which there is a new secret."""
AT_ONCE = "at_once"
"""Field of a rotation that leaves the old key no grace."""
DAY = 86400.0


@dataclass(frozen=True)
class WantedKey:
    """A [[teams.keys]] as the configuration describes it; times in seconds, the budget in the gateway's currency."""

    alias: str
    team: str
    sink: str
    duration: float
    rotate_before: float
    grace: float = 0.0
    models: tuple[str, ...] = ()
    max_budget: float | None = None
    adopt: bool = False
    rotates: bool = False
    """Whether the team wants its keys rotated when a member leaves."""


@dataclass(frozen=True)
class Leaver:
    """Somebody who could have known a key, and when their access ended (epoch seconds)."""

    person_id: str
    label: str
    since: float

    @property
    def tag(self) -> str:
        """Return what tells this leave from another one of theirs."""
        return f"{self.person_id} {self.since!r}"


@dataclass(frozen=True)
class Sight:
    """One wanted key as the store and the gateway have it.

    `team_id` is None while the team is not set up, `shown` while the gateway has no such key. `namesakes` are keys of its
    alias that are not ours; `leavers` those who could have known it.
    """

    wanted: WantedKey
    team_id: str | None
    known: TeamKey | None = None
    shown: GatewayKey | None = None
    namesakes: Sequence[GatewayKey] = ()
    leavers: Sequence[Leaver] = ()
    doubtful: bool = False
    """Whether its sink may have another key, of a delivery that nobody confirmed."""


def plan_keys(sights: Iterable[Sight], ending: Iterable[Ending], now: float) -> list[Change]:
    """Return everything that is due, in the order in which it is done."""
    ends = [Change("key.end", one.alias, one.key_id, one.why) for one in ending if one.end_at <= now]
    return in_order([*ends, *(change for sight in sights for change in plan_key(sight, now))])


def plan_key(sight: Sight, now: float) -> list[Change]:
    """Return what is due for one key."""
    wanted, known = sight.wanted, sight.known
    if known is None or known.key_id is None:
        return [_first(sight)]
    if sight.shown is None:
        return [_about(wanted, "key.make", "the gateway does not have it any more")]
    why, at_once = rotation(sight, sight.shown, now)
    if why is not None:
        return [_about(wanted, "key.rotate", why, {AT_ONCE: True} if at_once else None)]
    differing = _differing(sight, known, sight.shown)
    if not differing:
        return []
    why = "; ".join(
        f"{name}: {setting(getattr(sight.shown, name))} -> {setting(value)}"
        for name, value in sorted(differing.items())
    )
    return [_about(wanted, "key.update", why, differing)]


def _first(sight: Sight) -> Change:
    """Return what is due for a key that idsync never had."""
    wanted = sight.wanted
    if not sight.namesakes:
        return _about(wanted, "key.make", "the configuration names it")
    found = sight.namesakes[0]
    if found.user_id is not None or found.team_id != sight.team_id:
        whose = f"of {found.user_id}" if found.user_id is not None else f"in team {found.team_id}"
        return _about(wanted, "key.refused", f"the gateway has a key of this alias {whose}; choose another alias")
    if wanted.adopt or found.managed:
        why = "idsync made it earlier" if found.managed else "adopt = true"
        return _about(wanted, "key.adopt", why, {"key_id": found.id})
    why = "a key of this alias is there already and not ours; set adopt = true on the team, or choose another alias"
    return _about(wanted, "key.refused", why)


def rotation(sight: Sight, shown: GatewayKey, now: float) -> tuple[str | None, bool]:
    """Return why a key is to be rotated, if it is, and whether the old one is left no grace."""
    known = sight.known
    if known is not None and known.asked and known.compromised:
        return f"compromised, says {known.asked_by}", True
    if sight.leavers:
        return f"{', '.join(sorted({leaver.label for leaver in sight.leavers}))} left", True
    if known is not None and known.asked:
        return f"asked for by {known.asked_by}", False
    if sight.team_id is not None and shown.team_id != sight.team_id:
        return f"it is in team {shown.team_id}, and is to be in {sight.team_id}", False
    if known is not None and known.sink not in (None, sight.wanted.sink):
        return f"it is in sink {known.sink}, and is to be in {sight.wanted.sink}", False
    if sight.doubtful:
        return "nobody knows whether its sink has taken the last one", False
    return _expiry(sight.wanted, shown, now), False


def _expiry(wanted: WantedKey, shown: GatewayKey, now: float) -> str | None:
    if shown.expires is None:
        return "it never expires, and is to"
    at = epoch_of(shown.expires)
    if at is None or at - now > wanted.rotate_before:
        return None
    if at <= now:
        return "it has expired"
    left = at - now
    return f"expires in {left / DAY:.0f} days" if left >= 2 * DAY else f"expires in {left / 3600:.0f} h"


def rotate_at(wanted: WantedKey, expires_at: float | None) -> float | None:
    """Return when a key is to be rotated because it expires."""
    return None if expires_at is None else expires_at - wanted.rotate_before


def _differing(sight: Sight, known: TeamKey, shown: GatewayKey) -> dict[str, Any]:
    """Return the settings to write: models, budget, and its own alias once no other key has it."""
    wanted = sight.wanted
    differing: dict[str, Any] = {}
    if sorted(wanted.models) != sorted(shown.models):
        differing["models"] = list(wanted.models)
    if wanted.max_budget is not None and wanted.max_budget != shown.max_budget:
        differing["max_budget"] = wanted.max_budget
    is_free = not any(key.id != known.key_id for key in sight.namesakes)
    if shown.alias not in (wanted.alias, known.name) and is_free:
        differing["alias"] = wanted.alias
    return differing


def _about(wanted: WantedKey, kind: str, why: str, fields: dict[str, Any] | None = None) -> Change:
    return Change(kind, wanted.alias, wanted.team, why, fields=fields or {})
