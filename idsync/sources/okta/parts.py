"""What a long pass has read so far, kept so that it goes on after a restart. Parts of another pass are never used."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import Any

from idsync.clock import Clock
from idsync.model import Observation
from idsync.snapshot import Finished, Parts, Seen

LIFE = 6 * 3600.0
"""Seconds after which an unfinished pass is begun anew: a snapshot is as old as its first request."""
_FORM = 1
"""Rises when parts are written otherwise: those of an older idsync are then read anew."""
PASS = "pass"  # noqa: S105  (a name in the store)


class Kept:
    """The parts of one pass over one org (`what`); `sent` is when its first request was sent, None for a new pass."""

    def __init__(self, parts: Parts, clock: Clock, what: str) -> None:
        self._parts = parts
        self._what = what
        self.sent: float | None = None
        self._since = 0.0
        begun = _read(parts.get(PASS))
        if begun.get("what") == what and 0 <= clock.now() - begun["sent"] <= LIFE:
            self.sent, self._since = begun["sent"], begun["since"]

    def begin(self, sent: float, since: float) -> float:
        """Note a new pass, or go on with the one that is there. Return its beginning by the source's clock."""
        if self.sent is None:
            self.sent, self._since = sent, since
            self._parts.put(PASS, json.dumps({"what": self._what, "sent": sent, "since": since}))
        return self._since

    def end(self) -> None:
        self._parts.put(PASS, "")

    def get(self, name: str) -> tuple[dict[str, Seen], Finished] | None:
        found = _read(self._parts.get(name))
        if found.get("pass") != [_FORM, self._what, self.sent]:
            return None
        people = [
            Seen(one, login, Observation(observation), why, at, email, display)
            for one, login, observation, why, at, email, display in found["people"]
        ]
        return {person.external_id: person for person in people}, Finished(*found["proof"])

    def put(self, name: str, people: dict[str, Seen], proof: Finished) -> None:
        text = {
            "pass": [_FORM, self._what, self.sent],
            "people": [
                (p.external_id, p.user_name, p.observation, p.why, p.at, p.email, p.display_name)
                for p in people.values()
            ],
            "proof": astuple(proof),
        }
        self._parts.put(name, json.dumps(text))


def _read(text: str | None) -> dict[str, Any]:
    found = json.loads(text or "{}")
    return found if isinstance(found, dict) else {}
