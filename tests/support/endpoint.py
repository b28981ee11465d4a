"""The real endpoint on a loopback port, and a client that can also send what no library would."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from idsync.clock import Clock, SystemClock
from idsync.intake import Intake
from idsync.policy import Rules
from idsync.scim.extensions import Extension
from idsync.store import tokens
from idsync.store.db import Store
from idsync.store.opening import store_of
from idsync.web.auth import ScimSource
from idsync.web.scim import ScimApp, ScimMount, scim_app
from support.stores import url_of

PREFIX = "/scim/v2"
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PATCH_OP = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"


@dataclass(frozen=True)
class Got:
    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    def is_scim_error(self, status: int, scim_type: str | None = None) -> bool:
        """Tell whether this is a SCIM Error (RFC 7644 §3.12) of this status and type."""
        body = self.json
        return (
            (self.status, body["schemas"], body["status"]) == (status, [ERROR], str(status))
            and body.get("scimType") == scim_type
            and self.headers["content-type"] == "application/scim+json"
        )


def request(method: str | bytes, target: str | bytes, *headers: str | bytes, body: bytes = b"") -> bytes:
    """Write a request as given; nothing is checked, escaped or added but the host."""
    lines = [b" ".join((_bytes(method), _bytes(target), b"HTTP/1.1")), b"Host: idsync.example.com"]
    return b"\r\n".join([*lines, *map(_bytes, headers), b"", body])


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


@dataclass
class Client:
    """A SCIM client of one source; where several replicas answer, it asks any of them, as behind a load balancer."""

    port: int
    token: str
    prefix: str = PREFIX
    others: tuple[int, ...] = ()

    def any_port(self) -> int:
        return random.choice((self.port, *self.others))

    def send(self, method: str, path: str, body: Any = None, headers: Mapping[str, str | None] | None = None) -> Got:
        """Send a request; `body` is JSON unless it is bytes, a header of None is left out."""
        wanted: dict[str, str | None] = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if raw is not None:
            wanted.setdefault("Content-Type", "application/scim+json")
        connection = http.client.HTTPConnection("127.0.0.1", self.any_port(), timeout=20)
        try:
            sent = {name: value for name, value in wanted.items() if value is not None}
            connection.request(method, self.prefix + path, raw, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Got(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Got:
        return self.send("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def user(self, login: str, **more: Any) -> Any:
        """Create a user and return it."""
        got = self.send("POST", "/Users", {"schemas": [USER], "userName": login, **more})
        assert got.status == 201, got.raw
        return got.json

    def group(self, name: str, *members: str) -> Any:
        """Create a group and return it."""
        listed = [{"value": member} for member in members]
        got = self.send("POST", "/Groups", {"schemas": [GROUP], "displayName": name, "members": listed})
        assert got.status == 201, got.raw
        return got.json

    def patch(self, path: str, *operations: Any, **headers: str) -> Got:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("PATCH", path, {"schemas": [PATCH_OP], "Operations": list(operations)}, sent)

    def members(self, group_id: str) -> set[str]:
        return {entry["value"] for entry in self.get(f"/Groups/{group_id}").json.get("members", [])}

    def head(self, method: str, path: str, *headers: str) -> bytes:
        """Write the head of a request with this client's token; nothing is added for its body."""
        return request(method, self.prefix + path, f"Authorization: Bearer {self.token}", *headers)

    def raw(self, data: bytes) -> bytes:
        """Send bytes and return everything the server says until it closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(data)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
            return answer


@dataclass
class Served:
    """A running endpoint: `clients` by source, `counted` what the metrics were told."""

    port: int
    store: Store
    app: ScimApp
    clients: dict[str, Client]
    counted: list[tuple[str, str, int, float]] = field(default_factory=list)

    @property
    def base(self) -> str:
        return f"http://idsync.example{PREFIX}"


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def add_token(store: Store, source: str, secret: str, kind: str = "source") -> None:
    """Make a token the way `idsync token new` does."""
    name = f"token-{secret}"
    store.write(
        lambda db: tokens.put_token(db, id=name, kind=kind, name=source, scope="", digest=digest(secret), at=0.0)
    )


def build(
    folder: Path,
    sources: Mapping[str, ScimSource],
    *,
    clock: Clock | None = None,
    body_seconds: float = 10.0,
    short_cuts: bool = True,
    extensions: Sequence[Extension] = (),
    url: str | None = None,
) -> Served:
    """Open a store with a token for every source and build the endpoint over it; nothing listens yet."""
    store = store_of(url or url_of(folder / "idsync.db"))
    store.open()
    for name in sources:
        add_token(store, name, f"secret-of-{name}")
    clock = clock or SystemClock()
    intake = Intake(Rules(idp_of={name: name for name in sources}), clock)
    counted: list[tuple[str, str, int, float]] = []
    app = scim_app(
        store=store,
        intake=intake,
        sources=sources,
        clock=clock,
        public_url="http://idsync.example/",
        observe=lambda *seen: counted.append(seen),
        body_seconds=body_seconds,
        short_cuts=short_cuts,
        extensions=extensions,
    )
    return Served(0, store, app, {}, counted)


def shut(served: Served) -> None:
    served.app.close()
    served.store.close()


@contextmanager
def serving(
    folder: Path,
    *sources: ScimSource,
    body_seconds: float = 10.0,
    short_cuts: bool = True,
    extensions: Sequence[Extension] = (),
    url: str | None = None,
) -> Iterator[Served]:
    """Serve the endpoint with uvicorn on a loopback port until the block ends."""
    named = {source.name: source for source in sources}
    served = build(folder, named, body_seconds=body_seconds, short_cuts=short_cuts, extensions=extensions, url=url)
    listener = socket.create_server(("127.0.0.1", 0))
    served.port = listener.getsockname()[1]
    served.clients = {name: Client(served.port, f"secret-of-{name}") for name in named}
    root = Starlette(routes=[ScimMount(PREFIX, served.app)])
    server = uvicorn.Server(uvicorn.Config(root, log_config=None, lifespan="off", ws="none", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="uvicorn")
    thread.start()
    try:
        yield served
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
        shut(served)
