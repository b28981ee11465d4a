"""Follow a listing to its end, or fail: an error is never the end of a list.

what an answer looks like                              | what becomes of the listing
-------------------------------------------------------+---------------------------------------------
2xx, whole JSON, a next link of the same origin        | goes on
2xx, whole JSON, no next link                          | finished
an empty page with a next link                         | goes on
not 2xx, no JSON, cut off, of another shape            | IncompleteSource, SourceRefused, SourceUnreachable
a next link that was followed before                   | IncompleteSource
a next link that leaves the configured origin or path  | IncompleteSource
more pages than any listing has                        | IncompleteSource
fewer rows than the source itself counts               | IncompleteSource
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from idsync.errors import IncompleteSource, SourceRefused, SourceUnreachable
from idsync.snapshot import Finished

T = TypeVar("T")

MOST_PAGES = 20_000
"""Pages after which a listing is not believed any more: 4 million users of 200 each."""


@dataclass(frozen=True)
class Answer:
    """One answer of a source, whole. `at` is the epoch second at which the request was sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    at: float


@dataclass(frozen=True)
class Page:
    """The rows of one page, and where the next one is."""

    rows: list[Any]
    following: str | None


@dataclass(frozen=True)
class Listed(Generic[T]):
    """A finished listing, by id."""

    rows: dict[str, T]
    finished: Finished


Fetch = Callable[[str], Awaitable[Answer]]
"""Sends a GET and returns its answer; raises a branch of `IncompleteSource` where there is none."""


async def read_all(
    fetch: Fetch,
    url: str,
    page_of: Callable[[Answer], Page],
    take: Callable[[list[Any], float], None],
    *,
    base: str,
    what: str,
    expected: int | None = None,
) -> Finished:
    """Hand every page's rows to `take`, with the time of its request, and return the proof that it was all.

    `base` is the address that every link has to begin with; `expected` the number of rows the source itself counts.

    Raises:
        IncompleteSource: the table above.
    """
    following: str | None = url
    followed: set[str] = set()
    first: float | None = None
    rows = 0
    while following is not None:
        _refuse_link(following, followed, base, what)
        answer = await fetch(following)
        first = answer.at if first is None else first
        page = page_of(answer)
        take(page.rows, answer.at)
        rows += len(page.rows)
        followed.add(following)
        following = page.following
    if expected is not None and rows < expected:
        msg = f"{what}: {rows} were listed where the source counts {expected}"
        raise IncompleteSource(msg)
    return Finished(what, first or 0.0, rows, len(followed))


def _refuse_link(link: str, followed: set[str], base: str, what: str) -> None:
    if not is_within(link, base):
        msg = f"{what}: the listing goes on at another address, which is not followed"
        raise IncompleteSource(msg)
    if link in followed:
        msg = f"{what}: the listing repeats itself after {len(followed)} pages"
        raise IncompleteSource(msg)
    if len(followed) >= MOST_PAGES:
        msg = f"{what}: more than {MOST_PAGES} pages"
        raise IncompleteSource(msg)


def is_within(link: str, base: str) -> bool:
    """Tell whether a link stays at the configured origin and under its path."""
    try:
        ours, theirs = urlsplit(base), urlsplit(link)
        same = (ours.scheme, ours.hostname, ours.port) == (theirs.scheme, theirs.hostname, theirs.port)
    except ValueError:
        return False
    path = ours.path.rstrip("/")
    plain = not theirs.username and ".." not in theirs.path.split("/")
    return same and plain and (theirs.path == path or theirs.path.startswith(f"{path}/"))


def whole_json(answer: Answer, what: str) -> Any:
    """Return the JSON of a 2xx; a key that is there twice, or anything after it, is no answer.

    Raises:
        SourceRefused: 401 or 403.
        SourceUnreachable: 429 or 5xx: the source may answer later.
        IncompleteSource: anything else that is not whole JSON.
    """
    if answer.status in (401, 403):
        msg = f"{what}: the source refuses idsync's credential or permissions ({answer.status})"
        raise SourceRefused(msg, status=answer.status)
    if answer.status == 429 or answer.status >= 500:
        msg = f"{what}: the source answered {answer.status}"
        raise SourceUnreachable(msg, status=answer.status)
    if not 200 <= answer.status < 300:
        msg = f"{what}: the source answered {answer.status}"
        raise IncompleteSource(msg)
    try:
        return json.loads(answer.body, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        msg = f"{what}: the answer is not whole JSON"
        raise IncompleteSource(msg) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        msg = "a key is there twice"
        raise ValueError(msg)
    return found


def text(value: Any) -> str | None:
    """Return a text that says something, None for anything else."""
    return value if isinstance(value, str) and value else None
