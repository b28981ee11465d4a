"""A field of a secret in HashiCorp Vault (or OpenBao), KV version 2. https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2

The secret is read, our field is changed, and the whole is written with check-and-set (`cas`): other fields stay, and of
two writers one is told and reads again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from idsync.errors import SinkFailed
from idsync.sinks.base import Delivery
from idsync.sinks.http import Answer, Calls, secret_of
from idsync.sinks.places import TRIAL, placed
from idsync.sinks.scrub import scrub_all

TRIES = 10
"""So often the secret is read again when another writer came between."""
NEEDED = ("create", "read", "update")
SAID = 200


@dataclass(frozen=True)
class Token:
    """A token that something else renews, such as Vault Agent; read anew for every delivery."""

    read: Callable[[], str]


@dataclass(frozen=True)
class AppRole:
    """A role that idsync logs in with for every delivery."""

    role_id: str
    secret_id: Callable[[], str]
    mount: str = "approle"


@dataclass(frozen=True)
class VaultSettings:
    """`path` and `field` may hold placeholders; `namespace` is sent as X-Vault-Namespace when it is not empty."""

    url: str
    mount: str
    path: str
    field: str
    namespace: str = ""
    ca_file: str = ""
    timeout: float = 10.0


class VaultSink:
    def __init__(self, name: str, settings: VaultSettings, credential: Token | AppRole) -> None:
        self.name = name
        self._settings = settings
        self._credential = credential
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        """Hold nothing open."""

    async def check(self) -> list[str]:
        """Log in, look at the engine, and ask what the token may do at the place of a trial key."""
        path = placed(self._settings.path, TRIAL, TRIAL)
        try:
            async with _Vault(self._settings) as vault:
                await vault.log_in(self._credential)
                await vault.look_at_engine()
                lacking = await vault.lacking(path)
        except SinkFailed as error:
            return [str(error)]
        if not lacking:
            return []
        return [f"the token lacks {', '.join(lacking)} on {vault.place(path)}; add it to its policy"]

    async def deliver(self, delivery: Delivery) -> None:
        path = placed(self._settings.path, delivery.alias, delivery.team)
        field = placed(self._settings.field, delivery.alias, delivery.team, str)
        async with self._turn, _Vault(self._settings, delivery.secret.get_secret_value()) as vault:
            await vault.log_in(self._credential)
            await vault.look_at_engine()
            await vault.set_field(path, field)


class _Vault(Calls):
    """One session at Vault, about one secret: its calls, and what each answer means."""

    def __init__(self, settings: VaultSettings, secret: str = "") -> None:
        super().__init__("Vault", settings.url, timeout=settings.timeout, ca_file=settings.ca_file)
        self._mount = settings.mount
        self._secret = secret
        self._unsaid = [secret]
        """What no sentence may hold: the secret that is delivered, and whatever we log in with."""
        # Agents and proxies in front may insist on the first: it cannot come from a browser that was led astray.
        self._headers = {"X-Vault-Request": "true"}
        if settings.namespace:
            self._headers["X-Vault-Namespace"] = settings.namespace

    def place(self, path: str) -> str:
        return f"{self._mount}/data/{path}"

    async def log_in(self, credential: Token | AppRole) -> None:
        if isinstance(credential, Token):
            self._use(secret_of(credential.read))
            return
        mount, secret_id = credential.mount, secret_of(credential.secret_id)
        self._unsaid.append(secret_id)
        body = {"role_id": credential.role_id, "secret_id": secret_id}
        answer = await self._ask("POST", f"auth/{mount}/login", body)
        token = answer.at("auth", "client_token")
        if answer.status == 200 and isinstance(token, str) and token:
            self._use(token)
            return
        if answer.status in (400, 401, 403, 404):
            msg = (
                f"Vault refuses the role_id or secret_id at auth/{mount}, or has no AppRole or namespace of that name; "
            )
            raise SinkFailed(f"{msg}make a new secret_id for the role, and look at auth_mount")
        raise self._failed(answer, f"logging in at auth/{mount}")

    def _use(self, token: str) -> None:
        self._headers["X-Vault-Token"] = token
        self._unsaid.append(token)

    async def look_at_engine(self) -> None:
        """Refuse an engine of another kind: KV version 1 would take the call, and put the secret elsewhere."""
        answer = await self._ask("GET", f"sys/internal/ui/mounts/{self._mount}")
        if answer.status == 403:
            msg = (
                f"Vault refuses the token, or its policy gives nothing in {self._mount}/, or there is no such engine; "
            )
            raise SinkFailed(f"{msg}it needs {', '.join(NEEDED)} on {self._mount}/data/...")
        if answer.status == 404:
            raise SinkFailed("Vault has no such namespace; see `namespace` of the sink")
        if answer.status != 200:
            raise self._failed(answer, f"looking at {self._mount}/")
        kind, version = answer.at("data", "type"), answer.at("data", "options", "version")
        if (kind, version) != ("kv", "2"):
            shown = f"{kind} version {version or 1}" if kind == "kv" else f"{kind}"
            raise SinkFailed(f"{self._mount}/ in Vault is {shown}, not kv version 2; choose another mount")

    async def lacking(self, path: str) -> list[str]:
        """Return the capabilities that the token has not; none where it may not even ask."""
        answer = await self._ask("POST", "sys/capabilities-self", {"paths": [self.place(path)]})
        found = answer.at("data", self.place(path))
        if answer.status != 200 or not isinstance(found, list) or "root" in found:
            return []
        return [capability for capability in NEEDED if capability not in found]

    async def set_field(self, path: str, field: str) -> None:
        before, answer = -1, Answer(0, {})
        for _ in range(TRIES):
            version, fields = await self._read(path)
            if fields.get(field) == self._secret:
                return
            if version == before:
                raise self._failed(answer, f"writing {self.place(path)}")
            body = {"data": {**fields, field: self._secret}, "options": {"cas": version}}
            answer = await self._ask("POST", self.place(path), body, writes=True)
            if answer.status == 200 and answer.at("data", "version") == version + 1:
                return
            if answer.status != 400:
                raise self._failed(answer, f"writing {self.place(path)}")
            before = version
        raise SinkFailed(f"others kept changing {self.place(path)} in Vault; try again")

    async def _read(self, path: str) -> tuple[int, Mapping[str, Any]]:
        """Return the newest version and its fields; 0 where there is none. A deleted version counts, without fields."""
        answer = await self._ask("GET", self.place(path))
        version = answer.at("data", "metadata", "version")
        if answer.status == 404 and not isinstance(version, int):
            return 0, {}
        fields = answer.at("data", "data")
        if answer.status not in (200, 404) or not isinstance(version, int):
            raise self._failed(answer, f"reading {self.place(path)}")
        return version, fields if isinstance(fields, dict) else {}

    async def _ask(
        self, verb: str, path: str, body: Mapping[str, Any] | None = None, *, writes: bool = False
    ) -> Answer:
        return await self.call(verb, f"/v1/{quote(path)}", body, headers=self._headers, writes=writes)

    def _failed(self, answer: Answer, doing: str) -> SinkFailed:
        """Say what an answer means, and what to do."""
        known = {
            401: "the token is not accepted; look at token_file",
            403: f"the token is expired, or its policy lacks {', '.join(NEEDED)} there",
            404: "there is no such engine or namespace; see `mount` and `namespace` of the sink",
            412: "this server has not caught up with the others yet; try again",
            429: "it asks for fewer calls; try again later",
            472: "this server is a disaster recovery standby; give the address of the active one",
            473: "this server is a performance standby; give the address of the active one",
            501: "it is not initialised",
            503: "it is sealed, or down for maintenance; unseal it",
        }
        if 300 <= answer.status < 400:
            meaning = "it points elsewhere, and redirects are not followed; give the address of the active server"
        else:
            meaning = known.get(answer.status) or scrub_all(str(answer.at("errors") or "no words"), self._unsaid, SAID)
        return SinkFailed(f"Vault answered {answer.status} to {doing}: {meaning}")
