"""What is kept of a listing under way: a user is written once, and what cannot be put together is read again."""

from __future__ import annotations

import pytest

from idsync.model import Observation
from idsync.snapshot import Finished, Seen
from idsync.sources.kept import Kept
from idsync.sources.pager import Listed

from .org import Store

ANN, BEN = (Seen(name, name, Observation.PRESENT, "ACTIVE", 10.0) for name in ("ann", "ben"))
FIRST = Listed({"ann": ANN, "ben": BEN}, Finished("first", 10.0, 2, 1))
SECOND = Listed({"ann": ANN}, Finished("second", 20.0, 1, 1))


@pytest.mark.parametrize(
    ("asked", "what", "at", "there"),
    [
        (["first", "second"], "org", 30.0, {"first": FIRST, "second": SECOND}),
        (["first"], "org", 30.0, {"first": FIRST}),
        (["second"], "org", 30.0, {}),  # its user was written with the other
        (["first", "second"], "another org", 30.0, None),
        (["first", "second"], "org", 7 * 3600.0, None),
    ],
)
def test_what_was_read_is_there_again(
    asked: list[str], what: str, at: float, there: dict[str, Listed[Seen]] | None
) -> None:
    store = Store()
    before = Kept(store, "org", 5.0)
    before.begin(5.0, ["links"])
    before.put("first", FIRST)
    before.put("second", SECOND)
    assert store.kept["second"].count("ann") == 1
    kept = Kept(store, what, at)
    assert kept.noted == (None if there is None else ["links"])
    if there is None:
        kept.begin(at, ["others"])
    assert kept.load(asked) == (there or {})
