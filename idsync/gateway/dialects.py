"""What each operation is called in each dialect, as data.

A row has the path and the verbs that may serve it, the expected one first. The others are tried once after a 405,
and the one that answered is remembered: Routero's documentation (26 July 2026) has DELETE /key/delete where
LiteLLM 1.108.0 has POST and answers 405 to anything else (observed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

Dialect = Literal["routero", "litellm"]

MIB = 1024 * 1024
SHORT = 1 * MIB
"""Bytes that are read of an answer about one thing."""
LONG = 8 * MIB
"""Bytes that are read of a page of things, or of a team with its roster, which nobody can ask for in pages.

A team of 10,000 is 1.1 MiB in a list and in the answer to a change of it, and 2.6 MiB in /team/info (measured at the
sandbox, whose rows have LiteLLM's fields); so 30,000 are the most.
"""


@dataclass(frozen=True)
class Operation:
    """One endpoint. `repeatable` calls may be sent again when a pooled connection turned out to be dead.

    One `aside` is no part of the management API: a refusal there says nothing of the admin key, and no other call waits
    because it failed.
    """

    path: str
    verbs: tuple[str, ...]
    repeatable: bool = True
    patient: bool = False
    limit: int = SHORT
    aside: bool = False


def _read(path: str) -> Operation:
    return Operation(path, ("GET",))


def _listing(path: str) -> Operation:
    return Operation(path, ("GET",), patient=True, limit=LONG)


def _write(path: str, *verbs: str, repeatable: bool = True, limit: int = SHORT) -> Operation:
    return Operation(path, verbs or ("POST", "PUT"), repeatable=repeatable, patient=True, limit=limit)


_COMMON: dict[str, Operation] = {
    "user_light": _read("/v2/user/info"),
    "user_info": _listing("/user/info"),  # carries every key and team of the person: may be long
    "user_list": _listing("/user/list"),
    "user_new": _write("/user/new", "POST", repeatable=False),
    "user_update": _write("/user/update", "POST", "PUT", "PATCH"),
    "user_delete": _write("/user/delete", "POST", "DELETE"),
    "role_update": _write("/organization/member_permission_update"),
    "key_list": _listing("/key/list"),
    "key_info": _read("/key/info"),
    "key_generate": _write("/key/generate", "POST", repeatable=False),
    "key_update": _write("/key/update", "POST", "PUT"),
    "key_block": _write("/key/block"),
    "key_unblock": _write("/key/unblock"),
    "key_delete": _write("/key/delete", "POST", "DELETE"),
    "team_list": _listing("/team/list"),
    "team_pages": _listing("/v2/team/list"),
    "team_info": _listing("/team/info"),
    "team_new": _write("/team/new", "POST", repeatable=False),
    "team_update": _write("/team/update", "POST", "PUT", "PATCH", limit=LONG),
    "team_block": _write("/team/block"),
    "team_delete": _write("/team/delete", "POST", "DELETE", limit=LONG),
    "member_add": _write("/team/member_add", limit=LONG),
    "member_update": _write("/team/member_update", limit=LONG),
    "member_delete": _write("/team/member_delete", "POST", "DELETE", limit=LONG),
    "invitation_list": _listing("/invitation/list"),
    "invitation_delete": _write("/invitation/delete", "POST", "DELETE"),
    "organization_join": _write("/organization/member_add", "POST", repeatable=False),
    "organization_role": _write("/organization/member_update", "PATCH", "POST", "PUT"),
    "organization_leave": _write("/organization/member_delete", "DELETE", "POST"),
    "daily_spend": _listing("/billing/daily-spend"),
    "team_activity": _listing("/team/daily/activity"),
    "user_activity": _listing("/user/daily/activity"),
    "spend_logs": _listing("/spend/logs"),
    "config_update": _write("/config/update", "POST", "PUT"),
    "config_read": _listing("/get/config/callbacks"),
    "openapi": _listing("/openapi.json"),
    "models": Operation("/v1/models", ("GET",), limit=LONG, aside=True),
    "models_plain": Operation("/models", ("GET",), limit=LONG, aside=True),
}
_ROUTERO_ONLY = frozenset({"role_update", "invitation_list", "daily_spend"})
"""LiteLLM 1.108.0 deletes invitations and has no list of them (source)."""

UNDESCRIBED = frozenset({"openapi", "config_update", "config_read"})
"""What a gateway that has it leaves out of its description of itself (LiteLLM, source: `include_in_schema=False`)."""

DIALECTS: dict[Dialect, dict[str, Operation]] = {
    "litellm": {name: row for name, row in _COMMON.items() if name not in _ROUTERO_ONLY},
    "routero": _COMMON
    | {
        "key_delete": replace(_COMMON["key_delete"], verbs=("DELETE", "POST")),
        "key_update": replace(_COMMON["key_update"], verbs=("PUT", "POST")),
    },
}

ROLE_ALIASES = {"internal_viewer": "internal_user_viewer"}
"""Routero's multi-team guide says `internal_viewer`; LiteLLM 1.108.0 refuses that with 422 (observed)."""

ORGANIZATION_ROLES = {"internal_user": "internal_user", "internal_user_viewer": "internal_viewer"}
"""What POST /organization/member_permission_update wants to hear (Routero docs, until 23 July 2026)."""
ORGANIZATION_ADMIN = "org_admin"


def plain_role(role: str) -> str:
    """Return the role's usual name, whichever of its names came in."""
    return ROLE_ALIASES.get(role, role)


class Verbs:
    """Which verb serves which operation: the table's, until a gateway has taught another."""

    def __init__(
        self, table: Mapping[str, Operation], learned: Mapping[str, str], on_learn: Callable[[str, str], None]
    ) -> None:
        self._table = table
        self._on_learn = on_learn
        self._current = {name: row.verbs[0] for name, row in table.items()}
        self._current.update({name: verb for name, verb in learned.items() if self._known(name, verb)})

    def candidates(self, name: str) -> Iterator[str]:
        """Yield the verb to use, then those to fall back on after a 405."""
        current = self._current[name]
        yield current
        yield from (verb for verb in self._table[name].verbs if verb != current)

    def learn(self, name: str, verb: str) -> None:
        """Remember that the gateway took this verb; tell only what is new."""
        if self._known(name, verb) and self._current[name] != verb:
            self._current[name] = verb
            self._on_learn(name, verb)

    def all(self) -> dict[str, str]:
        """Return the verb in use of every operation."""
        return dict(self._current)

    def _known(self, name: str, verb: str) -> bool:
        return name in self._table and verb in self._table[name].verbs
