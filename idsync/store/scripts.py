"""The migrations of this release: SQL files in one numbering for every store.

`NNNN_name.sql` only adds, so that replicas of the release before go on beside it, and start on it. What takes something
away is `NNNN_name.post.sql`, of the release that uses it no more: on a shared database it waits until every replica is
of that release (`idsync db migrate --post`), and from then on older releases are refused. A file of one process has both
at once.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Collection
from dataclasses import dataclass

from idsync import __version__

POST = ".post"
"""How the name ends of a migration that takes something away."""


@dataclass(frozen=True)
class Script:
    """One migration, by the name it is recorded under."""

    name: str
    text: str

    @property
    def takes_away(self) -> bool:
        return self.name.endswith(POST)


@dataclass(frozen=True)
class Left:
    """How a store's schema stands to this release's: names of migrations, in order."""

    missing: tuple[str, ...]
    """What only adds, and is not there yet."""
    post: tuple[str, ...]
    """What takes away, and has not."""
    newer: tuple[str, ...]
    """What a newer release has added."""
    taken: tuple[str, ...]
    """What a newer release has taken away: this one cannot use the store any more."""

    @property
    def outgrown(self) -> str:
        """Say why this release cannot use the store, "" when it can."""
        if not self.taken:
            return ""
        names = ", ".join(self.taken)
        return (
            f"a newer release has taken away what idsync {__version__} needs ({names});"
            " install the release that the other replicas are of"
        )


def scripts() -> list[Script]:
    """Return every migration of this release, in order."""
    folder = importlib.resources.files("idsync.store") / "migrations"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return [Script(entry.name.removesuffix(".sql"), entry.read_text("utf-8")) for entry in found]


def left(done: Collection[str]) -> Left:
    """Return how a store stands that has these migrations."""
    known = scripts()
    newer = sorted(set(done) - {script.name for script in known})
    return Left(
        missing=tuple(script.name for script in known if script.name not in done and not script.takes_away),
        post=tuple(script.name for script in known if script.name not in done and script.takes_away),
        newer=tuple(name for name in newer if not name.endswith(POST)),
        taken=tuple(name for name in newer if name.endswith(POST)),
    )
