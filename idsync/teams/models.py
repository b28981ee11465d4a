"""Names of models that the gateway does not have: found before anything is written, told where they cannot be.

what `models` of a team holds                              | asked for
-----------------------------------------------------------+-------------------------------------------
a pattern like openai/*, or a name that stands for several | never
a name the gateway lists, or one a listed pattern fits     | fine
another name                                               | the change that would set it is refused
anything, and the gateway lists no models                  | not checked, and said so
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from idsync.errors import GatewayError, Unsupported
from idsync.gateway.client import Gateway
from idsync.plan import Change, in_order

STANDING_FOR_SEVERAL = frozenset({"all-proxy-models", "all-team-models", "all-org-models", "no-default-models"})
"""Names that LiteLLM gives a meaning of their own (source)."""
SHOWN = 8
"""How many of the gateway's models a refusal names."""


async def refuse_unknown(gateway: Gateway, changes: Sequence[Change]) -> tuple[list[Change], list[str]]:
    """Return the changes of teams, those refused that name an unknown model, and what there is to say.

    The gateway is asked only when a change sets a name that can be checked.
    """
    if not any(_to_check(change) for change in changes):
        return list(changes), []
    try:
        listed = await gateway.list_models()
    except Unsupported:
        return list(changes), ["the gateway does not list its models: the names in `models` are not checked"]
    except GatewayError as error:
        return list(changes), [f"the names in `models` are not checked: {error}"]
    refused = {change.subject: found for change in changes if (found := _unknown(change, listed))}
    kept = [change for change in changes if change.subject not in refused]
    no = [change for change in changes if change.subject in refused and _to_check(change)]
    kept += [replace(c, kind="team.refused", why=_why(refused[c.subject], listed), fields={}) for c in no]
    return in_order(kept), []


def _to_check(change: Change) -> list[str]:
    if change.kind not in ("team.create", "team.update"):
        return []
    names = change.fields.get("models", ())
    return [name for name in names if "*" not in name and name not in STANDING_FOR_SEVERAL]


def _unknown(change: Change, listed: frozenset[str]) -> list[str]:
    patterns = [name for name in listed if "*" in name]
    return sorted(
        name
        for name in _to_check(change)
        if name not in listed and not any(fnmatchcase(name, pattern) for pattern in patterns)
    )


def _why(unknown: Sequence[str], listed: frozenset[str]) -> str:
    some = sorted(listed)[:SHOWN]
    more = f" and {len(listed) - len(some)} more" if len(listed) > len(some) else ""
    what = f"model {unknown[0]}" if len(unknown) == 1 else f"models {', '.join(unknown)}"
    return f"the gateway has no {what}; it has {', '.join(some)}{more}. Nothing of this team is changed"
