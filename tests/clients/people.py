"""A user with everything identity providers send, and names that nobody else in the run has."""

from __future__ import annotations

import uuid
from typing import Any

from support.endpoint import ENTERPRISE, Client


def name(kind: str = "person") -> str:
    return f"{kind}.{uuid.uuid4().hex[:10]}@example.com"


def rich_user(client: Client, **more: Any) -> Any:
    """Create a user with values of every shape and return it."""
    login = name("rich")
    return client.user(
        login,
        **{
            "externalId": f"ext-{login}",
            "displayName": "Rich",
            "title": "Clerk",
            "name": {"givenName": "Ri", "familyName": "Ch"},
            "emails": [
                {"value": login, "type": "work", "primary": True},
                {"value": f"home-{login}", "type": "home"},
            ],
            "phoneNumbers": [{"value": "+1 555 0100", "type": "mobile"}],
            "addresses": [{"type": "work", "country": "NO"}],
            "roles": [{"value": "reader", "primary": True}],
            ENTERPRISE: {"department": "Sales", "manager": {"value": "boss"}},
            **more,
        },
    )
