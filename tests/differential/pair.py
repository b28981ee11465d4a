"""The endpoint twice, with short cuts and without: asked the same, and compared in every answer and all that is stored.

Ids are random, so a request names records as `<u0>` (the first user made), `<g2>` (the third group), `<v:u0>` (the
version of that record now) or `<nextCursor>` (the last one answered), and in what is compared the ids are such names
again. A name that stands for nothing yet stays as it is: an id nobody knows. Both sides have one clock.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from support.editor import tables_of
from support.endpoint import PREFIX, add_token
from support.stores import url_of
from support.waiting import until

from idsync.clock import ManualClock
from idsync.intake import Intake
from idsync.policy import GroupSpec, Rule, Rules
from idsync.scim import extensions
from idsync.store import journal, tokens
from idsync.store.db import Db, Store
from idsync.store.opening import store_of
from idsync.store.sqlite import GUARDS
from idsync.web.auth import ScimSource
from idsync.web.scim import ScimApp, scim_app

SOURCES = {"okta": ScimSource("okta"), "exact": ScimSource("exact", strict=True), "other": ScimSource("other")}
RULES = Rules(
    idp_of={"okta": "corp", "exact": "corp", "other": "other"},
    trust_email=frozenset({"okta", "other"}),
    rules=(
        Rule("team", "data", (GroupSpec.parse("Data", SOURCES),)),
        Rule("role", "internal_viewer", (GroupSpec.parse("okta/Web", SOURCES),)),
    ),
)
"""The first two sources are one directory. Groups named Data and Web give something, so that changes reach people."""
ACME = "urn:example:params:scim:schemas:extension:acme:2.0:User"
EXTENSION = extensions.read(
    json.dumps(
        {
            "schemas": [extensions.SCHEMA],
            "id": ACME,
            "name": "Acme",
            "attributes": [
                {"name": "badge", "type": "string"},
                {"name": "level", "type": "integer"},
                {"name": "share", "type": "decimal"},
                {"name": "since", "type": "dateTime"},
                {"name": "remote", "type": "boolean"},
                {
                    "name": "desks",
                    "type": "complex",
                    "multiValued": True,
                    "subAttributes": [{"name": "value", "type": "string"}, {"name": "floor", "type": "integer"}],
                },
            ],
        }
    ),
    "User",
)
"""An extension of the operator's own, with every type that is written in more than one way."""
_REFERENCE = re.compile(r"(?:<|%3C)(v:)?([ug]\d+|nextCursor|previousCursor)(?:>|%3E)")
"""A name, as it is or percent-encoded in a query."""
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PLACE = re.compile(r"members\.\d+")
"""Where a member is in its list, in an error: that is random where they came in one request."""
_TABLES = {"u": "users", "g": "groups"}
_UNSEEN = {"audit": ("seq", "prev", "hash")}
"""Columns that are not compared: hashes over ids, and an order that follows them."""
_INNER = {
    "persons": ("created_at",),
    "departures": ("accepted_at", "person_id"),
    "holds": ("created_at", "kind", "reason"),
    "conflicts": ("created_at", "kind", "subject"),
}
"""Tables whose ids no answer shows, and what tells their rows apart."""
_CURSORS = {"nextCursor", "previousCursor"}
"""Each side seals them with a key of its own."""


@dataclass(frozen=True)
class Ask:
    """One request. `body` is JSON unless it is bytes."""

    method: str
    path: str
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    source: str = "okta"

    def __str__(self) -> str:
        body = "" if self.body is None else f" {json.dumps(self.body, ensure_ascii=False)}"
        return f"{self.source}: {self.method} {self.path} {dict(self.headers) or ''}{body}"


