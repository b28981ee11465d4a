"""What a long listing has read so far, kept so that a restart goes on instead of beginning anew."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple, replace
from typing import Any

from idsync.model import Observation
from idsync.snapshot import Finished, Parts, Seen
from idsync.sources.pager import Listed

BEGAN = "began"
OLDEST = 6 * 3600.0
"""Seconds after which it is better to begin anew than to go on."""


class Kept:
    """The parts of one listing: what was `noted` when it began (None: it begins now), and all that was read to its end.

    A user is written once, with the first part that shows them like that: most are in several.
    """

    def __init__(self, parts: Parts, made_for: str, now: float) -> None:
        """`made_for` is what is listed, and how; what was kept of another listing is not used."""
        self._parts = parts
        self._made_for = made_for
        self._written: dict[str, Seen] = {}
        self.noted: Any = None
        self._began = 0.0
        told = _json(self._parts.get(BEGAN))
        try:
            if told["for"] == made_for and now - OLDEST < told["at"] <= now:
                self._began, self.noted = told["at"], told["noted"]
        except (KeyError, TypeError):
            pass

    def begin(self, now: float, noted: Any) -> None:
        """Note what the end will need; whatever was kept before does not count any more."""
        self._began, self.noted = now, noted
        self._parts.put(BEGAN, json.dumps({"for": self._made_for, "at": now, "noted": noted}))

    def end(self) -> None:
        """Let the next listing begin anew."""
        self._parts.put(BEGAN, "")

    def put(self, name: str, listed: Listed[Seen]) -> None:
        new = [seen for seen in listed.rows.values() if not self._has(seen)]
        self._written |= listed.rows
        done = listed.finished
        said = {
            "began": self._began,
            "finished": [done.what, done.at, done.rows, done.pages],
            "members": list(listed.rows),
            "seen": [astuple(seen) for seen in new],
        }
        self._parts.put(name, json.dumps(said, separators=(",", ":")))

    def _has(self, seen: Seen) -> bool:
        there = self._written.get(seen.external_id)
        return there is not None and replace(there, at=seen.at) == seen

    def load(self, names: Iterable[str]) -> dict[str, Listed[Seen]]:
        """Return the parts that were read before, by name; what does not fit is read again."""
        told = {}
        for name in names:
            said = _json(self._parts.get(name))
            if isinstance(said, dict) and said.get("began") == self._began:
                told[name] = said
        try:
            for seen in sorted((_seen(row) for said in told.values() for row in said["seen"]), key=lambda one: one.at):
                self._written[seen.external_id] = seen
            return {name: self._listed(said) for name, said in told.items()}
        except (KeyError, TypeError, ValueError):
            self._written.clear()
            return {}

    def _listed(self, said: Any) -> Listed[Seen]:
        what, at, rows, pages = said["finished"]
        finished = Finished(str(what), float(at), int(rows), int(pages))
        return Listed({id_: self._written[id_] for id_ in said["members"]}, finished)


def _seen(row: list[Any]) -> Seen:
    external_id, user_name, observation, why, at, email, display_name = row
    return Seen(external_id, user_name, Observation(observation), why, at, email, display_name)


def _json(written: str | None) -> Any:
    try:
        return json.loads(written or "null")
    except ValueError:
        return None
