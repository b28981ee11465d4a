"""Answers: the success body, and the error shapes of the gateway."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: Any  # bytes go out as they are, everything else as JSON
    headers: Headers = ()
    content_type: str = "application/json"

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Refusal(Exception):
    """The call is answered with an error."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def shape_a(status: int, message: str, kind: str = "internal_server_error", param: str | None = None) -> Refusal:
    """The OpenAI-like shape. Its type is often wrong in the real thing, and so it is here."""
    error = {"message": message, "type": kind, "param": param, "code": str(status)}
    return Refusal(Reply(status, {"error": error}))


def shape_b(status: int, message: str) -> Refusal:
    return Refusal(Reply(status, {"detail": {"error": message}}))


def plain(status: int, message: str) -> Refusal:
    return Refusal(Reply(status, {"detail": message}))


def invalid(kind: str, loc: list[str | int], message: str) -> Refusal:
    return Refusal(Reply(422, {"detail": [{"type": kind, "loc": loc, "msg": message}]}))


def broken(message: str = "Internal Server Error") -> Reply:
    """An unhandled failure; the server closes the connection after it."""
    error = {"message": message, "type": "internal_server_error", "param": None, "code": "500"}
    return Reply(500, {"error": error}, (("connection", "close"),))
