"""The identity provider of a drill: pushes one person over SCIM, and then that this person has left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsync.errors import IncompleteSource
from idsync.gateway.answers import json_of
from idsync.gateway.transport import NoAnswer, Transport
from idsync.store.canary import Canary

SCIM = "urn:ietf:params:scim:"
LIMIT = 1024 * 1024
"""Bytes of an answer that are read."""


class Push:
    """Speaks to our own public port, as whoever has the token."""

    def __init__(self, transport: Transport, canary: Canary, secret: str) -> None:
        self._transport = transport
        self._canary = canary
        self._secret = secret

    async def hire(self) -> str:
        """Push the canary; return its SCIM id.

        Raises:
            IncompleteSource: the endpoint did not take it.
        """
        name = self._canary.name
        person = {"userName": name, "externalId": name.partition("@")[0], "active": True, "emails": [{"value": name}]}
        answer = await self._send("POST", "/Users", {"schemas": [f"{SCIM}schemas:core:2.0:User"], **person})
        found = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(found, str):
            msg = "the SCIM endpoint answered a drill without an id"
            raise IncompleteSource(msg)
        return found

    async def part(self, user_id: str) -> None:
        """Push that the canary has left.

        Raises:
            IncompleteSource: the endpoint did not take it.
        """
        left = [{"op": "replace", "path": "active", "value": False}]
        body = {"schemas": [f"{SCIM}api:messages:2.0:PatchOp"], "Operations": left}
        await self._send("PATCH", f"/Users/{user_id}", body)

    async def _send(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        headers, through = {"Authorization": f"Bearer {self._secret}"}, f"through source {self._canary.source}"
        try:
            answer = await self._transport.exchange(method, path, body=body, headers=headers, patient=True, limit=LIMIT)
        except NoAnswer:
            msg = "the SCIM endpoint of this daemon did not answer a drill"
            raise IncompleteSource(msg) from None
        if answer.status == 401:
            msg = f"the SCIM endpoint refused the token of a drill {through}: is it live, and does allow_from let this machine in?"
            raise IncompleteSource(msg)
        if not answer.ok:
            msg = f"the SCIM endpoint answered {answer.status} to the {method} of a drill {through}"
            raise IncompleteSource(msg)
        return json_of(answer) if answer.body else None
