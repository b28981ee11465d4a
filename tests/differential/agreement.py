"""What it means that both sides agree, and the few differences that are meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from .pair import Ask, Pair, Seen

Answers = tuple[Seen, Seen]


@dataclass(frozen=True)
class Meant:
    """A difference that is meant: when it applies, and what is left to compare then."""

    name: str
    why: str
    forgive: Callable[[Ask, Seen, Seen], Answers]


def _any_order(ask: Ask, rows: Seen, core: Seen) -> Answers:
    query = {name.lower() for name, _ in parse_qsl(ask.path.partition("?")[2], keep_blank_values=True)}
    if "filter" not in query or "sortby" in query or rows.status != 200:
        return rows, core
    return _unordered(rows), _unordered(core)


def _unordered(seen: Seen) -> Seen:
    """Sort a page, or forget which records are on it when it does not hold them all."""
    listed = seen.body.get("Resources", [])
    if len(listed) < seen.body["totalResults"]:
        return replace(seen, body={**seen.body, "Resources": len(listed)})
    return replace(seen, body={**seen.body, "Resources": sorted(listed, key=lambda one: str(one["id"]))})


def _wrong_twice(ask: Ask, rows: Seen, core: Seen) -> Answers:
    if (ask.method, rows.status, core.status) == ("PUT", 400, 404):
        return core, core
    return rows, core


EXCEPTIONS = (
    Meant(
        "records of one externalId come in another order",
        "without sortBy no order is promised (RFC 7644 §3.4.2.3); by id the database stays on the index of an eq",
        _any_order,
    ),
    Meant(
        "a PUT of nonsense to what does not exist is 400 or 404",
        "RFC 7644 does not say which comes first; rows judge the body before they queue for the writer",
        _wrong_twice,
    ),
)


def agree(pair: Pair, ask: Ask) -> Seen:
    """Put a request to both sides: they answer alike and store the same. Returns the answer of the short cuts."""
    told = answer_alike(pair, ask)
    if ask.method != "GET":
        same_state(pair, f"after {ask}")
    return told


def answer_alike(pair: Pair, ask: Ask) -> Seen:
    """Put a request to both sides: the same answer but for the exceptions, and no 5xx."""
    rows, core = pair.ask(ask)
    told = rows
    for one in EXCEPTIONS:
        rows, core = one.forgive(ask, rows, core)
    found = unlike(rows, core)
    assert not found, f"answers differ for {ask}\n{found}"
    assert told.status < 500 or told.status == 501, f"{told.status} for {ask}"
    return told


def same_state(pair: Pair, when: str) -> None:
    found = "\n".join(differences(pair.rows.state(), pair.core.state()))
    assert not found, f"records differ {when}\n{found}"


def unlike(rows: Seen, core: Seen) -> str:
    """Say where two answers differ, a line for each place."""
    return "\n".join(differences(vars(rows), vars(core)))


def differences(rows: Any, core: Any, at: str = "") -> Iterator[str]:
    """Say where two values differ."""
    if isinstance(rows, dict) and isinstance(core, dict):
        for name in sorted({*rows, *core}):
            yield from differences(rows.get(name, ...), core.get(name, ...), f"{at}/{name}")
    elif isinstance(rows, list) and isinstance(core, list) and len(rows) == len(core):
        for number, (one, other) in enumerate(zip(rows, core, strict=True)):
            yield from differences(one, other, f"{at}/{number}")
    elif type(rows) is not type(core) or rows != core:
        yield f"{at}: rows {rows!r}, core {core!r}"
