"""Every client's session, start to end, each against a source of its own."""

from __future__ import annotations

import pytest
from support.endpoint import Client, Served

from .playing import play, sessions

CLIENTS = (
    "authentik",
    "authentik_put",
    "entra_flag",
    "entra_validator",
    "jumpcloud",
    "keycloak",
    "okta_spec",
    "onelogin",
    "onelogin_scim11",
    "ping",
    "rippling",
)
RFC_ENOUGH = {"authentik_put", "okta_spec", "ping", "rippling"}
"""Clients that a source without tolerance understands; the others speak a dialect of their own."""


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_is_understood(served: Served, name: str) -> None:
    assert play(served.clients[name], name) == []


def test_every_session_has_its_client() -> None:
    assert sessions() == sorted(CLIENTS)


@pytest.mark.parametrize("name", CLIENTS)
def test_who_needs_tolerance(strict: Client, name: str) -> None:
    """Prove that the sessions can fail, and that `strict` is what its name says."""
    refused = [line for line in play(strict, name) if "400 instead of" in line]
    assert bool(refused) is (name not in RFC_ENOUGH), refused
