"""The part of the Kubernetes API that the sink uses, checking what the API server checks, in its order: who, what, how.

Rules are those of a Role: verbs of secrets in one namespace, `patch` by name. Nothing of it is kept in a dry run.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import ssl
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

Reply = tuple[int, dict[str, Any]]
ADDRESS = re.compile(r"/api/v1/namespaces/([^/]+)/secrets(?:/([^/]+))?")
REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "AlreadyExists"}
REASONS |= {415: "UnsupportedMediaType", 422: "Invalid"}


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.reply: Reply = (
            status,
            {"kind": "Status", "status": "Failure", "message": message, "reason": REASONS[status], "code": status},
        )
        super().__init__(message)


class Cluster:
    """`secrets` by namespace/name; `patchable` names what the Role lets idsync patch, None: all."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.lock = Lock()
        self.token = "service-account-token"
        self.namespaces = {"gateway"}
        self.secrets: dict[str, dict[str, Any]] = {}
        self.patchable: set[str] | None = None
        self.may_create = True
        self.asked: list[tuple[str, str]] = []
        self.before: Callable[[str, str], Reply | None] = lambda verb, path: None
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, answer = cluster.answer(self.command, self.path, dict(self.headers), body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(data)

            do_PATCH = do_GET = do_PUT = do_DELETE = do_POST

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def data(self, name: str) -> dict[str, str]:
        """Return the fields of a Secret as a pod sees them."""
        return {key: base64.b64decode(value).decode() for key, value in self.secrets[name]["data"].items()}

    def put(self, name: str, fields: Mapping[str, str], *, immutable: bool = False) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in fields.items()}
        self.secrets[name] = {"data": data, "immutable": immutable}

    def answer(self, verb: str, address: str, headers: Mapping[str, str], body: bytes) -> Reply:
        parts = urlsplit(address)
        with self.lock:
            self.asked.append((verb, address))
            early = self.before(verb, parts.path)
            if early is not None:
                return early
            try:
                found = ADDRESS.fullmatch(parts.path)
                if found is None:
                    raise Refusal(404, "the server could not find the requested resource")
                return self.route(verb, found[1], found[2], parse_qs(parts.query), headers, json.loads(body))
            except Refusal as refusal:
                return refusal.reply

    def route(
        self,
        verb: str,
        namespace: str,
        name: str | None,
        query: Mapping[str, list[str]],
        headers: Mapping[str, str],
        body: dict[str, Any],
    ) -> Reply:
        if headers.get("Authorization") != f"Bearer {self.token}":
            raise Refusal(401, "Unauthorized")
        allowed = self.may_create if verb == "POST" else self.patchable is None or name in self.patchable
        if verb not in ("PATCH", "POST") or not allowed:
            raise Refusal(403, f'secrets "{name}" is forbidden: User "idsync" cannot {verb.lower()} resource "secrets"')
        wanted = "application/merge-patch+json" if verb == "PATCH" else "application/json"
        if headers.get("Content-Type") != wanted:
            raise Refusal(415, "the body of the request was in an unknown format")
        if query.get("dryRun", ["All"]) != ["All"] or query.get("fieldManager") != ["idsync"]:
            raise Refusal(400, "invalid options")
        kept = self.patched(namespace, name or "", body) if verb == "PATCH" else self.created(namespace, body)
        called = name or body["metadata"]["name"]
        if "dryRun" not in query:
            self.secrets[f"{namespace}/{called}"] = kept
        if "as=PartialObjectMetadata" not in headers.get("Accept", ""):
            raise AssertionError("the whole Secret was asked for")
        return 200 if verb == "PATCH" else 201, {"kind": "PartialObjectMetadata", "metadata": {"name": called}}

    def patched(self, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        there = self.secrets.get(f"{namespace}/{name}")
        if there is None:
            raise Refusal(404, f'secrets "{name}" not found')
        if there["immutable"]:
            raise Refusal(
                422, f'Secret "{name}" is invalid: data: Forbidden: field is immutable when `immutable` is set'
            )
        return {**there, "data": checked({**there["data"], **body["data"]})}

    def created(self, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        if namespace not in self.namespaces:
            raise Refusal(404, f'namespaces "{namespace}" not found')
        if (body.get("apiVersion"), body.get("kind")) != ("v1", "Secret"):
            raise Refusal(400, "the object provided is unrecognized")
        name = body["metadata"]["name"]
        if f"{namespace}/{name}" in self.secrets:
            raise Refusal(409, f'secrets "{name}" already exists')
        return {"data": checked(body["data"]), "immutable": False}


def checked(data: dict[str, str]) -> dict[str, str]:
    """Raises: Refusal: a value that is not base64, or a key that cannot be one."""
    for key, value in data.items():
        try:
            base64.b64decode(value, validate=True)
        except binascii.Error:
            raise Refusal(400, "illegal base64 data at input byte 0") from None
        if not re.fullmatch(r"[-._a-zA-Z0-9]+", key):
            raise Refusal(422, f'Invalid value: "{key}": a valid config key must consist of alphanumeric characters')
    return data
