"""A small client for these tests: one connection a call, nothing retried, nothing interpreted."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from idsync.sandbox.server import Sandbox

ADMIN = "sk-admin-1234"
DEAD = 401


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]
    links: tuple[str, ...] = ()  # the Link headers, in their order

    @property
    def kind(self) -> str:
        """The type in an error of shape A."""
        return str(self.body["error"]["type"])


class Client:
    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._address = urlsplit(sandbox.url).netloc

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = ADMIN,
        headers: Mapping[str, str] | None = None,
        replica: int | None = None,
        timeout: float = 5,
    ) -> Answer:
        prefix = "" if replica is None else f"/replica/{replica}"
        return send(self._address, method, prefix + path, body, key=key, headers=headers, timeout=timeout)

    def get(self, path: str, query: Mapping[str, Any] | None = None, **how: Any) -> Answer:
        return self.call("GET", f"{path}?{urlencode(query)}" if query else path, **how)

    def post(self, path: str, body: Any = None, **how: Any) -> Answer:
        return self.call("POST", path, body, **how)

    def ok(self, path: str, body: Any = None, **how: Any) -> Any:
        """POST that has to succeed."""
        answer = self.post(path, body, **how)
        assert answer.status == 200, answer
        return answer.body

    # hooks

    def hook(self, name: str, body: Any = None) -> Any:
        return self.ok(f"/_sandbox/{name}", body)

    def state(self) -> Any:
        return self.get("/_sandbox/state").body

    def log(self, since: int = 0) -> Any:
        return self.get("/_sandbox/log", {"since": since}).body["entries"]

    def advance(self, seconds: float) -> None:
        self.hook("clock", {"advance": seconds})

    def fault(self, **rule: Any) -> None:
        self.hook("faults", [rule])

    def key(self, **fields: Any) -> tuple[str, str]:
        """A seeded key: its raw form and its id."""
        made = self.hook("seed", {"keys": [fields]})["keys"][0]
        return made["key"], made["token"]

    # proof

    def tried(self, raw: str) -> list[int]:
        """What each replica answers to the key."""
        count = self.sandbox.options.replicas
        return [self.get("/v1/models", key=raw, replica=n).status for n in range(count)]

    def roster(self, team_id: str) -> list[str]:
        info = self.get("/team/info", {"team_id": team_id}).body["team_info"]
        return [member["user_id"] for member in info["members_with_roles"]]


def send(
    address: str,
    method: str,
    path: str,
    body: Any = None,
    *,
    key: str | None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 5,
) -> Answer:
    """Call whoever listens at this host and port."""
    sent = {"Authorization": f"Bearer {key}"} if key else {}
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        sent["Content-Type"] = "application/json"
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request(method, path, body, {**sent, **(headers or {})})
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        links = tuple(value for name, value in response.getheaders() if name.lower() == "link")
        return Answer(response.status, _decoded(response.read()), told, links)
    finally:
        connection.close()


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode()
