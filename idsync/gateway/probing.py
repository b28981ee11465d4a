"""What can be found out about a gateway and our key to it by reading: verbs, paths, reach, and signs of other writers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from idsync.errors import AdminKeyRefused, BadAnswer, GatewayError, Missing
from idsync.gateway.answers import object_of, rows_of
from idsync.gateway.dialects import UNDESCRIBED
from idsync.gateway.parse import count_of, metadata_of, text_of
from idsync.gateway.reader import Reader
from idsync.gateway.transport import NoAnswer
from idsync.model import FENCE_FLAG, FENCE_TAG, GatewayKey

LOOKED_AT = 100
"""Rows of each kind that are looked at for signs of another sync: one page."""


@dataclass(frozen=True)
class Seen:
    """How far our key reaches. `identified`: the gateway has said whose it is; no `user_id` then is the master key.

    `refused` has, by kind, why it may not be listed; `signs`, by what they are, how many of how many rows.
    """

    totals: Mapping[str, int | None]
    refused: Mapping[str, str]
    signs: Mapping[str, tuple[int, int]]
    identified: bool = False
    user_id: str | None = None
    role: str | None = None
    organization: str | None = None
    team_id: str | None = None
    expires: str | None = None


@dataclass
class _Page:
    total: int | None = None
    rows: Sequence[Any] = field(default_factory=list)
    refused: str = ""


class Probing(Reader):
    """What a doctor asks: never raises for what the gateway does, and writes nothing."""

    async def probe(self) -> dict[str, Any]:
        """Ask, by reading only, whether the gateway answers, takes our key, and which verbs it has.

        Never raises for what the gateway does: `problem` says it. Verbs are learnt from /openapi.json where served.
        """
        found: dict[str, Any] = {"reachable": False, "admin_key": "unknown", "openapi": False, "problem": None}
        try:
            await self._call("key_list", "", query={"page": 1, "size": 1})
            found |= {"reachable": True, "admin_key": "accepted"}
        except AdminKeyRefused as error:
            found |= {"reachable": True, "admin_key": "refused", "problem": str(error)}
        except NoAnswer as error:
            found |= {"reachable": False, "problem": error.plain}
        except GatewayError as error:
            found |= {"reachable": error.status is not None, "problem": str(error)}
        if found["admin_key"] == "accepted":
            found |= await self._read_openapi()
        return found | {"dialect": self._settings.dialect, "verbs": self._verbs.all()}

    async def _read_openapi(self) -> dict[str, Any]:
        """Learn verbs from the gateway's description of itself, and name the paths it does not have."""
        try:
            paths = object_of(object_of(await self._call("openapi", ""), "openapi").get("paths"), "openapi's paths")
        except GatewayError:
            return {"openapi": False}
        missing = []
        for name, operation in self._operations.items():
            served = paths.get(operation.path)
            verbs = {str(verb).upper() for verb in served} if isinstance(served, dict) else set()
            usable = [verb for verb in self._verbs.candidates(name) if verb in verbs]
            if usable:
                self._verbs.learn(name, usable[0])
            elif name not in UNDESCRIBED:
                missing.append(operation.path)
        return {"openapi": True, "missing": sorted(missing)}

    async def look(self) -> Seen:
        """Read one page each of keys, users and teams, and whose key ours is; after a refusal the rest stays unknown."""
        pages: dict[str, _Page] = {}
        for kind, (listing, total, size, query) in _LISTINGS.items():
            refused = any(page.refused for page in pages.values())
            pages[kind] = _Page() if refused else await self._page(listing, kind, total, size, query)
        mine = {} if any(page.refused for page in pages.values()) else await self._mine()
        signs = {what: _tally(pages[kind].rows, is_sign) for what, (kind, is_sign) in _SIGNS.items()}
        totals = {kind: page.total for kind, page in pages.items()}
        return Seen(totals, {kind: page.refused for kind, page in pages.items()}, signs, **mine)

    async def has_our_key(self, team_id: str, keys: Iterable[GatewayKey]) -> bool:
        """Tell whether a team, of which these are the keys, has the one we call with; as far as the gateway says."""
        ours = hashlib.sha256(self._admin_key().strip().encode()).hexdigest()
        return any(key.id == ours for key in keys) or (await self._mine()).get("team_id") == team_id

    async def unseen(self, user_ids: Sequence[str]) -> list[str]:
        """Return those of some accounts that the gateway says it does not have; what it cannot say is none."""
        hidden = []
        for user_id in user_ids:
            try:
                if await self.get_user(user_id) is None:
                    hidden.append(user_id)
            except GatewayError:
                continue
        return hidden

    async def _page(self, name: str, rows: str, total: str, size: str, query: Mapping[str, str]) -> _Page:
        """Read a first page. A refusal of it is a finding; what cannot be read otherwise is left open."""
        try:
            answer = object_of(await self._call(name, "", query={**query, "page": 1, size: LOOKED_AT}), name)
            return _Page(count_of(answer.get(total)), rows_of(answer.get(rows), name))
        except AdminKeyRefused as error:
            return _Page(refused=str(error))
        except GatewayError:
            return _Page()

    async def _mine(self) -> dict[str, Any]:
        """Ask whose key ours is: /key/info without a key is about the caller's own; a master key is no row (404).

        The field `key` of the answer is never read: it may hold the secret.
        """
        try:
            answer = object_of(await self._call("key_info", ""), "key/info")
        except Missing:
            return {"identified": True}
        except GatewayError:
            return {}
        row = answer.get("info")
        if not isinstance(row, dict):
            return {}
        user_id = text_of(row.get("user_id"))
        return {
            "identified": user_id is not None,
            "user_id": user_id,
            "role": await self._role_of(user_id) if user_id else None,
            "organization": text_of(row.get("organization_id")) or text_of(row.get("org_id")),
            "team_id": text_of(row.get("team_id")),
            "expires": text_of(row.get("expires")),
        }

    async def _role_of(self, user_id: str) -> str | None:
        try:
            user = await self.get_user(user_id)
        except (GatewayError, BadAnswer):
            return None
        return user.role if user is not None else None


