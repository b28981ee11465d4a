"""Requests and answers of the endpoint as values: what is read of one before anything decides, what is sent at last."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from scim2_models import SCIMException
from scim2_server.conditions import Conditions
from scim2_server.errors import MethodNotAllowedException, UnsupportedMediaTypeException
from scim2_server.responses import SCIM_MEDIA_TYPE
from scim2_server.routing import Operation, Target, match

from idsync.model import Origin
from idsync.scim.provider import plain
from idsync.web.auth import Caller

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Any]

ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
_RESOURCES = ("Users", "Groups", "Bulk", "Me", "Schemas", "ResourceTypes", "ServiceProviderConfig")
_OF_ONE = {
    "GET": Operation.query,
    "PUT": Operation.replace,
    "PATCH": Operation.patch,
    "DELETE": Operation.delete,
}
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Incoming:
    """One authenticated request with its body read."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    caller: Caller
    received_at: float

    @property
    def strict(self) -> bool:
        return self.caller.source.strict

    @property
    def source(self) -> str:
        return self.caller.source.name

    @property
    def origin(self) -> Origin:
        return Origin(self.source, self.caller.token_id, self.received_at)

    def with_body(self, document: Mapping[str, Any]) -> Incoming:
        """Return the request as if it had come with this document."""
        return replace(self, body=json.dumps(document).encode())


@dataclass(frozen=True)
class Call:
    """One authenticated request for users or groups; `known` are the schemas such a record may show."""

    kind: str
    resource_id: str | None
    query: Mapping[str, str]
    conditions: Conditions
    base: str
    origin: Origin
    known: frozenset[str]

    @property
    def source(self) -> str:
        return self.origin.source


@dataclass(frozen=True)
class Reply:
    """An answer before it is sent; `body` is JSON text, encoded already when it is kept."""

    status: int
    body: str | bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


# -- what is read ----------------------------------------------------------------------------------------------------


def path_of(scope: Scope) -> str:
    """Return the decoded path below the mount."""
    return str(scope["path"]).removeprefix(str(scope.get("root_path", ""))) or "/"


def target_of(method: str, path: str) -> Target:
    """Route a request; a single user or group, nearly all of them, without trying every pattern of the core.

    Raises:
        NotFoundException, MethodNotAllowedException: there is no such endpoint, or not with this method.
    """
    parts = path.split("/")
    operation = _OF_ONE.get(method)
    if len(parts) == 3 and operation and not parts[0] and parts[1] in ("Users", "Groups") and parts[2]:
        return Target(operation, parts[1], parts[2])
    return match(method, path)


def labels(scope: Scope) -> tuple[str, str]:
    """Return method and resource of a request as the bounded labels of the metrics."""
    first = path_of(scope).strip("/").partition("/")[0].lower()
    resource = next((name for name in _RESOURCES if name.lower() == first), "other")
    return scope["method"] if scope["method"] in _METHODS else "OTHER", resource


def route_of(scope: Scope, resource: str) -> str:
    """Return the path of a request as a template without ids; `resource` is its label."""
    if resource == "other":
        return "/scim/v2/{other}"
    more = path_of(scope).strip("/").split("/")[1:]
    last = "/.search" if more == [".search"] else "/{id}" if more else ""
    return f"/scim/v2/{resource}{last}"


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers by lower-case name; repeated ones are joined (RFC 9110 §5.3)."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def check_media_type(header: str | None) -> None:
    """Refuse bodies that are not JSON in UTF-8 (RFC 7644 §3.8, §8.1); without a header JSON is taken.

    Raises:
        UnsupportedMediaTypeException: it is something else.
    """
    if not header:
        return
    media_type, _, parameters = header.partition(";")
    charset = next((one.partition("=")[2] for one in parameters.lower().split(";") if "charset" in one), "utf-8")
    json_type = media_type.strip().lower() in (SCIM_MEDIA_TYPE, "application/json")
    if not json_type or charset.strip(' "') not in ("utf-8", "utf8"):
        raise UnsupportedMediaTypeException


# -- what is sent ----------------------------------------------------------------------------------------------------


def problem(status: int, detail: str, *, scim_type: str | None = None, **headers: str) -> Reply:
    """Return a SCIM Error (RFC 7644 §3.12); the status in it is a string."""
    body = {"schemas": [ERROR], "status": str(status), "detail": detail}
    if scim_type:
        body["scimType"] = scim_type
    return Reply(status, json.dumps(body), {name.replace("_", "-"): value for name, value in headers.items()})


UNAUTHORIZED = problem(401, "A valid bearer token is needed.", WWW_Authenticate='Bearer realm="scim"')


def refusal(error: SCIMException) -> Reply:
    """Answer what the protocol refuses, with its scimType and sentence."""
    found = error.to_error()
    reply = problem(error.status, plain(error, found.detail), scim_type=found.scim_type)
    if isinstance(error, MethodNotAllowedException):
        return replace(reply, headers={"Allow": ", ".join(error.allowed)})
    return reply


async def send_reply(send: Send, reply: Reply) -> None:
    body = reply.body.encode() if isinstance(reply.body, str) else reply.body or b""
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()]
    if reply.body is not None:
        headers.append((b"content-type", SCIM_MEDIA_TYPE.encode()))
    if reply.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": int(reply.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
