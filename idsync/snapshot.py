"""What polled sources say, as values: users and groups as seen, a Snapshot that proved itself complete, a look by id.

A listing only nominates: whoever is missing from one is looked up by id before anything is taken (architecture, "Access
ends at once"). That is why a Snapshot cannot be made of anything but finished listings, and why a `Look` says `unknown`
rather than nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from idsync.errors import IncompleteSource
from idsync.model import Observation


@dataclass(frozen=True)
class Wanted:
    """Which groups of a source matter: names and ids as the configuration has them, ids as they were bound.

    A bound group that a source does not show makes a listing incomplete; a name it does not show does not.
    """

    names: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    bound: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Seen:
    """One user as a source shows them. `why` is the vendor's own word for it ("status DEPROVISIONED").

    `at` is the epoch second at which the request was sent whose answer said so: what counts is not younger than that.
    """

    external_id: str
    user_name: str
    observation: Observation
    why: str
    at: float
    email: str | None = None
    display_name: str | None = None


@dataclass(frozen=True)
class SeenGroup:
    """A group with all its members (external ids of users, nested groups resolved), as of `at`."""

    external_id: str
    display_name: str
    members: frozenset[str]
    at: float


@dataclass(frozen=True)
class Look:
    """What a source says of one user on direct look-up, and in which of the groups asked for they are.

    `groups` None: it did not say, so no membership ends because of this look.
    """

    user: Seen
    groups: frozenset[str] | None


@dataclass(frozen=True)
class Finished:
    """The proof that a listing ran to its end: only the pager that followed it there makes one."""

    what: str
    at: float
    rows: int
    pages: int


@dataclass(frozen=True)
class Snapshot:
    """Everybody a source gives access to, and their groups. It counts as of the time of its first request.

    `cursor` is where `changes` goes on from. `users` holds every member of every group.

    Raises:
        IncompleteSource: there is no finished listing behind it, or a member nobody listed.
    """

    source: str
    users: Mapping[str, Seen]
    groups: Mapping[str, SeenGroup]
    proof: tuple[Finished, ...]
    cursor: str = ""

    def __post_init__(self) -> None:
        if not self.proof:
            msg = f"{self.source}: no listing was read to its end"
            raise IncompleteSource(msg)
        strangers = [one for group in self.groups.values() for one in group.members if one not in self.users]
        if strangers:
            msg = f"{self.source}: {len(strangers)} group members were listed without their user"
            raise IncompleteSource(msg)

    @property
    def at(self) -> float:
        return min(listing.at for listing in self.proof)


@dataclass(frozen=True)
class Changes:
    """What a source says has changed since a cursor: users seen anew, groups read again in full, ids to look up.

    Whoever is not named has not changed. `look_up` names users of whom only a look by id can tell. `cursor` is stored
    after all of it was taken in, never before; `more`: ask again at once; `unsaid`: events tell that more has changed
    than they name, so `changes` should be asked for now.
    """

    source: str
    at: float
    users: Mapping[str, Seen] = field(default_factory=dict)
    groups: Mapping[str, SeenGroup] = field(default_factory=dict)
    look_up: frozenset[str] = frozenset()
    cursor: str = ""
    more: bool = False
    unsaid: bool = False


class Parts(Protocol):
    """Where a long listing keeps what it has read, so that it goes on after a restart instead of beginning anew."""

    def get(self, name: str) -> str | None: ...

    def put(self, name: str, text: str) -> None: ...


Progress = Callable[[str, int, int | None], None]
"""Told while a listing goes on: of what ("groups", "users"), how many were read, of how many (None: unknown)."""


def unheard(_what: str, _done: int, _of: int | None) -> None:
    """Tell nobody how a listing goes on."""


class PolledSource(Protocol):
    """One Okta org or Entra tenant. Every method raises `IncompleteSource` (or a branch of it) rather than guess.

    `patience` is in how many complete listings somebody must be missing before their absence is even looked into.
    """

    name: str
    patience: int

    async def snapshot(self, wanted: Wanted, parts: Parts, progress: Progress = unheard) -> Snapshot:
        """List everybody and every wanted group.

        Raises:
            SourceRefused: the credential is not accepted, or may not read what it has to.
            SourceUnreachable: no usable answer, also after waiting as long as the source asked for.
            IncompleteSource: an answer that is not whole, a link that loops or leaves the source, a hidden group.
        """
        ...

    async def changes(self, wanted: Wanted, cursor: str) -> Changes:
        """Return what has changed since a cursor of `snapshot` or of an earlier `changes`.

        Raises:
            CursorLost: the source does not know the cursor any more; only a snapshot helps.
        """
        ...

    async def events(self, cursor: str) -> Changes:
        """Read the event log from a cursor ("": from now on); a source without one returns nothing, at once."""
        ...

    async def look_up(self, external_id: str, groups: Collection[str]) -> Look:
        """Read one user by id: `absent` only where the source itself says that there is none of that id."""
        ...

    async def check(self) -> list[tuple[str, bool, str]]:
        """Try each permission the source needs, one by one: what it is for, whether it is there, what to do."""
        ...

    async def close(self) -> None: ...
