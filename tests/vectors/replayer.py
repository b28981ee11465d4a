"""Plays the sessions in this folder against a server.

A session is a JSON file: `vars` to fill in, `headers` for every request, and `steps`. A step is one request (or
several at once, `bodies`) with what must be true of the answer, and values to `save` for later steps. `{{name}}`
stands for a variable, `{{name|q}}` form-encoded and `{{name|pct}}` percent-encoded.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

FOLDER = Path(__file__).parent
_VARIABLE = re.compile(r"\{\{(?P<name>\$?\w+)(?:\|(?P<how>\w+))?\}\}")
_STEP_OF_PATH = re.compile(r"\[(?P<index>\d+|\*)\]|\['(?P<quoted>[^']+)'\]|\.(?P<name>[\w$]+)")
_ENCODINGS: Mapping[str, Callable[[str], str]] = {"q": quote_plus, "pct": lambda text: quote(text, safe="")}
_TYPES: Mapping[str, Any] = {"number": (int, float), "string": str, "boolean": bool, "array": list, "object": dict}


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # by lower-case name
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body) if self.body else None


Transport = Callable[[Request], Answer]


def sessions() -> list[str]:
    """Return the names of the sessions, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


@dataclass
class Session:
    """One session under way; `play` yields what went wrong, step by step."""

    name: str
    token: str
    transport: Transport
    values: dict[str, str] = field(default_factory=dict)

    def play(self) -> Iterator[str]:
        """Play every step and yield one line for each expectation that was not met, warnings included."""
        script = json.loads((FOLDER / f"{self.name}.json").read_text("utf-8"))
        for name, text in script.get("vars", {}).items():
            self.values[name] = self.fill(text)
        for number, step in enumerate(script["steps"], 1):
            for complaint in self._play_step(step, script.get("headers", {})):
                yield f"{self.name} {number}. {step['name']}: {complaint}"

    def _play_step(self, step: Mapping[str, Any], defaults: Mapping[str, str]) -> list[str]:
        bodies = step.get("bodies", [step.get("body", step.get("raw_body"))])
        requests = [self._request(step, defaults, body) for body in bodies]
        with ThreadPoolExecutor(len(requests)) as pool:
            answers = list(pool.map(self.transport, requests))
        expected = self.fill(step["expect"])
        complaints = [one for answer in answers for one in judge(answer, expected)]
        if answers[0].body:
            self._save(step.get("save", {}), answers[0].document)
        return complaints

    def _save(self, wanted: Mapping[str, str], document: Any) -> None:
        for name, path in wanted.items():
            for value in look_up(document, path)[:1]:
                self.values[name] = str(value)

    def _request(self, step: Mapping[str, Any], defaults: Mapping[str, str], body: Any) -> Request:
        headers = {k: v for k, v in {**defaults, **step.get("headers", {})}.items() if v is not None}
        secret = {"bearer": self.token, "bad": "not-the-token"}.get(step.get("auth", "bearer"))
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        query = step.get("raw_query") or urlencode(self.fill(step.get("query", {})), quote_via=quote)
        target = self.fill(step["path"]) + (f"?{self.fill(query)}" if query else "")
        if body is None:
            headers.pop("Content-Type", None)
            return Request(step["method"], target, self.fill(headers), None)
        text = body if isinstance(body, str) else json.dumps(body)
        return Request(step["method"], target, self.fill(headers), self.fill(text).encode())

    def fill(self, value: Any) -> Any:
        """Replace the variables in every text of a value."""
        if isinstance(value, dict):
            return {self.fill(name): self.fill(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self.fill(one) for one in value]
        return _VARIABLE.sub(self._value, value) if isinstance(value, str) else value

    def _value(self, match: re.Match[str]) -> str:
        fresh = {"$guid": str(uuid.uuid4()), "$rnd": uuid.uuid4().hex[:10]}
        text = fresh.get(match["name"]) or self.values[match["name"]]
        return _ENCODINGS[match["how"]](text) if match["how"] else text


def look_up(document: Any, path: str) -> list[Any]:
    """Return every value at a path like `$.Resources[0].id`, `$.members[*].value` or `$['urn:x'].y`."""
    found = [document]
    for part in _STEP_OF_PATH.finditer(path):
        if part["index"]:
            wanted = slice(None) if part["index"] == "*" else slice(int(part["index"]), int(part["index"]) + 1)
            found = [inner for one in found if isinstance(one, list) for inner in one[wanted]]
        else:
            name = (part["quoted"] or part["name"]).lower()  # attribute names have no letter case (RFC 7643 §2.1)
            found = [v for one in found if isinstance(one, dict) for k, v in one.items() if k.lower() == name]
    return found


def judge(answer: Answer, expected: Mapping[str, Any]) -> Iterator[str]:
    """Yield what an answer gets wrong; a 204 that is allowed has no body to look into."""
    if answer.status not in expected["status"]:
        yield f"{answer.status} instead of {expected['status']}: {answer.body[:300]!r}"
        return
    for name, pattern in expected.get("header", {}).items():
        if not re.search(pattern, answer.headers.get(name.lower(), "")):
            yield f"header {name} is {answer.headers.get(name.lower())!r}"
    if answer.status == 204:
        return
    if not holds(expected.get("body_contains", {}), answer.document):
        yield f"body lacks {expected['body_contains']}: {answer.body[:300]!r}"
    for path, wanted in expected.get("json", {}).items():
        found = look_up(answer.document, path)
        if not fits(wanted, found):
            yield f"{path} is {found!r}, expected {wanted!r}"


def holds(wanted: Any, actual: Any) -> bool:
    """Tell whether a value holds another one: objects by name, lists by one holding entry each."""
    if isinstance(wanted, dict):
        given = {name.lower(): one for name, one in actual.items()} if isinstance(actual, dict) else {}
        return all(name.lower() in given and holds(one, given[name.lower()]) for name, one in wanted.items())
    if isinstance(wanted, list):
        return isinstance(actual, list) and all(any(holds(one, entry) for entry in actual) for one in wanted)
    return type(wanted) is type(actual) and bool(wanted == actual)


def fits(wanted: Any, found: list[Any]) -> bool:
    """Tell whether the values at a path are what a matcher or a literal asks for."""
    if not (isinstance(wanted, dict) and any(name.startswith("$") for name in wanted)):
        return bool(found) and holds(wanted, found[0])
    return all(_MATCHERS[name](operand, found) for name, operand in wanted.items())


def _filled(found: list[Any]) -> bool:
    return any(one not in (None, "", [], {}) for one in found)


def _is_type(name: str, found: list[Any]) -> bool:
    if not found or (isinstance(found[0], bool) and name != "boolean"):
        return False
    return isinstance(found[0], _TYPES[name])


_MATCHERS: Mapping[str, Callable[[Any, list[Any]], bool]] = {
    "$absent": lambda operand, found: _filled(found) is not operand,
    "$nonempty": lambda operand, found: _filled(found) is operand,
    "$set": lambda operand, found: sorted(map(str, found)) == sorted(map(str, operand)),
    "$in": lambda operand, found: bool(found) and any(holds(one, found[0]) for one in operand),
    "$type": _is_type,
    "$len": lambda operand, found: len(found[0] if found and isinstance(found[0], list) else found) == operand,
}
