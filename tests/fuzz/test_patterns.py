"""No text makes a regular expression of `scim` work for long: every one of them takes time in proportion to the text.

How long is measured against a pattern that is known to be quadratic, on the same machine in the same moment; a text of
4,096 characters costs a linear pattern a hundredth of that.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import pkgutil
import re
import time
from collections.abc import Callable, Iterator

import pytest
from scim2_models import SCIMException

import idsync.scim
from idsync.scim import hot, parse, sql, tolerance
from idsync.scim.attributes import standard
from idsync.scim.tolerance import query

LENGTH = sql.MAX_LENGTH
PIECES = (
    "a", ":", ".", "-", "$", "a.", "a:", ".a", '"', "\\", '"\\', '\\"', '""', " ", "\t", "eq", "eq ", " eq", "a eq ", "eq a ",
    "true ", "a eq true ", "active ", "active eq 1 ", "created", "created ", "urn:", "urn:a:", "urn:a.b:", "(", ")", "[", "]",
    "[]", "a[", "].a", 'members[value eq "', "and ", "not(", "?", "& ", "é", "ſ",
)  # fmt: skip
"""What the expressions look for, and what nearly is that; two of them, each repeated, make a text."""


def patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Yield every expression a module of `scim` holds, a new one as well."""
    for info in pkgutil.walk_packages(idsync.scim.__path__, "idsync.scim."):
        for name, value in vars(importlib.import_module(info.name)).items():
            if isinstance(value, re.Pattern):
                yield f"{info.name.removeprefix('idsync.scim.')}.{name}", value


READERS: dict[str, Callable[[str], object]] = {
    "filter_text": lambda text: tolerance.filter_text(text, standard(), strict=False),
    "quote_values": lambda text: query.quote_values(text, standard()),
    "guard": sql.guard,
    "order": lambda text: sql.order(text, "User", descending=False),
    "order of a schema": lambda text: sql.order(f"urn:{text}", "User", descending=False),
    "target_of": lambda text: standard().target_of(text, "User"),
    "equality": hot.equality,
    "equality of a text": lambda text: hot.equality(f'userName eq "{text}'),
    "group_change": lambda text: hot.group_change([{"op": "remove", "path": text}]),
    "one member": lambda text: hot.group_change([{"op": "remove", "path": f'members[value eq "{text}'}]),
    "patch": lambda text: tolerance.patch(_removal(text), tolerance.Notes("User")),
    "loads": parse.loads,
}


def _removal(path: str) -> dict[str, object]:
    return {"Operations": [{"op": "remove", "path": path}]}


def texts(length: int) -> Iterator[str]:
    for first, second in itertools.product(PIECES, repeat=2):
        half = length // 2
        yield (first * half)[:half] + (second * half)[: length - half]


def cost(read: Callable[[str], object], text: str) -> float:
    """Return the processor time that reading a text takes, whatever comes of it."""
    started = time.process_time()
    with contextlib.suppress(SCIMException):
        read(text)
    return time.process_time() - started


def quadratic() -> float:
    """Return what a search costs that looks at every pair of places of such a text."""
    pattern = re.compile("[ab]*c")
    return min(cost(pattern.search, "ab" * (LENGTH // 2)) for _ in range(5))


@pytest.mark.parametrize("name", [*READERS, *(name for name, _ in patterns())])
def test_reading_takes_time_in_proportion_to_the_text(name: str) -> None:
    read = READERS.get(name) or dict(patterns())[name].fullmatch
    most = 2 * quadratic()
    for text in texts(LENGTH):
        if cost(read, text) > most and min(cost(read, text) for _ in range(3)) > most:
            pytest.fail(f"{text[:30]!r} ... {text[-30:]!r} takes {name} longer than looking at every pair twice")


def test_a_pattern_that_takes_longer_is_found() -> None:
    """Show that the measure can tell: two runs of the same characters cost more on a tenth of the text."""
    assert cost(re.compile("[ab]*[ab]*c").search, "ab" * (LENGTH // 20)) > quadratic()