@dataclass(frozen=True)
class Seen:
    """One answer with the ids replaced; `body` is the JSON, or None."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Clock(ManualClock):
    """A clock that can also be put back, to begin an experiment again."""

    def put_back(self, at: float) -> None:
        self._now = at


Tables = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass
class Side:
    """One endpoint; `names` are by id, `ids` by name."""

    store: Store
    app: ScimApp
    names: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def learn(self, name: str, one: str) -> None:
        self.names[one], self.ids[name] = f"<{name}>", one

    def spell(self, text: str) -> str:
        """Put this side's ids, versions and cursors in place of the names."""
        return _REFERENCE.sub(lambda match: self._meaning(match[0], match[1], match[2]), text)

    def _meaning(self, whole: str, version: str | None, name: str) -> str:
        one = self.ids.get(name)
        if one is None or version is None:
            return one or whole
        row = self.store.reader().one(f"SELECT version FROM {_TABLES[name[0]]} WHERE id = :id", id=one)  # noqa: S608
        return str(row["version"]) if row else whole

    def unspell(self, text: str) -> str:
        """Put names in place of the ids."""
        return _UUID.sub(lambda match: self.names.get(match[0], match[0]), text)

    async def send(self, ask: Ask) -> tuple[int, dict[str, str], bytes]:
        """Drive the ASGI application with one request."""
        path, _, query = self.spell(ask.path).partition("?")
        raw = ask.body if isinstance(ask.body, bytes) else self.spell(json.dumps(ask.body)).encode()
        headers = [(b"authorization", f"Bearer secret-of-{ask.source}".encode())]
        headers += [(name.lower().encode(), self.spell(value).encode("latin-1")) for name, value in ask.headers]
        scope = {
            "type": "http",
            "method": ask.method,
            "path": PREFIX + unquote_to_bytes(path).decode("utf-8", "replace"),
            "root_path": PREFIX,
            "query_string": query.encode(),
            "headers": headers,
            "client": ("127.0.0.1", 1),
        }
        sent: list[Mapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": b"" if ask.body is None else raw, "more_body": False}

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        found = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
        return sent[0]["status"], found, b"".join(message["body"] for message in sent[1:])

    def seen(self, answer: tuple[int, dict[str, str], bytes]) -> Seen:
        """Return an answer in the form that is compared, and remember its cursors."""
        status, headers, raw = answer
        kept = {name: self.unspell(value) for name, value in headers.items() if name != "content-length"}
        if not raw:
            return Seen(status, kept, None)
        text = _PLACE.sub("members.N", self.unspell(raw.decode()))
        body = json.loads(text, object_hook=_sorted)
        for name in _CURSORS & body.keys():
            self.ids[name], body[name] = body[name], "a cursor"
        return Seen(status, kept, body)

    def state(self) -> dict[str, list[str]]:
        """Return every row of every table with ids replaced, in an order that does not depend on them."""
        db = self.store.reader()
        for table, columns in _INNER.items():
            rows = db.all(f"SELECT * FROM {table}")  # noqa: S608
            rows = sorted(rows, key=lambda row: [self.unspell(str(row[column])) for column in columns])
            self.names |= {row["id"]: f"<{table}{number}>" for number, row in enumerate(rows)}
        return {
            table: sorted(
                self.unspell(json.dumps(_seen(table, row), ensure_ascii=False, sort_keys=True)) for row in rows
            )
            for table, rows in self.tables().items()
        }

    def tables(self) -> Tables:
        """Return all that is stored, tokens aside."""
        db = self.store.reader()
        until(lambda: journal.unlinked(db) == 0, "the trail is linked")
        names = [name for name in tables_of(db) if name != "tokens"]
        return {name: [dict(row) for row in db.all(f"SELECT * FROM {name}")] for name in names}  # noqa: S608

    def put_back(self, tables: Tables) -> None:
        """Store exactly these rows."""

        def work(db: Db) -> None:
            if db.shared:
                db.execute("SET LOCAL session_replication_role = replica")  # no guards, and tables in any order
            else:
                db.execute("PRAGMA defer_foreign_keys = ON")
                for guard in GUARDS:  # the audit trail only grows; here it is put back
                    db.execute(f"DROP TRIGGER IF EXISTS {guard}")
            for table, rows in tables.items():
                db.execute(f"DELETE FROM {table}")  # noqa: S608
                for row in rows:
                    db.execute(f"INSERT INTO {table} VALUES ({', '.join(f':{name}' for name in row)})", **row)  # noqa: S608

        self.store.write(work)

    def close(self) -> None:
        self.app.close()
        self.store.close()


def _sorted(found: dict[str, Any]) -> dict[str, Any]:
    """Sort the members: those of one request are in the order of their ids, which are random."""
    if isinstance(found.get("members"), list):
        found["members"] = sorted(found["members"], key=lambda entry: str(entry.get("value")))
    return found


def _seen(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in row.items() if name not in _UNSEEN.get(table, ())}
    return kept | {name: json.loads(kept[name]) for name in ("doc", "detail") if str(kept.get(name))[:1] == "{"}


class Pair:
    """Both sides of one experiment, and where to begin it again."""

    def __init__(self, rows: Side, core: Side, runner: asyncio.Runner, clock: Clock) -> None:
        self.rows = rows
        self.core = core
        self._runner = runner
        self._clock = clock
        self.begin_here()

    def __repr__(self) -> str:
        return "both sides"

    def begin_here(self) -> None:
        """Let experiments begin with what both sides hold now."""
        self._start = (self._clock.now(), [(side, side.tables(), dict(side.ids)) for side in (self.rows, self.core)])

    def begin_again(self) -> None:
        """Put everything back; a write, even a refused one, makes the endpoint forget what it remembers."""
        now, sides = self._start
        self._clock.put_back(now)
        for side, tables, ids in sides:
            side.put_back(tables)
            side.ids, side.names = {}, {}
            for name, one in ids.items():
                side.learn(name, one)
        for source in SOURCES:
            self.ask(Ask("DELETE", "/Users/nobody", source=source))

    def ask(self, ask: Ask) -> tuple[Seen, Seen]:
        """Put one request to both sides and note the ids of what it made."""
        self._clock.advance(1.0007)
        rows, core = (self._runner.run(side.send(ask)) for side in (self.rows, self.core))
        if rows[0] == core[0] == 201:
            self._learn(ask, rows[2], core[2])
        return self.rows.seen(rows), self.core.seen(core)

    def _learn(self, ask: Ask, rows: bytes, core: bytes) -> None:
        """Give what was just made on both sides the next name; `meta` may be left out of an answer."""
        kind = ask.path.lstrip("/")[0].lower()
        name = f"{kind}{sum(name[0] == kind for name in self.rows.ids)}"
        self.rows.learn(name, json.loads(rows)["id"])
        self.core.learn(name, json.loads(core)["id"])

    def make(self, ask: Ask) -> None:
        """Make a record through one of two endpoints over one store."""
        self._clock.advance(1.0007)
        status, _, raw = self._runner.run(self.rows.send(ask))
        assert status == 201, (str(ask), raw)
        self._learn(ask, raw, raw)

    def everything(self) -> Iterator[Ask]:
        """Yield a GET of every list and of every record there ever was, for every source."""
        for source in SOURCES:
            yield from (Ask("GET", f"/{kind}?count=200", source=source) for kind in ("Users", "Groups"))
            for name in self.rows.ids:
                if name[0] in _TABLES and name[1:].isdigit():
                    yield Ask("GET", f"/{_TABLES[name[0]].capitalize()}/<{name}>", source=source)


def endpoint(
    store: Store, clock: Clock, *, short_cuts: bool, known: Sequence[extensions.Extension] = (EXTENSION,)
) -> ScimApp:
    return scim_app(
        store=store,
        intake=Intake(RULES, clock),
        sources=SOURCES,
        clock=clock,
        public_url="http://idsync.example",
        observe=lambda *seen: None,
        short_cuts=short_cuts,
        extensions=known,
    )


def _store(folder: Path) -> Store:
    """Open a store; a new one gets a token for every source."""
    store = store_of(url_of(folder / "idsync.db"))
    store.open()
    there = {token.name for token in tokens.live_tokens(store.reader())}
    for source in [source for source in SOURCES if source not in there]:
        add_token(store, source, f"secret-of-{source}")
    return store


@contextmanager
def pair(folder: Path) -> Iterator[Pair]:
    """Open both sides in an empty folder."""
    clock, sides = Clock(), list[Side]()
    with asyncio.Runner() as runner:
        try:
            for name in ("rows", "core"):
                store = _store(folder / name)
                sides.append(Side(store, endpoint(store, clock, short_cuts=name == "rows")))
            yield Pair(sides[0], sides[1], runner, clock)
        finally:
            for side in sides:
                side.close()


@contextmanager
def one_store(folder: Path, *known: extensions.Extension) -> Iterator[Pair]:
    """Open two endpoints over one store: what is made through the one is there for both."""
    clock = Clock()
    store = _store(folder)
    sides = [Side(store, endpoint(store, clock, short_cuts=short_cuts, known=known)) for short_cuts in (True, False)]
    with asyncio.Runner() as runner:
        try:
            yield Pair(sides[0], sides[1], runner, clock)
        finally:
            for side in sides:
                side.app.close()
            store.close()
