"""Rules that make calls fail, lie, stall or be overtaken by something else."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields
from typing import Any

from idsync.sandbox.masking import masked
from idsync.sandbox.replies import Headers, Reply

JSON = dict[str, Any]


@dataclass
class Rule:
    """One entry of `POST /_sandbox/faults`. The first rule that fits a request is applied.

    Of status, drop, truncate, hang and lie there is at most one; `delay` and `then` go with any.
    """

    path: str  # exact, or a prefix ending in *
    method: str | None = None
    match: JSON = field(default_factory=dict)  # part of the body or of the query
    replica: int | None = None
    times: int | None = None
    skip: int = 0  # lets the first ones pass
    probability: float = 1.0
    seed: int = 0
    status: int | None = None
    when: str = "before"  # or "after": the write is done, the answer is the error
    body: str | None = None
    content_type: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: str | None = None  # "before" or "after"
    truncate: bool = False  # done, but the connection dies in mid-answer
    delay: float | list[float] = 0.0  # seconds, or a range to draw from
    hang: bool = False
    lie: bool = False  # the answer of success, and nothing done
    then: JSON | None = None
    seen: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        chosen = [self.status is not None, self.drop, self.truncate, self.hang, self.lie]
        if sum(map(bool, chosen)) > 1:
            raise ValueError("one of status, drop, truncate, hang and lie, not several")
        if not any(chosen) and not self.delay and not self.then and not self.reshapes:
            raise ValueError("a rule needs an action")
        for name in (self.when, self.drop or "before"):
            if name not in ("before", "after"):
                raise ValueError(f"before or after, not {name!r}")
        self._random = random.Random(self.seed)  # noqa: S311 - repeatable on purpose

    @classmethod
    def parse(cls, given: JSON) -> Rule:
        """Raises ValueError for anything that is not a rule."""
        allowed = {f.name for f in fields(cls) if f.init}
        unknown = set(given) - allowed
        if unknown or "path" not in given:
            raise ValueError(f"unknown in a rule: {sorted(unknown)}" if unknown else "a rule needs a path")
        return cls(**given)

    @property
    def reshapes(self) -> bool:
        """It has an action that only rules of another kind have."""
        return False

    @property
    def name(self) -> str:
        if self.status is not None:
            return f"status {self.status} {self.when}"
        if self.drop:
            return f"drop {self.drop}"
        for action in ("truncate", "hang", "lie", "delay"):
            if getattr(self, action):
                return action
        return "then"

    @property
    def before(self) -> bool:
        """Nothing is done; the fault is the whole answer."""
        return self.hang or self.drop == "before" or (self.status is not None and self.when == "before")

    def applies(self, method: str, path: str, replica: int, body: Any, query: dict[str, str]) -> bool:
        """Counts as a side effect: a rule knows how often it was met and how often it acted."""
        if not self._fits(method, path, replica, body, query):
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.times is not None and self.fired >= self.times):
            return False
        if self.probability < 1.0 and self._random.random() >= self.probability:
            return False
        self.fired += 1
        return True

    def _fits(self, method: str, path: str, replica: int, body: Any, query: dict[str, str]) -> bool:
        if self.method is not None and self.method != method:
            return False
        if self.replica is not None and self.replica != replica:
            return False
        if not _path_fits(self.path, path):
            return False
        return not self.match or contains(body, self.match) or contains(query, self.match)

    def pause(self) -> float:
        if isinstance(self.delay, list):
            return self._random.uniform(self.delay[0], self.delay[1])
        return self.delay

    def answer(self) -> Reply:
        """The error of a `status` rule."""
        status = self.status or 500
        headers: Headers = tuple(self.headers.items())
        if self.body is not None:
            return Reply(status, self.body.encode(), headers, self.content_type or "text/plain")
        return Reply(status, _usual_body(status), headers, self.content_type or "application/json")

    def due(self) -> JSON | None:
        """The act to be done after this request; only once per rule."""
        act, self.then = self.then, None
        return act

    def row(self) -> JSON:
        hidden = {"seed"}
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in hidden}
        row: JSON = masked({name: value for name, value in shown.items() if value not in (None, {}, False)})
        return row | {"name": self.name, "seen": self.seen, "fired": self.fired}


class Faults:
    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def pick(self, method: str, path: str, replica: int, body: Any, query: dict[str, str]) -> Rule | None:
        return next((r for r in self.rules if r.applies(method, path, replica, body, query)), None)


def _path_fits(pattern: str, path: str) -> bool:
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern


def contains(whole: Any, part: Any) -> bool:
    """Is `part` a subset of `whole`: keys of an object, items of a list, or an equal value."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(contains(whole.get(k), v) for k, v in part.items())
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(contains(w, p) for w in whole) for p in part)
    return bool(whole == part or (isinstance(whole, str) and whole == str(part)))


def _usual_body(status: int) -> JSON:
    if status == 404:
        return {"detail": "Not Found"}
    if status == 405:
        return {"detail": "Method Not Allowed"}
    kind = "throttling_error" if status == 429 else "internal_server_error"
    return {"error": {"message": "injected", "type": kind, "param": None, "code": str(status)}}
