"""A Vault to test at: the program that IDSYNC_VAULT names (`vault` or `bao`) as a dev server, else the stand-in.

It is filled and looked at by Vault's own API alone, so that both can be told the same.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from support.waiting import until

from idsync.sinks.vault import AppRole, Token, VaultSettings, VaultSink

from .vault_standin import ROOT, VaultStandIn

_numbers = itertools.count(1)


class Vault:
    """`token` may create, read and update below secret/teams/ and nothing else."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ask("PUT", "sys/policies/acl/idsync", policy_of("create", "read", "update"))
        self.ask("POST", "sys/mounts/old", {"type": "kv", "options": {"version": "1"}})
        self.ask("POST", "sys/auth/approle", {"type": "approle"})
        self.ask("POST", "auth/approle/role/idsync", {"token_policies": ["idsync"], "token_ttl": "1m"})
        self.token = self.new_token("idsync")

    def ask(self, verb: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        request = Request(f"{self.url}/v1/{quote(path)}", json.dumps(body or {}).encode(), method=verb)
        request.add_header("X-Vault-Token", ROOT)
        try:
            with urlopen(request, timeout=10) as answer:
                found: dict[str, Any] = json.loads(answer.read() or b"{}")
                return found
        except HTTPError as error:
            with error:
                return {"status": error.code, **json.loads(error.read() or b"{}")}

    def fields(self, path: str) -> Any:
        return (self.ask("GET", f"secret/data/{path}").get("data") or {}).get("data")

    def put(self, path: str, fields: Mapping[str, Any]) -> None:
        self.ask("POST", f"secret/data/{path}", {"data": fields})

    def new_token(self, *policies: str) -> str:
        made = self.ask("POST", "auth/token/create", {"policies": list(policies), "no_default_policy": False})
        return str(made["auth"]["client_token"])

    def app_role(self) -> AppRole:
        role_id = self.ask("GET", "auth/approle/role/idsync/role-id")["data"]["role_id"]
        secret_id = self.ask("POST", "auth/approle/role/idsync/secret-id")["data"]["secret_id"]
        return AppRole(role_id, lambda: secret_id)

    def sink(self, credential: Token | AppRole | None = None, **other: Any) -> VaultSink:
        plain: dict[str, Any] = {"mount": "secret", "path": "teams/{alias}", "field": "api_key", "timeout": 10.0}
        settings = VaultSettings(self.url, **{**plain, **other})
        return VaultSink("vault", settings, credential or Token(lambda: self.token))


def policy_of(*capabilities: str) -> dict[str, str]:
    rule = {"capabilities": list(capabilities)}
    return {"policy": json.dumps({"path": {"secret/data/teams/*": rule}})}


def new_alias() -> str:
    """Return a name that no other test has put anything under."""
    return f"key-{next(_numbers)}"


@contextmanager
def found(folder: Path) -> Iterator[Vault]:
    program = os.environ.get("IDSYNC_VAULT")
    if not program:
        with VaultStandIn() as standin:
            yield Vault(standin.url)
        return
    with _dev_server(program, folder) as url:
        yield Vault(url)


@contextmanager
def _dev_server(program: str, folder: Path) -> Iterator[str]:
    port = 18200 + os.getpid() % 1000
    url = f"http://127.0.0.1:{port}"
    options = [f"-dev-root-token-id={ROOT}", f"-dev-listen-address=127.0.0.1:{port}", "-dev-no-store-token"]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [program, "server", "-dev", *options],
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        )
    try:
        until(lambda: _answers(url), "the dev server answers")
        yield url
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/v1/sys/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
