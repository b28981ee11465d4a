"""The part of Vault's HTTP API that the sink and its tests use, checking what Vault checks.

Shapes and sentences as OpenBao 2.7.2 and Vault answer them; `make vault` runs the same tests at a real server.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Self
from urllib.parse import unquote

ROOT = "root"
Reply = tuple[int, dict[str, Any]]


class Refusal(Exception):
    def __init__(self, status: int, *errors: str) -> None:
        self.reply: Reply = (status, {"errors": list(errors)})
        super().__init__(status)


class VaultStandIn:
    """`before` is called with every request and may answer in the server's place."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.mounts: dict[str, str] = {"secret": "2"}
        self.versions: dict[str, list[dict[str, Any] | None]] = {}
        self.policies: dict[str, dict[str, list[str]]] = {}
        self.tokens: dict[str, list[str]] = {}
        self.approle = False
        self.roles: dict[str, list[str]] = {}
        self.secret_ids: dict[str, str] = {}
        self.before: Callable[[str, str], Reply | None] = lambda verb, path: None
        standin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = unquote(self.path.partition("?")[0]).removeprefix("/v1/")
                status, answer = standin.answer(self.command, path, dict(self.headers), body)
                data = json.dumps(answer).encode() if status != 204 else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                if 300 <= status < 400:
                    self.send_header("Location", "/v1/secret/data/teams/elsewhere")
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_PUT = do_DELETE = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def answer(self, verb: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        with self.lock:
            early = self.before(verb, path)
        if early is not None:
            return early
        with self.lock:
            try:
                return self.route(verb, path, headers, json.loads(body or b"{}"))
            except Refusal as refusal:
                return refusal.reply

    def route(self, verb: str, path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
        if headers.get("X-Vault-Namespace"):
            raise Refusal(404, "namespace not found")
        if path == "auth/approle/login":
            return self.log_in(body)
        token = headers.get("X-Vault-Token", "")
        if token != ROOT and token not in self.tokens:
            raise Refusal(403, "permission denied")
        area, _, rest = path.partition("/")
        if path.startswith("sys/internal/ui/mounts/"):
            return self.mount(token, path.removeprefix("sys/internal/ui/mounts/"))
        if path == "sys/capabilities-self":
            return 200, {"data": {place: self.capabilities(token, place) or ["deny"] for place in body["paths"]}}
        if area in ("sys", "auth"):
            if token != ROOT:
                raise Refusal(403, "1 error occurred:\n\t* permission denied\n\n")
            return self.manage(verb, path, body)
        if area not in self.mounts:
            raise Refusal(404 if token == ROOT else 403, f'no handler for route "{path}". route entry not found.')
        return self.data(verb, token, path, rest, body)

    # -- who may what -------------------------------------------------------------------------------------------------

    def capabilities(self, token: str, place: str) -> list[str]:
        if token == ROOT:
            return ["root"]
        allowed = [self.policies[name] for name in self.tokens[token]]
        return sorted(
            {able for rules in allowed for path, ables in rules.items() if fnmatchcase(place, path) for able in ables}
        )

    def log_in(self, body: dict[str, Any]) -> Reply:
        if not self.approle:
            raise Refusal(404, 'no handler for route "auth/approle/login". route entry not found.')
        role = self.secret_ids.get(str(body.get("secret_id")))
        if role is None or body.get("role_id") != f"id-of-{role}":
            raise Refusal(400, "invalid role or secret ID")
        return 200, {"auth": {"client_token": self.new_token(self.roles[role])}}

    def new_token(self, policies: list[str]) -> str:
        token = f"hvs.{secrets.token_hex(8)}"
        self.tokens[token] = policies
        return token

    def manage(self, verb: str, path: str, body: dict[str, Any]) -> Reply:
        name = path.rsplit("/", 1)[-1]
        if path.startswith("sys/policies/acl/"):
            rules = json.loads(body["policy"])["path"]
            self.policies[name] = {place: rule["capabilities"] for place, rule in rules.items()}
        elif path == "auth/token/create":
            return 200, {"auth": {"client_token": self.new_token(body["policies"])}}
        elif path.startswith("sys/mounts/"):
            self.mounts[name] = body["options"]["version"]
        elif path == "sys/auth/approle":
            self.approle = True
        elif path.endswith("/role-id"):
            return 200, {"data": {"role_id": f"id-of-{path.split('/')[-2]}"}}
        elif path.endswith("/secret-id"):
            secret_id = secrets.token_hex(8)
            self.secret_ids[secret_id] = path.split("/")[-2]
            return 200, {"data": {"secret_id": secret_id}}
        elif path.startswith("auth/approle/role/"):
            self.roles[name] = body["token_policies"]
        else:
            raise Refusal(404, "unsupported path")
        return 204, {}

    def mount(self, token: str, name: str) -> Reply:
        seen = token == ROOT or any(
            path.startswith(f"{name}/") for policy in self.tokens[token] for path in self.policies[policy]
        )
        if name not in self.mounts or not seen:
            raise Refusal(403, "preflight capability check returned 403, please ensure client's policies grant access")
        return 200, {"data": {"type": "kv", "path": f"{name}/", "options": {"version": self.mounts[name]}}}

    # -- KV version 2 -------------------------------------------------------------------------------------------------

    def data(self, verb: str, token: str, path: str, rest: str, body: dict[str, Any]) -> Reply:
        history = self.versions.get(path, [])
        needed = {"GET": "read", "DELETE": "delete"}.get(verb) or ("update" if history else "create")
        able = self.capabilities(token, path)
        if needed not in able and "root" not in able:
            raise Refusal(403, "1 error occurred:\n\t* permission denied\n\n")
        if verb == "GET":
            return self.read(history)
        if self.mounts[path.partition("/")[0]] != "2":
            return 204, {}
        if not rest.startswith("data/"):
            raise Refusal(404)
        if verb == "DELETE":
            history[-1] = None
            return 204, {}
        if not isinstance(body.get("data"), dict):
            raise Refusal(400, "no data provided")
        cas = body.get("options", {}).get("cas")
        if cas is not None and cas != len(history):
            raise Refusal(400, "check-and-set parameter did not match the current version")
        self.versions[path] = [*history, body["data"]]
        return 200, {"data": {"version": len(history) + 1, "destroyed": False, "deletion_time": ""}}

    def read(self, history: list[dict[str, Any] | None]) -> Reply:
        if not history:
            raise Refusal(404)
        metadata = {"version": len(history), "destroyed": False, "deletion_time": "" if history[-1] else "2026-01-01"}
        return (200 if history[-1] else 404), {"data": {"data": history[-1], "metadata": metadata}}
