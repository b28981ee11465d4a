"""Rules that make an identity provider fail, stall, or answer with something that only looks like the truth."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from idsync.sandbox.faults import Rule, contains
from idsync.sandbox.replies import Reply

JSON = dict[str, Any]
PAGE = "_page"  # where the number of the page asked for lies in the query a rule is matched against

HTML = (
    b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n"
    b"<body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center></body></html>\n"
)
FOREIGN = "https://idp.elsewhere.example.com/api?page=2"
ITEMS = ("none", "half", "twice", "repeat")
DAMAGE = ("json", "splice")
SHAPING = ("html", "throttle", "damage", "items", "next", "without", "keep", "edit", "drip", "date")
THROTTLES = ("rate", "concurrency")


@dataclass
class Listing:
    """An answer taken apart: its records, the link to the page after it, and how to put it together again."""

    items: list[Any]
    next: str | None
    build: Callable[[list[Any], str | None], Reply]
    own: str  # the address of this very page
    first: str  # the address of the first one


@dataclass
class IdpRule(Rule):
    """A rule of the gateway's kind with what only listings and their clocks can do wrong.

    `page` counts from 1 and holds for that page however often it is asked for; the other conditions are those of
    `Rule`. What is done to the records of a page goes with what is done to its link.
    """

    page: int | None = None
    html: bool = False  # an error page of something in front, with `status` or with 200
    throttle: str | None = None  # a 429 of the provider's own form
    damage: str | None = None  # "json": ends in the middle; "splice": an error object in the midst of a 200
    items: str | None = None  # "none", "half", "twice" (each of them), "repeat" (those of the page before)
    next: str | None = None  # "self", "first", "foreign", "none", or an address
    without: list[str] | None = None  # records that are left out, by id
    keep: float | None = None  # this part of the records, the same ones on every page
    edit: JSON | None = None  # {"match": {...}, "set": {...}, "unset": [...]}, done to records and single objects
    drip: float | None = None  # seconds between the tenths of the body
    date: float | None = None  # how far ahead the Date header is, in seconds

    def __post_init__(self) -> None:
        if self.lie or self.replica is not None:
            raise ValueError("lie and replica are for the gateway")
        one_of("items", self.items, ITEMS)
        one_of("damage", self.damage, DAMAGE)
        one_of("throttle", self.throttle, THROTTLES)
        super().__post_init__()

    @property
    def reshapes(self) -> bool:
        return any(getattr(self, name) not in (None, False) for name in SHAPING)

    @property
    def name(self) -> str:
        if self.throttle:
            return f"throttle {self.throttle}"
        if self.html:
            return f"html {self.status or 200}"
        said = [f"{n} {getattr(self, n)}" for n in ("items", "next", "damage", "without", "keep", "drip", "date")]
        told = [words for words in said if not words.endswith(" None")] + ["edit"] * bool(self.edit)
        return ", ".join(told) if told else super().name

    @property
    def before(self) -> bool:
        return super().before or self.html or self.throttle is not None

    def _fits(self, method: str, path: str, replica: int, body: Any, query: dict[str, str]) -> bool:
        if self.page is not None and query.get(PAGE) != str(self.page):
            return False
        return super()._fits(method, path, replica, body, query)

    def reshape(self, listing: Listing, before: list[Any]) -> Reply:
        """The page with its records and its link changed. `before` are the records of the page served before it."""
        items = self._records(listing.items, before)
        return listing.build(items, self._link(listing))

    def _records(self, items: list[Any], before: list[Any]) -> list[Any]:
        if self.items == "none":
            items = []
        elif self.items == "half":
            items = items[::2]
        elif self.items == "twice":
            items = [item for item in items for _ in range(2)]
        elif self.items == "repeat":
            items = before
        if self.without:
            items = [item for item in items if not isinstance(item, dict) or item.get("id") not in self.without]
        if self.keep is not None:
            items = [item for item in items if _share(item) < self.keep]
        return [self.edited(item) for item in items]

    def _link(self, listing: Listing) -> str | None:
        known = {"self": listing.own, "first": listing.first, "foreign": FOREIGN, "none": None}
        return known.get(self.next, self.next) if self.next else listing.next

    def edited(self, item: Any) -> Any:
        if not self.edit or not isinstance(item, dict) or not contains(item, self.edit.get("match", {})):
            return item
        changed = merged(item, self.edit.get("set", {}))
        return {name: value for name, value in changed.items() if name not in self.edit.get("unset", ())}

    def damaged(self, body: bytes, error: Any) -> bytes:
        """Wrong JSON in an answer that is whole as far as HTTP goes."""
        middle = len(body) // 2
        if self.damage == "json":
            return body[:middle]
        return body[:middle] + json.dumps(error).encode() + body[middle:]


def merged(old: Any, new: Any) -> Any:
    """Objects member by member, everything else as the new one has it."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {name: merged(old.get(name), value) for name, value in new.items()}
    return new


def _share(item: Any) -> float:
    """Where the record lies between 0 and 1, always at the same spot."""
    name = item.get("id") if isinstance(item, dict) else item
    return (zlib.crc32(str(name).encode()) % 1000) / 1000


def one_of(name: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise ValueError(f"{name} is one of {', '.join(allowed)}, not {value!r}")
