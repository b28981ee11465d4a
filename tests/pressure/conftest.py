from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from support.daemon import Daemon, beside
from support.endpoint import Client, add_token
from support.fixtures import _sandboxes, dialect, gateway

from idsync.store import tokens

from .program import Program, store_before, write_site

__all__ = ["_sandboxes", "dialect", "gateway"]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One daemon for all tests that need no gateway: nobody answers at the address it has for one."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        settings = write_site(tmp_path_factory.mktemp("pressure"), f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with store_before(settings) as store:
            add_token(store, "okta", "token-of-an-operator", kind="operator")
            add_token(store, "retired", "token-of-a-retired-source")
            add_token(store, "okta", "token-that-was-revoked")
            store.write(lambda db: tokens.revoke_token(db, "token-token-that-was-revoked", 1.0))
        with Daemon(settings) as daemon, beside(settings) as replicas:
            yield Program(daemon, replicas)


@pytest.fixture
def okta(program: Program) -> Client:
    return program.client("okta")


@pytest.fixture
def entra(program: Program) -> Client:
    return program.client("entra")
