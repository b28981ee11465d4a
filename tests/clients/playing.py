"""Plays the sessions in this folder with the player of the vectors, and single requests against its matchers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.endpoint import PATCH_OP, Client, Got
from vectors.replayer import Answer, Request, Session, judge

FOLDER = Path(__file__).parent / "sessions"


def sessions() -> list[str]:
    """Return the names of the sessions, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def play(client: Client, name: str) -> list[str]:
    """Play a session of this folder and return what was not as expected."""

    def transport(request: Request) -> Answer:
        headers: dict[str, str | None] = {"Authorization": None, **request.headers}
        return _answer(client.send(request.method, request.target, request.body, headers))

    steps = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["steps"]
    unknown = {saved: "never-saved" for step in steps for saved in step.get("save", {})}  # a refused create goes on
    return list(Session(f"../{FOLDER.parent.name}/{FOLDER.name}/{name}", client.token, transport, unknown).play())


def _answer(got: Got) -> Answer:
    return Answer(got.status, got.headers, got.raw)


@dataclass(frozen=True)
class Step:
    """One request and what must be true of its answer; `{{name}}` stands for a value of the test."""

    method: str
    path: str
    body: Any = None
    status: Sequence[int] = (200,)
    shown: Mapping[str, Any] = field(default_factory=dict)

    def complaints(self, client: Client, values: Mapping[str, str]) -> Iterator[str]:
        """Send it and yield what the answer gets wrong."""
        fill = Session("", "", _nowhere, dict(values)).fill
        got = client.send(self.method, fill(self.path), None if self.body is None else fill(self.body))
        yield from judge(_answer(got), {"status": self.status, "json": fill(self.shown)})


def _nowhere(request: Request) -> Answer:
    raise AssertionError(request)


def get(path: str, shown: Mapping[str, Any] | None = None, status: int = 200) -> Step:
    return Step("GET", path, None, (status,), shown or {})


def post(path: str, body: Any, shown: Mapping[str, Any] | None = None, status: int = 201) -> Step:
    return Step("POST", path, body, (status,), shown or {})


def put(path: str, body: Any, shown: Mapping[str, Any] | None = None, status: int = 200) -> Step:
    return Step("PUT", path, body, (status,), shown or {})


def patch(path: str, *operations: Any, shown: Mapping[str, Any] | None = None, status: int = 200) -> Step:
    return Step("PATCH", path, {"schemas": [PATCH_OP], "Operations": list(operations)}, (status,), shown or {})


def delete(path: str, status: int = 204) -> Step:
    return Step("DELETE", path, None, (status,))
