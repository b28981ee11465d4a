"""`python -m support.dying FROM_URL TO_URL POINT`: `idsync db copy` that is killed at a point of its way."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from idsync.store.copying import Copy, Step
from idsync.store.moving import source_of, target_of
from idsync.store.opening import shown

POINTS = ("copying persons", "copying audit", "checking users", "before the old store is left", "before the end")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly:
    """A store that dies when it is asked for one thing, and else is what it was."""

    def __init__(self, inner: Any, what: str) -> None:
        self._inner = inner
        self._what = what

    def __getattr__(self, name: str) -> Any:
        if name == self._what:
            die()
        return getattr(self._inner, name)


def main(source: str, target: str, point: str) -> None:
    def tell(step: Step) -> None:
        if f"{step.doing} {step.table}" == point:
            die()

    writes = "write" if point == "before the old store is left" else ""
    finishes = "finish" if point == "before the end" else ""
    with source_of(source, None) as have, target_of(target, None) as made:
        names = (shown(source), shown(target))
        Copy(Deadly(have, writes), Deadly(made, finishes), names, tell).run(at=1.0, by="ada")


if __name__ == "__main__":
    main(*sys.argv[1:])