def _tally(rows: Sequence[Any], is_sign: Callable[[Mapping[str, Any]], bool]) -> tuple[int, int]:
    """Count the rows whose metadata is a sign; the second number is how many were looked at."""
    shown = [metadata_of(row.get("metadata")) or {} for row in rows if isinstance(row, dict)]
    return sum(map(is_sign, shown)), len(rows)


def _is_synced(metadata: Mapping[str, Any]) -> bool:
    """Tell whether LiteLLM's own SCIM wrote a user, or fenced one: ours says whose fence it is (LiteLLM, source)."""
    return "scim_metadata" in metadata or (metadata.get(FENCE_FLAG) is False and not metadata.get(FENCE_TAG))


def _is_blocked(metadata: Mapping[str, Any]) -> bool:
    return metadata.get("scim_blocked") is True


def _is_synced_team(metadata: Mapping[str, Any]) -> bool:
    return any(name in metadata for name in ("scim_data", "scim_metadata"))


_LISTINGS: Mapping[str, tuple[str, str, str, Mapping[str, str]]] = {
    "keys": ("key_list", "total_count", "size", {"return_full_object": "true"}),
    "users": ("user_list", "total", "page_size", {}),
    "teams": ("team_pages", "total", "page_size", {}),
}
"""What each kind of row is listed by: the operation, and what total and page size are called there."""
_SIGNS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], bool]]] = {
    "users with the gateway's own SCIM metadata": ("users", _is_synced),
    "keys blocked by the gateway's own SCIM": ("keys", _is_blocked),
    "teams with the gateway's own SCIM metadata": ("teams", _is_synced_team),
}
