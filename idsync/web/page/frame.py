"""What every page has around it, and the pieces that pages are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from idsync.config import Config
from idsync.store.db import Db
from idsync.web.page.html import Child, Markup, named, tag
from idsync.web.page.session import Session
from idsync.web.page.words import moment

MARKS = {"good": "✔", "warn": "▲", "bad": "✖", "note": "●"}
"""The sign that goes with each colour."""


@dataclass(frozen=True)
class Look:
    """What a page is made from: the store as it is now, the configuration, and who looks. `gateway` is its fingerprint."""

    db: Db
    now: float
    config: Config
    gateway: str
    session: Session
    query: Mapping[str, str]

    def again(self) -> str:
        """Return the link to this very page, as it is then."""
        kept = {name: self.query[name] for name in ("page", "checksum", "user") if name in self.query}
        return f"?{urlencode(kept)}"

    @property
    def page(self) -> int:
        """Return which page of a list is asked for, from 1 on."""
        asked = self.query.get("page", "1")
        return (
            min(int(asked), 100_000) if asked.isascii() and asked.isdigit() and 0 < len(asked) < 7 and int(asked) else 1
        )


@dataclass(frozen=True)
class Page:
    """A page without its frame. `at` is the entry of the navigation it belongs to."""

    title: str
    body: Markup
    at: str = ""
    status: int = 200


Draw = Callable[[Look], Page]


def framed(page: Page, look: Look) -> Markup:
    """Put a page in its frame, for somebody who has logged in."""
    entries = (("/", "Overview"), ("/departures", "Departures"), ("/holds", "Holds"), ("/components", "Health"))
    links = [tag("a", name, href=where, aria_current="page" if where == page.at else None) for where, name in entries]
    session = look.session
    who = tag("span", "Logged in as ", named(session.operator), f" ({session.scope})", class_="who")
    leave = tag("form", secret(session), tag("button", "Log out", class_="quiet"), method="post", action="/logout")
    asof = tag(
        "p",
        "As of ",
        moment(look.now),
        ". ",
        tag("a", "Load again", href=look.again()),
        class_="asof",
    )
    return _html(
        page.title,
        tag(
            "header",
            tag("nav", tag("strong", "idsync", class_="brand"), links, aria_label="Pages"),
            tag("div", who, leave, class_="me"),
        ),
        tag("main", page.body, asof, id="content", tabindex="-1"),
    )


def bare(title: str, *body: Child) -> Markup:
    """Return a page for somebody who has not logged in."""
    return _html(title, tag("main", tag("p", "idsync", class_="brand"), body, id="content", class_="bare"))


def _html(title: str, *body: Child) -> Markup:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} · idsync"),
        tag("link", rel="stylesheet", href="/style.css"),
        tag("link", rel="icon", href="/icon.svg", type="image/svg+xml"),
    )
    skip = tag("a", "Skip to the content", href="#content", class_="skip")
    return tag("html", head, tag("body", skip, body), lang="en")


# -- pieces ---------------------------------------------------------------------------------------------------------


def section(title: str, *body: Child, more: tuple[str, str] | None = None, id: str) -> Markup:
    """Return a part of a page with its heading, and where there is more of it."""
    link = tag("p", tag("a", more[1], href=more[0]), class_="more") if more else None
    return tag("section", tag("h2", title, id=id), body, link, aria_labelledby=id)


def badge(kind: str, text: str) -> Markup:
    return tag("span", tag("span", MARKS[kind], aria_hidden="true"), " ", text, class_=f"badge {kind}")


def banner(kind: str, *text: Child) -> Markup:
    sign = tag("span", MARKS[kind], class_="sign", aria_hidden="true")
    return tag("div", sign, tag("div", text), class_=f"banner {kind}", role="status")


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Child]]) -> Markup:
    """Return a table that becomes cards where it is narrow: each cell then shows the head of its column."""
    top = tag("tr", [tag("th", head, scope="col", role="columnheader") for head in heads], role="row")
    lines = [
        tag(
            "tr",
            [tag("td", tag("div", cell), data_label=head, role="cell") for head, cell in zip(heads, row, strict=True)],
            role="row",
        )
        for row in rows
    ]
    parts = (
        tag("caption", caption, class_="unseen"),
        tag("thead", top, role="rowgroup"),
        tag("tbody", lines, role="rowgroup"),
    )
    return tag("table", parts, role="table")


def pairs(*entries: tuple[str, Child]) -> Markup:
    """Return names and what they are, without those that have nothing."""
    kept = [(name, value) for name, value in entries if value is not None]
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in kept])


def bullets(entries: Iterable[Child]) -> Markup:
    return tag("ul", [tag("li", entry) for entry in entries])


def empty(text: str) -> Markup:
    return tag("p", text, class_="empty")


def pager(look: Look, path: str, per_page: int, total: int) -> Markup | None:
    """Return the links between the pages of a list; none where one page has it all."""
    last = max(1, -(-total // per_page))
    if last == 1:
        return None
    kept = "".join(f"&{name}={value}" for name, value in look.query.items() if name == "checksum" and value.isalnum())
    here = min(look.page, last)
    steps = [
        ("« First", 1, here > 1),
        ("‹ Newer", here - 1, here > 1),
        ("Older ›", here + 1, here < last),
        ("Last »", last, here < last),
    ]
    links = [tag("a", name, href=f"{path}?page={number}{kept}") for name, number, shown in steps if shown]
    return tag("nav", tag("span", f"Page {here:,} of {last:,}"), links, class_="pager", aria_label="Pages of this list")


def secret(session: Session) -> Markup:
    """Return what shows that a form is from a page of this session."""
    return tag("input", type="hidden", name="csrf", value=session.csrf)
