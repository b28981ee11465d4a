"""Whether a tenant lets idsync read what it has to: each permission is tried by the smallest request that needs it."""

from __future__ import annotations

from collections.abc import Mapping

from idsync.errors import IncompleteSource
from idsync.sources.graph.client import Call, GraphClient
from idsync.sources.graph.reader import READ_APPS, READ_HIDDEN, READ_MEMBERS, READ_USERS, Reader
from idsync.sources.graph.rows import page_of
from idsync.sources.graph.settings import GraphSettings
from idsync.sources.graph.tokens import Tokens


async def check(
    settings: GraphSettings, tokens: Tokens, client: GraphClient, reader: Reader, hidden: Mapping[str, str]
) -> list[tuple[str, bool, str]]:
    """Try the credential, then each permission. `hidden`: the names, by id, of groups whose members are hidden."""
    try:
        await tokens.get()
    except IncompleteSource as trouble:
        return [("credential", False, str(trouble))]
    tried = [("credential", True, "")]
    for permission, path, property_ in _needed(settings):
        call = Call(f"{settings.base}/{path}", f"{settings.name}: {path.split('?')[0]}", "check", permission)
        tried.append((permission, *await _try(client, call, property_)))
    for id_, name in sorted(hidden.items()):
        try:
            await reader.see_hidden(id_, name)
            tried.append((READ_HIDDEN, True, ""))
        except IncompleteSource as trouble:
            tried.append((READ_HIDDEN, False, str(trouble)))
    return tried


def _needed(settings: GraphSettings) -> list[tuple[str, str, str]]:
    needed = [
        (READ_USERS, "users?$top=1&$select=id,accountEnabled", "accountEnabled"),
        (READ_MEMBERS, "groups?$top=1&$select=id,displayName", "displayName"),
    ]
    if settings.app_id:
        needed.append((READ_APPS, f"servicePrincipals/{settings.app_id}/appRoleAssignedTo?$top=1", "principalId"))
    return needed


async def _try(client: GraphClient, call: Call, property_: str) -> tuple[bool, str]:
    try:
        page, _ = page_of(await client.send(call), call)
    except IncompleteSource as trouble:
        return False, str(trouble)
    if page.rows and not (isinstance(page.rows[0], dict) and page.rows[0].get(property_) is not None):
        return False, f"{call.what}: {property_} is not shown: grant {call.needs} (application) and admin consent"
    return True, ""
